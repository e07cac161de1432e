"""The mirror at a glance: fresh or stale, whole or not; for ``mirror status``, the pages and the
metrics.

Reading only; asks no index.
"""
