"""Results in words, for a terminal: pure functions from values to lines."""
