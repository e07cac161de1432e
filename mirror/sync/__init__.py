"""A cycle and its stages: start with ``cycle``.

``crawl`` reads pages, ``fetch`` downloads, ``record`` commits finished files, ``removal`` removes
files, ``report`` counts; ``pool`` adapts the number of concurrent downloads, ``work`` holds the
values that they share. ``mirror.publishing`` writes the pages.
"""
