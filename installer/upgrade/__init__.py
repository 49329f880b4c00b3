"""One release takes the place of another, or gives it back: what `upgrade`, `rollback`, `recover` do.

All of it is imported before anything is switched: what this process still had to load afterwards
would come from the other release.
"""
