"""Facts of real projects, from which the tests make an index."""
