"""Advisories of an OSV database: read, joined, and compared with files by name. Pure."""
