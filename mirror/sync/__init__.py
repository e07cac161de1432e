"""What a cycle does: start with ``cycle``.

``crawl`` looks at pages, ``fetch`` downloads, ``record`` enters what arrived, ``publish`` writes pages, ``removal`` takes away,
``report`` tells; ``pool`` adapts how much is under way, ``work`` holds what they share. Beside the cycle: ``verify``,
``rebuild`` and ``prune``.
"""
