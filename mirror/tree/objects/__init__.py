"""A tree in an object store, behind the same interface as one on the disk.

``client`` is the only home of obstore; ``calls`` bounds each of its calls; ``credentials`` finds
the engine's settings; ``lease`` and ``claims`` keep one writer; ``files`` and ``pages`` place the
files of a cycle. A process that has used obstore never forks without executing another program.
"""
