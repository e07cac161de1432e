"""Copy a tree from a disk or an object store to another one (``mirror tree copy``).

``places`` is the interface of both ends; ``disk`` and ``store`` are its implementations; ``copy``
reads the pages first, then copies their files, and publishes last.
"""
