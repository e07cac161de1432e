"""A verified, servable copy of Python package indexes, cheap enough to run every few minutes.

Read in this order: ``core.model`` for the values that all other modules use, ``sync.cycle`` for the
way of one file from an index's page to the mirror's page, ``publishing.publisher`` for the pages,
``state.schema`` and ``tree`` for the stored data and the order in which it is written, ``upkeep``
for everything that keeps a tree whole, ``cli`` for the commands. ``errors`` is the tree of all
failures.

Imports go downwards only: cli > daemon > jobs > wiring > (sync | upkeep | bundle | serve |
selection) > (publishing | workers) > holdings > (upstream | state | tree) > (config | metrics |
notify | logs) > (core | exit_codes) > errors; import-linter checks it (``pyproject.toml``).
"""

__version__ = "0.1.0"
"""A constant, because reading the installed distribution's metadata would cost more than the rest
of ``--version``.
"""
