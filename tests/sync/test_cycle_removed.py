"""Files and projects that vanish: two looks, and what does not count as one."""

from __future__ import annotations

import pytest

from harness.in_process import counters, offered, requests
from simulator import Page, Status, build_sdist, build_wheel, unavailable

WHEEL = build_wheel("alpha", "1.0")
SDIST = build_sdist("alpha", "1.0")


def publish(simulator):
    simulator.state.publish("alpha", *WHEEL)
    simulator.state.publish("alpha", *SDIST)
    simulator.state.publish("beta", *build_wheel("beta", "1.0"))


SERVERS = pytest.mark.parametrize(
    "settings",
    [{}, {"serials": True}, {"validators": "none"}, {"validators": "last-modified"}, {"formats": "html"}],
    ids=["etag", "serials", "digest", "last-modified", "html"],
)


@SERVERS
async def test_a_removed_file_leaves_after_two_looks(simulator, mirror_of, settings):
    """A file that is missing stays for one look and leaves in the second, also when that one is confirmed unchanged."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.remove_file("alpha", SDIST[0])

    first = await mirror.cycle()
    assert mirror.files() == before
    assert (first.outcome.value, first.indexes["main"].files_absent, first.indexes["main"].files_removed) == (
        "complete",
        1,
        0,
    )

    second = await mirror.cycle()
    assert mirror.files() == offered(index)
    assert (second.indexes["main"].files_absent, second.indexes["main"].files_removed) == (0, 1)
    index.take_requests()

    third = await mirror.cycle()
    assert counters(third).get("files_removed", 0) == 0
    if settings.get("serials"):
        assert len(requests(index)) == 1


@SERVERS
async def test_a_file_that_comes_back_between_looks_stays(simulator, mirror_of, settings):
    """A file that is listed again at the second look was never away; a later absence starts from the first look."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.remove_file("alpha", SDIST[0])
    await mirror.cycle()
    index.state.publish("alpha", *SDIST)
    index.take_requests()

    report = await mirror.cycle()
    assert (mirror.files(), report.indexes["main"].files_absent) == (before, 0)
    assert [r for r in requests(index) if r[0] == "file"] == []

    index.state.remove_file("alpha", SDIST[0])
    await mirror.cycle()
    assert mirror.files() == before
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_removed_file_that_comes_back_needs_no_download(simulator, mirror_of):
    """A file that returns after its removal is published from its blob, as long as that is kept."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("alpha", SDIST[0])
    await mirror.cycle()
    await mirror.cycle()
    index.state.publish("alpha", *SDIST)
    plan = await mirror.plan()

    report = await mirror.cycle()

    assert plan == [("main", "alpha", SDIST[0], "relabel")]
    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (offered(index), 0)


@pytest.mark.parametrize(
    "fault",
    [
        Status(status=403),
        Status(status=404),
        Status(status=410),
        unavailable(503, retry_after="3600"),
        Page(body=b"<html><form><input type='password'></form></html>"),
        Page(body=b"{", content_type="application/json"),
    ],
    ids=["403", "404", "410", "503", "login", "broken"],
)
async def test_a_failed_look_counts_for_nothing(simulator, mirror_of, fault):
    """A page that can't be had neither removes anything nor counts as the second look."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.remove_file("alpha", SDIST[0])
    await mirror.cycle()

    index.inject(fault, kind="page", project="alpha")
    report = await mirror.cycle()
    assert (mirror.files(), report.outcome.value, mirror.exit_code) == (before, "partial", 5)
    assert report.indexes["main"].files_absent == 1

    index.faults.clear()
    report = await mirror.cycle()
    assert (mirror.files(), report.outcome.value) == (offered(index), "complete")


async def test_all_files_of_a_project_gone(simulator, mirror_of):
    """A project that is listed without files keeps a page without files."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.remove_file("beta", build_wheel("beta", "1.0")[0])
    await mirror.cycle()
    await mirror.cycle()

    assert mirror.files() == offered(index) | {"beta": {}}


@pytest.mark.parametrize("still_answers", [True, False], ids=["page-stays", "page-404"])
@SERVERS
async def test_a_removed_project_leaves_after_two_looks_at_the_root(simulator, mirror_of, settings, still_answers):
    """A project that the root no longer lists leaves in the second look; its page is not asked for meanwhile."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    if still_answers:
        index.state.unlist_project("beta")
    else:
        index.state.delete_project("beta")
    index.take_requests()

    first = await mirror.cycle()
    assert mirror.files() == before
    assert (first.indexes["main"].files_absent, first.indexes["main"].files_removed) == (1, 0)

    report = await mirror.cycle()
    assert mirror.files() == offered(index)
    assert not (mirror.root / "public/simple/beta").exists()
    assert (report.indexes["main"].projects_removed, report.indexes["main"].files_removed) == (1, 1)
    assert report.indexes["main"].files_absent == 0
    assert [r for r in requests(index) if r[1] == "beta"] == []


async def test_a_project_that_was_never_published_is_not_counted_as_removed(simulator, mirror_of):
    """What leaves the listing and never had a page here takes nothing away, so no counter says that it did."""
    index = await simulator()
    publish(index)
    index.inject(Status(status=404), kind="page", project="beta")
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.unlist_project("beta")

    for _ in range(2):
        report = await mirror.cycle()
    assert (report.indexes["main"].projects_removed, report.indexes["main"].files_removed) == (0, 0)
    assert (mirror.ledger(), mirror.exit_code) == ([], 0)


async def test_a_project_that_comes_back_between_looks_stays(simulator, mirror_of):
    """A project that is listed again at the second look stays, and nothing is downloaded."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.unlist_project("beta")
    await mirror.cycle()
    index.state.relist("beta")
    await mirror.cycle()
    index.state.unlist_project("beta")
    await mirror.cycle()

    assert mirror.files() == before
    await mirror.cycle()
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("serials", [True, False], ids=["serials", "no-serials"])
async def test_a_removed_project_that_comes_back_needs_no_download(simulator, mirror_of, serials):
    """A project that returns after its removal is published again from its blobs, though its page is the same."""
    index = await simulator(serials=serials)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.unlist_project("beta")
    await mirror.cycle()
    await mirror.cycle()
    index.state.relist("beta")

    report = await mirror.cycle()

    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (before, 0)


async def test_a_failed_root_counts_for_no_look(simulator, mirror_of):
    """An empty root, a login page, an error: nothing of it removes a project or counts as a look."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.unlist_project("beta")
    await mirror.cycle()
    empty = b'{"meta": {"api-version": "1.0"}, "projects": []}'
    for fault in (Page(body=empty, content_type="application/json"), Status(status=404), Status(status=403)):
        index.inject(fault, kind="root")
        await mirror.cycle()
        assert mirror.files() == before
        index.faults.clear()

    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_listed_file_that_is_broken_is_not_absent(simulator, mirror_of):
    """A held file whose listing becomes unusable is refused in the ledger; it is not missing, and stays."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.change("alpha", SDIST[0], url="ftp://elsewhere.example/alpha-1.0.tar.gz")
    for _ in range(3):
        report = await mirror.cycle(full=True)

    assert (mirror.files(), report.indexes["main"].files_absent) == (before, 0)
    assert mirror.ledger() == [("main", "alpha", SDIST[0], "unsafe-name")]
    assert mirror.exit_code == 5
