"""Lock files of uv, pip, Poetry, PDM and pipenv: one reader for each format.

Readers take bytes that were read within bounds, and give a ``LockedSet`` or raise ``ConfigError``
with the file and the key. No value of a lock is repeated in an error.
"""
