"""--check finds what is damaged, and a repair mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.handmade_bundles import Far, Site, State, canonical, some_file

A, A2, B = some_file("aa", "1.0", 3000), some_file("aa", "2.0"), some_file("bb", "1.0")
FIRST = State({"aa": [A], "bb": [B]}, 1)
SECOND = State({"aa": [A, A2], "bb": [B]}, 2)
THIRD = State({"aa": [A2], "bb": [B]}, 3)


@pytest.fixture
def received(site: Site, far: Far) -> Far:
    """A far side with two states."""
    far.receive_well(site.make(FIRST))
    far.receive_well(site.make(SECOND))
    return far


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def checked(far: Far, tmp_path: Path) -> list[tuple[str, str]]:
    """Run --check, and return what it wrote; receipt and list agree."""
    path = tmp_path / "list.json"
    done = far.run("--check", "--list", path)
    found = json.loads(path.read_bytes())
    receipt = far.receipt
    assert path.read_bytes() == canonical(found)
    assert found == {key: receipt[key] for key in ("format", "site", "chain", "sequence", "digest", "damage")}
    assert done.code == (7 if found["damage"] else 0)
    for item in found["damage"]:
        assert f"receive: {item['problem']}: {item['path']}\n" in done.err
    return [(item["path"], item["problem"]) for item in found["damage"]]


def test_a_whole_tree(received: Far, tmp_path: Path) -> None:
    """Nothing is damaged: exit code 0, an empty list."""
    assert checked(received, tmp_path) == []
    done = received.run("--check")
    assert (done.code, done.out) == (
        0,
        "everything that lab-000002 and the kept states list is whole\n"
        f"carry {received.root}/receipt.json back to the near side\n",
    )


def test_nothing_was_received(far: Far) -> None:
    """A root in which nothing was received can't be checked; nothing is made there."""
    assert far.run("--check").code == 6
    assert not far.root.exists()


PAGE = "simple/aa/index.v1_json"


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        pytest.param(lambda p: flip(p / A2.path), [(A2.path, "bytes")], id="blob-flipped"),
        pytest.param(lambda p: cut(p / A2.path), [(A2.path, "size")], id="blob-cut"),
        pytest.param(lambda p: (p / A2.path).unlink(), [(A2.path, "missing")], id="blob-missing"),
        pytest.param(
            lambda p: shutil.rmtree((p / A2.path).parent),
            [(A2.path, "missing"), (f"{A2.path}.metadata", "missing")],
            id="directory-missing",
        ),
        pytest.param(lambda p: flip(p / f"{B.path}.metadata"), [(f"{B.path}.metadata", "bytes")], id="sidecar-flipped"),
        pytest.param(lambda p: flip(p / PAGE), [(PAGE, "bytes")], id="page-flipped"),
        pytest.param(lambda p: (p / PAGE).write_bytes(b"{"), [(PAGE, "bytes")], id="page-is-none"),
        pytest.param(lambda p: (p / PAGE).unlink(), [(PAGE, "missing")], id="page-missing"),
        pytest.param(
            lambda p: shutil.rmtree(p / "simple/aa"),
            [(f"simple/aa/{n}", "missing") for n in ("index.html", "index.v1_html", "index.v1_json")],
            id="project-missing",
        ),
        pytest.param(
            lambda p: flip(p / "simple/index.html"),
            [("simple/index.html", "bytes"), ("simple/index.v1_html", "bytes")],
            id="root-page",
        ),
    ],
)  # fmt: skip
def test_damage_is_listed_and_mended(
    received: Far, site: Site, tmp_path: Path, harm: Callable[[Path], Any], expected: list[tuple[str, str]]
) -> None:
    """Each kind of damage is listed; a repair of what the list names makes the tree whole, and says so in the receipt."""
    harm(received.public)
    assert checked(received, tmp_path) == expected
    made = site.repair(path for path, _ in expected)
    done = received.receive(made)
    assert done.code == 0, done.err
    assert done.out.startswith("the damage named in the list is mended; the state is that of lab-000002\n")
    assert received.receipt["damage"] == []
    received.check_serves(SECOND)
    assert checked(received, tmp_path) == []
    assert received.kept == [1, 2]
    assert received.receive(made).code == 0
    received.receive_well(site.make(THIRD))
    received.check_serves(THIRD)


def test_a_page_that_two_states_share_is_mended_in_both(received: Far, site: Site, tmp_path: Path) -> None:
    """A page that is a hard link in two states is damaged and mended in both."""
    flip(received.public / "simple/bb/index.v1_json")
    assert checked(received, tmp_path) == [
        ("simple/bb/index.v1_json", "bytes"),
        ("snapshots/bundle-000001/simple/bb/index.v1_json", "bytes"),
    ]
    assert received.receive(site.repair(["simple/bb/index.v1_json"])).code == 0
    assert checked(received, tmp_path) == []
    assert received.run("--rollback").code == 0
    received.check_serves(FIRST)


def test_foreign_pages_are_told(received: Far, tmp_path: Path) -> None:
    """A page, or a link, that was not received is named: it could serve anything."""
    (received.public / "simple/evil").mkdir()
    (received.public / "simple/evil/index.html").write_text("evil")
    (received.public / "simple/link").symlink_to("/tmp")
    assert checked(received, tmp_path) == [("simple/evil/index.html", "foreign"), ("simple/link", "foreign")]


def test_links_of_the_tree(received: Far, site: Site, tmp_path: Path) -> None:
    """Lost links are named; a rollback to the newest state puts them back, a repair those to the files."""
    (received.public / "simple").unlink()
    (received.public / "snapshots/bundle-000002/files").unlink()
    assert checked(received, tmp_path) == [("snapshots/bundle-000002/files", "missing"), ("simple", "missing")]
    done = received.run("--check")
    assert "receive: the links that are missing are put back by --rollback 2\n" in done.err
    assert "carry" not in done.err
    assert received.run("--rollback", 2).code == 0
    assert checked(received, tmp_path) == []
    received.check_serves(SECOND)
    (received.public / "snapshots/bundle-000001/files").unlink()
    assert received.receive(site.repair([])).code == 0
    assert checked(received, tmp_path) == []


def test_a_lost_list_of_pages_is_made_again(received: Far, site: Site, tmp_path: Path) -> None:
    """The list of a state's pages is made from the pages while they are whole; after that all of them need a repair."""
    path = received.root / "states/bundle-000002.sha256"
    before = path.read_bytes()
    path.unlink()
    assert checked(received, tmp_path) == []
    assert path.read_bytes() == before
    path.write_bytes(b"x")
    flip(received.public / PAGE)
    assert checked(received, tmp_path) == [(page, "bytes") for page in sorted(SECOND.pages)]
    part = site.repair(["simple/aa/index.html"])
    done = received.receive(part)
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        f"receive: {path} is damaged, and this repair does not mend all pages",
    )
    shutil.rmtree(part.path)
    assert received.receive(site.repair(SECOND.pages)).code == 0
    assert checked(received, tmp_path) == []
    assert path.read_bytes() == before


def test_the_list_is_what_sha256sum_checks(received: Far) -> None:
    """A person can check a state's pages with coreutils; the list's sha256 is the state's digest."""
    import subprocess

    path = received.root / "states/bundle-000002.sha256"
    command = ["sha256sum", "--check", "--quiet", "--strict", path]
    subprocess.run(command, cwd=received.public / "snapshots/bundle-000002", check=True)
    assert path.read_text() == "".join(sorted(path.read_text().splitlines(keepends=True)))


def test_a_repair_fits_one_state_only(received: Far, site: Site) -> None:
    """A repair for another state than the newest is refused, on a fresh root as well."""
    made = site.repair([A.path])
    received.receive_well(site.make(THIRD))
    done = received.receive(made)
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        "receive: this repair mends the state of lab-000002; this site has lab-000003: make a new list by --check",
    )
    fresh = Far(received.root.parent / "fresh", received.trust)
    assert fresh.receive(made).code == 7


def test_a_repair_brings_no_other_pages(received: Far, site: Site) -> None:
    """A repair whose page is not the state's own is refused."""
    value = {"kind": "repair", "sequence": None, "base": site.made[-1].reference, "supersedes": [], "removed": []}
    page = {PAGE: THIRD.pages[PAGE]}
    made = site.write(site.work / "evil", value, SECOND, blobs={}, pages=page)
    done = received.receive(made)
    assert (done.code, done.err.splitlines()[-1]) == (7, f"receive: {PAGE}: is no page of bundle-000002")
    received.check_serves(SECOND)


def test_a_damaged_base_is_told(received: Far, site: Site, tmp_path: Path) -> None:
    """An update on a damaged state is refused with the advice to check, and applies after the repair."""
    third = site.make(THIRD)
    site.made.pop()
    flip(received.public / "simple/bb/index.html")
    done = received.receive(third)
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        "receive: the pages are not those that the near side has: a page here is damaged; run --check",
    )
    (received.public / "simple/bb/index.html").unlink()
    done = received.receive(third)
    assert done.code == 7
    assert "the state bundle-000002 is damaged" in done.err
    (received.public / B.path).unlink()
    paths = [path for path, _ in checked(received, tmp_path)]
    assert received.receive(site.repair(paths)).code == 0
    received.receive_well(third)
    received.check_serves(THIRD)


def test_no_blob_is_deleted_while_a_kept_page_cannot_be_read(received: Far, site: Site, tmp_path: Path) -> None:
    """With a damaged page in an older state the sweep deletes no blob; once that state is gone it does."""
    far = received
    (far.public / "snapshots/bundle-000002/simple/aa/index.v1_json").write_bytes(b"{")
    done = far.receive(site.make(THIRD), options=["--keep", "2"])
    assert done.code == 0
    far.check_serves(THIRD)
    assert "no old file was deleted" in done.err
    assert far.record["sweep"] is True
    far.check_holds(FIRST, SECOND, THIRD)
    for _ in range(3):
        assert far.receive(site.make(THIRD)).code == 0
    assert (far.record["sweep"], far.kept) == (False, [4, 5, 6])
    far.check_holds(THIRD)


def test_foreign_files_below_files_stay(received: Far, site: Site) -> None:
    """What does not look like a blob is never deleted."""
    foreign = [received.public / "files/README", received.public / "files/aa/bb/note.txt"]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for _ in range(4):
        assert received.receive(site.make(THIRD)).code == 0
    assert all(path.read_text() == "mine" for path in foreign)
    assert not (received.public / A.path).exists()
