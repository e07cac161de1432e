"""A cycle and its stages: start with ``cycle``, whose steps are ``roots``, ``stages``, ``removals``
and ``ending``.

Within ``stages``, ``pages`` reads pages, ``fetch`` downloads and ``recording`` commits finished
files. ``report`` counts; ``work`` and ``cycle_parts`` hold the values that all share.
``mirror.publishing`` writes the pages, ``mirror.workers`` fetches in other processes.
"""
