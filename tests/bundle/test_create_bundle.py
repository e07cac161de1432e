"""Bundles made on the near side and received on the far side, scenario by scenario."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bundles import SITE, SMALLEST_VOLUME, Gap, flip, make_key, sha256
from harness.in_process import DAY_S
from harness.snapshots import delete, snapshot
from mirror.bundle import receive, signing
from mirror.config import SiteConfig
from mirror.errors import BundleError, ConfigError, StateError, TreeError
from simulator import build_sdist, build_wheel


@pytest.fixture
def gap(tmp_path, threaded_simulator) -> Gap:
    """Three projects, mirrored once, and a key."""
    keys = tmp_path / "keys"
    keys.mkdir()
    gap = Gap(tmp_path, threaded_simulator(), make_key(keys))
    for name in ("alpha", "beta", "gamma"):
        gap.upstream.state.publish(name, *build_wheel(name, "1.0"))
    gap.cycle()
    return gap


def change(gap: Gap) -> None:
    """Publish, yank, replace, remove and unlist."""
    state = gap.upstream.state
    state.publish("alpha", *build_wheel("alpha", "2.0"))
    state.yank("alpha", "alpha-1.0-py3-none-any.whl", "broken")
    state.replace("beta", "beta-1.0-py3-none-any.whl", build_wheel("beta", "1.0", extra_files={"beta/n.py": b"1"})[1])
    state.unlist_project("gamma")
    state.publish("delta", *build_sdist("delta", "1.0"))
    gap.settle()


@contextlib.contextmanager
def failing(gap: Gap, *, signatures: int) -> Iterator[None]:
    """Let ``ssh-keygen`` sign so often and no more, as a hardware key that nobody touches."""
    tools = gap.work / "tools"
    tools.mkdir(exist_ok=True)
    count = tools / "count"
    count.write_text("")
    program = tools / "ssh-keygen"
    program.write_text(
        f"""#!/bin/sh
case " $* " in *" sign "*)
    [ "$(wc -c < {count})" -lt {signatures} ] || exit 1
    printf x >> {count}
esac
exec {shutil.which("ssh-keygen")} "$@"
"""
    )
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        yield


def manifest_of(report) -> dict:
    return json.loads((Path(report["path"]) / "bundle.json").read_bytes())


def test_the_first_bundle_is_complete_and_later_ones_carry_only_what_changed(gap):
    """After a full bundle and a delta the far side equals the near side; the delta has just the new blobs."""
    first = gap.carry()
    gap.check_equal()
    assert (first["sequence"], first["base"], first["files"]) == (1, None, 3)
    change(gap)
    second = gap.carry()
    gap.check_equal()
    assert (second["sequence"], second["files"], second["projects_removed"]) == (2, 3, 1)
    assert second["base"] == {"sequence": 1, "digest": first["digest"]}
    blobs = {item["path"].rpartition("/")[2] for item in manifest_of(second)["blobs"]}
    assert blobs == {
        "alpha-2.0-py3-none-any.whl",
        "alpha-2.0-py3-none-any.whl.metadata",
        "beta-1.0-py3-none-any.whl",
        "beta-1.0-py3-none-any.whl.metadata",
        "delta-1.0.tar.gz",
    }


def test_everything_that_bundle_json_lists_has_the_digest_that_it_says(gap):
    """SHA256SUMS names every file of the folder, bundle.json all that receivers of 0.1 know; the programs are ours."""
    place = Path(gap.create()["path"])
    listed = json.loads((place / "bundle.json").read_bytes())
    found = {f["name"]: f["sha256"] for f in (*listed["attached"], *listed["volumes"])}
    own = {"bundle.json", "bundle.json.sig", "SHA256SUMS", "serve.py", "serve.py.sig"}
    assert found == {p.name: sha256(p) for p in place.iterdir() if p.name not in own}
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=place, check=True)
    assert len((place / "SHA256SUMS").read_text().splitlines()) == len(found) + 2
    assert (place / "receive.py").read_bytes() == Path(receive.__file__).read_bytes()
    assert (place / "serve.py").read_bytes() == Path(receive.__file__).with_name("serve.py").read_bytes()
    contents = json.loads((place / "CONTENTS.json").read_bytes())["files"]
    assert {c["path"] for c in contents} == {i["path"] for i in (*listed["blobs"], *listed["pages"])}


def test_volumes_are_plain_tar_for_any_tool(gap, tmp_path):
    """The system's own tar unpacks the volumes; a blob in it has the listed bytes."""
    place = Path(gap.create()["path"])
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xf", str(place / "volume-0001.tar"), "-C", str(out)], check=True)
    for item in json.loads((place / "bundle.json").read_bytes())["blobs"]:
        assert sha256(out / item["path"]) == item["sha256"]
    with tarfile.open(place / "volume-0001.tar") as volume:
        kinds = [m.name.partition("/")[0] for m in volume if not m.name.endswith(".metadata")]
    assert kinds == sorted(kinds), "blobs come before pages"


def test_readme_tells_the_commands(gap):
    """README.txt names the site and the commands, with the check of the program first."""
    text = (Path(gap.create()["path"]) / "README.txt").read_text()
    assert "for the site plant" in text
    assert (
        "ssh-keygen -Y verify -f allowed_signers -I NAME -n bundle@offline-mirror -s receive.py.sig < receive.py"
        in text
    )
    assert text.index("ssh-keygen -Y verify") < text.index("python3 -I receive.py DIR --root ROOT")


def test_nothing_new_makes_no_bundle(gap):
    """A second bundle without a change is not made, takes no sequence and leaves no pin."""
    gap.carry()
    assert gap.create() == {"outcome": "nothing", "site": SITE}
    assert gap.mirror.query("SELECT sequence FROM shipment") == [(1,)]
    assert gap.mirror.query("SELECT * FROM snapshot") == []
    assert list((gap.mirror.root / "pins").iterdir()) == []


def test_only_yanks_and_removals_need_no_blobs(gap):
    """A bundle of yanks and removals alone carries pages and no file."""
    gap.carry()
    gap.upstream.state.yank("alpha", "alpha-1.0-py3-none-any.whl")
    gap.upstream.state.unlist_project("beta")
    gap.settle()
    report = gap.carry()
    assert (report["files"], report["sidecars"], report["projects_removed"]) == (0, 0, 1)
    gap.check_equal()


def test_blobs_larger_than_a_volume_are_split(gap):
    """With small volumes a large blob lies in several, no volume is too large, and the far side is the same."""
    big = build_wheel("big", "1.0", size_pad=3 * SMALLEST_VOLUME)
    gap.upstream.state.publish("big", *big)
    gap.upstream.state.publish("twin", big[0].replace("big", "twin"), big[1], metadata=None)
    gap.cycle()
    report = gap.create(volume_size=SMALLEST_VOLUME)
    place = Path(report["path"])
    volumes = sorted(place.glob("volume-*.tar"))
    assert len(volumes) == report["volumes"] > 3
    assert all(v.stat().st_size <= SMALLEST_VOLUME and v.stat().st_size % 512 == 0 for v in volumes)
    split = [b for b in manifest_of(report)["blobs"] if len(b["parts"]) > 1]
    assert {b["path"].rpartition("/")[2] for b in split} == {big[0], big[0].replace("big", "twin")}
    assert gap.receive(place)[0] == 0
    gap.check_equal()


def test_long_and_foreign_file_names_arrive(gap):
    """Names beyond ASCII and beyond what a plain tar header holds arrive as they are."""
    for name in (f"alpha-{'9' * 150}.tar.gz", "alpha-1.0-é.zip", "alpha-ünïcode-" + "x" * 100 + ".zip"):
        gap.upstream.state.publish("alpha", name, name.encode(), metadata=None)
    gap.cycle()
    gap.carry()
    gap.check_equal()


def test_a_site_gets_its_own_projects_and_a_root_of_them(gap):
    """The far side of a site with patterns serves its projects only; a project that no longer matches leaves."""
    gap.sites = (SiteConfig(name=SITE, exclude_projects=("b*",)),)
    report = gap.carry()
    gap.check_equal(lambda name: name != "beta")
    assert report["state"]["projects"] == 2
    assert report["state"]["files"] == 2
    gap.sites = (SiteConfig(name=SITE, projects=("beta",)),)
    report = gap.carry()
    gap.check_equal(lambda name: name == "beta")
    assert report["projects_removed"] == 2


def test_what_changed_for_others_only_is_no_news(gap):
    """Where only projects of other sites have changed there is nothing to send, though the mirror's own root has changed."""
    gap.sites = (SiteConfig(name=SITE, exclude_projects=("b*",)),)
    gap.carry()
    gap.upstream.state.publish("beta", *build_wheel("beta", "2.0"))
    gap.cycle()
    assert gap.create()["outcome"] == "nothing"
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    gap.cycle()
    assert gap.carry()["sequence"] == 2
    gap.check_equal(lambda name: name != "beta")


def test_two_repairs_within_a_second_do_not_meet(gap):
    """A repair's folder has the time in its name, and a number where that is taken."""
    gap.carry()
    for path in sorted((gap.far / "public/files").rglob("*.whl")):
        flip(path)
    assert gap.check()[0] == 7
    made = [Path(gap.create(repair=gap.work / "damage.json")["path"]) for _ in range(3)]
    assert len(set(made)) == 3
    assert gap.receive(made[0])[0] == 0
    assert gap.check()[0] == 0


def test_a_lost_bundle_is_superseded_by_since(gap):
    """When a medium is lost, a bundle since an older one applies both where it was lost and where it came after all."""
    gap.carry()
    change(gap)
    lost = gap.create()
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "3.0"))
    gap.cycle()
    late = gap.create()
    code, told = gap.receive(late["path"])
    assert code == 7
    assert "plant-000002" in " ".join(told["reasons"])
    report = gap.create(since=1)
    assert report["base"]["sequence"] == 1
    assert [r["sequence"] for r in report["supersedes"]] == [2, 3]
    code, _ = gap.receive(lost["path"])
    assert code == 0
    code, told = gap.receive(report["path"])
    assert code == 0, told
    gap.check_equal()
    with pytest.raises(ConfigError, match="no bundle 9 was made"):
        gap.create(since=9)


def test_since_goes_back_over_what_only_a_lost_bundle_had(gap):
    """A bundle of an older state mends every state that it supersedes, also one that has more than it."""
    from anyio import run

    run(snapshot, gap.mirror, "old")
    gap.carry()
    change(gap)
    gap.carry()
    report = gap.create(since=1, snapshot="old")
    assert gap.receive(report["path"])[0] == 0
    assert sorted(p.name for p in (gap.far / "public/simple").iterdir() if p.is_dir()) == ["alpha", "beta", "gamma"]


def test_a_snapshot_is_sent_instead_of_the_newest_state(gap):
    """The far side then serves the snapshot's pages, byte for byte, and the next bundle leads on from there."""
    from anyio import run

    run(snapshot, gap.mirror, "old")
    before = (gap.mirror.root / "public/simple/alpha/index.html").read_bytes()
    change(gap)
    gap.carry(snapshot="old")
    assert (gap.far / "public/simple/alpha/index.html").read_bytes() == before
    run(delete, gap.mirror, "old")
    gap.carry()
    gap.check_equal()


def test_prune_keeps_what_a_later_bundle_needs(gap):
    """History since the last bundle stays past keep-history; that before an acknowledged one goes."""
    from anyio import run

    from harness.upkeep import prune

    gap.carry()
    change(gap)
    # A gap between two cycles counts for a week at most.
    for _ in range(60):
        gap.mirror.clock.advance(7 * DAY_S)
        gap.cycle()
    assert run(prune, gap.mirror).entries == 0
    gap.carry()
    gap.check_equal()
    # The shipment's own time is the real clock's, so the ledger is aged by hand.
    gap.mirror.query("UPDATE shipment SET made_at = 0")
    with_receipt(gap)
    assert run(prune, gap.mirror).entries == 3
    with pytest.raises(ConfigError, match="was pruned"):
        gap.create(since=1)


def with_receipt(gap: Gap) -> None:
    import sqlite3

    with sqlite3.connect(gap.mirror.root / "state.db") as db:
        db.execute("UPDATE shipment SET made_at = 0")
        db.execute("UPDATE shipment SET acknowledged_at = 1 WHERE sequence = 2")


def test_a_full_bundle_mends_any_state_of_the_chain(gap):
    """A complete bundle of the same chain applies on an older state."""
    gap.carry()
    change(gap)
    gap.create()
    report = gap.carry(full=True)
    assert (report["base"], report["sequence"]) == (None, 3)
    gap.check_equal()


def test_a_new_chain_after_a_lost_state_needs_to_be_accepted(gap):
    """A ledger that was lost begins a new chain, which the far side takes only with --new-chain."""
    from anyio import run

    from harness.upkeep import lose_state, repair

    gap.carry()
    lose_state(gap.mirror)
    run(repair, gap.mirror)
    gap.cycle()
    with pytest.raises(BundleError, match="another bundle of this name"):
        gap.create(full=True)
    report = gap.create(full=True, to=gap.work / "second")
    code, told = gap.receive(report["path"])
    assert code == 7
    assert "--new-chain" in " ".join(told["reasons"])
    assert gap.receive(report["path"], new_chain=True)[0] == 0
    gap.check_equal()


def test_a_run_that_was_stopped_is_continued(gap):
    """Volumes that are whole are not written again, those that are missing are; the bundle is the same one."""
    gap.upstream.state.publish("big", *build_wheel("big", "1.0", size_pad=5 * SMALLEST_VOLUME))
    gap.cycle()
    key, gap.key = gap.key, gap.key.with_name("broken")
    gap.key.write_text("no key")
    with pytest.raises(BundleError, match="Run it again to go on"):
        gap.create(volume_size=SMALLEST_VOLUME)
    gap.key = key
    place = gap.medium / f"{SITE}-000001"
    before = {p.name: p.stat().st_mtime_ns for p in place.glob("volume-*.tar")}
    (place / "volume-0002.tar").unlink()
    gap.cycle()
    gap.create(volume_size=SMALLEST_VOLUME)
    after = {p.name: p.stat().st_mtime_ns for p in place.glob("volume-*.tar")}
    assert {n for n in after if after[n] != before[n]} == {"volume-0002.tar"}
    assert gap.receive(place)[0] == 0
    gap.check_equal()


@pytest.mark.parametrize("is_much", [True, False], ids=["much-is-written", "little-is-written"])
def test_a_run_that_was_stopped_before_a_cycle(gap, monkeypatch, is_much):
    """Where much is written the bundle of the older state is completed; else it begins anew, from what is published now."""
    gap.upstream.state.publish("big", *build_wheel("big", "1.0", size_pad=5 * SMALLEST_VOLUME))
    gap.cycle()
    with failing(gap, signatures=1), pytest.raises(BundleError, match="Run it again to go on"):
        gap.create(volume_size=SMALLEST_VOLUME)
    place = gap.medium / f"{SITE}-000001"
    before = {p.name: p.stat().st_mtime_ns for p in place.glob("volume-*.tar")}
    assert (place / "bundle.json").exists()
    gap.upstream.state.publish("later", *build_wheel("later", "1.0"))
    gap.cycle()
    if is_much:
        monkeypatch.setattr("mirror.bundle.making.drafts._WORTH_BYTES", 5 * SMALLEST_VOLUME)
    report = gap.create(volume_size=SMALLEST_VOLUME)
    assert (report["sequence"], report["state"]["projects"]) == (1, 4 if is_much else 5)
    after = {p.name: p.stat().st_mtime_ns for p in place.glob("volume-*.tar")}
    assert (after == before) == is_much
    assert gap.receive(place)[0] == 0
    if is_much:
        gap.carry()
    gap.check_equal()


def test_a_signed_bundle_is_entered_whatever_was_published_since(gap):
    """What was killed between signing and entering may be on its way: the same command enters it, no other takes its number."""
    with sqlite3.connect(gap.mirror.root / "state.db") as state:
        state.execute("CREATE TRIGGER full BEFORE INSERT ON shipment BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(StateError, match="no room"):
        gap.create()
    with sqlite3.connect(gap.mirror.root / "state.db") as state:
        state.execute("DROP TRIGGER full")
    before = {p.name: p.read_bytes() for p in (gap.medium / f"{SITE}-000001").iterdir()}
    change(gap)
    report = gap.create()
    assert {p.name: p.read_bytes() for p in Path(report["path"]).iterdir()} == before
    assert gap.mirror.query("SELECT sequence FROM shipment") == [(1,)]
    assert gap.receive(report["path"])[0] == 0
    gap.carry()
    gap.check_equal()


def test_another_key_signs_all_of_it(gap):
    """A bundle that was begun with one key and completed with another is signed by the second alone; unsigned, by none."""
    with failing(gap, signatures=1), pytest.raises(BundleError, match="could not sign"):
        gap.create()
    first, gap.key = gap.key, make_key(gap.work, "second")
    place = Path(gap.create()["path"])
    assert gap.receive(place)[0] == 0
    signer = signing.describe_signer(place / "bundle.json", place / "bundle.json.sig")
    assert signing.describe_signer(place / "receive.py", place / "receive.py.sig") == signer
    change(gap)
    gap.key = first
    with failing(gap, signatures=1), pytest.raises(BundleError, match="could not sign"):
        gap.create()
    gap.key = None
    assert not [p.name for p in Path(gap.create()["path"]).iterdir() if p.suffix == ".sig"]


def test_another_order_lets_go_of_what_was_begun(gap, tmp_path):
    """A bundle begun for another medium is given up; what it left there is used again for the next one."""
    key, gap.key = gap.key, gap.key.with_name("broken")
    gap.key.write_text("no key")
    with pytest.raises(BundleError):
        gap.create()
    gap.key = key
    other = tmp_path / "other"
    report = gap.create(to=other)
    assert Path(report["path"]).parent == other
    assert gap.mirror.query("SELECT kind FROM snapshot") == []
    change(gap)
    assert gap.create()["sequence"] == 2


def test_what_lies_on_the_medium_already_is_not_overwritten(gap):
    """A folder with something that is not ours is refused and left alone."""
    place = gap.medium / f"{SITE}-000001"
    place.mkdir()
    (place / "thesis.doc").write_text("mine")
    with pytest.raises(BundleError, match=r"something else \(thesis.doc\)"):
        gap.create()
    assert [p.name for p in place.iterdir()] == ["thesis.doc"]


def test_a_medium_that_is_too_small_is_refused_before_anything_is_written(gap, tmp_path):
    """Free space is checked first, and the message says how much is needed."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        with pytest.raises(TreeError, match="bytes are needed for this bundle"):
            gap.create(to=small)
        assert list((small / f"{SITE}-000001").iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("what", ["blob", "sidecar", "short"])
def test_damage_on_the_near_side_is_found_before_it_is_sent(gap, what):
    """A blob or sidecar with other bytes than its page says stops the bundle and is named."""
    files = gap.mirror.root / "public/files"
    blob = next(p for p in sorted(files.rglob("alpha*.whl")))
    path = blob.with_name(f"{blob.name}.metadata") if what == "sidecar" else blob
    if what == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        flip(path)
    with pytest.raises(BundleError, match=r"damaged.*mirror verify --repair"):
        gap.create()
    assert gap.mirror.query("SELECT count(*) FROM shipment") == [(0,)]


def test_sidecars_that_change_are_sent_again(gap):
    """A sidecar that a repair made anew crosses although its blob has not changed."""
    from anyio import run

    from harness.upkeep import repair

    gap.carry()
    blob = next(p for p in sorted((gap.mirror.root / "public/files").rglob("alpha*.whl")))
    with_other_metadata(gap, blob)
    run(repair, gap.mirror)
    report = gap.carry()
    assert (report["files"], report["sidecars"]) == (0, 1)
    gap.check_equal()


def with_other_metadata(gap: Gap, blob: Path) -> None:
    """Let the state and the sidecar say something else than the wheel, as an older program might have."""
    import hashlib
    import sqlite3

    sidecar = blob.with_name(f"{blob.name}.metadata")
    sidecar.write_bytes(b"other")
    with sqlite3.connect(gap.mirror.root / "state.db") as db:
        digest = hashlib.sha256(b"other").hexdigest()
        db.execute("UPDATE blob SET metadata_sha256 = ? WHERE filename = ?", (digest, blob.name))


def test_an_unsigned_bundle_says_so(gap):
    """Without a key there is no signature, and the far side takes it only with --unsigned."""
    key, gap.key = gap.key, None
    place = Path(gap.create()["path"])
    assert not (place / "bundle.json.sig").exists()
    gap.key = key
    assert gap.receive(place)[0] == 7
    gap.key = None
    assert gap.receive(place)[0] == 0
    gap.check_equal()


def test_a_rotated_key_is_trusted_beside_the_old_one(gap):
    """With both keys in allowed_signers, bundles of either are taken; a key that is not there is refused."""
    gap.carry()
    change(gap)
    gap.key = make_key(gap.key.parent, "second")
    gap.carry()
    gap.check_equal()
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "9.0"))
    gap.cycle()
    trusted = gap.trust
    strangers = trusted.parent / "strangers"
    strangers.mkdir()
    gap.key = make_key(strangers)
    report = gap.create()
    code, told = gap.run(str(report["path"]), "--root", str(gap.far), "--json", "--trust", str(trusted))
    assert code == 7
    assert "by no key of" in " ".join(told["reasons"])


@pytest.mark.parametrize(
    "name",
    [
        "bundle.json",
        "bundle.json.sig",
        "receive.py",
        "receive.py.sig",
        "serve.py",
        "serve.py.sig",
        "README.txt",
        "CONTENTS.json",
        "volume-0001.tar",
    ],
)
def test_a_changed_byte_is_refused_and_named(gap, name):
    """One byte changed in any file of the folder: refused with exit code 7, the file is named, nothing is served."""
    place = Path(gap.create()["path"])
    flip(place / name)
    code, told = gap.receive(place)
    assert code == 7
    assert name.removesuffix(".sig") in " ".join(told["reasons"])
    assert not (gap.far / "public/simple").exists()


def test_damage_on_the_far_side_is_mended_by_a_repair(gap):
    """Blobs, sidecars and pages that the far side lists as damaged are sent again, outside the chain."""
    gap.carry()
    files = sorted((gap.far / "public/files").rglob("*.whl"))
    flip(files[0])
    files[1].unlink()
    files[2].with_name(f"{files[2].name}.metadata").write_bytes(b"")
    flip(gap.far / "public/simple/alpha/index.html")
    (gap.far / "public/files/foreign").write_text("x")
    code, _ = gap.check()
    assert code == 7
    (gap.far / "public/files/foreign").unlink()
    report = gap.create(repair=gap.work / "damage.json")
    assert report["outcome"] == "made"
    assert (report["kind"], report["sequence"], report["not_mended"]) == ("repair", None, [])
    code, told = gap.receive(report["path"])
    assert code == 0, told
    assert gap.check()[0] == 0
    gap.check_equal()
    assert gap.mirror.query("SELECT max(sequence) FROM shipment") == [(1,)]


def test_what_can_not_be_mended_is_named(gap):
    """A page that has changed since, and a blob that is gone, are named instead of mended."""
    gap.carry()
    flip(gap.far / "public/simple/alpha/index.v1_json")
    gap.check()
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    gap.cycle()
    report = gap.create(repair=gap.work / "damage.json")
    assert report == {"outcome": "nothing", "site": SITE, "not_mended": [{"path": "simple/alpha/index.v1_json"}]}


def test_a_hostile_list_reads_nothing_that_was_not_sent(gap, tmp_path):
    """Paths that no bundle of ours has are not read, however they are written."""
    gap.carry()
    receipt = json.loads((gap.far / "receipt.json").read_bytes())
    secret = tmp_path / "near/state.db"
    paths = [
        "../state.db",
        "/etc/passwd",
        "files/../../state.db",
        str(secret),
        "simple/../../state.db",
        "files/aa/bb/cc/x",
    ]
    receipt["damage"] = [{"path": path, "problem": "missing"} for path in paths]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(receipt))
    report = gap.create(repair=path)
    assert report["outcome"] == "nothing"
    assert [item["path"] for item in report["not_mended"]] == paths


def test_a_list_gets_nothing_of_other_sites(gap, tmp_path):
    """A site that knows the path of a blob of a project that it does not get is sent none; its own ones are."""
    gap.sites = (SiteConfig(name=SITE, exclude_projects=("b*",)),)
    gap.carry()
    files = gap.mirror.root / "public/files"
    paths = {p.name.partition("-")[0]: f"files/{p.relative_to(files)}" for p in files.rglob("*.whl")}
    asked = [paths["alpha"], paths["beta"], paths["beta"] + ".metadata"]
    receipt = json.loads((gap.far / "receipt.json").read_bytes())
    receipt["damage"] = [{"path": path, "problem": "missing"} for path in asked]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(receipt))
    report = gap.create(repair=path)
    assert [item["path"] for item in report["not_mended"]] == asked[1:]
    assert [item["path"] for item in manifest_of(report)["blobs"]] == asked[:1]
    gap.sites = ()
    with pytest.raises(ConfigError, match="was sent 2 of 3 projects"):
        gap.create(repair=path)


def test_another_bundle_entered_meanwhile_spoils_this_one(gap):
    """The ledger takes no second bundle of a sequence."""
    import sqlite3

    def enter_another(*_arguments):
        with sqlite3.connect(gap.mirror.root / "state.db") as db:
            db.execute("INSERT INTO shipment (site, chain, sequence, digest, revision, state, volumes, bytes, made_at)"
                       " VALUES (?, 'c', 1, 'd', 1, '{}', 0, 0, 0)", (SITE,))  # fmt: skip

    from mirror.jobs import bundle_create

    original = bundle_create._enter

    async def enter(*arguments, **options):
        enter_another()
        await original(*arguments, **options)

    bundle_create._enter = enter
    try:
        with pytest.raises(BundleError, match="was entered meanwhile"):
            gap.create()
    finally:
        bundle_create._enter = original
