"""Where documents come from: the kinds of source are in `kinds.py`, which loads all of them."""
