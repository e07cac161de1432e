"""Rules: which listed files may come in, and when.

Pure: time, first sights and advisories are arguments.
"""
