"""Proofs, bundles, locks and the daemon's upkeep where the tree lies in an object store: a real engine, real cycles."""

from __future__ import annotations

import hashlib

import anyio
import pytest

from harness.bundles import Gap, make_key
from harness.in_process import DAY_S
from harness.store_mirror import StoreMirror
from harness.wants import WantingMirror, add
from mirror.daemon.pulse import Pulse
from mirror.daemon.upkeep import Upkeep
from mirror.jobs.prove import prove_tree
from mirror.notify import ServiceManager
from mirror.selection.locks.files import check_lock_file
from mirror.state.notes import load_notes
from mirror.state.store import open_store
from simulator import build_wheel


class WantingStoreMirror(StoreMirror, WantingMirror):
    """A mirror of wants with its tree below one prefix."""


@pytest.fixture(autouse=True)
def variables(object_store, monkeypatch) -> None:
    """Commands that open the tree by its state read the variables of the process."""
    for name, value in object_store.env.items():
        monkeypatch.setenv(name, value)


async def test_wants_are_proved(simulator, object_store, tmp_path):
    """After a cycle and by ``mirror check``: what installs, and what misses a file, from the objects alone."""
    index = await simulator()
    prefix = object_store.prefix()
    mirror = WantingStoreMirror(tmp_path / "mirror", {"main": index}, prefix)
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    mirror.wants = mirror.wanted("app", name="good") + mirror.wanted("nowhere", name="bad")
    report = await mirror.proved_cycle()
    told = [(one["want"], one["installable"]) for one in report.wants]
    assert told == [("good", True), ("bad", False)]
    shown = [one.as_json() for one in await prove_tree(mirror.config, mirror.env)]
    assert [(one["want"], one["installable"]) for one in shown] == told
    good = (await prove_tree(mirror.config, mirror.env, names=["good"]))[0]
    assert len(good.unique_files) == 2


def test_a_bundle_from_a_store(threaded_simulator, mirror_of, tmp_path):
    """A far side on a disk equals the store, after the first bundle and after one of the changes."""
    upstream = threaded_simulator()
    gap = Gap(tmp_path, upstream, make_key(tmp_path))
    gap.mirror = mirror_of(upstream)
    gap.mirror.settings["max_shrink"] = 1.0
    for version in ("1.0", "2.0"):
        for project in ("alpha", "beta"):
            upstream.state.publish(project, *build_wheel(project, version))
        gap.cycle()
        gap.mirror.forget_copy()  # nothing of the tree lies beside the state
        gap.carry()
        gap.mirror.copy_out()
        gap.check_equal()


async def test_a_lock_is_checked(simulator, mirror_of, tmp_path):
    """The files of a lock are held or missing as the state knows, without a tree on the disk."""
    index = await simulator()
    filename, data = build_wheel("alpha", "1.0")
    index.state.publish("alpha", filename, data)
    mirror = mirror_of(index)
    await mirror.cycle()
    mirror.forget_copy()
    lock = tmp_path / "requirements.txt"
    digest = hashlib.sha256(data).hexdigest()
    lock.write_text(f"alpha==1.0 --hash=sha256:{digest}\nbeta==1.0 --hash=sha256:{'ab' * 32}\n")
    found = await check_lock_file(mirror.config, lock, targets=(), all_platforms=True)
    assert {item.project: item.state.value for item in found.files} == {"alpha": "held", "beta": "missing"}


@pytest.mark.parametrize(("scrub", "checked"), [(0.0, 0), (1.0, 2)], ids=["default", "all"])
async def test_upkeep_of_the_daemon(simulator, mirror_of, scrub, checked):
    """It prunes on a store too, and hashes its slice where one is configured; damage is found and noted."""
    index = await simulator()
    for project in ("alpha", "beta"):
        index.state.publish(project, *build_wheel(project, "1.0"))
    mirror = mirror_of(index)
    mirror.settings |= {"scrub": scrub, "max_shrink": 1.0, "keep_removed_s": DAY_S}
    await mirror.cycle()
    lost = next(key for key in mirror.prefix.keys() if key.endswith("/alpha-1.0-py3-none-any.whl"))  # noqa: SIM118 - a method
    mirror.prefix.write(lost, b"evil")
    left = f"files/ab/ab/{'ab' * 32}/left-1.0.tar.gz"
    mirror.prefix.write(left, b"left")
    upkeep = Upkeep(Pulse(ServiceManager({})), clock=mirror.clock)
    assert await upkeep.run(mirror.config, anyio.sleep_forever)
    async with open_store(mirror.root / "state.db") as store:
        notes = await load_notes(store)
    assert (notes.upkeep.checked, [one.damage for one in notes.damage]) == (checked, ["size"] if scrub else [])
    assert notes.upkeep.pruned == 1
    assert left not in mirror.prefix.keys()  # noqa: SIM118 - a method
