"""The cooldown over cycles, by a clock that the test holds: what comes when, and what never leaves."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime

import pytest

from harness.in_process import DAY_S, Mirror, counters, in_another_thread, requests
from harness.upkeep import lose_state, repair
from simulator import Status, build_sdist


@pytest.fixture
async def index(simulator):
    """One index with upload times, without serials: each page is asked for in each cycle."""
    return await simulator()


@pytest.fixture
def mirror(tmp_path, index):
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    return mirror


def add(index, mirror, version, *, age=0.0, project="app", text=b"", **labels):
    """Publish a source distribution that is ``age`` days old at the mirror's time; None: without a time."""
    time = None if age is None else at(mirror.clock.now - age * DAY_S)
    filename, data = build_sdist(project, version)
    index.state.publish(project, filename, data + text, upload_time=time, **labels)
    return filename


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def names(mirror):
    return sorted(name for files in mirror.files().values() for name in files)


def rules(report):
    """Return what the report says of the rules of the index."""
    shown = report.as_json()["indexes"][0]
    return shown["left_out"], shown["cooldown_until"]


async def test_a_cooldown_ends_between_two_cycles(index, mirror):
    """A young file waits, the report says until when; it enters without a request for its page being answered anew."""
    old = add(index, mirror, "1.0", age=8)
    young = add(index, mirror, "2.0", age=1)
    end = at(mirror.clock.now + 6 * DAY_S)
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([old], 0)
    assert rules(report) == ({"min-age": 1}, end)
    requests(index)
    mirror.clock.advance(6 * DAY_S - 120.0 - 1.0)
    report = await mirror.cycle()
    assert names(mirror) == [old]
    assert requests(index) == [("page", "app", None, 304), ("root", None, None, 304)]
    mirror.clock.advance(1.0)
    report = await mirror.cycle()
    assert names(mirror) == [old, young]
    assert requests(index) == [
        ("file", "app", young, 200),
        ("page", "app", None, 304),
        ("root", None, None, 304),
    ]
    assert (rules(report), counters(report)["files_new"]) == (({}, None), 1)
    report = await mirror.cycle()
    assert requests(index) == [("page", "app", None, 304), ("root", None, None, 304)]


async def test_with_serials_the_end_of_a_cooldown_asks_for_no_page(simulator, tmp_path):
    """Where the root proves that a page is unchanged, the file alone is asked for."""
    index = await simulator(serials=True)
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    young = add(index, mirror, "2.0", age=1)
    await mirror.cycle()
    requests(index)
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [young]
    assert requests(index) == [("file", "app", young, 200), ("root", None, None, 304)]


async def test_first_sight_counts_where_there_is_no_time(index, mirror):
    """Without upload times a first fill brings nothing for a week, and says so in words; then all comes."""
    first = add(index, mirror, "1.0", age=None)
    report = await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([], 0)
    [event] = report.events
    assert event == {"event": "all-left-out", "index": "main", "rules": "min-age 1", "until": rules(report)[1]}
    mirror.clock.advance(3 * DAY_S)
    second = add(index, mirror, "2.0", age=None)
    await mirror.cycle()
    mirror.clock.advance(4 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [first]
    mirror.clock.advance(3 * DAY_S)
    report = await mirror.cycle()
    assert (names(mirror), report.events) == ([first, second], [])


async def test_the_rule_removes_nothing_that_is_held(index, mirror):
    """A cooldown that is written into a configuration later keeps out new files only."""
    mirror.rules = {}
    young = add(index, mirror, "1.0", age=0)
    await mirror.cycle()
    mirror.rules = {"min_age_s": 90 * DAY_S, "not_after": datetime(2020, 1, 1, tzinfo=UTC).date()}
    newer = add(index, mirror, "1.1", age=0)
    report = await mirror.cycle()
    assert names(mirror) == [young]
    assert rules(report)[0] == {"min-age": 1}
    mirror.rules = {}
    await mirror.cycle()
    assert names(mirror) == [young, newer]
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]


async def test_other_bytes_under_a_held_name_wait_from_their_first_sight(index, mirror):
    """The index dates the replacement years back: it waits a week all the same, and a yank shows at once."""
    name = add(index, mirror, "1.0", age=900)
    await mirror.cycle()
    before = mirror.files()
    index.state.replace("app", name, b"other bytes", upload_time=at(mirror.clock.now - 800 * DAY_S))
    report = await mirror.cycle()
    assert (mirror.files(), mirror.exit_code) == (before, 0)
    assert rules(report)[0] == {"min-age": 1}
    index.state.yank("app", name, "bad")
    mirror.clock.advance(3 * DAY_S)
    await mirror.cycle()
    assert mirror.files() == before
    assert mirror.labels("app", name)["yanked"] == "bad"
    mirror.clock.advance(4 * DAY_S)
    report = await mirror.cycle()
    assert mirror.files() != before
    assert counters(report)["files_replaced"] == 1
    index.state.replace("app", name, b"third bytes")
    await mirror.cycle()
    index.state.remove_file("app", name)
    await mirror.cycle()
    await mirror.cycle()
    assert names(mirror) == []
    index.state.publish("app", name, b"fourth bytes", upload_time=at(mirror.clock.now - 700 * DAY_S))
    await mirror.cycle()
    assert names(mirror) == []  # a name that was held once
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [name]


async def test_a_digest_that_appears_later_is_compared_before_it_waits(simulator, tmp_path):
    """A stronger digest of the same bytes is no replacement; one of other bytes waits."""
    index = await simulator(hashes=("md5",))
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    name = add(index, mirror, "1.0", age=30)
    await mirror.cycle()
    held = mirror.files()
    index.settings.hashes = ("sha512",)
    index.state.touch("app")
    await mirror.cycle()
    assert mirror.files() == held
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]
    index.settings.hashes = ("sha384",)
    index.state.replace("app", name, b"other bytes")
    report = await mirror.cycle()
    assert mirror.files() == held
    assert rules(report)[0] == {"min-age": 1}
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert mirror.files() != held


async def test_upload_times_that_jump_are_taken_as_listed(index, mirror):
    """A time that moves back lets a file in, one that moves forward lets a waiting one wait longer."""
    name = add(index, mirror, "1.0", age=1)
    other = add(index, mirror, "2.0", age=6)
    await mirror.cycle()
    index.state.change("app", name, upload_time=at(mirror.clock.now - 20 * DAY_S))
    index.state.change("app", other, upload_time=at(mirror.clock.now - 1 * DAY_S))
    await mirror.cycle()
    assert names(mirror) == [name]
    mirror.clock.advance(2 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [name]
    mirror.clock.advance(4 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [name, other]


async def test_a_clock_that_jumps(index, mirror):
    """A jump ahead ends cooldowns; back again nothing leaves, and what was seen in the future waits a week, no longer."""
    dated = add(index, mirror, "1.0", age=1)
    undated = add(index, mirror, "2.0", age=None)
    mirror.clock.advance(400 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [dated]
    mirror.clock.advance(-400 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [dated]
    mirror.clock.advance(6 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [dated]
    mirror.clock.advance(1 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [dated, undated]


async def test_a_clock_that_falls_behind_and_comes_back(index, mirror):
    """A machine starts in 1970 and its clock is set later: what was seen before, or meanwhile, waits its week."""
    before = add(index, mirror, "1.0", age=None)
    await mirror.cycle()
    right = mirror.clock.now
    mirror.clock.now = 1000.0
    await mirror.cycle()
    meanwhile = add(index, mirror, "2.0", age=None)
    report = await mirror.cycle()
    assert (names(mirror), rules(report)[0]) == ([], {"min-age": 2})
    mirror.clock.now = right
    await mirror.cycle()
    assert names(mirror) == []
    mirror.clock.advance(7 * DAY_S - 120.0)
    await mirror.cycle()
    assert names(mirror) == [before, meanwhile]


@pytest.mark.parametrize("hashes", [("sha512",), ("md5",), ()])
async def test_the_bytes_that_were_held_come_back(simulator, tmp_path, hashes):
    """A file that left upstream comes back as it was: it counts from the day on which it was held first."""
    index = await simulator(hashes=hashes)
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    name = add(index, mirror, "1.0", age=30)
    await mirror.cycle()
    file = index.state["app"].files[name]
    mirror.clock.advance(8 * DAY_S)
    index.state.remove_file("app", name)
    await mirror.cycle()
    await mirror.cycle()
    assert names(mirror) == []
    index.state.publish("app", name, file.data, upload_time=file.upload_time)
    await mirror.cycle()
    assert names(mirror) == [name]


async def test_other_bytes_of_another_index_wait_too(simulator, tmp_path):
    """The owner drops a project and the next index has it: only the bytes that were held come at once."""
    first, second = await simulator(), await simulator()
    mirror = Mirror(tmp_path / "mirror", {"first": first, "second": second})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    replaced, same = add(first, mirror, "1.0", age=30), add(first, mirror, "2.0", age=30)
    add(second, mirror, "1.0", age=30, text=b"other bytes")
    add(second, mirror, "2.0", age=30)
    new = add(second, mirror, "3.0", age=30)
    other = add(first, mirror, "1.0", age=30, project="other")
    await mirror.cycle()
    assert names(mirror) == [replaced, same, other]
    first.state.unlist_project("app")
    for _ in range(2):
        report = await mirror.cycle()
    assert names(mirror) == [same, new, other]
    assert report.as_json()["indexes"][1]["left_out"] == {"min-age": 1}
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [replaced, same, new, other]


async def test_urgent_projects_wait_for_nothing(index, mirror):
    """Patterns of ``urgent`` exempt projects from the cooldown, and not from other rules."""
    mirror.rules |= {"urgent": ("urg*",), "versions": ("urgent<2",)}
    fast = add(index, mirror, "1.0", project="urgent")
    add(index, mirror, "2.0", project="urgent")
    add(index, mirror, "1.0")
    report = await mirror.cycle()
    assert names(mirror) == [fast]
    assert rules(report)[0] == {"min-age": 1, "versions": 1}


async def test_a_rule_that_still_holds_at_the_end_is_named_then(index, mirror):
    """At the end of its cooldown a file that ``versions`` leaves out is counted there, and stays out."""
    mirror.rules |= {"versions": ("app<2",)}
    add(index, mirror, "2.0", age=1)
    report = await mirror.cycle()
    assert rules(report)[0] == {"min-age": 1}
    mirror.clock.advance(7 * DAY_S)
    report = await mirror.cycle()
    assert (names(mirror), rules(report)) == ([], ({"versions": 1}, None))


async def test_a_file_that_fails_at_the_end_of_its_cooldown_is_in_the_ledger(index, mirror):
    """The file whose cooldown has ended fails to come: it is in the ledger, and comes with its next try."""
    name = add(index, mirror, "1.0", age=1)
    await mirror.cycle()
    mirror.clock.advance(7 * DAY_S)
    index.inject(Status(status=404), project="app", filename=name, times=2)
    await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([], 5)
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]
    await mirror.cycle()
    assert names(mirror) == [name]


async def test_a_kill_after_the_file_came(index, mirror):
    """The cycle was killed before the end of the page's work was recorded: the next one takes the held file as it is."""
    name = add(index, mirror, "1.0", age=1)
    await mirror.cycle()
    [row] = mirror.query("SELECT * FROM deferred")
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    put_back(mirror, row)
    requests(index)
    report = await mirror.cycle()
    assert (names(mirror), rules(report)) == ([name], ({}, None))
    assert ("file", "app", name, 200) not in requests(index)
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]


@in_another_thread
def put_back(mirror, row):
    with contextlib.closing(sqlite3.connect(mirror.root / "state.db")) as connection, connection:
        connection.execute(f"INSERT INTO deferred VALUES ({', '.join('?' * len(row))})", row)


async def test_a_project_that_leaves_is_waited_for_no_more(index, mirror):
    """The root lists a project no more: its files in cooldown are forgotten with it."""
    add(index, mirror, "1.0", age=1)
    add(index, mirror, "1.0", age=9, project="other")
    await mirror.cycle()
    index.state.unlist_project("app")
    for _ in range(2):
        report = await mirror.cycle()
    assert rules(report) == ({}, None)
    assert mirror.query("SELECT count(*) FROM deferred") == [(0,)]


async def test_a_rebuilt_state_removes_nothing(index, mirror):
    """The state is lost and rebuilt from the tree: files without upload times stay on the pages while they wait again."""
    mirror.rules = {}
    name = add(index, mirror, "1.0", age=None)
    await mirror.cycle()
    lose_state(mirror)
    await repair(mirror)
    mirror.rules = {"min_age_s": 7 * DAY_S}
    for _ in range(4):
        await mirror.unchecked_cycle()
        assert names(mirror) == [name]
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert names(mirror) == [name]


async def test_a_link_that_ends_is_read_again(simulator, tmp_path):
    """A link with a query is not kept: at the end of the cooldown the page is read for the current one."""
    index = await simulator(signed_links=1000, second_origin=True)
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"min_age_s": 7 * DAY_S}
    name = add(index, mirror, "1.0", age=1)
    await mirror.cycle()
    mirror.clock.advance(7 * DAY_S)
    await mirror.cycle()
    assert (names(mirror), mirror.exit_code) == ([name], 0)
