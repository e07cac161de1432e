"""Which projects each index lists, and which of their pages are due.

``sources`` holds the indexes, ``roots`` compares a root page with the rows of its projects, ``due``
selects the pages to read; ``columns`` turns the columns of a page into values and back.
"""
