from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import Mirror
from harness.store_mirror import StoreMirror
from harness.storing import ObjectStore
from simulator import Simulator

BOTH_TREES = frozenset(
    {
        "test_cycle_first",
    }
)
"""The files whose tests run against a tree on the disk and against one in an object store.

With ``MIRROR_TEST_TREE=store`` all of this folder run against a store.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the tests of ``BOTH_TREES`` run twice."""
    if "tree_kind" in metafunc.fixturenames and "MIRROR_TEST_TREE" not in os.environ:
        is_both = metafunc.module.__name__.rpartition(".")[2] in BOTH_TREES
        metafunc.parametrize("tree_kind", ["disk", "store"] if is_both else ["disk"], indirect=True)


@pytest.fixture
def tree_kind(request: pytest.FixtureRequest) -> str:
    """Where the trees of a test lie."""
    return str(getattr(request, "param", os.environ.get("MIRROR_TEST_TREE", "disk")))


@pytest.fixture
def mirror_of(tmp_path: Path, tree_kind: str, request: pytest.FixtureRequest) -> Callable[..., Mirror]:
    """Make a mirror of simulators: of one, named ``main``, or of several by their names."""

    def make(main: Simulator | None = None, /, root: str = "mirror", **simulators: Any) -> Mirror:
        named = {"main": main} if main is not None else simulators
        if tree_kind == "disk":
            return Mirror(tmp_path / root, named)
        engine: ObjectStore = request.getfixturevalue("object_store")
        return StoreMirror(tmp_path / root, named, engine.prefix())

    return make
