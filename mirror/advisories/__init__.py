"""Reads an OSV database: a folder, or a zip, of JSON files. Its errors end here."""
