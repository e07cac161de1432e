"""A cycle and its stages: start with ``cycle``.

``crawl`` reads pages, ``fetch`` downloads, ``record`` commits finished files, ``removal`` removes
files, ``report`` counts; ``work`` holds the values that they share. ``mirror.publishing`` writes
the pages, ``mirror.workers`` fetches in other processes.
"""
