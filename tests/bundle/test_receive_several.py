"""Several bundles below one folder are applied in their order; a root of another user is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import PROGRAM, Far, Signer, Site, State, some_file

STATES = [State({"aa": [some_file("aa", f"{n}.0")]}, n) for n in range(1, 13)]


def test_bundles_below_one_folder_are_applied_in_order(site: Site, far: Far) -> None:
    """A disk that was not carried back each time: all of its bundles, by number; what was applied is passed over."""
    far.receive_well(site.make(STATES[0]))
    made = [site.make(state) for state in STATES[1:]]
    done = far.receive(made[0].path.parent)
    assert done.code == 0, done.err
    far.check_serves(STATES[-1])
    assert "passed over: " not in done.err.partition("lab-000002:")[2]
    assert far.receive(made[0].path.parent).code == 0
    assert far.run("--check").code == 0


def test_a_fresh_far_side_takes_all_of_them(site: Site, far: Far) -> None:
    """The first use may name a folder with several bundles."""
    made = [site.make(state) for state in STATES[:3]]
    far.receive_well(made[0].path.parent)
    assert far.kept == [1, 2, 3]


def test_a_gap_that_a_later_bundle_closes(site: Site, far: Far) -> None:
    """A bundle that does not fit is passed over where a later one supersedes it, and else named."""
    far.receive_well(site.make(STATES[0]))
    lost, third = site.make(STATES[1]), site.make(STATES[2])
    shutil.move(lost.path, far.root.parent / "lost")
    fourth = site.make(STATES[3])
    done = far.receive(third.path.parent)
    assert (done.code, "Missing: lab-000002" in done.err.splitlines()[-2]) == (7, True), done.err
    shutil.rmtree(fourth.path)
    site.made.pop()
    site.make(STATES[4], since=1)
    far.receive_well(third.path.parent)
    far.check_serves(STATES[4])


def test_bundles_of_other_sites_are_passed_over(site: Site, far: Far, tmp_path: Path, signer: Signer) -> None:
    """One disk for several sites: each takes its own; where there is none of its own it is told."""
    other = Site(tmp_path / "near", signer, name="plant", chain="d" * 32)
    other.make(STATES[0])
    site.make(STATES[0])
    other.make(STATES[1])
    far.receive_well(site.work)
    far.check_serves(STATES[0])
    stranger = Far(tmp_path / "stranger", signer.trust, "field")
    done = stranger.receive(site.work)
    assert (done.code, "this one is 'field'" in done.err) == (7, True)


def test_a_bad_bundle_stops_the_later_ones(site: Site, far: Far) -> None:
    """A bundle whose bytes were changed is rejected; those before it stay applied, those after it wait."""
    made = [site.make(state) for state in STATES[:3]]
    volume = made[1].path / "volume-0001.tar"
    volume.write_bytes(volume.read_bytes()[:-1] + b"x")
    assert far.receive(made[0].path.parent).code == 7
    assert far.kept == [1]


def test_parts_on_several_media_with_several_bundles(site: Site, far: Far, tmp_path: Path) -> None:
    """Folders of one name on two media are one bundle."""
    made = [site.make(state, volume_bytes=8 * 1024) for state in STATES[:2]]
    second = tmp_path / "second"
    for bundle in made:
        place = second / bundle.path.name
        place.mkdir(parents=True)
        for name in ("bundle.json", "bundle.json.sig"):
            shutil.copy(bundle.path / name, place)
        shutil.move(bundle.path / "volume-0001.tar", place)
    assert far.receive(site.work).code == 5
    assert far.receive(site.work, second).code == 0
    far.check_serves(STATES[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("uid", [65534, 54321], ids=["named", "unnamed"])
@pytest.mark.parametrize("is_fresh", [True, False], ids=["fresh", "received"])
def test_root_beside_the_owner(site: Site, far: Far, uid: int, is_fresh: bool) -> None:
    """Another user than the owner of the root: exit code 2 with the command that does it right, and nothing is written."""
    first, second = site.make(STATES[0]), site.make(STATES[1])
    if is_fresh:
        far.root.mkdir()
    else:
        far.receive_well(first)
    for path in (far.root, *far.root.rglob("*")):
        os.lchown(path, uid, uid)
    before = {str(path): path.lstat().st_mtime_ns for path in (far.root, *far.root.rglob("*"))}
    base = [sys.executable, "-I", str(PROGRAM), "--root", str(far.root)]
    commands = [[*base, str(second.path), "--site", "lab", "--trust", str(far.trust)], [*base, "--check"]]
    for words in [*commands, [*base, "--rollback"]]:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        expected = (
            "runuser -u nobody -- " if uid == 65534 else f"setpriv --reuid={uid} --regid={uid} --clear-groups -- "
        )
        assert expected + f"{sys.executable} -I {PROGRAM}" in done.stderr
    if not is_fresh:
        assert subprocess.run([*base, "--status"], check=False, capture_output=True).returncode == 0
    assert {str(path): path.lstat().st_mtime_ns for path in (far.root, *far.root.rglob("*"))} == before
