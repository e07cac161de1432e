"""Upkeep of a tree in an object store: ``listing`` reads it, ``adopt`` makes a state fit it,
``check`` and ``mend`` compare it with the state.
"""
