"""The mirror's state in SQLite, with one writer: published files, held files and failures.

``schema`` opens and migrates the database, ``store`` is the connection with its transactions;
``listing`` holds the projects that each index lists, ``entries`` the published files (temporal),
``ledger`` failed and withheld files, ``cycles`` the passes over the indexes. A function named
``load_`` reads, one named ``record_`` commits one transaction.
"""
