"""The view that the resolver reads: which file of each version an environment gets, and the server."""
