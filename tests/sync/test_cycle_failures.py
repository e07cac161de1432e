"""What fails stands alone, is named, kept in the ledger and tried again; a refusal of the whole index ends its part."""

from __future__ import annotations

import pytest

from harness.in_process import Mirror, counters, failures, offered, requests
from mirror.config import AuthConfig
from simulator import Corrupt, Page, Resize, Status, build_sdist, build_wheel, unavailable

GOOD = build_wheel("good", "1.0")
BAD = build_wheel("bad", "1.0")
BAD_SDIST = build_sdist("bad", "1.0")
LOGIN = Page(body=b"<html><body><form><input type='password'></form></body></html>")


def publish(simulator):
    simulator.state.publish("bad", *BAD)
    simulator.state.publish("bad", *BAD_SDIST)
    simulator.state.publish("good", *GOOD)


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
@pytest.mark.parametrize(
    ("fault", "reason", "code"),
    [
        (Corrupt(), "digest-mismatch", 5),
        (Resize(by=1), "size-mismatch", 5),
        (Resize(by=-1), "size-mismatch", 5),
        (Status(status=404), "not-found", 5),
        (Status(status=410), "not-found", 5),
        (Status(status=403), "denied", 5),
        (unavailable(503, retry_after="3600"), "unreachable", 5),
        (Status(status=409, json={"reason": "POLICY_COOLDOWN"}), "withheld", 0),
        (Status(status=409, json={"reason": "MALWARE_DETECTED"}), "withheld", 0),
        (Status(status=409), "withheld", 0),
    ],
    ids=["digest", "longer", "shorter", "404", "410", "403", "503", "cooldown", "malware", "409"],
)
async def test_a_file_that_fails_is_tried_again_without_its_page(simulator, mirror_of, serials, fault, reason, code):
    """A failed file is in report and ledger while all others are published; the next cycle asks for it, not its page."""
    index = await simulator(serials=serials)
    publish(index)
    index.inject(fault, filename=BAD[0])
    mirror = mirror_of(index)

    report = await mirror.cycle()

    expected = offered(index)
    del expected["bad"][BAD[0]]
    assert mirror.files() == expected
    assert failures(report) == [("main", "bad", BAD[0], reason)]
    assert mirror.exit_code == code
    assert report.outcome.value == ("partial" if code else "complete")
    is_withheld = reason == "withheld"
    assert counters(report).get("files_failed", 0) == (0 if is_withheld else 1)
    assert counters(report).get("files_withheld", 0) == (1 if is_withheld else 0)

    index.faults.clear()
    index.take_requests()
    report = await mirror.cycle()

    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)
    asked = requests(index)
    assert [r for r in asked if r[0] == "file"] == [("file", "bad", BAD[0], 200)]
    pages = [r for r in asked if r[0] == "page"]
    assert pages == ([] if serials else [("page", "bad", None, 304), ("page", "good", None, 304)])


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_retry_that_is_refused_reads_the_page_again(simulator, mirror_of, status):
    """When a file from the ledger is not there any more, its page is read again in this cycle, for a new address."""
    index = await simulator(serials=True)
    publish(index)
    index.inject(Corrupt(), filename=BAD[0])
    mirror = mirror_of(index)
    await mirror.cycle()
    index.faults.clear()
    index.inject(Status(status=status), filename=BAD[0], times=1)
    index.take_requests()

    report = await mirror.cycle()

    assert ("page", "bad", None, 200) in requests(index)
    assert (mirror.files(), failures(report)) == (offered(index), [])


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_a_project_whose_page_is_read_twice_is_counted_once(simulator, mirror_of, serials):
    """A retry that is refused for good reads its page again, and neither project nor file is counted a second time."""
    index = await simulator(serials=serials)
    publish(index)
    index.inject(Status(status=404), filename=BAD[0])
    mirror = mirror_of(index)
    await mirror.cycle()

    for _ in range(2):
        report = await mirror.cycle()
        listed = {"projects_listed": 2, "projects_checked": 2}
        assert counters(report) == listed | {"projects_unchanged": 1, "projects_changed": 1, "files_failed": 1}
        assert failures(report) == [("main", "bad", BAD[0], "not-found")]


async def test_an_unchanged_page_is_counted_as_such_while_its_files_are_tried_again(simulator, mirror_of):
    """The counters of projects are about their pages: each that was looked at is unchanged, changed or failed."""
    index = await simulator()
    publish(index)
    index.inject(Corrupt(), filename=BAD[0])
    mirror = mirror_of(index)
    await mirror.cycle()

    report = await mirror.cycle()
    looked = {"projects_listed": 2, "projects_checked": 2, "projects_unchanged": 2}
    assert counters(report) == looked | {"files_failed": 1}

    index.faults.clear()
    report = await mirror.cycle()
    assert counters(report) == looked | {"files_new": 1}


async def test_a_failed_file_that_is_removed_leaves_the_ledger(simulator, mirror_of):
    """What the index no longer lists is no failure any more."""
    index = await simulator()
    publish(index)
    index.inject(Corrupt(), filename=BAD[0])
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("bad", BAD[0])

    report = await mirror.cycle()

    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


async def test_a_failed_file_that_stays_away_fails_in_each_cycle(simulator, mirror_of):
    """A cycle in which nothing is new but a failure persists is partial, and counts one more attempt."""
    index = await simulator(serials=True)
    publish(index)
    index.inject(Corrupt(), filename=BAD[0])
    mirror = mirror_of(index)
    for attempts in (1, 2, 3):
        report = await mirror.cycle()
        assert (failures(report), mirror.exit_code) == ([("main", "bad", BAD[0], "digest-mismatch")], 5)
        assert mirror.query("SELECT attempts FROM failure") == [(attempts,)]


async def test_the_daemon_waits_longer_for_each_next_try(simulator, mirror_of):
    """A cycle that tries only what is due leaves a recent failure in the ledger, without a request."""
    index = await simulator(serials=True)
    publish(index)
    index.inject(Corrupt(), filename=BAD[0])
    mirror = mirror_of(index)
    await mirror.cycle(all_failures=False)
    mirror.clock.now -= 30
    index.take_requests()

    report = await mirror.cycle(all_failures=False)
    assert (requests(index), failures(report)) == (
        [("root", None, None, 304)],
        [("main", "bad", BAD[0], "digest-mismatch")],
    )

    index.faults.clear()
    report = await mirror.cycle(all_failures=False)
    assert (mirror.files(), failures(report)) == (offered(index), [])


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(status=404), "not-found"),
        (Status(status=403), "denied"),
        (Status(status=200, json={"hello": "world"}), "bad-page"),
        (Page(body=b"{", content_type="application/vnd.pypi.simple.v1+json"), "bad-page"),
        (Page(body=b"\x00\xff\xfe", content_type="application/octet-stream"), "bad-page"),
        (LOGIN, "bad-page"),
        (unavailable(503, retry_after="3600"), "unreachable"),
    ],
    ids=["404", "403", "other-json", "cut-json", "binary", "login", "503"],
)
async def test_a_broken_page_stands_alone(simulator, mirror_of, serials, fault, reason):
    """A page that can't be read is a failure of its project alone; what is held stays, and it heals by itself."""
    index = await simulator(serials=serials)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.publish("bad", *build_wheel("bad", "1.1"))
    index.state.publish("good", *build_wheel("good", "1.1"))
    index.inject(fault, kind="page", project="bad")

    report = await mirror.cycle()

    assert mirror.files() == {"bad": before["bad"], "good": offered(index)["good"]}
    assert (failures(report), mirror.exit_code) == ([("main", "bad", None, reason)], 5)

    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)


@pytest.mark.parametrize(
    ("fault", "reason", "code", "total"),
    [
        (Status(status=401), "denied", 3, 1),
        (Status(status=403), "denied", 3, 1),
        (Status(status=404), "not-found", 4, 1),
        (Status(status=410), "not-found", 4, 1),
        (Status(status=409), "withheld", 4, 1),
        (LOGIN, "bad-page", 4, 1),
        (Status(status=200, json={"hello": "world"}), "bad-page", 4, 1),
        (Status(status=200, json=[]), "bad-page", 4, 1),
        (
            Page(body=b'{"meta": {"api-version": "1.0"}, "projects": []}', content_type="application/json"),
            "bad-page",
            4,
            1,
        ),
        (Page(body=b"<!DOCTYPE html><html><body></body></html>"), "bad-page", 4, 1),
        (
            Page(body=b'<html><head><meta name="pypi:repository-version" content="1.0"></head><body></body></html>'),
            "bad-page",
            4,
            1,
        ),
        (
            Page(
                body=b'{"meta": {"api-version": "2.0"}, "projects": [{"name": "x"}]}', content_type="application/json"
            ),
            "bad-page",
            4,
            1,
        ),
        (unavailable(503, retry_after="3600"), "unreachable", 4, 1),
    ],
    ids=[
        "401",
        "403",
        "404",
        "410",
        "409",
        "login",
        "other",
        "list",
        "empty-json",
        "empty-html",
        "empty-v1",
        "v2",
        "503",
    ],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
async def test_a_root_that_cannot_be_believed_changes_nothing(
    simulator, mirror_of, fault, reason, code, total, is_first
):
    """Without a good root the cycle is aborted, says why, asks for nothing more, and the tree stays as it was."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    if not is_first:
        await mirror.cycle()
    before = mirror.footprint() if not is_first else {}
    index.inject(fault, kind="root")
    index.take_requests()

    report = await mirror.cycle()

    assert (report.outcome.value, mirror.exit_code) == ("aborted", code)
    assert failures(report) == [("main", None, None, reason)]
    assert ("check the URL" in report.failures[0].detail) == (reason == "not-found")
    assert len(index.requests) == total
    assert {p: m for p, m in mirror.footprint().items() if p in before} == before
    assert mirror.files() == ({} if is_first else offered(index))

    index.faults.clear()
    report = await mirror.cycle()
    assert (report.outcome.value, failures(report), mirror.files()) == ("complete", [], offered(index))


def with_password(mirror: Mirror, password: str) -> None:
    mirror.env = {"PASSWORD": password}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_env="PASSWORD"))


async def test_a_wrong_password_costs_one_request(simulator, mirror_of):
    """A credential that is refused ends the cycle after one request, with nothing touched and the source named."""
    index = await simulator(username="user", password="right")
    publish(index)
    mirror = mirror_of(index)
    with_password(mirror, "wrong-secret")

    report = await mirror.cycle()

    assert (report.outcome.value, mirror.exit_code, requests(index)) == ("aborted", 3, [("root", None, None, 401)])
    (failure,) = report.failures
    assert "'main'" in failure.detail
    assert "PASSWORD" in failure.detail
    assert "wrong-secret" not in failure.detail

    with_password(mirror, "right")
    await mirror.cycle()
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("kind", ["page", None], ids=["pages", "all"])
async def test_a_401_in_the_middle_ends_the_index(simulator, mirror_of, kind):
    """A 401 on any page, and on those let out before, ends the index's part: nothing is removed, exit code 3."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.remove_file("bad", BAD_SDIST[0])
    await mirror.cycle()
    index.state.publish("good", *build_wheel("good", "1.1"))
    index.inject(Status(status=401), kind=kind)

    report = await mirror.cycle()

    assert (mirror.files(), report.outcome.value, mirror.exit_code) == (before, "aborted", 3)
    assert ("main", None, None, "denied") in failures(report)

    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (offered(index), [], 0)


async def test_refusals_in_a_row_end_the_index_where_nothing_was_let_out(simulator, mirror_of):
    """403 on every page, and nothing that was ever let out, is a refusal of the whole index."""
    index = await simulator()
    for number in range(40):
        index.state.publish(f"p{number:02}", *build_wheel(f"p{number:02}", "1.0"))
    index.inject(Status(status=403), kind="page")
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "max_connections": 1}

    report = await mirror.cycle()

    assert (report.outcome.value, mirror.exit_code, mirror.files()) == ("aborted", 3, {})
    assert index.count(kind="page") == 20

    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])


async def test_an_index_that_goes_down_in_the_middle_is_not_asked_for_every_page(simulator, mirror_of):
    """Some failures to reach the index in a row end its part; the rest waits for the next cycle."""
    index = await simulator()
    for number in range(30):
        index.state.publish(f"p{number:02}", *build_wheel(f"p{number:02}", "1.0"))
    index.inject(unavailable(503, retry_after="3600"), kind="page")
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "max_connections": 1}

    report = await mirror.cycle()

    assert (report.outcome.value, mirror.exit_code) == ("aborted", 4)
    assert index.count(kind="page") == 4
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_one_index_down_does_not_stop_the_other(simulator, mirror_of):
    """An index that can't be had leaves the others alone: partial, with its own exit code."""
    first, second = await simulator(), await simulator()
    first.state.publish("one", *build_wheel("one", "1.0"))
    second.state.publish("two", *build_wheel("two", "1.0"))
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    second.state.publish("two", *build_wheel("two", "1.1"))
    first.inject(Status(status=401))

    report = await mirror.cycle()

    assert mirror.files() == offered(first, second)
    assert (report.outcome.value, mirror.exit_code) == ("partial", 3)
    assert failures(report) == [("first", None, None, "denied")]


@pytest.mark.parametrize("listed", [True, False], ids=["listed-size", "unlisted-size"])
async def test_a_file_over_the_limit_is_refused_until_the_limit_grows(simulator, mirror_of, listed):
    """A file larger than limits.file-size is in the ledger; a larger limit fetches it though the page is unchanged."""
    index = await simulator(serials=True)
    index.state.publish("bad", *BAD, **({} if listed else {"size": None}))
    index.state.publish("good", *GOOD)
    mirror = mirror_of(index)
    mirror.limits["file_size"] = len(BAD[1]) - 1
    index.state.publish("small", "small-1.0.tar.gz", b"x")

    report = await mirror.cycle()
    assert mirror.files()["small"] == offered(index)["small"]
    assert ("main", "bad", BAD[0], "too-large") in failures(report)
    assert mirror.exit_code == 5
    mirror.limits["file_size"] = 0

    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])


async def test_unsafe_names_are_refused_one_by_one(simulator, mirror_of):
    """A file whose name must not become a path is refused by itself and stays in the report; the page goes on."""
    index = await simulator(serials=True)
    publish(index)
    index.state.publish("bad", "../../evil-1.0.tar.gz", b"evil")
    index.state.publish("bad", "bad-2.0.tar.gz.metadata", b"evil")
    index.state.publish("bad", "x" * 260 + ".tar.gz", b"evil")
    mirror = mirror_of(index)

    for _ in range(2):
        report = await mirror.cycle()
        assert sorted(r for _, p, _, r in failures(report) if p == "bad") == ["unsafe-name"] * 3
        assert mirror.exit_code == 5
        assert {"bad": set(mirror.files()["bad"])} == {"bad": {BAD[0], BAD_SDIST[0]}}
    assert not any("evil" in path for path in mirror.footprint())


async def test_a_file_without_a_name_is_refused_and_stays_refused(simulator, mirror_of):
    """A listing without a filename is a failure of that file, in each cycle, not one of the page."""
    index = await simulator(serials=True)
    publish(index)
    index.state.publish("bad", "", b"nameless")
    mirror = mirror_of(index)

    for _ in range(2):
        report = await mirror.cycle()
        (failure,) = report.failures
        assert (failure.project, failure.reason.value, bool(failure.filename)) == ("bad", "unsafe-name", True)
        assert mirror.exit_code == 5
