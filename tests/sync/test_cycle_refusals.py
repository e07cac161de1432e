"""401 and 403: what belongs to one item stands alone, and a credential that is wrong or ends is told after few requests."""

from __future__ import annotations

import pytest

from harness.in_process import DAY_S, Mirror, counters, failures, offered, requests
from mirror.config import AuthConfig
from simulator import Status, build_sdist, build_wheel

POLICY = "was stopped by policy no-unscanned, ticket SEC-12"


def publish(index, count, *, files=1, prefix="p"):
    for number in range(count):
        name = f"{prefix}{number:02}"
        for version in range(files):
            index.state.publish(name, *build_wheel(name, f"{version + 1}.0"))


def with_password(mirror: Mirror, password: str) -> None:
    mirror.env = {"PASSWORD": password}
    mirror.configure("main", auth=AuthConfig(kind="basic", username="user", password_env="PASSWORD"))


def without(index, *names):
    """Return what an index offers, but for some projects and files."""
    files = {p: {f: d for f, d in fs.items() if f not in names} for p, fs in offered(index).items() if p not in names}
    return {project: kept for project, kept in files.items() if kept}


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_a_policy_refuses_some_files(simulator, mirror_of, serials):
    """6 of 96 files that a policy stops for ever: 90 are held in the first cycle, each of the 6 with the policy's words."""
    index = await simulator(username="user", password="secret", serials=serials)
    publish(index, 32, files=3)
    blocked = [f"p04-{v}.0-py3-none-any.whl" for v in (1, 2, 3)] + [f"p{n}-2.0-py3-none-any.whl" for n in (11, 12, 13)]
    index.settings.blocked = tuple(blocked)
    mirror = mirror_of(index)
    with_password(mirror, "secret")
    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.exit_code, report.outcome.value) == (5, "partial")
        assert sorted(f.filename for f in report.failures) == sorted(blocked)
        assert all(f.reason.value == "denied" and f"{f.filename} {POLICY}" in f.detail for f in report.failures)
        assert not any("credential" in f.detail for f in report.failures)
        assert mirror.files() == without(index, *blocked)
    index.settings.blocked = ()
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(index))


async def test_a_policy_refuses_pages(simulator, mirror_of):
    """Pages that a policy stops are failures of their projects, also where there are more than end a wrong credential."""
    index = await simulator(username="user", password="secret")
    publish(index, 60)
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "max_connections": 1}
    with_password(mirror, "secret")
    await mirror.cycle()
    before = mirror.files()
    index.settings.blocked = tuple(f"p{n:02}" for n in range(58))
    for number in (58, 59):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "2.0"))
    report = await mirror.cycle()
    assert (mirror.exit_code, len(report.failures)) == (5, 58)
    assert all(POLICY in f.detail for f in report.failures)
    assert mirror.files() == before | {p: offered(index)[p] for p in ("p58", "p59")}


async def test_a_policy_that_refuses_what_was_let_out_last(simulator, mirror_of):
    """Where a policy refuses just the pages that a check asks for, other ones are asked for in the next cycle."""
    index = await simulator(username="user", password="secret")
    publish(index, 10)
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "max_connections": 1}
    with_password(mirror, "secret")
    await mirror.cycle()
    index.settings.allow_list = ("p04", "p05", "p06", "p07")
    await mirror.cycle()
    assert mirror.exit_code == 3
    report = await mirror.cycle()
    assert (mirror.exit_code, {f.reason.value for f in report.failures}) == (5, {"denied"})
    assert mirror.files() == offered(index)


async def test_a_bucket_that_says_403_for_a_missing_key(simulator, mirror_of):
    """5 of 8 listed files are not in the bucket, which nobody logs in to: 3 are held, the others say what it says."""
    index = await simulator(is_bucket=True)
    publish(index, 8)
    mirror = mirror_of(index)
    for number in range(5):
        index.inject(
            Status(
                status=403,
                headers={"Content-Type": "application/xml"},
                text='<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
            ),
            kind="file",
            project=f"p{number:02}",
        )
    report = await mirror.cycle()
    assert mirror.exit_code == 5
    assert sorted(mirror.files()) == ["p05", "p06", "p07"]
    assert all(f.detail.endswith("with status 403: Access Denied") for f in report.failures)
    assert len(report.failures) == 5


async def test_an_allow_list_refuses_with_401(simulator, mirror_of):
    """One 401 on a page that a repository manager's list leaves out is that page's alone, in every cycle."""
    index = await simulator(username="user", password="secret", allow_list=("p01", "p02"))
    publish(index, 4)
    mirror = mirror_of(index)
    with_password(mirror, "secret")
    for _ in range(3):
        report = await mirror.cycle()
        assert failures(report) == [("main", "p00", None, "denied"), ("main", "p03", None, "denied")]
        assert (mirror.exit_code, sorted(mirror.files())) == (5, ["p01", "p02"])
        assert "p00 is not on the allow list" in report.failures[0].detail


async def test_twenty_denied_files_cost_at_most_27_requests(simulator, mirror_of):
    """A denied file costs one request in a cycle by hand, its page none; the checks between them are few."""
    index = await simulator(serials=True)
    publish(index, 20, files=2)
    blocked = [f"p{n:02}-1.0-py3-none-any.whl" for n in range(20)]
    index.settings.blocked = tuple(blocked)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.take_requests()
    report = await mirror.cycle()
    asked = requests(index)
    assert len(asked) <= 27
    assert sorted(r[2] for r in asked if r[0] == "file") == blocked
    assert len(report.failures) == 20
    assert counters(report)["files_failed"] == 20


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
@pytest.mark.parametrize("what", ["file", "page"])
async def test_the_daemon_leaves_a_denied_item_alone(simulator, mirror_of, serials, what):
    """Until its delay has passed, a denied item costs the daemon no request, also where its page changes meanwhile."""
    index = await simulator(serials=serials)
    publish(index, 3)
    wheel = "p01-1.0-py3-none-any.whl"
    index.settings.blocked = (wheel if what == "file" else "p01",)
    mirror = mirror_of(index)
    await mirror.cycle(all_failures=False)
    await mirror.cycle(all_failures=False)  # a minute later it is due: its next delay is two minutes
    assert mirror.query("SELECT attempts FROM failure") == [(2,)]
    index.take_requests()

    mirror.clock.now -= 30
    index.state.publish("p01", *build_sdist("p01", "1.0"))
    report = await mirror.cycle(all_failures=False)

    asked = requests(index)
    denied = ("main", "p01", wheel if what == "file" else None, "denied")
    assert (failures(report), mirror.exit_code) == ([denied], 5)
    assert not [r for r in asked if r[:3] == (what, "p01", wheel if what == "file" else None)]
    assert ("p01" in mirror.files()) == (what == "file")

    index.settings.blocked = ()
    mirror.clock.now += DAY_S
    report = await mirror.cycle(all_failures=False)
    assert (failures(report), mirror.files()) == ([], offered(index))


async def test_a_wrong_password_behind_an_open_root(simulator, mirror_of):
    """A root that is open to all proves nothing: where no page is let out, exit 3 after few requests, as an index."""
    index = await simulator(username="user", password="right", open_root=True)
    publish(index, 90)
    mirror = mirror_of(index)
    with_password(mirror, "wrong")
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
    assert len(requests(index)) <= 27
    assert "PASSWORD" in next(f.detail for f in report.failures if f.project is None)
    with_password(mirror, "right")
    await mirror.cycle()
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_part_in_which_every_page_was_refused(simulator, mirror_of, count):
    """An index so small that twenty refusals never come is denied as well where each of its pages was refused."""
    index = await simulator(username="user", password="right", open_root=True)
    publish(index, count)
    mirror = mirror_of(index)
    with_password(mirror, "wrong")
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
    await mirror.cycle(dry_run=True)
    assert mirror.exit_code == 3


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"indexes": ("main",)}], ids=["whole", "dry-run", "index"])
async def test_a_credential_that_ended_behind_an_open_root(simulator, mirror_of, options):
    """The pages that were let out in an earlier cycle are refused too: exit 3, few requests, nothing is removed."""
    index = await simulator(username="user", password="first", open_root=True)
    publish(index, 50)
    mirror = mirror_of(index)
    with_password(mirror, "first")
    await mirror.cycle()
    before = mirror.files()
    index.settings.password = "second"
    index.take_requests()
    for _ in range(2):
        report = await mirror.cycle(**options)
        assert mirror.exit_code == 3
        assert len(index.take_requests()) <= 9
        assert mirror.files() == before
    assert ("main", None, None, "denied") in failures(report)


async def test_without_a_root_page(simulator, mirror_of):
    """With list = "config" the pages alone tell a refused item from a credential that ended."""
    index = await simulator(username="user", password="first", allow_list=("p00", "p02", "p03"))
    publish(index, 4)
    mirror = mirror_of(index)
    with_password(mirror, "first")
    mirror.configure("main", list="config", projects=("p00", "p01", "p02", "p03"))
    await mirror.cycle()
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([("main", "p01", None, "denied")], 5)
    assert sorted(mirror.files()) == ["p00", "p02", "p03"]
    index.settings.password = "second"
    index.take_requests()
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
    assert not [r for r in requests(index) if r[0] == "root"]
    assert sorted(mirror.files()) == ["p00", "p02", "p03"]


async def test_one_project_named_in_the_configuration(simulator, mirror_of):
    """Where the only page of an index is refused, with nothing else to ask for, the index denies us."""
    index = await simulator(username="user", password="first")
    publish(index, 1)
    mirror = mirror_of(index)
    with_password(mirror, "first")
    mirror.configure("main", list="config", projects=("p00",))
    await mirror.cycle()
    index.settings.password = "second"
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (3, offered(index))


@pytest.mark.parametrize("open_root", [True, False])
async def test_a_credential_that_ends_in_the_middle(simulator, mirror_of, open_root):
    """What was let out before is asked for again and refused: the part ends early, and what is finished stays."""
    index = await simulator(username="user", password="first", open_root=open_root)
    publish(index, 60)
    mirror = mirror_of(index)
    mirror.limits |= {"pages": 1, "downloads": 1, "max_connections": 1}
    with_password(mirror, "first")
    answer = index._origin.answer

    def ends(target, raw_path, headers):
        if target.project == "p20":
            index.settings.password = "second"
        return answer(target, raw_path, headers)

    index._origin.answer = ends
    report = await mirror.cycle()
    assert (report.outcome.value, mirror.exit_code) == ("aborted", 3)
    assert 0 < len(mirror.files()) <= 21
    assert index.count(status=401) <= 6
    index._origin.answer = answer
    index.settings.password = "first"
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusals_of_the_host_that_files_are_on(simulator, mirror_of, status):
    """However many files another host refuses, it says nothing of the index: each is a failure by itself."""
    index = await simulator(username="user", password="secret", second_origin=True)
    publish(index, 80)
    index.inject(Status(status=status, json={"message": "Request has expired"}), kind="store")
    mirror = mirror_of(index)
    with_password(mirror, "secret")
    report = await mirror.cycle()
    reason = "not-found" if status == 404 else "denied"
    assert (mirror.exit_code, len(report.failures)) == (5, 80)
    assert {f.reason.value for f in report.failures} == {reason}
    assert all("Request has expired" in f.detail and "credential" not in f.detail for f in report.failures)
    index.faults.clear()
    assert (await mirror.cycle()).failures == []


async def test_links_to_another_host_that_refuses(simulator, mirror_of):
    """Links of a page that lead to another host are no refusals of the index either."""
    index, other = await simulator(), await simulator(username="who", password="knows")
    for number in range(30):
        name, data = build_wheel(f"p{number:02}", "1.0")
        index.state.publish(f"p{number:02}", name, data, url=f"{other.url}../files/p{number:02}/{name}")
    mirror = mirror_of(index)
    report = await mirror.cycle()
    assert (mirror.exit_code, {f.reason.value for f in report.failures}) == (5, {"denied"})
    assert len(report.failures) == 30
    assert all("credential is needed" in f.detail and "host 127.0.0.1" in f.detail for f in report.failures)


async def test_a_narrowed_cycle(simulator, mirror_of):
    """A cycle over one refused project is judged by what the whole ones before it were let out."""
    index = await simulator(username="user", password="secret", allow_list=("p00", "p01"))
    publish(index, 3)
    mirror = mirror_of(index)
    with_password(mirror, "secret")
    await mirror.cycle()
    report = await mirror.cycle(projects=("p02",))
    assert (failures(report), mirror.exit_code) == ([("main", "p02", None, "denied")], 5)


async def test_a_state_of_an_older_version(simulator, mirror_of):
    """Where the state does not know what was let out last, the pages that it has read are asked for."""
    index = await simulator(username="user", password="secret", open_root=True)
    publish(index, 5)
    mirror = mirror_of(index)
    with_password(mirror, "secret")
    await mirror.cycle()
    with_no_memory(mirror)
    index.settings.allow_list = ("p03", "p04")
    report = await mirror.cycle()
    assert (mirror.exit_code, len(report.failures)) == (5, 3)
    with_no_memory(mirror)
    index.settings.password = "another"
    await mirror.cycle()
    assert mirror.exit_code == 3


def with_no_memory(mirror):
    import sqlite3

    with sqlite3.connect(mirror.root / "state.db") as connection:
        connection.execute("UPDATE source SET let_out = NULL")
    connection.close()
