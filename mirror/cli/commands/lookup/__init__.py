"""``mirror status``, ``list``, ``explain`` and ``why``: the state, read without a lock."""
