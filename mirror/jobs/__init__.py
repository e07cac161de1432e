"""Use cases below the command line: daemon, command line and tests call the same function.

``once`` is one cycle with the work after it, ``after_cycle`` and ``notify_command`` are that work,
``repair`` checks and mends a tree and fetches lost files again, ``prune`` deletes unlisted files,
``bundle_create`` makes bundles and ``bundle_sites`` keeps their ledger.
"""
