"""On the far side nothing beside a digest is replaced, and a bundle that is rejected leaves the tree as it was."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.handmade_bundles import Far, File, Site, State, canonical, sha256, some_file
from mirror.bundle import receive as program

SDIST = File("aa-1.0.tar.gz", b"an sdist" * 100, metadata=b"Name: aa\nVersion: 1.0\n")
PLANTED = replace(SDIST, metadata=b"Name: aa\nVersion: 1.0\nRequires-Dist: evil\n")
BARE = replace(SDIST, metadata=None)
OTHER = some_file("bb", "1.0")
SECOND = some_file("aa", "2.0")
SIDECAR = f"{SDIST.path}.metadata"
FIRST = State({"aa": [SDIST], "bb": [OTHER]}, 1)


def stamp(public: Path) -> dict[str, Any]:
    """Return everything below a tree: bytes of files, targets of links, inodes and times."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(public):
        for name in [*names, *files]:
            path = Path(directory) / name
            status = path.lstat()
            data = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            found[str(path)] = (data, status.st_ino, 0 if path.is_dir() else status.st_mtime_ns)
    return found


def check_refused(far: Far, bundle: Any, said: str, options: tuple[str, ...] = ()) -> None:
    """The bundle is rejected with a sentence; nothing below ``public`` has changed, and it is whole."""
    before, record = stamp(far.public), (far.root / "receive.json").read_bytes()
    done = far.receive(bundle, options=options)
    assert (done.code, said in done.err) == (7, True), done.err
    assert stamp(far.public) == before
    assert (far.root / "receive.json").read_bytes() == record
    assert far.run("--check").code == 0


@pytest.mark.parametrize("full", [False, True], ids=["delta", "full"])
@pytest.mark.parametrize("project", ["aa", "zz"], ids=["own-page", "page-of-another-project"])
def test_other_metadata_for_a_file_that_a_kept_state_lists(site: Site, far: Far, full: bool, project: str) -> None:
    """A bundle with second metadata for a file is refused, whichever project lists it, and names the file and the way out."""
    far.receive_well(site.make(FIRST))
    projects = {"aa": [BARE], "bb": [OTHER], project: [PLANTED]}
    check_refused(far, site.make(State(projects, 2), full=full), f"{SIDECAR}: bundle-000001 lists other metadata")
    far.check_serves(FIRST)


def test_metadata_of_an_older_kept_state_is_not_replaced_either(site: Site, far: Far) -> None:
    """What only a state before the served one lists stays; without kept states that list it other bytes may come."""
    far.receive_well(site.make(FIRST))
    second = State({"aa": [BARE], "bb": [OTHER]}, 2)
    far.receive_well(site.make(second))
    third = State({"aa": [PLANTED], "bb": [OTHER]}, 3)
    bundle = site.make(third)
    check_refused(far, bundle, f"{SIDECAR}: bundle-000001 lists other metadata")
    # A kept state may be served again, with the metadata that its pages list.
    assert far.run("--rollback").code == 0
    assert (far.public / SIDECAR).read_bytes() == SDIST.metadata
    far.receive_well(site.make(State({"bb": [OTHER]}, 4), since=2), options=["--keep", "1"])
    assert not (far.public / SIDECAR).exists()
    far.receive_well(site.make(third))
    far.check_serves(third)


def test_metadata_leaves_the_disk_when_no_kept_state_lists_it(site: Site, far: Far) -> None:
    """Metadata that left the pages stays for the states that list it, and goes with the last of them."""
    far.receive_well(site.make(FIRST))
    for revision in (2, 3):
        far.receive_well(site.make(State({"aa": [BARE], "bb": [OTHER]}, revision)))
        assert (far.public / SIDECAR).read_bytes() == SDIST.metadata
    far.receive_well(site.make(State({"aa": [BARE], "bb": [OTHER]}, 4)))
    assert far.kept == [2, 3, 4]
    assert not (far.public / SIDECAR).exists()
    assert (far.public / SDIST.path).exists()


def test_a_page_that_lists_other_metadata_and_brings_none(site: Site, far: Far) -> None:
    """The digest of a page is compared with the metadata that is there, also where the bundle brings no metadata."""
    far.receive_well(site.make(FIRST))
    second = State({"aa": [PLANTED], "bb": [OTHER]}, 2)

    # The ledger is told that the last bundle had it.
    site.made[0] = replace(site.made[0], state=State({"aa": [PLANTED]}, 1))
    bundle = site.make(replace(second, projects={"aa": [PLANTED, SECOND], "bb": [OTHER]}))
    check_refused(far, bundle, f"{SIDECAR}: is listed with another sha256")


def test_two_pages_of_one_bundle_that_disagree(site: Site, far: Far) -> None:
    """Two projects that list one file with different metadata can't both be right."""
    far.receive_well(site.make(State({"bb": [OTHER]}, 1)))
    bundle = site.make(State({"aa": [SDIST], "bb": [OTHER], "zz": [PLANTED]}, 2))
    check_refused(far, bundle, f"{SIDECAR}: is listed with another sha256")


@pytest.mark.parametrize("fault", ["missing-file", "wrong-state", "bad-page"])
def test_a_rejected_bundle_places_nothing(site: Site, far: Far, fault: str) -> None:
    """Whatever is found wrong with the pages, no file of the bundle has come into the tree."""
    far.receive_well(site.make(FIRST))
    new = some_file("aa", "2.0")
    second = State({"aa": [SDIST, new], "bb": [OTHER]}, 2)

    def spoil(manifest: dict[str, Any]) -> None:
        if fault == "wrong-state":
            manifest["state"]["digest"] = "0" * 64

    if fault == "missing-file":
        # The ledger is told that the last bundle had it.
        gone = some_file("aa", "3.0")
        site.made[0] = replace(site.made[0], state=State({"aa": [SDIST, gone], "bb": [OTHER]}, 1))
        second = State({"aa": [SDIST, new, gone], "bb": [OTHER]}, 2)
    if fault == "bad-page":

        class Bad(State):
            @property
            def pages(self) -> dict[str, bytes]:
                return {**super().pages, "simple/aa/index.v1_json": b"{}"}

        second = Bad(second.projects, 2)
    check_refused(far, site.make(second, change=spoil), {"bad-page": "simple/aa"}.get(fault, ""))
    assert not (far.public / new.path).exists()


def test_a_damaged_file_is_replaced_by_its_own_bytes(site: Site, far: Far) -> None:
    """Damage is no reason to refuse: the bytes that the pages list come back by a full bundle, and by a repair."""
    far.receive_well(site.make(FIRST))
    for bundle in (site.make(replace(FIRST, revision=2), full=True), None):
        for path in (SIDECAR, SDIST.path):
            (far.public / path).write_bytes(b"damaged")
        assert far.run("--check").code == 7
        assert far.receive(bundle or site.repair([SIDECAR, SDIST.path])).code == 0
        assert far.run("--check").code == 0
        assert (far.public / SIDECAR).read_bytes() == SDIST.metadata


def test_a_repair_with_metadata_of_its_own(site: Site, far: Far) -> None:
    """A repair brings only the metadata that the state lists, and none for a file that has none."""
    plain = File("cc-1.0.tar.gz", b"another" * 50)
    first = State({"aa": [SDIST], "cc": [plain]}, 1)
    far.receive_well(site.make(first))
    lying = State({"aa": [PLANTED], "cc": [replace(plain, metadata=b"Name: evil\n")]}, 1)
    made = site.made[0]
    site.made[0] = replace(made, state=lying)
    check_refused(far, site.repair([SIDECAR]), "other metadata")
    site.work = site.work / "again"
    check_refused(far, site.repair([f"{plain.path}.metadata"]), "no kept state lists metadata")


def test_the_check_looks_at_all_that_kept_states_say(site: Site, far: Far) -> None:
    """Where two kept states list one file with different metadata or sizes, one of them is wrong, and --check says so."""
    far.receive_well(site.make(FIRST))
    page = json.loads((far.public / "simple/aa/index.v1_json").read_bytes())
    far.receive_well(site.make(State({"aa": [SDIST, some_file("aa", "2.0")], "bb": [OTHER]}, 2)))
    assert far.run("--check").code == 0
    page["files"][0]["core-metadata"] = {"sha256": sha256(PLANTED.metadata or b"")}
    rewrite_page(far, json.dumps(page).encode())
    done = far.run("--check")
    assert (done.code, f"bytes: {SIDECAR}" in done.err) == (7, True), done.err
    page["files"][0]["core-metadata"] = {"sha256": sha256(SDIST.metadata or b"")}
    page["files"][0]["size"] += 1
    rewrite_page(far, json.dumps(page).encode())
    done = far.run("--check")
    assert (done.code, f"size: {SDIST.path}" in done.err) == (7, True), done.err


def rewrite_page(far: Far, data: bytes) -> None:
    """Let the oldest kept state say something else, as if it had been received so."""
    page = far.public / "snapshots/bundle-000001/simple/aa/index.v1_json"
    page.unlink()
    page.write_bytes(data)
    pages = page.parents[1]
    lines = [f"{sha256(path.read_bytes())}  simple/{path.relative_to(pages)}\n" for path in pages.rglob("index.*")]
    text = "".join(sorted(lines)).encode()
    (far.root / "states/bundle-000001.sha256").write_bytes(text)
    record = far.record
    record["applied"][0]["state"] = sha256(text)
    (far.root / "receive.json").write_bytes(canonical(record))


def test_lost_record_and_other_metadata(site: Site, far: Far) -> None:
    """Without receive.json the states that are there still keep the metadata that they list."""
    far.receive_well(site.make(FIRST))
    (far.root / "receive.json").unlink()
    before = stamp(far.public)
    full = site.make(State({"aa": [PLANTED], "bb": [OTHER]}, 2), full=True)
    done = far.receive(full, options=["--new-chain"])
    assert (done.code, f"{SIDECAR}: bundle-000001 lists other metadata" in done.err) == (7, True), done.err
    assert stamp(far.public) == before


def test_lost_record_and_a_state_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site, far: Far
) -> None:
    """Without receive.json the served state keeps its directory until the new one is served, whatever its number."""
    far.receive_well(site.make(FIRST))
    (far.root / "receive.json").unlink()
    second = State({"aa": [SDIST, SECOND]}, 2)
    other = Site(tmp_path / "other", site.signer, chain="beef" * 8).make(second)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "public")

    with monkeypatch.context() as patched:
        patched.setattr(program, "switch", fail)
        assert far.receive(other, options=["--new-chain"]).code == 6
    far.check_serves(FIRST)
    far.receive_well(other, options=["--new-chain"])
    far.check_serves(second)
    assert len(list((far.public / "snapshots").iterdir())) == 1
