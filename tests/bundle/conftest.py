"""A signer for all tests, and a site with a far side for each, on the machine's own disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.handmade_bundles import far, signer, site
from harness.own_disk import tmp_path_factory
from harness.quick_disk import QUICK_DISK

__all__ = ["far", "quick_path", "signer", "site", "tmp_path_factory"]


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A directory in memory, for tests that run a command at each of its steps and keep no key beside the bundle."""
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as name:
        yield Path(name)
