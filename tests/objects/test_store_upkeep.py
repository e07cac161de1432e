"""Snapshots, channels, verify, prune and adopt where the tree lies in an object store: a real engine, real cycles."""

from __future__ import annotations

import os
import threading
import time

import anyio.to_thread
import msgspec
import pytest

from harness.in_process import Mirror
from harness.snapshots import compare, delete, promote, snapshot
from harness.storing import etag_form
from harness.upkeep import prune, repair, verify
from mirror.core.store_address import parse_store_address
from mirror.errors import ConfigError, StoreLocked, TreeError
from mirror.holdings.opening import opened_holdings
from mirror.jobs.adopt import adopt_tree
from mirror.jobs.tree_copy import copy_between
from mirror.state.notes import load_notes
from mirror.state.renewal import load_outdated_snapshots
from mirror.tree.objects import lease as lease_module
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.lease import LEASE_S, Lease, LockRecord
from mirror.upkeep.damage import record_verification
from mirror.upkeep.stores.adopt import Adoption
from mirror.upkeep.summaries import fill_summaries
from simulator import build_sdist, build_wheel


@pytest.fixture(autouse=True)
def variables(object_store, monkeypatch) -> None:
    """Commands that open the tree by its state read the variables of the process."""
    for name, value in object_store.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def upstream(simulator):
    """Three projects, one with an sdist whose metadata the index offers."""
    upstream = await simulator()
    upstream.state.publish("alpha", *build_wheel("alpha", "1.0"))
    upstream.state.publish("beta", *build_wheel("beta", "1.0"))
    upstream.state.publish("gamma", *build_sdist("gamma", "1.0"))
    return upstream


@pytest.fixture
async def mirror(mirror_of, upstream):
    """A mirror of them after its first cycle."""
    mirror = mirror_of(upstream)
    mirror.settings["max_shrink"] = 1.0
    await mirror.cycle()
    return mirror


async def adopt(mirror, **options) -> Adoption:
    done = Adoption()
    await adopt_tree(mirror.config, env=dict(os.environ), wait_s=options.get("wait_s", 0.0), into=done)
    return done


def pages_of(mirror, start: str) -> dict[str, bytes]:
    prefix = mirror.prefix
    found = prefix.keys()
    return {key.removeprefix(start): prefix.read(key) for key in found if key.startswith(start)}


async def on_thread(call, *arguments):
    return await anyio.to_thread.run_sync(call, *arguments)


async def test_snapshots_and_channels(mirror, upstream):
    """A snapshot keeps what it was made from, at its own depth; unchanged pages of the next one are copies of it."""
    live = await on_thread(pages_of, mirror, "simple/")
    await snapshot(mirror, "one")
    shown = await on_thread(pages_of, mirror, "snapshots/one/simple/")
    assert {key: page.replace(b"../../../../files/", b"../../files/") for key, page in shown.items()} == live
    assert all(page.count(b"../../files/") == page.count(b"../../../../files/") for page in shown.values())
    await promote(mirror, "one", "stable")
    upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    await mirror.cycle()
    assert await on_thread(pages_of, mirror, "snapshots/one/simple/") == shown
    await snapshot(mirror, "two")
    second = await on_thread(pages_of, mirror, "snapshots/two/simple/")
    assert {key for key in second if second[key] != shown[key]} == {"index.html", "alpha/index.html"}
    headers = await on_thread(mirror.prefix.attributes, "snapshots/two/simple-json/beta/index.html")
    assert headers["Content-Type"] == "application/vnd.pypi.simple.v1+json"
    assert (await compare(mirror, "one", "two"))["totals"]["projects_changed"] == 1
    assert await promote(mirror, "two", "stable") == "one"
    assert await on_thread(mirror.prefix.read, "channels/stable") == b"two\n"
    with pytest.raises(ConfigError, match="the channel stable shows it"):
        await delete(mirror, "two")
    await delete(mirror, "one")
    keys = await on_thread(mirror.prefix.keys)
    assert not [key for key in keys if key.startswith("snapshots/one/")]
    with pytest.raises(ConfigError, match="there is a snapshot of this name"):
        await snapshot(mirror, "two")


@pytest.mark.parametrize("step", ["create", "delete"])
async def test_a_lost_lock_ends_a_snapshot(mirror, front, monkeypatch, step):
    """Once another process has the lock, no page of a snapshot is put and none is removed."""
    if step == "delete":
        await snapshot(mirror, "one")
    monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
    mirror.prefix.env["AWS_ENDPOINT_URL"] = front.url
    verb, place = ("PUT", "/snapshots/one/simple/alpha") if step == "create" else ("POST", "delete")
    asleep_s, taken = [0.0], threading.Event()
    awake = time.clock_gettime
    monkeypatch.setattr(lease_module.time, "clock_gettime", lambda clock: awake(clock) + asleep_s[0])

    def stand_still(method: str, path: str) -> None:
        """Let this process miss the end of its lease while its first request is on its way."""
        if method == verb and place in path and not taken.is_set():
            taken.set()
            asleep_s[0] = LEASE_S
            mirror.prefix.write(".lock", msgspec.json.encode(LockRecord(root="another", nonce="another")))

    front.rule = stand_still
    with pytest.raises(StoreLocked, match="another process took the lock"):
        await (snapshot(mirror, "one") if step == "create" else delete(mirror, "one"))
    assert taken.is_set()
    left = await on_thread(pages_of, mirror, "snapshots/one/simple/")
    assert "index.html" not in left
    if step == "delete":
        assert {"alpha/index.html", "beta/index.html", "gamma/index.html"} <= left.keys()


async def test_withdrawn_files_name_their_channels(mirror, upstream):
    """The report names snapshots and channels that still have a withdrawn file, from the state: a cycle lists nothing."""
    await snapshot(mirror, "one")
    await promote(mirror, "one", "stable")
    upstream.state.status("alpha", "quarantined", "malware")
    report = await mirror.cycle()
    [shown] = report.as_json()["withdrawn"]
    assert (shown["project"], shown["snapshots"], shown["channels"]) == ("alpha", ("one",), ("stable",))


async def test_verify_and_repair(mirror, upstream):
    """Every kind of damage is found; a repair moves it aside, and mends what the state or the index knows."""
    assert (await verify(mirror)).findings == []
    prefix = mirror.prefix
    keys = await on_thread(prefix.keys)

    def blob(name: str) -> str:
        return next(key for key in keys if key.endswith(name))

    def break_all() -> None:
        alpha, foreign = blob("/alpha-1.0-py3-none-any.whl"), "files/aa/foreign"
        prefix.write(alpha, prefix.read(alpha)[:-1] + b"!")
        prefix.remove(blob("/gamma-1.0.tar.gz"))
        prefix.write(blob("/beta-1.0-py3-none-any.whl.metadata"), b"other")
        prefix.write("simple/beta/index.html", b"<a href=evil>")
        prefix.write("simple/index.html", b"<a href=evil>")
        prefix.write("simple/evil/index.html", b"evil")
        prefix.write(foreign, b"evil")
        prefix.write(f"files/ab/ab/{'ab' * 32}/left-1.0.tar.gz", b"left")

    await on_thread(break_all)
    found = await verify(mirror)
    kinds = sorted(finding.damage.value for finding in found.findings)
    assert kinds == ["bytes", "foreign", "foreign", "missing", "page", "page", "sidecar"]
    assert all(finding.path.startswith(prefix.address) for finding in found.findings)
    assert found.leftovers == 1
    mended = await repair(mirror)
    assert mended.lost == []
    assert (await verify(mirror)).findings == []
    aside = [key for key in await on_thread(prefix.keys) if key.startswith(".quarantine/")]
    assert [key.rpartition("/")[2] for key in aside] == ["alpha-1.0-py3-none-any.whl", "foreign", "index.html"]
    pruned = await prune(mirror)
    assert (pruned.leftovers, pruned.blobs) == (1, 0)
    await mirror.cycle()


async def test_prune_keeps_what_caches_may_name(mirror, upstream):
    """What no page lists any more goes after its retention, and never before caches forget the page."""
    upstream.state.remove_file("alpha", "alpha-1.0-py3-none-any.whl")
    upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    await mirror.cycle()
    await mirror.cycle()

    async def has_old() -> bool:
        return any("alpha-1.0" in key for key in await on_thread(mirror.prefix.keys))

    mirror.clock.advance(300.0)
    await prune(mirror, days=0)
    assert await has_old()
    for _ in range(8):  # the clock alone ends no retention
        mirror.clock.advance(200.0)
        await mirror.cycle()
    await prune(mirror, days=0)
    assert not await has_old()


async def test_adopt_a_lost_state(mirror):
    """Without its state a root refuses the tree; adopted, it is rebuilt from the pages and fetches nothing again."""
    await snapshot(mirror, "one")
    await promote(mirror, "one", "stable")
    for path in mirror.root.glob("state.db*"):
        path.unlink()
    mirror.forget_copy()
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    done = await adopt(mirror)
    assert (done.is_rebuilt, done.projects, done.files, done.lost) == (True, 3, 3, [])
    assert mirror.query("SELECT value FROM meta WHERE key = 'channels'") == [('{"stable":"one"}',)]
    report = await mirror.cycle()
    assert report.indexes["main"].bytes_downloaded == 0
    assert mirror.exit_code == 0
    assert (await verify(mirror)).findings == []
    assert (await prune(mirror)).blobs == 0


async def lose_and_adopt(mirror) -> None:
    for path in mirror.root.glob("state.db*"):
        path.unlink()
    await adopt(mirror)


@pytest.mark.parametrize("case", ["published", "only-in-a-snapshot", "withdrawn-before"])
async def test_withdrawals_after_a_lost_state(mirror, upstream, case):
    """Snapshots that an adoption found are named in ``withdrawn``: their files were learnt from their pages."""
    await snapshot(mirror, "one")
    await promote(mirror, "one", "stable")
    if case == "only-in-a-snapshot":
        upstream.state.remove_file("alpha", "alpha-1.0-py3-none-any.whl")
        upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
        await mirror.cycle()
        await mirror.cycle()
    if case == "withdrawn-before":
        upstream.state.status("alpha", "quarantined", "malware")
        await mirror.cycle()
    await lose_and_adopt(mirror)
    report = await mirror.cycle()
    if case != "withdrawn-before":
        assert not report.withdrawn
        upstream.state.status("alpha", "quarantined", "malware")
        report = await mirror.cycle()
    [shown] = [one for one in report.as_json()["withdrawn"] if one["filename"].startswith("alpha-1.0")]
    assert (shown["project"], shown["snapshots"], shown["channels"]) == ("alpha", ("one",), ("stable",))
    mirror.clock.advance(500 * 86_400.0)
    await prune(mirror)
    report = await mirror.cycle()
    assert [one["snapshots"] for one in report.as_json()["withdrawn"]] == [("one",)]
    assert mirror.exit_code == 0


async def test_withdrawn_in_the_first_cycle_after_a_lost_state(mirror, upstream):
    """A withdrawal takes effect in the cycle that sees it, also where the rows belong to no index yet."""
    await snapshot(mirror, "one")
    await lose_and_adopt(mirror)
    upstream.state.status("alpha", "quarantined", "malware")
    report = await mirror.cycle()
    assert [one["snapshots"] for one in report.as_json()["withdrawn"]] == [("one",)]


async def test_upkeep_reads_summaries_from_the_store(mirror):
    """The pages for people show summaries again after an adoption: upkeep reads the metadata of the objects, once."""
    before = mirror.query("SELECT name, summary, version FROM about ORDER BY name")
    assert [row[0] for row in before if row[1] is not None] == ["alpha", "beta"]
    await lose_and_adopt(mirror)
    async with opened_holdings(mirror.config.mirror, mirror.config.limits) as holdings:
        assert await fill_summaries(holdings.store, holdings.layout, holdings.client) == 2
        assert await fill_summaries(holdings.store, holdings.layout, holdings.client) == 0
    after = mirror.query("SELECT name, summary, version FROM about ORDER BY name")
    assert after == [(name, summary or "", version) for name, summary, version in before]


@pytest.mark.parametrize("is_older", [False, True])
async def test_adopted_snapshots_that_are_current(mirror, upstream, is_older):
    """A snapshot counts as outdated after an adoption only where its pages are not as this renderer writes them."""
    upstream.state.create_project("labels", status="deprecated", status_reason="use <another>", extra={"_x": {"y": 1}})
    upstream.state.publish("labels", *build_wheel("labels", "1.0"), requires_python=">=3.8", extra={"_odd": ["é"]})
    upstream.state.yank("labels", "labels-1.0-py3-none-any.whl", "bad <b>build</b>")
    await mirror.cycle()
    await snapshot(mirror, "one")
    if is_older:
        key = "snapshots/one/simple/labels/index.html"
        page = await on_thread(mirror.prefix.read, key)
        await on_thread(mirror.prefix.write, key, page.replace(b"<br>", b"<br/>"))
    await lose_and_adopt(mirror)
    async with opened_holdings(mirror.config.mirror, mirror.config.limits) as holdings:
        assert await load_outdated_snapshots(holdings.store) == (["one"] if is_older else [])


async def test_adopt_by_another_root(mirror, mirror_of, upstream):
    """The root that was adopted from ends with 8 before it writes, until it adopts in its turn."""
    other = mirror_of(upstream, root="other")
    other.prefix = mirror.prefix
    other.settings["tree"] = mirror.prefix.address
    await adopt(other)
    upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    await other.cycle()
    before = await on_thread(mirror.prefix.keys)
    await mirror.unchecked_cycle()
    assert mirror.exit_code == 8
    assert await on_thread(mirror.prefix.keys) == before
    done = await adopt(mirror)
    assert done.is_rebuilt
    await mirror.cycle()
    assert mirror.exit_code == 0
    with pytest.raises(StoreLocked):
        await snapshot(other, "stale")


@pytest.mark.parametrize("is_equal", [True, False])
async def test_a_refused_adoption_gives_up_no_state(mirror, mirror_of, upstream, is_equal):
    """While another process holds the lock an adoption ends with 8, and the state of the root stays as it was."""
    other = mirror_of(upstream, root="other")
    delta = build_wheel("delta", "1.0")
    if not is_equal:
        upstream.state.publish("delta", *delta)
    await other.cycle()
    other.settings["tree"] = mirror.prefix.address
    client = ObjectClient(parse_store_address(mirror.prefix.address), mirror.prefix.env)
    lease = Lease(client, root="f" * 32, etag_form=etag_form)
    await on_thread(lambda: lease.take((), wait_s=0, may_adopt=True))
    before = other.query("SELECT * FROM meta ORDER BY key")
    with pytest.raises(StoreLocked, match="--wait"):
        await adopt(other)
    assert other.query("SELECT * FROM meta ORDER BY key") == before
    assert [path.name for path in other.root.glob("state.db.*damaged*")] == []
    await on_thread(lease.release)
    await adopt(other)  # the root pages of the two may differ in the order of revisions
    report = await other.cycle()
    assert report.indexes["main"].bytes_downloaded == (0 if is_equal else len(delta[1]))


async def test_adopt_a_copy(object_store, upstream, tmp_path):
    """A tree that moved from the disk keeps its state: history, snapshots and validators; missing files are named."""
    prefix = object_store.prefix()
    mirror = Mirror(tmp_path / "moved", {"main": upstream})
    mirror.env = prefix.env
    await mirror.cycle()
    await snapshot(mirror, "one")
    copy = await on_thread(lambda: copy_between(str(mirror.root), prefix.address, env=prefix.env))
    assert copy.damage == []
    mirror.settings["tree"] = prefix.address
    with pytest.raises(TreeError, match="mirror tree adopt"):
        await verify(mirror)
    lost = next(key for key in await on_thread(prefix.keys) if key.endswith("/beta-1.0-py3-none-any.whl"))
    await on_thread(prefix.remove, lost)
    done = await adopt(mirror)
    assert (done.is_rebuilt, done.lost) == (False, [lost])
    report = await mirror.unchecked_cycle()
    assert (report.indexes["main"].files_new, mirror.exit_code) == (1, 0)
    assert (await compare(mirror, "one"))["from"]["revision"] > 0


async def test_nothing_to_adopt(mirror_of, upstream):
    """An empty prefix, an interrupted copy and a tree on the disk are refused; nothing is written."""
    mirror = mirror_of(upstream)
    with pytest.raises(TreeError, match="there is no tree here to adopt"):
        await adopt(mirror)
    await on_thread(mirror.prefix.write, ".copy", b"{}")
    with pytest.raises(TreeError, match="an interrupted copy"):
        await adopt(mirror)
    assert await on_thread(mirror.prefix.keys) == [".copy"]
    mirror.settings.pop("tree")
    with pytest.raises(TreeError, match="there is no tree here to adopt"):
        await adopt(mirror)


async def test_back_to_a_disk(mirror, upstream):
    """A tree that comes back to the disk of its root keeps the root's state, and is written there after adoption."""
    await snapshot(mirror, "one")
    mirror.forget_copy()
    prefix = mirror.prefix
    copy = await on_thread(lambda: copy_between(prefix.address, str(mirror.root), env=prefix.env))
    assert copy.damage == []
    mirror.settings["tree"] = None
    with pytest.raises(TreeError, match="mirror tree adopt"):
        await verify(mirror)
    done = await adopt(mirror)
    assert (done.is_rebuilt, done.lost) == (False, [])
    before = await on_thread(prefix.etags)
    upstream.state.publish("alpha", *build_wheel("alpha", "2.0"))
    report = await Mirror.unchecked_cycle(mirror)
    assert (report.indexes["main"].files_new, mirror.exit_code) == (1, 0)
    assert (await verify(mirror)).findings == []
    assert await on_thread(prefix.etags) == before


async def test_damage_that_a_cycle_mends_is_forgotten(mirror, upstream):
    """A damaged page that the next change replaces is no damage any more for ``status``."""
    await on_thread(mirror.prefix.write, "simple/alpha/index.html", b"evil")
    found = await verify(mirror)
    async with opened_holdings(mirror.config.mirror, mirror.config.limits) as holdings:
        await record_verification(holdings.store, found, now=0.0, is_whole=True)
        assert [note.path for note in (await load_notes(holdings.store)).damage] == [
            f"{mirror.prefix.address}/simple/alpha"
        ]
    mended = await repair(mirror)
    assert mended.lost == []
    async with opened_holdings(mirror.config.mirror, mirror.config.limits) as holdings:
        assert (await load_notes(holdings.store)).damage == ()
