"""``[serve] wishes``: the names that clients asked for and that are not here."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.server import Server, Tree

NOT_WISHES = [
    "/simple/demo-app/",  # it is here
    "/simple/Demo.Lib",
    "/simple/",
    "/simple/no%20name/",
    "/simple/-/",
    "/simple/..%2f..%2fetc/",
    f"/simple/{'a' * 65}/",
    "/simple/one/two/",
    "/simple/many/one.whl",
    "/channels/none/simple/many/",  # here, though not there
    "/files/00/00/none.whl",
    "/projects/shown-only/",
    "/?q=searched",
    "/pypi/other-api/json",
]


def wishing(tree: Tree, *, wishes: str = "true") -> Path:
    """Write a configuration that records wishes, and return it."""
    text = tree.mirror.config.read_text().partition("[serve]")[0]
    tree.mirror.config.write_text(f"{text}\n[serve]\nwishes = {wishes}\nworkers = 2\n")
    return tree.mirror.config


def test_names_that_are_not_here(own: Tree) -> None:
    """Each process adds to one list: normalised, valid, once, no clients; beside the tree, in nothing that is served."""
    before = set(own.mirror.root.rglob("*"))
    with Server(own.mirror, "--config", wishing(own)) as server:
        assert {server.get(target).status for target in NOT_WISHES} <= {200, 301, 400, 404}
        for number in range(12):  # by both processes
            asked = f"/simple/Wish_{number % 4}{'/' if number % 2 else ''}"
            assert server.get(asked, method="HEAD" if number % 3 else "GET").status == 404
        assert server.get("/channels/none/simple/far.fetched/?format=text/html").status == 404
        assert server.get("/simple/asked-as-file/index.v1_json").status == 404
        assert server.get("/simple/not-read/", method="POST").status == 405
        assert not server.events("wishes.unwritable")
    path = own.mirror.root / "wishes.txt"
    names = path.read_text().splitlines()
    assert sorted(names) == ["asked-as-file", "far-fetched", "wish-0", "wish-1", "wish-2", "wish-3"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(own.mirror.root.rglob("*")) - before <= {path}
    # A person removes a name: the next who asks brings it back. What is here by now leaves a full list.
    full = ["many", *(f"n{number}" for number in range(999))]
    path.write_text("".join(f"{name}\n" for name in full))
    with Server(own.mirror, "--config", own.mirror.config) as server:
        assert server.get("/simple/wish-0/").status == 404
        assert path.read_text().splitlines() == [*full[1:], "wish-0"]
        assert server.get("/simple/wish-1/").status == 404
        assert path.read_text().splitlines() == [*full[1:], "wish-0"]
        path.unlink()
        assert server.get("/simple/wish-1/").status == 404
        assert path.read_text() == "wish-1\n"


@pytest.mark.parametrize("obstacle", ["off", "other-file", "no-tree"])
def test_nothing_is_recorded(own: Tree, obstacle: str) -> None:
    """Off by default; a list that can't be used is one error line, and a tree that is not there makes no wish."""
    path = own.mirror.root / "wishes.txt"
    if obstacle == "other-file":
        path.write_text("not a list\n")
    elif obstacle == "no-tree":
        (own.mirror.root / "public/simple").rename(own.mirror.root / "public/unmounted")
    config = own.mirror.config if obstacle == "off" else wishing(own)
    with Server(own.mirror, "--config", config) as server:
        for name in ("a", "b", "a"):
            assert server.get(f"/simple/{name}/").status == 404
        assert server.get("/-/health/live").status == 200
        errors = server.events("wishes.unwritable")
        assert len(errors) in ({1, 2} if obstacle == "other-file" else {0})  # one for each process that was asked
    assert not path.exists() or path.read_text() == "not a list\n"
