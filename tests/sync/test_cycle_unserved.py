"""What is missing without a failure is named: names that no index lists, and projects that nobody serves."""

from __future__ import annotations

import pytest

from harness.in_process import counters, failures
from simulator import Status, build_sdist, build_wheel, withheld

WHEEL = build_wheel("lib", "1.0")
PASSED = ("far-1.0.tar.gz", b"passed through")


def not_served(report):
    return [(one.index, one.project, one.detail) for one in report.not_served]


async def chain(simulator, mirror_of, **options):
    """Return a first index that passes ``far`` through and a second one that has it, with a mirror of both."""
    first, second = await simulator(), await simulator()
    first.state.publish("lib", *WHEEL)
    first.state.publish("far", *PASSED, directory="python-upstream")
    second.state.publish("far", *PASSED)
    mirror = mirror_of(chainguard=first, pypi=second)
    mirror.configure("chainguard", **options)
    return first, second, mirror


DETAIL = "chainguard lists it, all its files are left out, pypi may not own it"


async def test_a_project_of_which_all_files_are_left_out_is_not_served(simulator, mirror_of):
    """It is named and no failure: the cycle is complete, also the next one, in which nothing changed."""
    _, _, mirror = await chain(simulator, mirror_of)
    for _ in range(2):
        report = await mirror.cycle()
        assert not_served(report) == [("chainguard", "far", DETAIL)]
        assert (report.outcome.value, failures(report), mirror.exit_code) == ("complete", [], 0)
    assert report.as_json()["not_served"] == [{"index": "chainguard", "project": "far", "detail": DETAIL}]


async def test_a_project_that_is_named_literally_and_not_served_is_a_failure(simulator, mirror_of):
    """The configuration names it: partial, exit code 5; it is in both lists."""
    _, _, mirror = await chain(simulator, mirror_of, projects=("Far", "lib"))
    report = await mirror.cycle()
    assert not_served(report) == [("chainguard", "far", DETAIL)]
    assert failures(report) == [("chainguard", "far", None, "not-served")]
    assert (report.outcome.value, mirror.exit_code) == ("partial", 5)
    assert counters(report, "chainguard")["files_skipped"] == 1


async def test_a_project_is_served_again_when_an_overlay_adds_it_or_the_rule_goes(simulator, mirror_of):
    """Each way out ends the notice; the way back brings it again."""
    first, _, mirror = await chain(simulator, mirror_of, projects=("far", "lib"))
    await mirror.cycle()
    mirror.configure("pypi", overlay=True)
    report = await mirror.cycle()
    assert (not_served(report), failures(report), mirror.exit_code) == ([], [], 0)
    assert PASSED[0] in mirror.files()["far"]

    mirror.configure("pypi", overlay=False)
    report = await mirror.cycle(allow_shrink=True)
    report = await mirror.cycle(allow_shrink=True)
    assert failures(report) == [("chainguard", "far", None, "not-served")]

    mirror.configure("chainguard", skip_url_patterns=())
    report = await mirror.cycle()
    assert (not_served(report), failures(report)) == ([], [])
    assert first.state.projects["far"].listed


async def test_a_project_that_fails_or_is_withheld_is_not_called_not_served(simulator, mirror_of):
    """Beside a left-out file a failing one says all; an index without any file lists nothing to serve."""
    first, _, mirror = await chain(simulator, mirror_of)
    first.state.publish("far", *build_wheel("far", "2.0"))
    first.state.create_project("empty")
    first.inject(withheld("POLICY_COOLDOWN"), filename=build_wheel("far", "2.0")[0])
    report = await mirror.cycle()
    assert not_served(report) == []


async def test_names_that_no_index_lists_are_not_offered(simulator, mirror_of):
    """Literal projects and files: partial, exit code 5; patterns that match nothing are no names."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    index.state.publish("lib", *build_sdist("lib", "1.0"))
    mirror = mirror_of(index)
    mirror.configure(
        "main",
        projects=("lib", "Typ.O", "nothing-*", "left"),
        exclude_projects=("left",),
        files=("*.whl", "lib-9.9.tar.gz", "lib-1.0.tar.gz", "typ_o-1.0-py3-none-any.whl", "odd.bin"),
        exclude_files=("lib-1.0.tar.gz",),
    )
    for _ in range(2):
        report = await mirror.cycle()
        assert failures(report) == [
            ("main", None, "odd.bin", "not-offered"),
            ("main", "lib", "lib-9.9.tar.gz", "not-offered"),
            ("main", "typ-o", None, "not-offered"),
            ("main", "typ-o", "typ_o-1.0-py3-none-any.whl", "not-offered"),
        ]
        assert (report.outcome.value, mirror.exit_code) == ("partial", 5)

    index.state.publish("typ-o", *build_wheel("typ-o", "1.0"))
    index.state.publish("lib", "lib-9.9.tar.gz", build_sdist("lib", "9.9")[1])
    mirror.configure("main", files=("*.whl", "lib-9.9.tar.gz", "typ_o-1.0-py3-none-any.whl"))
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)


async def test_a_literal_file_that_an_address_leaves_out_is_not_served(simulator, mirror_of):
    """The page lists it, the rule is named; the project itself is served."""
    first, _, mirror = await chain(simulator, mirror_of, files=("*.whl", "far-1.0.tar.gz"))
    first.state.publish("far", *build_wheel("far", "2.0"))
    report = await mirror.cycle()
    assert failures(report) == [("chainguard", "far", "far-1.0.tar.gz", "not-served")]
    assert not_served(report) == []
    assert report.failures[0].detail.endswith("chainguard lists it, and skip-url-patterns leaves it out")


async def test_a_later_index_may_offer_the_name(simulator, mirror_of):
    """A name that only another index lists is offered; its owner's page decides about the file."""
    first, second, mirror = await chain(simulator, mirror_of, projects=("lib", "only"), files=("*", "only-1.0.tar.gz"))
    second.state.publish("only", *build_sdist("only", "1.0"))
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code) == ([], 0)
    assert first.state.projects.keys() == {"lib", "far"}


@pytest.mark.parametrize("ever_read", [True, False], ids=["known", "never-read"])
async def test_an_index_that_does_not_answer_makes_nothing_not_offered(simulator, mirror_of, ever_read):
    """Where a root was never read nobody knows; where it was, the last good one counts."""
    first, second, mirror = await chain(simulator, mirror_of)
    second.state.publish("only", *build_sdist("only", "1.0"))
    mirror.configure("chainguard", projects=("lib", "only", "typo"))
    if ever_read:
        await mirror.cycle()
    second.inject(Status(status=503), kind="root")
    report = await mirror.cycle()
    missing = [f for f in failures(report) if f[3] == "not-offered"]
    assert missing == ([("chainguard", "typo", None, "not-offered")] if ever_read else [])
    assert first.state.projects


async def test_a_plan_says_which_names_are_not_offered(simulator, mirror_of):
    """Before the first cycle --dry-run warns of a misspelt project."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    mirror = mirror_of(index)
    mirror.configure("main", projects=("lib", "typo"))
    report = await mirror.cycle(dry_run=True)
    assert failures(report) == [("main", "typo", None, "not-offered")]


async def test_a_narrowed_cycle_judges_nothing_anew(simulator, mirror_of):
    """What a whole cycle has found stays in the report of a narrowed one."""
    index = await simulator()
    index.state.publish("lib", *WHEEL)
    mirror = mirror_of(index)
    mirror.configure("main", projects=("lib", "typo"))
    await mirror.cycle()
    report = await mirror.cycle(projects=("lib",))
    assert failures(report) == [("main", "typo", None, "not-offered")]
