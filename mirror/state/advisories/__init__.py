"""The advisories in force, and the files that they name."""
