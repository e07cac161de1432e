"""Cycles on a schedule, for years, unattended.

``service`` is the daemon: read it first. ``pulse`` proves to systemd and health checks that it is
alive, ``upkeep`` checks and prunes the tree between two cycles, ``aftermath`` does the work after
each cycle (``--once`` does it too), ``endpoint`` answers Prometheus and health checks.
"""
