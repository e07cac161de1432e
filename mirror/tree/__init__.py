"""All that touches the disk below the root: where things lie, how they are placed whole, locked and made durable.

Functions here block; the caller runs them in threads, except where they are async. An ``OSError`` ends here: it
becomes a ``TreeError`` that names the path and says what to do.
"""
