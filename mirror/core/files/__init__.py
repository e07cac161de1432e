"""One file of a project: its link and labels on a page, its name as a distribution, its
metadata.
"""
