"""Whether a host can carry Kura, looked at before anything is on it: `kura-installer preflight`.

The standard library alone, since nothing else is there yet. A file a field; `checks.CHECKS` is the table.
"""
