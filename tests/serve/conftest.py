"""One mirrored tree for each module, and the real program serving it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_program import Server, Tree, made_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree that no test of the module changes."""
    with made_tree(tmp_path_factory.mktemp("served")) as tree:
        yield tree


@pytest.fixture(scope="module")
def server(tree: Tree) -> Iterator[Server]:
    """The tree served, for all tests of the module."""
    with Server(tree.mirror) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Tree]:
    """A tree of the test's own, to be changed."""
    with made_tree(tmp_path / "own") as tree:
        yield tree
