"""A cycle and its stages: start with ``cycle``.

``pages`` reads pages, ``fetch`` downloads, ``record`` commits finished files, ``removals`` removes
files, ``report`` counts; ``work`` holds the values that they share. ``mirror.publishing`` writes
the pages, ``mirror.workers`` fetches in other processes.
"""
