"""Clients that look no further than a day: upload times are those of the index."""

from __future__ import annotations

import pytest

DAYS = [
    ("2026-01-15", {"demo_lib": "1.0"}),
    ("2026-02-15", {"demo_lib": "1.1+cgr.1"}),
    ("2026-06-15", {"demo_lib": "1.2"}),
]


@pytest.mark.parametrize(("day", "chosen"), DAYS)
def test_uploaded_prior_to(pip, nginx, day, chosen):
    """A day given to pip chooses what was uploaded before it; upload times come from JSON only."""
    assert pip.install_well(nginx, "demo-lib", options=["--uploaded-prior-to", f"{day}T00:00:00Z"]) == chosen


@pytest.mark.parametrize(("day", "chosen"), DAYS)
def test_exclude_newer(uv_client, served, day, chosen):
    """A day given to uv chooses what was uploaded before it; upload times come from JSON and from HTML."""
    assert uv_client.install_well(served, "demo-lib", options=["--exclude-newer", f"{day}T00:00:00Z"]) == chosen


def test_nothing_is_old_enough(uv_client, pip, nginx):
    """Where everything is newer, nothing is installed."""
    for client, option in ((pip, "--uploaded-prior-to"), (uv_client, "--exclude-newer")):
        refused = client.install(nginx, "demo-lib", options=[option, "2025-12-31T00:00:00Z"])
        assert refused.returncode == 1, refused.stdout
        assert client.installed() == {}
