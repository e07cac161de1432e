"""States that stay: ``snapshots`` of the pages and changes between two of them, ``shipments`` to
the sites beyond a gap, and ``draft``, the work file of an unfinished bundle.
"""
