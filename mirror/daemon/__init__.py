"""Cycles on a schedule, for years, unattended.

``service`` is the daemon: read it first. ``timetable`` decides when, ``cycles`` runs a cycle, whose
``progress`` all see, and ``upkeep`` checks and prunes the tree between two cycles. ``credentials``
watches for refused ones and their ends, ``pulse`` proves to systemd and health checks that the
daemon is alive, ``listening`` holds the ``endpoint`` that answers Prometheus and health checks. The
work after a cycle is in ``mirror.jobs``, since ``--once`` does it too.
"""
