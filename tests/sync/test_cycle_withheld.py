"""Withdrawals, which are no errors, and what an index withholds for other reasons."""

from __future__ import annotations

import pytest

from harness.in_process import counters, failures, offered, requests
from simulator import Corrupt, build_sdist, build_wheel, withheld

WHEEL = build_wheel("alpha", "1.0")
SDIST = build_sdist("alpha", "1.0")

SERIALS = pytest.mark.parametrize(
    "settings", [{}, {"serials": True}, {"formats": "html"}], ids=["etag", "serials", "html"]
)


def publish(simulator):
    simulator.state.publish("alpha", *WHEEL)
    simulator.state.publish("alpha", *SDIST)
    simulator.state.publish("beta", *build_wheel("beta", "1.0"))


@pytest.mark.parametrize("code", ["MALWARE_DETECTED", "POLICY_ORG_BLOCKLIST"])
@SERIALS
async def test_a_withdrawn_page_takes_its_files_off_at_once(simulator, mirror_of, settings, code):
    """409 with MALWARE_DETECTED or POLICY_ORG_BLOCKLIST empties the page in this cycle, without any failure."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.inject(withheld(code), kind="page", project="alpha")
    index.state.touch("alpha")

    report = await mirror.cycle()

    assert mirror.files() == {"alpha": {}, "beta": offered(index)["beta"]}
    assert mirror.page("alpha")["project-status"]["status"] == "quarantined"
    assert (report.outcome.value, failures(report), mirror.exit_code) == ("complete", [], 0)
    assert report.indexes["main"].files_removed == 2


@SERIALS
async def test_a_lifted_withdrawal_needs_no_download(simulator, mirror_of, settings):
    """When the page answers again as before, its files are back at once from their blobs."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.inject(withheld("MALWARE_DETECTED"), kind="page", project="alpha")
    index.state.touch("alpha")
    await mirror.cycle()
    held_back = mirror.footprint()
    again = await mirror.cycle()
    assert (mirror.footprint(), counters(again).get("files_removed", 0)) == (held_back, 0)
    index.faults.clear()

    report = await mirror.cycle()

    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (before, 0)
    assert mirror.page("alpha").get("project-status", {"status": "active"})["status"] == "active"


async def test_a_project_withdrawn_from_the_start_is_not_published(simulator, mirror_of):
    """A project that was never held and is withdrawn has no page; it joins when that is lifted."""
    index = await simulator()
    publish(index)
    index.inject(withheld("MALWARE_DETECTED"), kind="page", project="alpha")
    mirror = mirror_of(index)

    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.files(), failures(report)) == ({"beta": offered(index)["beta"]}, [])
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_a_withdrawn_project_leaves_nothing_in_the_ledger(simulator, mirror_of):
    """Files that had failed before are no failures while their project is withdrawn."""
    index = await simulator()
    publish(index)
    index.inject(Corrupt(), filename=SDIST[0])
    mirror = mirror_of(index)
    await mirror.cycle()
    index.faults.clear()
    index.inject(withheld("MALWARE_DETECTED"), kind="page", project="alpha")

    report = await mirror.cycle()

    assert (failures(report), mirror.exit_code) == ([], 0)
    index.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(index)


@pytest.mark.parametrize("code", ["POLICY_COOLDOWN", None, "SOMETHING_NEW"], ids=["cooldown", "no-reason", "unknown"])
async def test_a_page_withheld_otherwise_changes_nothing(simulator, mirror_of, code):
    """409 for a cooldown or without a reason is in the ledger as withheld; what is held stays, exit code 0."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.inject(withheld(code), kind="page", project="alpha")

    report = await mirror.cycle()

    assert mirror.footprint() == before
    assert (report.outcome.value, mirror.exit_code) == ("complete", 0)
    assert failures(report) == [("main", "alpha", None, "withheld")]
    index.faults.clear()
    assert failures(await mirror.cycle()) == []


async def test_a_held_file_is_not_asked_about_again(simulator, mirror_of):
    """409 on a file that is held changes nothing, since nobody asks for it."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.footprint()
    index.inject(withheld("MALWARE_DETECTED"), kind="file")
    index.take_requests()

    await mirror.cycle()

    assert mirror.footprint() == before
    assert [r for r in requests(index) if r[0] == "file"] == []


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@SERIALS
async def test_quarantine_and_its_lift(simulator, mirror_of, settings, listed):
    """A quarantined project loses its files at once, or by two looks where it vanishes from the root as well."""
    index = await simulator(**settings)
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    index.state.status("alpha", "quarantined", "malware", listed=listed)

    await mirror.cycle()
    if listed:
        assert mirror.files() == {"alpha": {}, "beta": before["beta"]}
        assert mirror.page("alpha")["project-status"] == {"status": "quarantined", "reason": "malware"}
    else:
        assert mirror.files() == before
        await mirror.cycle()
        assert mirror.files() == {"beta": before["beta"]}

    index.state.status("alpha", None, listed=True)
    report = await mirror.cycle()
    assert (mirror.files(), report.indexes["main"].bytes_downloaded) == (before, 0)


@pytest.mark.parametrize("status", ["archived", "deprecated"])
async def test_other_statuses_pass_through(simulator, mirror_of, status):
    """Archived and deprecated projects keep their files and carry the status."""
    index = await simulator()
    publish(index)
    mirror = mirror_of(index)
    await mirror.cycle()
    index.state.status("alpha", status, "old")

    await mirror.cycle()

    assert mirror.files() == offered(index)
    assert mirror.page("alpha")["project-status"] == {"status": status, "reason": "old"}
