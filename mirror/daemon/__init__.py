"""Cycles on a schedule, for years, unattended.

``service`` is the daemon: read it first. ``pulse`` proves to systemd and health checks that it is
alive, ``upkeep`` checks and prunes the tree between two cycles, ``endpoint`` answers Prometheus and
health checks. The work after a cycle is in ``mirror.jobs``, since ``--once`` does it too.
"""
