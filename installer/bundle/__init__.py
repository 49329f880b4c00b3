"""The one file that is carried to a site: how it is made, signed, read and unpacked.

Reading needs nothing but Python's standard library, because it happens before anything is installed.
"""
