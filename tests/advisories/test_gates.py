"""Withdrawn files beyond the pages: snapshots, channels, sites, served addresses, status and the web page."""

from __future__ import annotations

import re

import anyio
import msgspec
import pytest

from harness.advisories import Database, osv
from harness.bundles import SITE, Gap
from harness.snapshots import opened, snapshot
from mirror.cli.words.explain import describe_project
from mirror.errors import StillWithdrawn
from mirror.exit_codes import exit_code_for
from mirror.serve.api.objects import StatusAdvisories
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.tree_pages import NameList
from mirror.serve.people.views import Site, project_page
from mirror.serve.state_warning import StateWarning
from mirror.state.advisories.vulnerable import load_advice_words
from mirror.state.listing.sources import load_sources
from mirror.state.readers.lookup import load_project
from mirror.state.shown.served import BlobState, Verdict
from mirror.status.loading import load_status
from mirror.status.objects import status_object
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree
from mirror.upkeep import snapshot as work
from simulator import build_wheel

FILE = "alpha-1.0-py3-none-any.whl"


@pytest.fixture
def gap(tmp_path, threaded_simulator):
    """Two projects, mirrored once by the rule; a site that nobody signs for."""
    gap = Gap(tmp_path, threaded_simulator(), None)
    for name in ("alpha", "beta"):
        gap.upstream.state.publish(name, *build_wheel(name, "1.0"))
    gap.database = Database(tmp_path / "osv")
    gap.mirror.rules = {"exclude_vulnerable": "malicious", "advisories": gap.database.folder}
    gap.cycle()
    return gap


def run(function, *arguments, **options):
    """Run a coroutine function with the mirror's holdings."""

    async def inside():
        async with opened(options.pop("mirror")) as holdings:
            return await function(holdings, *arguments, **options)

    return anyio.run(inside)


def withdrawn(gap):
    """Return what the report of a cycle says of withdrawn files."""
    report = anyio.run(gap.mirror.cycle)
    return report.as_json()["withdrawn"]


def explained(gap, name):
    """Return the lines of `mirror explain` about wheels."""

    async def inside():
        async with opened(gap.mirror) as holdings:
            store = holdings.store
            project = await load_project(store, await load_sources(store), [], name)
            advice = await load_advice_words(store, name, project.advised_names())
            return describe_project(project, {}, advice)

    return [line for line in anyio.run(inside) if ".whl" in line]


def test_a_file_in_cooldown_shows_its_advisories_too(gap):
    """The first rule by its key alone, until when, and what would keep it out after that: nothing below the level."""
    gap.database.add(osv("MAL-1", "alpha"))
    gap.database.add(osv("GHSA-x", "alpha", fixed="3.0", severity="HIGH"))
    gap.upstream.state.publish("alpha", *build_wheel("alpha", "2.0"), upload_time=None)
    gap.mirror.rules["min_age_s"] = 7 * 86400.0
    withdrawn(gap)
    [line] = [line for line in explained(gap, "alpha") if "2.0" in line]
    assert re.search(r"min-age of main, until [^:]*:\S*: malicious, MAL-1$", line), line
    assert re.search(r"min-age, until [^<]*: malicious, MAL-1\s*<", project_page_of(gap, "alpha"))
    gap.mirror.rules["exclude_vulnerable"] = "high"
    withdrawn(gap)
    assert "until" in explained(gap, "alpha")[-1]
    assert explained(gap, "alpha")[-1].endswith(": malicious, GHSA-x, MAL-1")
    gap.mirror.rules["ignore_advisories"] = ("mal-1", "ghsa-x")
    withdrawn(gap)
    assert re.search(r"min-age of main, until [^:]*:\S*$", explained(gap, "alpha")[-1])


def project_page_of(gap, name):
    """Return a project's page for people."""
    layout = Layout(gap.mirror.root)
    reading = Reading(gap.mirror.root / "state.db", ServedTree(layout), StateWarning())
    site = Site(config=gap.config, layout=layout, names=NameList())
    page = project_page(reading, site, name, None).body.decode()
    reading.close()
    return page


@pytest.mark.parametrize("by", ["advisory", "index"])
def test_what_still_has_a_withdrawn_file_is_named_and_gated(gap, by):
    """Whoever withdrew it: each snapshot, channel and site is named, and is promoted or sent by a person's word only."""
    anyio.run(snapshot, gap.mirror, "january")
    run(work.promote, "january", "stable", mirror=gap.mirror)
    gap.create()
    if by == "advisory":
        gap.database.add(osv("MAL-1", "alpha"))
    else:
        gap.upstream.state.status("alpha", "quarantined", "malware")
    [shown] = withdrawn(gap)
    assert shown == {
        "project": "alpha",
        "filename": FILE,
        "snapshots": ("january",),
        "channels": ("stable",),
        "sites": (SITE,),
    }
    assert list(gap.mirror.files()["beta"]) == ["beta-1.0-py3-none-any.whl"]
    with pytest.raises(StillWithdrawn, match=FILE) as refused:
        run(work.promote, "january", "next", mirror=gap.mirror)
    assert int(exit_code_for(refused.value)) == 7
    run(work.promote, "january", "next", mirror=gap.mirror, accepts_withdrawn=True)
    with pytest.raises(StillWithdrawn, match="january"):
        gap.create(snapshot="january")
    assert gap.create(snapshot="january", accepts_withdrawn=True)["outcome"] in {"made", "nothing"}
    anyio.run(snapshot, gap.mirror, "february")
    run(work.promote, "february", "stable", mirror=gap.mirror)
    assert gap.create()["outcome"] == "made"


def test_a_withdrawn_file_is_served_nowhere_and_shown_as_withdrawn(gap):
    """Its blob stays aside, unserved; status counts it, and the project's page names the advisory."""
    root = gap.mirror.root
    sha256 = gap.mirror.files()["alpha"][FILE]
    judge = BlobState(root / "state.db").judge
    assert judge(sha256, FILE) is Verdict.SERVED
    gap.database.add(osv("MAL-1", "alpha"))
    gap.database.add(osv("GHSA-x", "beta", fixed="2.0", severity="HIGH"))
    gap.mirror.rules["exclude_vulnerable"] = "all"
    withdrawn(gap)
    assert judge(sha256, FILE) is Verdict.WITHDRAWN
    assert explained(gap, "alpha") == [f"  {FILE}: exclude-vulnerable of main: malicious, MAL-1"]
    [line] = explained(gap, "beta")
    assert line.endswith("B): vulnerable: high, GHSA-x; fixed in 2.0, which is not held")
    page = project_page_of(gap, "alpha")
    assert "exclude-vulnerable: malicious, MAL-1" in page
    assert f'<strong>{FILE}</strong> <span class="tag bad">withdrawn</span>' in page
    assert "MAL-1" in page
    page = project_page_of(gap, "beta")
    assert '<span class="tag bad">high</span> GHSA-x' in page
    assert "Fixed in 2.0, which is not here." in page

    async def status():
        async with opened(gap.mirror) as holdings:
            return status_object(await load_status(holdings.store, gap.config, max_failures=5))

    shown = anyio.run(status)["advisories"]
    assert msgspec.to_builtins(msgspec.convert(shown, StatusAdvisories)) == shown
    assert shown["date"] == "2026-06-01T00:00:00Z"
    assert (shown["taken"], shown["vulnerable"], shown["withdrawn"]) == (True, 1, 1)
    gap.database.add(osv("MAL-1", "alpha", withdrawn="2026-07-01T00:00:00Z"))
    withdrawn(gap)
    assert judge(sha256, FILE) is Verdict.SERVED


def test_a_repair_does_not_send_a_withdrawn_file_again(gap):
    """The far side lost the file, and later the near side withdrew it: it is named as not mended."""
    gap.carry()
    path = next((gap.far / "public/files").rglob(FILE))
    path.unlink()
    assert gap.check()[0] == 7
    gap.database.add(osv("MAL-1", "alpha"))
    withdrawn(gap)
    report = gap.create(repair=gap.work / "damage.json")
    assert (report["outcome"], len(report["not_mended"])) == ("nothing", 1)
    report = gap.create(repair=gap.work / "damage.json", accepts_withdrawn=True)
    assert (report["outcome"], report["not_mended"]) == ("made", [])
