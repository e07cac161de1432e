"""Upkeep of a tree: everything that keeps held files whole and named, and asks no index.

``verify`` and ``verify_pages`` compare the tree with the state, ``repair`` mends their
``findings``, ``damage`` keeps them in the state, ``rebuild`` makes a lost state from the tree,
``prune`` deletes unlisted files, ``snapshot`` freezes states of the tree and ``compare`` shows what
changed between two of them. All take ``Holdings``.
"""
