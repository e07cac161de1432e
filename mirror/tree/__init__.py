"""All access to the disk below the root: the paths, and placing files whole, locked and durable.

Functions here block; the caller runs them in threads, except where they are async. An ``OSError``
becomes a ``TreeError`` that names the path and contains advice.
"""
