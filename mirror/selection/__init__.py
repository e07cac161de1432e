"""Targets, wants, and the files that name the packages of a want.

``targets`` describes environments to ``packaging`` and to uv; ``wants`` has the values of a want's
sources, and reads them. Nothing here runs code of an index or of a user's project.
"""
