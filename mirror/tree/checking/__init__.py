"""Checks of the files in the tree, and the moving aside of misplaced or damaged ones.

Blocking functions, raising ``TreeError``. Only the bytes are trusted: a blob is hashed again, a
wheel's sidecar is compared with the wheel. No symbolic link is followed. Files moved aside go to
``quarantine/`` and are never deleted here. A file that vanishes during a check is not an error: a
cycle may be running.
"""
