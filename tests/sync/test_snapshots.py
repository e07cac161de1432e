"""Snapshots and channels over real cycles: what they show, what they keep, and what they compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.in_process import DAY_S, Mirror
from harness.snapshots import compare, delete, opened, promote, shown, snapshot
from harness.upkeep import blob_of, damage, flip, lose_state, pass_time, prune, repair, verify
from mirror.errors import ConfigError
from mirror.upkeep import snapshot as work
from simulator import build_wheel


@pytest.fixture
async def mirror(simulator, tmp_path) -> Mirror:
    """Three projects with a wheel each, mirrored once."""
    upstream = await simulator()
    for name in ("alpha", "beta", "gamma"):
        upstream.state.publish(name, *build_wheel(name, "1.0"))
    mirror = Mirror(tmp_path / "root", {"main": upstream}, on_replace="follow")
    mirror.settings["max_shrink"] = 1.0
    mirror.upstream = upstream  # type: ignore[attr-defined]
    await mirror.cycle()
    return mirror


def files(mirror: Mirror, *, of: str) -> Path:
    return mirror.root / "public" / of


async def change(mirror: Mirror) -> None:
    """Publish, yank, replace and remove, and mirror all of it."""
    state = mirror.upstream.state
    state.publish("alpha", *build_wheel("alpha", "2.0"))
    state.yank("alpha", "alpha-1.0-py3-none-any.whl", "broken")
    state.replace("beta", "beta-1.0-py3-none-any.whl", build_wheel("beta", "1.0", extra_files={"beta/new.py": b"1"})[1])
    state.unlist_project("gamma")
    state.publish("delta", *build_wheel("delta", "1.0"))
    await mirror.cycle()
    await mirror.cycle(allow_shrink=True)


async def test_a_snapshot_keeps_showing_what_it_was_made_from(mirror):
    """After later cycles a snapshot shows the old state, byte for byte, from links and with a link to the files."""
    before = mirror.files()
    row = await snapshot(mirror, "january", note="first")
    await change(mirror)
    assert mirror.files().keys() == {"alpha", "beta", "delta"}
    place = files(mirror, of="snapshots/january")
    assert shown(place) == before
    assert (place / "files").readlink() == Path("../../files")
    assert (row.projects, row.files, row.note, row.ready) == (3, 3, "first", True)


async def test_pages_are_linked_not_copied(mirror):
    """A snapshot costs no bytes: its pages are the live ones' inodes."""
    await snapshot(mirror, "january")
    live = files(mirror, of="simple/alpha/index.v1_json").stat()
    frozen = files(mirror, of="snapshots/january/simple/alpha/index.v1_json").stat()
    assert (live.st_ino, live.st_dev) == (frozen.st_ino, frozen.st_dev)


async def test_what_a_cycle_left_marked_is_published_before_it_is_frozen(mirror):
    """A snapshot is made from a revision with nothing unpublished, also after a kill."""
    async with opened(mirror) as tree, tree.store.transaction() as tx:
        await tx.execute("UPDATE page SET marked = 1")
    for page in files(mirror, of="simple/alpha").iterdir():
        page.unlink()
    await snapshot(mirror, "january")
    assert shown(files(mirror, of="snapshots/january")) == mirror.files()


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "..", "a" * 64, "a\n"])
async def test_names_that_are_no_names_are_refused(mirror, name):
    """A snapshot's name becomes a directory, so what is no plain name is refused."""
    with pytest.raises(ConfigError, match="expected up to 63"):
        await snapshot(mirror, name)


async def test_a_name_is_given_once(mirror):
    """A second snapshot of a name is refused, and the first stays."""
    await snapshot(mirror, "january")
    with pytest.raises(ConfigError, match="there is a snapshot of this name"):
        await snapshot(mirror, "january")


async def test_nothing_can_be_frozen_before_the_first_cycle(simulator, tmp_path):
    """An empty mirror has no state to freeze."""
    mirror = Mirror(tmp_path / "root", {"main": await simulator()})
    async with opened_empty(mirror) as tree:
        with pytest.raises(ConfigError, match="nothing is published yet"):
            await work.create_snapshot(tree, "january")


def opened_empty(mirror: Mirror):
    import sqlite3

    mirror.root.mkdir()
    sqlite3.connect(mirror.root / "state.db").close()
    return opened(mirror)


async def test_a_channel_is_switched_and_rolled_back(mirror):
    """A channel shows the promoted snapshot, and an older one again after it was promoted again."""
    first = mirror.files()
    await snapshot(mirror, "one")
    await change(mirror)
    await snapshot(mirror, "two")
    assert await promote(mirror, "one", "stable") is None
    assert await promote(mirror, "two", "stable") == "one"
    stable = files(mirror, of="channels/stable")
    assert shown(stable) == mirror.files()
    assert await promote(mirror, "one", "stable") == "two"
    assert shown(stable) == first
    assert stable.readlink() == Path("../snapshots/one")


async def test_a_channel_shows_only_what_is_there(mirror):
    """Promoting what is no snapshot, or over something that is no channel, changes nothing."""
    with pytest.raises(ConfigError, match="there is no snapshot of this name"):
        await promote(mirror, "none", "stable")
    await snapshot(mirror, "one")
    await promote(mirror, "one", "stable")
    files(mirror, of="channels/mine").mkdir()
    with pytest.raises(Exception, match="channels/mine"):
        await promote(mirror, "one", "mine")
    assert files(mirror, of="channels/stable").readlink() == Path("../snapshots/one")
    assert list(files(mirror, of="channels/mine").iterdir()) == []


async def test_a_snapshot_that_a_channel_shows_is_not_deleted(mirror):
    """Deleting it is refused and names the channel; another promotion frees it."""
    await snapshot(mirror, "one")
    await snapshot(mirror, "two")
    await promote(mirror, "one", "stable")
    with pytest.raises(ConfigError, match="the channel stable shows it"):
        await delete(mirror, "one")
    await promote(mirror, "two", "stable")
    await delete(mirror, "one")
    assert [p.name for p in files(mirror, of="snapshots").iterdir()] == ["two"]
    with pytest.raises(ConfigError, match="there is no snapshot"):
        await delete(mirror, "one")


async def age(mirror) -> None:
    """Let a year and some weeks pass; a gap between two cycles counts for a week at most."""
    await pass_time(mirror, days=7, cycles=55)
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()


async def test_prune_keeps_what_a_snapshot_lists_until_it_is_deleted(mirror):
    """Blobs that left the live pages stay for a snapshot past their retention, and go after it is deleted."""
    await snapshot(mirror, "one")
    await change(mirror)
    await age(mirror)
    assert (await prune(mirror, dry_run=True)).blobs == 0
    gone = await prune(mirror)
    assert (gone.blobs, gone.leftovers) == (0, 0)
    assert len(shown(files(mirror, of="snapshots/one"))) == 3
    assert (await compare(mirror, "one"))["totals"]["files_replaced"] == 1
    await delete(mirror, "one")
    assert (await prune(mirror)).blobs == 2
    assert (await verify(mirror)).findings == []


async def test_prune_forgets_history_that_no_snapshot_needs(mirror):
    """A date whose history was pruned is refused instead of answered wrongly."""
    cycle = mirror.query("SELECT max(id) FROM cycle")[0][0]
    await change(mirror)
    await age(mirror)
    assert (await compare(mirror, f"cycle:{cycle}"))["totals"]["projects_added"] == 1
    assert (await prune(mirror)).entries == 3
    with pytest.raises(ConfigError, match="its history was pruned"):
        await compare(mirror, f"cycle:{cycle}")


async def test_the_difference_names_every_kind_of_change(mirror):
    """Projects, versions, files, yanks and replaced bytes between two snapshots, as whole values."""
    await snapshot(mirror, "one")
    await change(mirror)
    await snapshot(mirror, "two")
    found = await compare(mirror, "one", "two")
    sizes = {
        name: (files(mirror, of="files") / sha[:2] / sha[2:4] / sha / name).stat().st_size
        for listed in mirror.files().values()
        for name, sha in listed.items()
    }
    empty = {
        "versions_added": [],
        "versions_removed": [],
        "added": [],
        "removed": [],
        "replaced": [],
        "yanked": [],
        "unyanked": [],
        "relabelled": [],
        "bytes_added": 0,
    }
    alpha, beta, delta, gamma = found["projects"]
    assert alpha == {
        **empty,
        "project": "alpha",
        "change": "changed",
        "versions_added": ["2.0"],
        "added": ["alpha-2.0-py3-none-any.whl"],
        "yanked": [{"filename": "alpha-1.0-py3-none-any.whl", "reason": "broken"}],
        "bytes_added": sizes["alpha-2.0-py3-none-any.whl"],
    }
    assert beta == {
        **empty,
        "project": "beta",
        "change": "changed",
        "replaced": ["beta-1.0-py3-none-any.whl"],
        "bytes_added": sizes["beta-1.0-py3-none-any.whl"],
    }
    assert delta == {
        **empty,
        "project": "delta",
        "change": "added",
        "versions_added": ["1.0"],
        "added": ["delta-1.0-py3-none-any.whl"],
        "bytes_added": sizes["delta-1.0-py3-none-any.whl"],
    }
    assert gamma == {
        **empty,
        "project": "gamma",
        "change": "removed",
        "versions_removed": ["1.0"],
        "removed": ["gamma-1.0-py3-none-any.whl"],
    }
    assert (await compare(mirror, "two", "one"))["totals"]["files_unyanked"] == 1
    assert (await compare(mirror, "two"))["projects"] == []


async def test_states_are_also_named_by_cycle_and_date(mirror):
    """A cycle's number and a date in UTC name the state that stood then."""
    first = mirror.query("SELECT max(id) FROM cycle")[0][0]
    mirror.clock.advance(DAY_S)
    await change(mirror)
    by_cycle = await compare(mirror, f"cycle:{first}")
    by_date = await compare(mirror, "2027-01-15T12:00", "2027-01-17")
    assert by_cycle["totals"] == by_date["totals"]
    assert by_cycle["totals"]["files_added"] == 2
    with pytest.raises(ConfigError, match="there was no such cycle"):
        await compare(mirror, "cycle:99")
    for text in ("never", "2027-13-01", "cycle:x"):
        with pytest.raises(ConfigError, match="expected a snapshot's name"):
            await compare(mirror, text)


async def test_what_a_killed_run_left_is_taken_away(mirror):
    """A snapshot whose row never became ready, and pages in the making, are gone after the next command."""
    await snapshot(mirror, "one")
    async with opened(mirror) as tree, tree.store.transaction() as tx:
        await tx.execute("UPDATE snapshot SET ready = 0")
    left = mirror.root / "pins" / "0123456789abcdef.tmp"
    (left / "simple").mkdir(parents=True)
    await snapshot(mirror, "two")
    assert [p.name for p in files(mirror, of="snapshots").iterdir()] == ["two"]
    assert list((mirror.root / "pins").iterdir()) == []
    await snapshot(mirror, "one")


async def test_a_pin_shows_only_the_projects_of_its_site(mirror):
    """A pin for a site has the site's projects, and a root page that lists just them."""
    async with opened(mirror) as tree:
        row = await work.freeze_pin(tree, "lab-000001", wants=lambda n: n != "beta", snapshot=None)
    place = mirror.root / "pins" / "lab-000001"
    simple = place / "simple"
    assert sorted(p.name for p in simple.iterdir() if p.is_dir()) == ["alpha", "gamma"]
    assert b"beta" not in (simple / "index.html").read_bytes()
    assert (simple / "index.v1_html").read_bytes() == (simple / "index.html").read_bytes()
    assert row.projects == 2


async def test_snapshots_survive_a_lost_state(mirror):
    """After a rebuild a snapshot is listed and its blobs are kept; only its history is gone."""
    await snapshot(mirror, "one")
    await change(mirror)
    before = shown(files(mirror, of="snapshots/one"))
    lose_state(mirror)
    await repair(mirror)
    await mirror.cycle()
    await age(mirror)
    await prune(mirror)
    assert shown(files(mirror, of="snapshots/one")) == before
    with pytest.raises(ConfigError, match="its history is lost"):
        await compare(mirror, "one")
    async with opened(mirror) as tree:
        with pytest.raises(ConfigError, match="make a new one"):
            await work.freeze_pin(tree, "lab-000001", wants=None, snapshot="one")
    await delete(mirror, "one")
    assert (await prune(mirror)).blobs == 2


async def test_what_only_a_snapshot_lists_is_verified_and_named_when_it_is_lost(mirror):
    """A damaged blob of a snapshot is named by the repair, and again by each later verification."""
    await snapshot(mirror, "one")
    old = mirror.files()["gamma"]
    await change(mirror)
    ((filename, sha256),) = old.items()
    flip(blob_of(mirror, filename, sha256))
    found = await repair(mirror)
    assert [(f.index, f.filename) for f in found.lost] == [("snapshot one", filename)]
    place = f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"
    again = await verify(mirror)
    assert damage(mirror, again) == [("missing", place)]
    assert [(f.index, f.filename) for f in again.lost_to_snapshots] == [("snapshot one", filename)]
    await delete(mirror, "one")
    assert damage(mirror, await verify(mirror)) == []
