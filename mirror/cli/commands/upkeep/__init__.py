"""``mirror verify`` and ``mirror prune``: keep held files whole, and delete unlisted ones."""
