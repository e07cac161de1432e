"""The proof that wants install travels in a bundle, and the far side shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.bundles import Gap, flip, make_key
from harness.wants import WantingMirror, add
from mirror.bundle import inspection
from mirror.bundle.serve import FarTree, Request, answer_for

_TARGET = "linux/3.12.4/linux-x86_64"


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture
def gap(tmp_path: Path, threaded_simulator, key: Path) -> Gap:
    """A near side with a want that installs, and one that does not."""
    upstream = threaded_simulator(core_metadata=True)
    gap = Gap(tmp_path, upstream, key)
    gap.mirror = WantingMirror(tmp_path / "near", {"main": upstream})
    add(upstream, "app", "1.0", "lib")
    add(upstream, "lib", "1.0")
    gap.mirror.wants = gap.mirror.wanted("app", name="good") + gap.mirror.wanted("nowhere", name="bad")
    gap.cycle()
    return gap


def overview(gap: Gap) -> str:
    request = Request("GET", "/", "", {}, keeps_open=False)
    return answer_for(FarTree(str(gap.far)), request).body.decode()


def test_the_far_side_shows_what_installs(gap: Gap):
    """Signed by way of README.txt: in the receiver's answer, its status, ``bundle inspect`` and the server's page; a
    damaged file names the wants that it hurts. Old receivers see no new key and no new name.
    """
    made = gap.create()
    medium = Path(made["path"])
    manifest = json.loads((medium / "bundle.json").read_bytes())
    assert "PROOF.json" not in {item["name"] for item in manifest["attached"]}
    assert "PROOF.json" in (medium / "SHA256SUMS").read_text()
    found = inspection.inspect([medium])
    assert found.problems == []
    assert found.leaving == {}
    assert [(one["want"], one["installable"]) for one in found.wants or []] == [("good", True), ("bad", False)]
    code, told = gap.receive(medium)
    assert code == 0, told
    good, bad = told["wants"]
    assert (good["want"], good["target"], good["installable"], good["files"]) == ("good", _TARGET, True, 2)
    assert (bad["installable"], bad["gaps"][0]["reason"]) == (False, "not-offered")
    _, status = gap.run("--root", str(gap.far), "--json", "--status")
    assert status["wants"] == told["wants"]
    page = overview(gap)
    assert f"<td>good</td><td>{_TARGET}</td><td>yes, 2 files</td>" in page
    assert "nowhere: not-offered" in page
    _, checked = gap.check()
    assert checked["wants"] == told["wants"]
    [blob] = (gap.far / "public/files").rglob("lib-1.0*.whl")
    flip(blob)
    code, damaged = gap.check()
    assert code == 7
    assert f"good in {_TARGET} does not install: {blob.name} is damaged" in damaged["reasons"]


def test_a_later_bundle_replaces_it_and_a_rollback_brings_it_back(gap: Gap):
    """Each kept state has its own proof."""
    gap.carry()
    gap.mirror.wants = gap.mirror.wanted("app", name="good")
    add(gap.upstream, "lib", "2.0")
    gap.cycle()
    report = gap.carry()
    assert report["sequence"] == 2
    root = ("--root", str(gap.far), "--json")
    assert [one["want"] for one in gap.run(*root, "--status")[1]["wants"]] == ["good"]
    gap.run(*root, "--rollback")
    assert [one["want"] for one in gap.run(*root, "--status")[1]["wants"]] == ["good", "bad"]


def test_a_changed_proof_is_refused_and_a_missing_one_is_not(gap: Gap, tmp_path: Path):
    """The signature covers it; a medium without the file still brings its bundle."""
    medium = Path(gap.create()["path"])
    changed = shutil.copytree(medium, tmp_path / "changed")
    proof = changed / "PROOF.json"
    proof.write_bytes(proof.read_bytes().replace(b"false", b"true"))
    code, told = gap.receive(changed)
    assert (code, "PROOF.json: changed" in told["reasons"][0]) == (7, True)
    assert any("PROOF.json" in problem for problem in inspection.inspect([changed]).problems)
    (medium / "PROOF.json").unlink()
    code, told = gap.receive(medium)
    assert (code, "wants" in told) == (0, False)


def test_a_mirror_without_wants_sends_none(gap: Gap):
    """The bundle is as it was before there were wants."""
    gap.mirror.wants = ()
    gap.mirror.configure("main", select="listed")
    gap.cycle()
    medium = Path(gap.create()["path"])
    assert not (medium / "PROOF.json").exists()
    assert "PROOF.json" not in (medium / "README.txt").read_text()
