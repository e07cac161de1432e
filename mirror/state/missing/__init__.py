"""Files and projects that the pages do not show, with the reason for each.

``ledger`` holds failed and withheld files, ``left_out`` the files that a rule leaves out,
``unserved`` the names that no index offers or serves.
"""
