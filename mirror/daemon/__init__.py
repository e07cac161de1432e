"""Cycles on a schedule, for years, unattended.

``service`` is the daemon: read it first. ``pulse`` tells others that it lives, ``upkeep`` keeps the tree well between two
cycles, ``aftermath`` is what follows each cycle (``--once`` does it too), ``endpoint`` answers Prometheus and health checks.
"""
