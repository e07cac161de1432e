"""The last stage of a project: record finished files in batches. Start with ``recorder``.

The order within a ``batch`` is the order of writes (``docs/explanation/order-of-writes.md``):
``placing`` and ``metadata`` put the bytes into their places and make them durable, then the rows of
one ``drafts`` value for each project are entered. The pages follow, by ``mirror.publishing``.
"""
