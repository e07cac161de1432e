"""A cycle's part about advisories: the database is taken, files are judged, the report names
them.
"""
