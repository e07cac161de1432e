"""Directories of tests on the machine's own disk, for tests in which keys judge a bundle.

The receiver asks whether a bundle and the keys that judge it are on one medium; a disk in memory is one.
A module or a folder imports the fixture ``tmp_path_factory``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.TempPathFactory]:
    """Make the directories of these tests on the disk where the system has its own."""
    with tempfile.TemporaryDirectory(prefix="mirror-bundles-") as name:
        yield pytest.TempPathFactory(
            given_basetemp=Path(name) / "tests",
            trace=tmp_path_factory._trace,
            retention_count=1,
            retention_policy="failed",
            _ispytest=True,
        )
