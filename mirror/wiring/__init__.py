"""Opens every object of a command or a cycle once and passes it in: from a configuration to a cycle
that can run (``cycle``), or to a question to an index outside of one.
"""
