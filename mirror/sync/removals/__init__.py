"""The last stage of a cycle: remove files and leftovers, and report projects that nobody serves."""
