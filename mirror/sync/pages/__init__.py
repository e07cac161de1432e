"""The first stage of a cycle: read the pages of an index, and judge their content."""
