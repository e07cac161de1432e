"""Advisories over cycles: what stays out, what leaves, what comes back, and what is never asked for."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from harness.advisories import Database, osv
from harness.in_process import Mirror, requests
from harness.upkeep import lose_state, repair
from mirror.config.rules import IndexRulesConfig
from mirror.errors import ConfigError, DiskFull
from simulator import Status, build_sdist


@pytest.fixture
async def index(simulator):
    """One index with serials: a page that is unchanged is not asked for."""
    return await simulator(serials=True)


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "osv")


@pytest.fixture
def mirror(tmp_path, index, database):
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"exclude_vulnerable": "high", "advisories": database.folder}
    return mirror


def add(index, *versions, project="app"):
    for version in versions:
        filename, data = build_sdist(project, version)
        index.state.publish(project, filename, data)


def names(mirror):
    return sorted(name for files in mirror.files().values() for name in files)


def shown(report, key="vulnerable"):
    return json.loads(json.dumps(report.as_json()))[key]


async def test_vulnerable_files_stay_out_and_come_once_they_are_judged_anew(index, mirror, database):
    """A new database frees and keeps out by itself: no page is asked for, and no cycle is partial."""
    add(index, "1.0", "2.0")
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == (["app-2.0.tar.gz"], 0)
    assert shown(report, "indexes")[0]["left_out"] == {"exclude-vulnerable": 1}
    assert shown(report, "advisories") == {"taken": True, "date": "2026-06-01T00:00:00Z"}
    requests(index)
    report = await mirror.cycle()
    assert requests(index) == [("root", None, None, 304)]
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="MODERATE"))
    report = await mirror.cycle()
    assert names(mirror) == ["app-1.0.tar.gz", "app-2.0.tar.gz"]
    assert requests(index) == [("file", "app", "app-1.0.tar.gz", 200), ("root", None, None, 304)]
    assert shown(report, "indexes")[0]["left_out"] == {}


async def test_held_files_stay_and_are_named_with_their_fixed_version(index, mirror, database):
    """Other levels than malware remove nothing: the report says what is fixed where, and whether that is here."""
    add(index, "1.0", "1.5")
    await mirror.cycle()
    database.add(osv("GHSA-a", "app", fixed="1.5", severity="CRITICAL"))
    database.add(osv("GHSA-b", "app", versions=["1.5"], severity="LOW"))
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == (["app-1.0.tar.gz", "app-1.5.tar.gz"], 0)
    [vulnerable] = shown(report)
    assert vulnerable == {
        "project": "app",
        "filename": "app-1.0.tar.gz",
        "advisories": ["GHSA-a"],
        "level": "critical",
        "fixed": "1.5",
        "fixed_held": True,
    }
    mirror.rules["ignore_advisories"] = ("GHSA-A",)
    assert shown(await mirror.cycle()) == []
    mirror.rules |= {"exclude_vulnerable": "none", "ignore_advisories": ()}
    report = await mirror.cycle()
    assert [(one["filename"], one["level"]) for one in shown(report)] == [
        ("app-1.0.tar.gz", "critical"),
        ("app-1.5.tar.gz", "low"),
    ]


async def test_malware_leaves_in_this_cycle_and_comes_back_without_a_download(index, mirror, database):
    """It leaves whatever the brake says and whether the index can be read; lifted, its blob is adopted."""
    add(index, *(f"1.{n}" for n in range(8)))
    await mirror.cycle()
    held = names(mirror)
    index.inject(Status(status=503), kind="root")
    database.add(osv("MAL-1", "app"))
    report = await mirror.cycle()
    assert names(mirror) == []
    assert mirror.page("app")["files"] == []
    assert [one["filename"] for one in shown(report, "withdrawn")] == held
    index.faults.clear()
    requests(index)
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([], 0)
    assert shown(report, "indexes")[0]["left_out"] == {"exclude-vulnerable": 8}
    assert requests(index) == [("root", None, None, 304)]
    database.add(osv("MAL-1", "app", withdrawn="2026-07-01T00:00:00Z"))
    report = await mirror.cycle()
    assert (names(mirror), shown(report, "withdrawn")) == (held, [])
    assert requests(index) == [("root", None, None, 304)]
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]


async def test_a_withdrawal_by_an_advisory_counts_for_the_brake(index, mirror, database):
    """Six of sixty may leave within a day; after five pieces of malware the next removals are held."""
    for n in range(50):
        add(index, "1.0", project=f"app{n}")
    await mirror.cycle()
    for n in range(5):
        database.add(osv(f"MAL-{n}", f"app{n}"))
    await mirror.cycle()
    mirror.configure("main", exclude_files=("app49-*",))
    await mirror.cycle()
    assert (len(names(mirror)), mirror.exit_code) == (45, 4)


async def test_a_local_build_is_not_judged(index, mirror, database):
    """A patched build comes in and is named; what names exactly it, or malware of the whole project, keeps it out."""
    add(index, "1.0+cgr.1", "1.0", "1.0+cgr.2")
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    database.add(osv("GHSA-b", "app", versions=["1.0+cgr.2"], severity="HIGH"))
    report = await mirror.cycle()
    [kept] = names(mirror)
    assert "cgr.1" in kept
    assert shown(report, "not_judged") == [kept]
    database.add(osv("MAL-1", "app"))
    report = await mirror.cycle()
    assert (names(mirror), shown(report, "not_judged")) == ([], [])


BROKEN = {
    "cut": lambda database: (database.folder / "GHSA-1.json").write_text("{"),
    "shrunk": lambda database: [database.remove(f"GHSA-{n}") for n in range(5)],
    "gone": lambda database: database.folder.rename(database.folder.with_name("elsewhere")),
    "empty": lambda database: [path.unlink() for path in database.folder.iterdir()],
}


@pytest.mark.parametrize("breaks", BROKEN.values(), ids=BROKEN)
async def test_a_broken_database_leaves_the_last_judgement(index, mirror, database, breaks, capsys):
    """Exit code 5 and one error line; what was judged stays judged, also for what comes now."""
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    add(index, "1.0")
    before = await mirror.cycle()
    breaks(database)
    add(index, "1.1", "2.0")
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code, report.outcome.value) == (["app-2.0.tar.gz"], 5, "partial")
    assert shown(report, "advisories") == {"taken": False, "date": shown(before, "advisories")["date"]}
    assert report.advisory_problem


async def test_a_loss_of_a_tenth_is_taken_and_a_person_may_accept_more(index, mirror, database):
    """41 records: 4 may leave at once, 5 need --allow-shrink."""
    add(index, "1.0")
    database.add(osv("MAL-1", "app"))
    await mirror.cycle()
    for n in range(4):
        database.remove(f"GHSA-{n}")
    await mirror.cycle()
    assert mirror.exit_code == 0
    for n in range(4, 8):
        database.remove(f"GHSA-{n}")
    await mirror.cycle()
    assert mirror.exit_code == 5
    await mirror.cycle(allow_shrink=True)
    assert mirror.exit_code == 0
    await mirror.cycle()
    assert mirror.exit_code == 0


async def test_nothing_new_comes_in_while_no_database_was_ever_read(index, mirror, database):
    """A first database that is broken keeps everything out; once it can be read, all comes without a page."""
    good = (database.folder / "GHSA-1.json").read_text()
    (database.folder / "GHSA-1.json").write_text("{")
    add(index, "1.0")
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([], 5)
    assert shown(report, "advisories") == {"taken": False, "date": None}
    requests(index)
    (database.folder / "GHSA-1.json").write_text(good)
    await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == (["app-1.0.tar.gz"], 0)
    assert requests(index) == [("file", "app", "app-1.0.tar.gz", 200), ("root", None, None, 304)]


async def test_a_path_that_is_not_there_at_the_first_time_is_wrong_usage(mirror, database):
    """Nothing was ever judged, so that a typing error is likelier than a missing disk."""
    mirror.rules["advisories"] = database.folder / "typo"
    with pytest.raises(ConfigError, match="typo is not there"):
        await mirror.cycle()


async def test_an_unchanged_database_is_not_opened(index, mirror, database, monkeypatch):
    """Its files cost a look at their names and times; no record is read, and no row is judged again."""
    add(index, "1.0")
    await mirror.cycle()
    await mirror.cycle()
    monkeypatch.setattr("mirror.advisories.database.parse_record", lambda _: pytest.fail("a record was read"))
    monkeypatch.setattr(
        "mirror.sync.advisories.withdrawing.load_published_names", lambda *_: pytest.fail("rows were judged")
    )
    await mirror.cycle()


async def test_rules_of_an_index_and_files_that_nobody_lists_any_more(simulator, tmp_path, database):
    """An index may have its own level; without advisories everything is lifted again."""
    first, second = await simulator(), await simulator()
    add(first, "1.0", project="one")
    add(second, "1.0", project="two")
    mirror = Mirror(tmp_path / "mirror", {"first": first, "second": second})
    mirror.rules = {"exclude_vulnerable": "malicious", "advisories": database.folder}
    await mirror.cycle()
    database.add(osv("MAL-1", "one"))
    database.add(osv("MAL-2", "two"))
    mirror.configure("second", rules=IndexRulesConfig(exclude_vulnerable="none"))
    await mirror.cycle()
    assert names(mirror) == ["two-1.0.tar.gz"]
    mirror.rules = {}
    await mirror.cycle()
    assert names(mirror) == ["one-1.0.tar.gz", "two-1.0.tar.gz"]


async def test_a_plan_says_what_would_leave(index, mirror, database):
    """A dry run judges a copy: it plans the removal and changes nothing."""
    add(index, "1.0")
    await mirror.cycle()
    database.add(osv("MAL-1", "app"))
    assert await mirror.plan() == [("main", "app", "app-1.0.tar.gz", "remove")]
    assert names(mirror) == ["app-1.0.tar.gz"]


@pytest.mark.parametrize("step", ["record_removals", "record_advised", "record_advisory_note"])
async def test_a_cycle_that_is_cut_in_a_withdrawal_is_finished_by_the_next(index, mirror, database, monkeypatch, step):
    """Whatever was written before: the file leaves once, is counted once, and comes back once it is lifted."""
    add(index, "1.0", "2.0")
    await mirror.cycle()
    database.add(osv("MAL-1", "app", versions=["1.0"]))
    with monkeypatch.context() as cut:

        async def die(*_arguments, **_options):
            raise RuntimeError("killed")

        cut.setattr(f"mirror.sync.advisories.withdrawing.{step}", die)
        with pytest.raises(RuntimeError, match="killed"):
            await mirror.unchecked_cycle()
    report = await mirror.cycle()
    assert names(mirror) == ["app-2.0.tar.gz"]
    assert shown(report, "indexes")[0]["left_out"] == {"exclude-vulnerable": 1}
    assert mirror.query("SELECT filename, rule FROM deferred") == [("app-1.0.tar.gz", "exclude-vulnerable")]
    database.remove("MAL-1")
    await mirror.cycle()
    assert names(mirror) == ["app-1.0.tar.gz", "app-2.0.tar.gz"]


async def test_a_retry_of_the_ledger_is_judged_as_well(index, mirror, database):
    """A file that failed before an advisory named it is not tried again."""
    add(index, "1.0")
    index.inject(Status(status=500), kind="file")
    await mirror.cycle()
    assert mirror.exit_code == 5
    index.faults.clear()
    requests(index)
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    await mirror.cycle()
    assert (names(mirror), mirror.exit_code, mirror.ledger()) == ([], 0, [])
    assert requests(index) == [("root", None, None, 304)]


async def test_a_state_that_was_lost_is_judged_again(index, mirror, database):
    """After a rebuild from the tree nothing that was known counts: the database is read and judges all rows."""
    add(index, "1.0", "2.0")
    await mirror.cycle()
    lose_state(mirror)
    await repair(mirror)
    database.add(osv("MAL-1", "app", versions=["1.0"]))
    await mirror.cycle()
    assert names(mirror) == ["app-2.0.tar.gz"]


async def test_a_cycle_that_ends_before_it_looks_at_the_database_changes_no_judgement(
    index, mirror, database, monkeypatch
):
    """A full disk at the start, after a cycle that was killed: withdrawn files stay withdrawn."""
    add(index, "1.0")
    await mirror.cycle()
    database.add(osv("MAL-1", "app"))
    await mirror.cycle()
    kept = mirror.query("SELECT * FROM advised")
    with closing(sqlite3.connect(mirror.root / "state.db")) as state, state:
        state.execute("UPDATE meta SET value = json_set(value, '$.judged_revision', 0) WHERE key = 'advisories'")

    async def full(*_arguments):
        raise DiskFull(path="staging", problem="the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("mirror.sync.cycle.sweep_before", full)
        await mirror.cycle()
    assert mirror.exit_code == 6
    assert mirror.query("SELECT * FROM advised") == kept
