"""The mirror's state in SQLite, with one writer: published files, held files and failures.

``schema`` has the tables, ``store`` the connection with its transactions, ``rows`` turns rows into
values. ``listing`` holds the projects that each index lists, ``entries`` the published files
(temporal), ``missing`` failed and withheld files, ``blobs`` the bytes on disk, ``frozen`` snapshots
and shipments, ``cycles`` the passes over the indexes; ``readers`` answer a reader's
questions. A function named ``load_`` reads, one named ``record_`` commits one transaction.
"""
