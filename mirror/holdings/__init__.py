"""State and tree opened together as one small value: ``Holdings``.

``holdings`` is the value, ``opening`` opens it for reading, writing or repair, ``matching`` checks
that state and tree belong together; ``wishes`` is a list of names in the same folder.
"""
