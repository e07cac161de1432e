"""Pages on disk, brought up to the state: below the cycle and the upkeep, which both need it.

``publisher`` writes the pages of marked projects and clears the marks, ``mended`` clears the damage
of pages that are written again, ``snapshot_pages`` renders the pages of snapshots again, and
``own_pages`` reads pages that the mirror has written.
"""
