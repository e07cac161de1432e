"""What may pass by itself is tried again, within bounds; what does not is told, and ends no more than it must."""

from __future__ import annotations

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import pytest
from msgspec.structs import replace

from harness.in_process import failures, offered
from harness.program import call, clean_environment
from mirror.config import AuthConfig
from mirror.errors import Unavailable
from mirror.sync.cycle import run_cycle
from mirror.upstream.limits.retry import Allowance, RetryPolicy, pause_before_next
from simulator import (
    Announce,
    Corrupt,
    Cut,
    Drip,
    Relabel,
    Reset,
    Stall,
    Status,
    build_sdist,
    build_wheel,
    unavailable,
    withheld,
)

ONE = build_wheel("one", "1.0")
HOUR_S = 3600.0


def publish_many(index, count, prefix="p"):
    for number in range(count):
        index.state.publish(f"{prefix}{number:02}", *build_sdist(f"{prefix}{number:02}", "1.0"))


def date_in(seconds):
    """Return an HTTP date so far from now."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


PASSING = [
    pytest.param(Reset(), id="reset"),
    pytest.param(Reset(after=20), id="reset-in-the-body"),
    pytest.param(Cut(after=0), id="cut-at-once"),
    pytest.param(Cut(after=20), id="cut"),
    pytest.param(Announce(by=1), id="announced-too-long"),
    *(pytest.param(unavailable(status), id=str(status)) for status in (408, 425, 429, 500, 502, 503, 504)),
    pytest.param(unavailable(503, retry_after="0"), id="retry-after-0"),
    pytest.param(unavailable(429, retry_after=date_in(-HOUR_S)), id="retry-after-past"),
    pytest.param(unavailable(429, retry_after="soon"), id="retry-after-nonsense"),
]


@pytest.mark.parametrize("kind", ["root", "page", "file", "store"])
@pytest.mark.parametrize("fault", PASSING)
async def test_what_passes_by_itself_costs_some_tries(simulator, mirror_of, kind, fault):
    """Four failures of a page or file in a row are no failure of the cycle."""
    index = await simulator(second_origin=kind == "store")
    # Without a size, so that a wrong announcement of it is found out only at the end.
    index.state.publish("one", *ONE, size=None)
    index.inject(fault, kind=kind, times=4)
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))
    # Where only the announcement was wrong, all bytes of a file are here already.
    is_whole = isinstance(fault, Announce) and kind in {"file", "store"}
    assert index.count(kind=kind) == (1 if is_whole else 5)


@pytest.mark.parametrize("kind", ["root", "page", "file"])
@pytest.mark.parametrize(
    "fault", [Stall(after=None), Stall(after=20), Drip(pause_s=0.05)], ids=["no-answer", "stall", "drip"]
)
async def test_a_stall_is_given_up_and_tried_again(simulator, mirror_of, kind, fault):
    """An answer that does not come, stops, or comes a byte at a time, holds nothing up for longer than its bound."""
    index = await simulator()
    index.state.publish("one", *ONE)
    index.inject(fault, kind=kind, times=1)
    mirror = mirror_of(index)
    mirror.limits |= {"stall_timeout_s": 0.3, "connect_timeout_s": 0.3}
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))
    assert index.count(kind=kind) == 2


@pytest.mark.parametrize("kind", ["page", "file"])
async def test_the_fifth_failure_is_the_last(simulator, mirror_of, kind):
    """After five tries a page or file is left to the next cycle, and the others are published."""
    index = await simulator()
    publish_many(index, 3)
    index.inject(Cut(after=0), kind=kind, project="p01")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    (failure,) = report.failures
    assert (failure.project, failure.reason.value, "after 5 tries" in failure.detail) == ("p01", "unreachable", True)
    assert (mirror.exit_code, set(mirror.files())) == (5, {"p00", "p02"})
    assert index.count(kind=kind, project="p01") == 5


@pytest.mark.parametrize("kind", ["page", "file"])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_long_retry_after_is_waited_for_in_the_ledger(simulator, mirror_of, kind, form):
    """An index that asks for an hour gets it: one request, and the next try of the daemon is not before."""
    index = await simulator(serials=True)
    publish_many(index, 2)
    value = "3600" if form == "seconds" else date_in(HOUR_S)
    index.inject(unavailable(503, retry_after=value), kind=kind, project="p01")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert failures(report) == [
        ("main", "p01", None if kind == "page" else next(iter(index.state["p01"].files)), "unreachable")
    ]
    assert index.count(kind=kind, project="p01") == 1
    ((wait_s,),) = mirror.query("SELECT next_at - last_at FROM failure")
    assert HOUR_S - 60 < wait_s <= HOUR_S
    if kind == "file":
        await mirror.cycle(all_failures=False)
        assert index.count(kind=kind, project="p01") == 1
        mirror.clock.advance(HOUR_S)
        index.faults.clear()
        report = await mirror.cycle(all_failures=False)
        assert (failures(report), mirror.files()) == ([], offered(index))


async def test_pauses_grow_and_end_with_the_budget():
    """A pause that would go past the budget, the last try and an empty allowance each end the tries at once."""
    error = Unavailable(url="http://x/", cause="it broke")
    usual = {"tries_made": 1, "remaining_s": 60.0, "policy": RetryPolicy(base_s=1e-6, cap_s=1e-6)}
    await pause_before_next(error, **usual, allowance=Allowance(RetryPolicy()))
    slow = Unavailable(url="http://x/", cause="it broke", retry_after_s=60.0)
    for raised, changed in [(error, {"tries_made": 5}), (slow, {}), (error, {"remaining_s": 0.0})]:
        with pytest.raises(Unavailable) as caught:
            await pause_before_next(raised, **usual | changed, allowance=Allowance(RetryPolicy()))
        assert caught.value.attempts == (usual | changed)["tries_made"]
    with pytest.raises(Unavailable):
        await pause_before_next(error, **usual, allowance=Allowance(RetryPolicy(spare=0)))


async def test_the_retries_of_a_cycle_are_bounded(simulator, mirror_of):
    """Beside a few to spare there is one retry for each success; then a failure stands at once."""
    index = await simulator()
    for number in range(4):
        index.state.publish("one", *build_sdist("one", f"1.{number}"))
    index.inject(Cut(after=0), kind="file")
    mirror = mirror_of(index)
    mirror.limits |= {"downloads": 1, "max_connections": 1}
    mirror.retry_policy = replace(mirror.retry_policy, spare=3)
    report = await mirror.cycle()
    assert [reason for *_, reason in failures(report)] == ["unreachable"] * 4
    # Four first tries, three to spare, and one for each of root and page, which succeeded.
    assert index.count(kind="file") == 4 + 3 + 2


async def test_half_of_everything_fails(simulator, mirror_of):
    """Where about every second request fails, one cycle gets all the same."""
    index = await simulator()
    publish_many(index, 40)
    draw = random.Random(7)
    for name, project in index.state.projects.items():
        for where in ({"kind": "page", "project": name}, {"filename": next(iter(project.files))}):
            index.inject(draw.choice([Reset(), Cut(after=10), unavailable(503)]), times=draw.randrange(3), **where)
    mirror = mirror_of(index)
    mirror.retry_policy = replace(mirror.retry_policy, spare=20)
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


@pytest.mark.parametrize(
    "fault",
    [unavailable(429), unavailable(503), Reset(after=10), Cut(after=10)],
    ids=["429", "503", "reset-in-the-body", "cut"],
)
async def test_an_index_that_pushes_back_gets_fewer_requests_at_once(simulator, mirror_of, fault):
    """Concurrency is halved by a push-back, in the middle of a body too, and grows again one by one."""
    index = await simulator()
    for number in range(60):
        index.state.publish("one", *build_sdist("one", f"1.{number}"))
    mirror = mirror_of(index)
    mirror.limits |= {"downloads": 8, "max_connections": 8}
    index.inject(fault, kind="file", times=1)
    async with mirror.opened() as cycle:
        (run,) = cycle.runs
        targets = [run.access.file_width.target]
        count_done = run.access.file_width.count_done

        def note():
            count_done()
            targets.append(run.access.file_width.target)

        run.access.file_width.count_done = note
        report = await run_cycle(cycle)
    assert (failures(report), mirror.files()) == ([], offered(index))
    steps = list(dict.fromkeys(targets))
    assert steps[:3] == [8, 4, 5]
    assert targets.index(8, targets.index(4)) > 0


async def test_an_index_that_dies_in_the_middle(simulator, mirror_of):
    """Its part ends soon with exit code 4; what was finished is published, and the other index is whole."""
    dying, healthy = await simulator(), await simulator()
    publish_many(dying, 60)
    publish_many(healthy, 20, "q")
    mirror = mirror_of(dying=dying, healthy=healthy)
    mirror.limits |= {"pages": 2, "downloads": 2, "max_connections": 4}

    async def kill():
        while dying.count(kind="file", status=200) < 10:
            await anyio.lowlevel.checkpoint()
        dying.inject(Reset())
        dying.take_requests()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("partial", 4)
    assert ("dying", None, None, "unreachable") in failures(report)
    held = mirror.files()
    assert {p for p in held if p.startswith("q")} == set(offered(healthy))
    assert 10 <= len(held) - 20 < 60
    # Five tries each of four in a row, the root page, and what was under way beside them; a connection that was used
    # before is tried twice each time.
    assert len(dying.requests) <= 2 * 5 * (4 + 1 + 2 * 4)
    dying.faults.clear()
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(dying, healthy))


async def test_an_index_that_dies_after_a_first_bad_moment(simulator, mirror_of):
    """Some pages that can't be reached while the root answers do not hide that the index dies later."""
    index = await simulator()
    publish_many(index, 60)
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "downloads": 1, "max_connections": 1}
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    for number in range(5):
        index.inject(Cut(after=0), kind="page", project=f"p{number:02}", times=1)

    async def kill():
        while index.count(kind="page", status=200) < 5:
            await anyio.lowlevel.checkpoint()
        index.inject(Reset())
        index.take_requests()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 4)
    # Eight in a row, since the root was asked at the fourth, and the root; each on a connection that was used before.
    assert len(index.requests) <= 2 * (8 + 1) + 2
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_an_object_store_that_is_down_is_not_the_index(simulator, mirror_of):
    """Files that can't be had while the pages can end nothing: every page is read, and each file told."""
    index = await simulator(second_origin=True)
    publish_many(index, 30)
    index.inject(Reset(), kind="store")
    mirror = mirror_of(index)
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("partial", 5)
    assert (len(report.failures), index.count(kind="page", status=200)) == (30, 30)
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def after(index, count, act):
    """Do something once so many files were given out."""
    while index.count(kind="file", status=200) < count:
        await anyio.lowlevel.checkpoint()
    act()


async def test_a_password_that_is_changed_in_the_middle(simulator, mirror_of):
    """The index's part ends with exit code 3, all that is finished stays, and the new password goes on from there."""
    index = await simulator(username="user", password="old-secret")
    publish_many(index, 40)
    mirror = mirror_of(index)
    mirror.env = {"PASSWORD": "old-secret"}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_env="PASSWORD"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after, index, 10, lambda: setattr(index.settings, "password", "new-secret"))
        report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
    finished = mirror.files()
    assert len(finished) >= 10
    assert finished.items() <= offered(index).items()
    mirror.env = {"PASSWORD": "new-secret"}
    index.take_requests()
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))
    again = {r.project for r in index.take_requests() if r.kind == "file"}
    assert not again & set(finished)


async def test_a_password_file_that_rotates_in_the_middle(simulator, mirror_of, tmp_path):
    """A credential that its source has replaced meanwhile is taken from there, and the cycle is complete."""
    index = await simulator(username="user", password="old-secret")
    publish_many(index, 40)
    secret = tmp_path / "password"
    secret.write_text("old-secret")
    secret.chmod(0o600)
    mirror = mirror_of(index)
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_file=secret))

    def rotate():
        secret.write_text("new-secret")
        index.settings.password = "new-secret"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(after, index, 10, rotate)
        report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


async def test_single_403s_among_successes_stand_alone(simulator, mirror_of):
    """Files that are denied one by one are told one by one; with successes between them they end nothing."""
    index = await simulator()
    publish_many(index, 30)
    denied = [f"p{number:02}" for number in range(0, 30, 3)]
    for project in denied:
        index.inject(Status(status=403), kind="file", project=project)
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "downloads": 1, "max_connections": 1}
    report = await mirror.cycle()
    assert [(project, reason) for _, project, _, reason in failures(report)] == [(p, "denied") for p in denied]
    assert (mirror.exit_code, set(mirror.files())) == (5, set(offered(index)) - set(denied))


async def test_403s_of_the_object_store_are_no_denial(simulator, mirror_of):
    """What the redirected host refuses says nothing of our credential: each file is denied by itself, nothing is ended."""
    index = await simulator(second_origin=True, username="user", password="secret-word")
    publish_many(index, 10)
    index.inject(Status(status=403), kind="store")
    mirror = mirror_of(index)
    mirror.retry_policy = replace(mirror.retry_policy, tries=1)
    mirror.env = {"PASSWORD": "secret-word"}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_env="PASSWORD"))
    report = await mirror.cycle()
    assert {reason for *_, reason in failures(report)} == {"denied"}
    assert (mirror.exit_code, len(report.failures)) == (5, 10)


def ledger_of(mirror):
    """Return the ledger of ``mirror status --json``."""
    command = [sys.executable, "-m", "mirror", "status", "--json", "--root", mirror.root]
    work = mirror.root.parent
    return json.loads(call(command, env=clean_environment(work), cwd=work).stdout)["failures"]


def utc(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_ledger_says_all_that_the_next_try_needs(simulator, mirror_of):
    """Reason, address, digests, size, first and last time, attempts and next try; the row ends with its cause."""
    index = await simulator(serials=True)
    index.state.publish("one", *ONE)
    index.state.publish("two", *build_wheel("two", "1.0"))
    index.state.publish("three", *build_wheel("three", "1.0"))
    two = index.state["two"].files["two-1.0-py3-none-any.whl"]
    index.inject(Corrupt(), filename=ONE[0])
    index.inject(withheld("POLICY_COOLDOWN"), filename=two.filename)
    index.inject(Status(status=404), kind="page", project="three")
    mirror = mirror_of(index)
    await mirror.cycle()
    first_at = mirror.clock.now
    await mirror.cycle()
    last_at = mirror.clock.now
    rows = {row["project"]: row for row in ledger_of(mirror)}
    details = {project: row.pop("detail") for project, row in rows.items()}
    one = index.state["one"].files[ONE[0]]
    shared = {
        "index": "main",
        "first_at": utc(first_at),
        "last_at": utc(last_at),
        "attempts": 2,
        "next_at": utc(last_at + 120),
    }
    files = f"{index.url.removesuffix('/simple/')}/files"
    assert rows == {
        "one": {
            **shared,
            "project": "one",
            "filename": ONE[0],
            "reason": "digest-mismatch",
            "url": f"{files}/one/{ONE[0]}",
            "hashes": {"sha256": one.hash("sha256")},
            "size": len(one.data),
        },
        "three": {
            **shared,
            "project": "three",
            "filename": None,
            "reason": "not-found",
            "url": None,
            "hashes": None,
            "size": None,
        },
        "two": {
            **shared,
            "project": "two",
            "filename": two.filename,
            "reason": "withheld",
            "url": f"{files}/two/{two.filename}",
            "hashes": {"sha256": two.hash("sha256")},
            "size": len(two.data),
        },
    }
    assert one.hash("sha256") in details["one"]
    assert "POLICY_COOLDOWN" in details["two"]
    assert "404" in details["three"]
    index.faults.clear()
    index.state.remove_file("two", two.filename)
    await mirror.cycle()
    assert ledger_of(mirror) == []


async def test_a_body_labelled_with_an_encoding_is_taken_as_it_is(simulator, mirror_of):
    """A Content-Encoding of a file is a label, never undone, also where the rest of a body is asked for."""
    index = await simulator(gzip_label=True)
    index.state.publish("large", *build_sdist("large", "1.0", size_pad=3 << 20))
    index.state.publish("one", *ONE)
    index.inject(Cut(after=2 << 20), kind="file", project="large", times=1)
    index.inject(Relabel(headers={"Content-Encoding": "br"}), filename=ONE[0])
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))
