"""``mirror sync``: one cycle, the plan of one, or the daemon, each with imports of its own."""
