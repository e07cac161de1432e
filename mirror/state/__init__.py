"""What is published, held and failed: SQLite, one writer.

``schema`` opens and migrates the database, ``store`` is the connection with its transactions; ``listing`` knows which
projects each index lists, ``entries`` what our pages publish (temporal), ``ledger`` what failed or is withheld,
``cycles`` the passes over the indexes. A function named ``load_`` reads, one named ``record_`` commits one transaction.
"""
