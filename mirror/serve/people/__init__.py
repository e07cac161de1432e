"""Pages for people, server-rendered: the mirror, the search, each project, what changed and failed.

``reading`` reads the state and the tree; ``facts`` are frozen values that the pages and the API
share; ``templates`` show them. Nothing here writes, and nothing waits on the event loop.
"""
