"""Test support: the program and all around it, as tests start, drive and read it.

``in_process`` runs cycles in the test's own process; ``program`` runs ``mirror`` as a process, by
``forked_program`` (a fork of a process with all imports made), ``worker_program`` with worker
processes, ``daemon`` and ``server`` the two programs that stay. ``bundles`` is a near and a far
side, ``handmade_bundles`` builds bundles file by file, ``bundle_kills`` ends the receiver at each
step. ``snapshots``, ``upkeep``, ``wants``, ``locks`` do the work of their commands; ``state_rows``
writes rows, ``older_state`` and ``older_version`` are mirrors of earlier versions, ``people_tree``
one that is looked at in a browser. ``interpreters`` and ``web_servers`` are other people's
programs; ``storing``, ``seaweed_cluster`` and ``ceph`` start object stores. ``coverage_scope`` says which tests are measured. The index is ``tests/simulator``.
"""
