"""The making of a bundle on the near side, in its order: ``basis``, ``contents``, ``drafts``,
``writing``, ``ledger``.

The state is frozen as a pin and described in a draft (``contents``, ``drafts``) -> volumes, then
their accompanying files, then ``bundle.json`` -> all of it durable -> the signature, durable -> the
ledger. So a recorded sequence belongs to a bundle that is whole on its medium, and a killed run is
continued by the same command. Without the tree's lock, except to freeze and to record.
"""
