"""A verified, servable copy of Python package indexes, cheap enough to run every few minutes.

Read in this order: ``core.model`` for the values that everything speaks in, ``sync.cycle`` for the way of one file from
an index's page to our own, ``state.store`` and ``tree`` for what is kept and in which order it is written, ``cli`` for
what a user can ask for. ``errors`` is the tree of all that can go wrong.

Imports go downwards only: cli > daemon > wiring > (sync | bundle) > (upstream | state | tree) >
(config | metrics | notify | logs) > core > errors; import-linter checks it (``pyproject.toml``).
"""

__version__ = "0.1.0"
"""A constant, because reading the installed distribution's metadata would cost more than the rest of ``--version``."""
