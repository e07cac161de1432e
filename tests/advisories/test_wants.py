"""Advisories and wants: what a want takes instead, its gaps, and when it is resolved again."""

from __future__ import annotations

import pytest

from harness.advisories import Database, osv
from harness.wants import WantingMirror, add


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "osv")


@pytest.fixture
async def index(simulator):
    return await simulator(core_metadata=True, serials=True)


@pytest.fixture
def mirror(tmp_path, index, database):
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    mirror.rules = {"exclude_vulnerable": "high", "advisories": database.folder}
    return mirror


def vulnerable(report):
    return [(one["filename"], one["fixed"], one["fixed_held"]) for one in report.as_json()["vulnerable"]]


async def test_a_want_takes_a_version_that_nothing_names(index, mirror, database):
    """A vulnerable version is no candidate; a new database that lifts it has the want resolved again, any other does not."""
    add(index, "app", "1.0")
    newer = add(index, "app", "2.0")
    database.add(osv("GHSA-a", "app", versions=["2.0"], severity="HIGH"))
    mirror.want("app")
    await mirror.cycle()
    assert (mirror.names(), mirror.exit_code) == ({"app-1.0-py3-none-any.whl"}, 0)
    resolved = mirror.query("SELECT cycle FROM resolution")
    database.add(osv("GHSA-b", "other-9", versions=["1.0"], severity="HIGH"))
    database.add(osv("GHSA-a", "app", versions=["2.0", "3.0"], severity="HIGH"))
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.query("SELECT cycle FROM resolution") == resolved
    database.add(osv("GHSA-a", "app", versions=["2.0"], severity="LOW"))
    await mirror.cycle()
    assert newer in mirror.names()


async def test_a_pin_on_a_vulnerable_version_is_a_gap(index, mirror, database):
    """Nobody's fault: the cycle is complete, `check` names the rule, the report the file, until nothing names it."""
    pinned = add(index, "app", "1.0")
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    mirror.want("app==1.0")
    report = await mirror.proved_cycle()
    assert (mirror.names(), mirror.exit_code) == (set(), 0)
    [gap] = report.wants[0]["gaps"]
    assert (gap["project"], gap["reason"]) == ("app", "vulnerable")
    assert vulnerable(report) == [(pinned, "2.0", False)]
    database.add(osv("GHSA-a", "app", fixed="1.0", severity="HIGH"))
    report = await mirror.proved_cycle()
    assert (mirror.names(), vulnerable(report)) == ({pinned}, [])


async def test_a_held_version_that_a_want_needs_stays_and_is_named(index, mirror, database):
    """The proof holds; the report and the proof name the file and its fixed version. Malware leaves, and another comes."""
    held = add(index, "app", "1.0")
    mirror.want("app<2")
    await mirror.cycle()
    database.add(osv("GHSA-a", "app", fixed="2.0", severity="HIGH"))
    report = await mirror.proved_cycle()
    assert (mirror.names(), mirror.exit_code) == ({held}, 0)
    assert vulnerable(report) == [(held, "2.0", False)]
    [proof] = report.wants
    assert proof["installable"]
    assert [one["filename"] for one in proof["vulnerable"]] == [held]
    other = add(index, "app", "0.9")
    database.add(osv("MAL-1", "app", versions=["1.0"]))
    mirror.rules["exclude_vulnerable"] = "malicious"
    report = await mirror.proved_cycle()
    assert (mirror.names(), mirror.exit_code) == ({other}, 0)
