"""Limits of one index's requests, one table.

- ``Slots``: how many requests run at once, here and in the worker processes.
- ``TokenBucket``: requests or bytes each second.
- ``Budget``: the time of one page over all of its tries.
- ``Deadlines``: the time of one request, watched by one timer for all.
- ``RetryPolicy``: the tries of one request and the pauses between them.
- ``Allowance``: the retries of the index in one cycle.
- ``PageMemory``: the memory of its pages and of the metadata of its files.

``workers.concurrency`` adapts the number of downloads to the index.
"""
