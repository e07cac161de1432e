"""What stops a bundle, each with a sentence that says what to do; and nothing is entered in the ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.bundles import SITE, SMALLEST_VOLUME, Gap, flip, make_key
from mirror.bundle import inspection, signing
from mirror.bundle.making.contents import page_list_path
from mirror.bundle.repair import read_receipt
from mirror.errors import BundleError, ConfigError, TreeError
from mirror.tree.layout import Layout
from simulator import build_wheel


@pytest.fixture
def gap(tmp_path, threaded_simulator) -> Gap:
    """Two projects, mirrored once, and a key."""
    keys = tmp_path / "keys"
    keys.mkdir()
    gap = Gap(tmp_path, threaded_simulator(), make_key(keys))
    for name in ("alpha", "beta"):
        gap.upstream.state.publish(name, *build_wheel(name, "1.0"))
    gap.cycle()
    return gap


def publish(gap: Gap, version: str) -> None:
    gap.upstream.state.publish("alpha", *build_wheel("alpha", version))
    gap.cycle()


def test_without_ssh_keygen_nothing_begins(monkeypatch, tmp_path):
    """A host without OpenSSH is told to install it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"install OpenSSH 8\.2 or newer"):
        signing.check_tool()


def test_a_key_that_is_none_is_told(tmp_path):
    """A public key that is not there, or is none, is named; a key that can't be made too."""
    with pytest.raises(BundleError, match="can't be read as a public key"):
        signing.allowed_signer(tmp_path / "none", "near")
    (tmp_path / "bad.pub").write_text("x")
    with pytest.raises(BundleError, match="no public key"):
        signing.allowed_signer(tmp_path / "bad", "near")
    with pytest.raises(BundleError, match="could not make"):
        signing.make_key(tmp_path / "no" / "directory", protect=False)


def test_a_signature_of_something_else_is_none(gap):
    """describe_signer believes only a signature of the file itself."""
    place = Path(gap.create()["path"])
    assert signing.describe_signer(place / "bundle.json", place / "bundle.json.sig").startswith("ED25519 key SHA256:")
    with pytest.raises(BundleError, match=r"no signature of README\.txt"):
        signing.describe_signer(place / "README.txt", place / "bundle.json.sig")


def test_a_lost_list_of_what_was_sent_asks_for_a_full_bundle(gap):
    """Without the list of the base's pages nobody knows what changed: --full is advised, and works."""
    report = gap.carry()
    page_list_path(Layout(gap.mirror.root), report["chain"], 1).unlink()
    publish(gap, "2.0")
    with pytest.raises(BundleError, match="make the bundle with --full"):
        gap.create()
    gap.carry(full=True)
    gap.check_equal()


def test_a_page_that_is_none_of_ours_stops_it(gap):
    """A damaged page on the near side is named before it is sent."""
    (gap.mirror.root / "public/simple/alpha/index.v1_json").write_text("{}")
    with pytest.raises(TreeError, match=r"alpha/index.v1_json: is no page of ours.*verify --repair"):
        gap.create()


@pytest.mark.parametrize("ending", [".whl", ".metadata"])
def test_a_missing_file_stops_it(gap, ending):
    """A blob or sidecar that is gone is named, and nothing is entered."""
    next(p for p in (gap.mirror.root / "public/files").rglob(f"alpha*{ending}")).unlink()
    with pytest.raises(BundleError, match=r"alpha-1.0.*No such file.*verify --repair"):
        gap.create()
    assert gap.mirror.query("SELECT count(*) FROM shipment") == [(0,)]


def test_another_medium_under_the_same_name_gets_all_volumes(gap):
    """When the medium of an interrupted run was swapped, everything is written again."""
    key, gap.key = gap.key, gap.key.with_name("missing")
    with pytest.raises(BundleError, match="could not sign"):
        gap.create()
    gap.key = key
    shutil.rmtree(gap.medium / f"{SITE}-000001")
    report = gap.create()
    assert gap.receive(report["path"])[0] == 0
    gap.check_equal()


def test_what_an_older_order_left_on_the_medium_is_cleared(gap):
    """An unfinished folder of another order is written anew from the start."""
    key, gap.key = gap.key, gap.key.with_name("missing")
    with pytest.raises(BundleError, match="could not sign"):
        gap.create(volume_size=SMALLEST_VOLUME)
    gap.key = key
    report = gap.create(full=True)
    assert {p.name for p in Path(report["path"]).glob("volume-*")} == {"volume-0001.tar"}
    assert gap.receive(report["path"])[0] == 0


def test_lists_of_shipments_that_nobody_needs_go(gap):
    """The list of a shipment's pages goes with the next bundle once its history may be pruned."""
    import sqlite3

    report = gap.carry()
    publish(gap, "2.0")
    gap.carry()
    with sqlite3.connect(gap.mirror.root / "state.db") as db:
        db.execute("UPDATE shipment SET needed = 0 WHERE sequence = 1")
    publish(gap, "3.0")
    gap.carry()
    lists = sorted(p.name for p in (gap.mirror.root / "shipments").iterdir())
    assert lists == [f"{report['chain']}-{n:06d}.sha256" for n in (2, 3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "No such file", id="not there"),
        pytest.param("hello", "is no receipt", id="no JSON"),
        pytest.param('{"format":1}\n', "is no receipt", id="keys missing"),
        pytest.param('{"format":1,"format":1}\n', "is no receipt", id="key twice"),
        pytest.param(
            '{"chain":"c","digest":"d","format":2,"sequence":1,"site":"s"}\n', "has format 2, known is 1", id="newer"
        ),
    ],
)
def test_what_is_no_receipt_is_refused(tmp_path, text, said):
    """A receipt comes from beyond the gap: what is none is refused with a sentence."""
    path = tmp_path / "receipt.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BundleError, match=said):
        read_receipt(path)


def test_a_repair_of_what_is_damaged_here_too_is_not_made(gap):
    """A blob that is damaged or gone on the near side, or has no name of a file, is named instead of sent."""
    gap.carry()
    blobs = sorted((gap.mirror.root / "public/files").rglob("*.whl"))
    flip(blobs[0])
    blobs[1].unlink()
    places = [str(p.relative_to(gap.mirror.root / "public")) for p in blobs]
    places.append(places[0].rpartition("/")[0] + "/.metadata")
    receipt = json.loads((gap.far / "receipt.json").read_bytes())
    receipt["damage"] = [{"path": path, "problem": "bytes"} for path in places]
    receipt["damage"].append({"path": "files/foreign", "problem": "foreign"})
    path = gap.work / "list.json"
    path.write_text(json.dumps(receipt))
    report = gap.create(repair=path)
    assert (report["outcome"], [item["path"] for item in report["not_mended"]]) == ("nothing", places)


def test_pages_are_mended_from_a_snapshot_when_the_live_ones_have_changed(gap):
    """The very page that was sent is found in a snapshot."""
    from anyio import run

    from harness.snapshots import snapshot

    gap.carry()
    run(snapshot, gap.mirror, "sent")
    publish(gap, "2.0")
    flip(gap.far / "public/simple/alpha/index.v1_json")
    (gap.far / "public/simple/index.html").unlink()
    assert gap.check()[0] == 7
    report = gap.create(repair=gap.work / "damage.json")
    assert (report["pages"], report["not_mended"]) == (2, [])
    assert gap.receive(report["path"])[0] == 0
    assert gap.check()[0] == 0


def test_looking_at_what_is_no_bundle(gap, tmp_path):
    """A folder without a bundle, media of different bundles, and a manifest that is none are told apart."""
    first = Path(gap.create()["path"])
    publish(gap, "2.0")
    second = Path(gap.create()["path"])
    with pytest.raises(BundleError, match="is no bundle"):
        inspection.find_bundles([tmp_path / "keys"])
    with pytest.raises(BundleError, match="of another bundle than"):
        inspection.inspect([first, second])
    (second / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match=r"bundle.json: bundle.json: expected exactly"):
        inspection.inspect([second])
    (second / "bundle.json").unlink()
    with pytest.raises(BundleError, match="can't be read"):
        inspection.inspect([second])


def test_verify_names_what_disagrees_inside_a_volume(gap):
    """A volume with the listed digest of its own but another member inside is still refused by its members."""
    place = Path(gap.create()["path"])
    found = inspection.inspect([place], trust=gap.trust)
    assert (found.signer, found.is_trusted) == ("key", True)
    flip(place / "volume-0001.tar", 700)
    flip(place / "README.txt")
    problems = inspection.verify(found, [place], lambda _count: None).problems
    assert [p.partition(": ")[0].rpartition("/")[2] for p in problems] == ["README.txt", "volume-0001.tar"]
    other = gap.work / "other"
    other.mkdir()
    make_key(other)
    stranger = inspection.inspect([place], trust=other / "allowed_signers")
    assert (stranger.signer, len(stranger.problems)) == (None, 1)
