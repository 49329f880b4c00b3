"""Backups: made while Kura runs, whole or not there, sealed to a key that no machine has.

<folder>/kura-backup.json        which folder this is
<folder>/parts/ab/ab12…          what is kept: sealed, named by what it holds, never changed
<folder>/backups/<name>.parts    the parts of one backup, each with its size and SHA-256
<folder>/backups/<name>.json     the manifest; written last, it makes the backup be there
<folder>/unfinished/             what is being written
"""
