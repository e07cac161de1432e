"""One mirrored tree for each module, and the real program serving it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.people_tree import people_tree
from harness.server import Server, Tree, made_tree


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


@pytest.fixture(scope="session")
def people_mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A tree with something of everything; no test changes it."""
    with people_tree(tmp_path_factory.mktemp("people")) as tree:
        yield tree


@pytest.fixture(scope="session")
def people(people_mirror: Tree) -> Iterator[Server]:
    """The same tree served, for all tests of pages for people and the API."""
    with Server(people_mirror.mirror) as server:
        yield server
