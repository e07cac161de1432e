"""Worker processes behind one door: ``pool.Workers``, which a stage gets as an argument, or None.

``fork_server`` is forked early and forks the workers, ``process`` is the work of one, ``pool``
shares work out among those of one index; ``channel`` carries the ``messages`` between them.
``transfer`` fetches one file into staging, in a worker or without one, and ``concurrency`` adapts
the number of concurrent requests.
"""
