"""An overlay adds its files to the projects of an earlier index, and never takes anything from them."""

from __future__ import annotations

import pytest

from harness.in_process import failures, offered, requests
from simulator import Corrupt, build_sdist, build_wheel, withheld

WHEEL = build_wheel("lib", "1.0")
SDIST = build_sdist("lib", "1.0")
PATCHED = build_wheel("lib", "1.0+cgr.1")

KINDS = pytest.mark.parametrize("settings", [{}, {"serials": True}], ids=["etag", "serials"])


async def overlaid(simulator, mirror_of, **settings):
    """Return owner, overlay and a mirror of both after its first cycle; the overlay lists a project of its own too."""
    owner, overlay = await simulator(**settings), await simulator(**settings)
    owner.state.publish("lib", *WHEEL)
    overlay.state.publish("lib", *PATCHED)
    overlay.state.publish("lib", *SDIST)
    overlay.state.publish("extra", *build_wheel("extra", "1.0"))
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)
    await mirror.cycle()
    return owner, overlay, mirror


@KINDS
async def test_an_overlay_joins_its_files_to_the_owners(simulator, mirror_of, settings):
    """The page has the files and versions of both; the owner's keys and status count; the next cycle idles."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    assert mirror.files() == offered(owner, overlay)
    assert sorted(mirror.page("lib")["versions"]) == ["1.0", "1.0+cgr.1"]
    before = mirror.footprint()
    owner.take_requests()
    overlay.take_requests()

    report = await mirror.cycle()

    assert mirror.footprint() == before
    assert failures(report) == []
    if settings:
        assert (len(owner.requests), len(overlay.requests)) == (1, 1)

    owner.state.status("lib", "archived")
    owner.state.create_project("lib", extra={"x-page": "owner"})
    overlay.state.create_project("lib", extra={"x-page": "overlay"}, status="deprecated")
    await mirror.cycle()
    page = mirror.page("lib")
    assert (page["x-page"], page["project-status"]["status"]) == ("owner", "archived")
    assert mirror.files() == offered(owner, overlay)


async def test_of_one_filename_the_earlier_index_wins(simulator, mirror_of):
    """The same filename in both is the owner's; the overlay's bytes are not even fetched."""
    owner, overlay = await simulator(), await simulator()
    owner.state.publish("lib", *WHEEL)
    overlay.state.publish("lib", WHEEL[0], b"other bytes")
    overlay.state.publish("lib", *PATCHED)
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)

    await mirror.cycle()

    assert mirror.files() == offered(owner, overlay)
    assert [r[2] for r in requests(overlay) if r[0] == "file"] == [PATCHED[0]]


@KINDS
async def test_the_owner_takes_over_a_filename_that_it_begins_to_list(simulator, mirror_of, settings):
    """A filename that the owner lists later is its own from then on, and the overlay's again when the owner drops it."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    owner.state.publish("lib", SDIST[0], b"the owner's bytes")

    await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)
    await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)

    owner.state.remove_file("lib", SDIST[0])
    for _ in range(3):
        report = await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)
    assert failures(report) == []


@pytest.mark.parametrize("fault", [Corrupt(), withheld("POLICY_COOLDOWN")], ids=["digest", "withheld"])
@KINDS
async def test_a_filename_is_the_owners_even_while_it_cannot_be_had(simulator, mirror_of, settings, fault):
    """A file that the owner lists and can't give leaves the page, rather than being the overlay's."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    owner.state.publish("lib", SDIST[0], b"the owner's bytes")
    owner.inject(fault, filename=SDIST[0])

    await mirror.cycle()
    assert set(mirror.files()["lib"]) == {WHEEL[0], PATCHED[0]}

    owner.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)


@KINDS
@pytest.mark.parametrize("how", ["quarantined", "409"])
async def test_an_owners_withdrawal_withdraws_all(simulator, mirror_of, settings, how):
    """When the owner withdraws a project, the overlay's files leave in the same cycle, and return with its lift."""
    owner, _, mirror = await overlaid(simulator, mirror_of, **settings)
    before = mirror.files()
    if how == "409":
        owner.inject(withheld("MALWARE_DETECTED"), kind="page", project="lib")
        owner.state.touch("lib")
    else:
        owner.state.status("lib", "quarantined")

    await mirror.cycle()
    assert mirror.files() == before | {"lib": {}}
    await mirror.cycle()
    assert mirror.files() == before | {"lib": {}}

    owner.faults.clear()
    owner.state.status("lib", None)
    for _ in range(2):
        report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (before, [])
    assert report.total("bytes_downloaded") == 0


async def test_an_overlays_withdrawal_is_its_own(simulator, mirror_of):
    """When the overlay withdraws a project, only its own files leave."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of)
    overlay.state.status("lib", "quarantined")

    await mirror.cycle()

    assert mirror.files()["lib"] == offered(owner)["lib"]
    assert mirror.page("lib").get("project-status", {"status": "active"})["status"] == "active"


@KINDS
async def test_the_owners_exclude_files_is_out_for_all(simulator, mirror_of, settings):
    """What the owner's exclude-files leaves out the overlay may not add; taken back, it is there again."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    owner.state.publish("lib", *build_wheel("lib", "3.0"))
    mirror.configure("owner", exclude_files=("*.tar.gz",))

    await mirror.cycle()
    assert set(mirror.files()["lib"]) == {WHEEL[0], PATCHED[0], build_wheel("lib", "3.0")[0]}

    mirror.configure("owner", exclude_files=())
    await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)


async def test_exclude_files_of_an_index_say_nothing_of_projects_that_it_does_not_list(simulator, mirror_of):
    """A project that only the overlay lists is judged by the overlay's patterns alone."""
    owner, overlay = await simulator(), await simulator()
    owner.state.publish("lib", *WHEEL)
    overlay.state.publish("lib", *SDIST)
    overlay.state.publish("extra", *build_sdist("extra", "1.0"))
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("owner", exclude_files=("*.tar.gz",))
    mirror.configure("overlay", overlay=True)

    await mirror.cycle()

    assert mirror.files() == {"lib": offered(owner)["lib"], "extra": offered(overlay)["extra"]}


async def test_what_the_owner_skips_by_url_is_unclaimed(simulator, mirror_of):
    """A file that the owner skips by its URL may come from the overlay."""
    owner, overlay = await simulator(), await simulator()
    owner.state.publish("lib", *WHEEL)
    owner.state.publish("lib", *SDIST, directory="python-upstream")
    overlay.state.publish("lib", SDIST[0], b"the overlay's bytes")
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)

    await mirror.cycle()

    assert mirror.files()["lib"] == {WHEEL[0]: offered(owner)["lib"][WHEEL[0]], **offered(overlay)["lib"]}


@KINDS
async def test_a_project_of_the_overlay_alone_is_owned_by_it(simulator, mirror_of, settings):
    """A project that no earlier index lists is the overlay's; the owner joins it without displacing other filenames."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    owner.state.publish("extra", *build_wheel("extra", "2.0"))

    report = await mirror.cycle()

    assert mirror.files() == offered(owner, overlay)
    assert failures(report) == []


@KINDS
async def test_removed_overlay_files_leave_by_two_looks(simulator, mirror_of, settings):
    """The overlay's own files follow the same rules of removal."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    before = mirror.files()
    overlay.state.remove_file("lib", SDIST[0])

    await mirror.cycle()
    assert mirror.files() == before
    await mirror.cycle()
    assert mirror.files() == offered(owner, overlay)


@KINDS
async def test_an_owner_that_loses_the_project_leaves_it_to_the_overlay(simulator, mirror_of, settings):
    """After two looks the owner's files are gone and the overlay's stay, as its own."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of, **settings)
    owner.state.publish("other", *build_wheel("other", "1.0"))
    owner.state.unlist_project("lib")
    await mirror.cycle()
    report = await mirror.cycle()

    assert mirror.files() == offered(overlay) | {"other": offered(owner)["other"]}
    assert failures(report) == []


async def test_overlay_switched_off(simulator, mirror_of):
    """Without overlay = true its files leave the projects that another index owns."""
    owner, overlay, mirror = await overlaid(simulator, mirror_of)
    mirror.configure("overlay", overlay=False)

    await mirror.cycle()

    assert mirror.files() == {"lib": offered(owner)["lib"], "extra": offered(overlay)["extra"]}


async def test_the_plan_of_an_overlay(simulator, mirror_of):
    """A plan takes each filename from one index only, as the cycle does."""
    owner, overlay = await simulator(), await simulator()
    owner.state.publish("lib", *WHEEL)
    overlay.state.publish("lib", WHEEL[0], b"other bytes")
    overlay.state.publish("lib", *PATCHED)
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)

    plan = await mirror.plan()

    assert {(i, f) for i, _, f, _ in plan} == {("owner", WHEEL[0]), ("overlay", PATCHED[0])}
