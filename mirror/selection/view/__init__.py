"""The view that the resolver reads: the file of each version for an environment, and the server."""
