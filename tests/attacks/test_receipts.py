"""Receipts that whoever holds the medium could make: what the near side takes, and what that changes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from harness.bundles import SITE, Gap, make_key
from mirror.bundle.repair import acknowledged_changes, find_shipment, read_receipt
from mirror.bundle.signing import allowed_signer
from mirror.errors import BundleError
from simulator import build_wheel


@pytest.fixture
def gap(tmp_path, threaded_simulator) -> Gap:
    """A project whose first bundle was applied."""
    keys = tmp_path / "keys"
    keys.mkdir()
    gap = Gap(tmp_path, threaded_simulator(), make_key(keys))
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "1.0"))
    gap.cycle()
    return gap


def shipments(gap: Gap) -> list:
    import anyio

    from mirror.jobs.bundle_sites import load_bundles

    return anyio.run(load_bundles, gap.config, SITE)


@pytest.mark.parametrize("key", ["digest", "state_digest", "chain"])
def test_a_receipt_of_something_else_is_refused(gap, key):
    """A receipt counts only with the digests of the bundle and of its state."""
    gap.carry()
    receipt = json.loads((gap.far / "receipt.json").read_bytes())
    receipt[key] = "0" * len(receipt[key])
    path = gap.work / "receipt.json"
    path.write_text(json.dumps(receipt))
    with pytest.raises(BundleError, match="--full"):
        find_shipment(read_receipt(path), shipments(gap), is_receipt=True)


def test_a_list_of_damage_acknowledges_nothing(gap):
    """What does not say which state was reached is no receipt."""
    gap.carry()
    assert gap.check()[0] == 0
    found = read_receipt(gap.work / "damage.json")
    with pytest.raises(BundleError, match="no receipt"):
        find_shipment(found, shipments(gap), is_receipt=True)


def test_what_a_receipt_changes_is_told_and_since_goes_on(gap):
    """A receipt for a bundle that never arrived lets go of nothing at once: --since still makes what the site needs."""
    import msgspec

    gap.carry()
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    gap.cycle()
    gap.create()
    before = shipments(gap)
    after = [before[0], msgspec.structs.replace(before[1], acknowledged_at=time.time(), damage=0)]
    lines = acknowledged_changes(before, after, 2)
    assert lines[0] == "it was not acknowledged before"
    assert lines[1].startswith("bundles 1 can be built on by --since for keep-history from now on")
    assert acknowledged_changes(after, after, 2) == ["it was acknowledged before: nothing is let go of"]
    gap.mirror.query("UPDATE shipment SET acknowledged_at = 1 WHERE sequence = 2")
    report = gap.create(since=1)
    assert gap.receive(report["path"])[0] == 0


def test_an_end_travels_with_the_bundle(gap):
    """--valid-for stands in the manifest and the README; without it the manifest has the keys of the first release."""
    report = gap.create(valid_for_s=3600.0)
    place = Path(report["path"])
    manifest = json.loads((place / "bundle.json").read_bytes())
    assert manifest["valid_until"] == report["valid_until"] > manifest["created_at"]
    assert f"Apply it until {report['valid_until']}" in (place / "README.txt").read_text()
    assert gap.receive(place)[0] == 0
    plain = json.loads((Path(gap.create(full=True)["path"]) / "bundle.json").read_bytes())
    keys = "attached base blobs chain created_at format kind pages removed sequence site state supersedes tool volumes"
    assert (sorted(plain), plain["format"]) == (keys.split(), 1)


def test_a_key_for_one_site(gap):
    """The line for a site has a principal that ends in its name."""
    assert allowed_signer(gap.key, "mirror", "plant").startswith(
        'mirror@site:plant namespaces="bundle@offline-mirror" '
    )
