"""The brake: too many files that would leave at once are held back, and a person decides."""

from __future__ import annotations

import pytest

from harness.in_process import DAY_S, Mirror, failures, offered
from harness.older_state import downgrade
from simulator import Page, build_wheel, unavailable

NOTHING = Page(
    body=b'{"meta": {"api-version": "1.1"}, "projects": []}', content_type="application/vnd.pypi.simple.v1+json"
)


def wheels(number):
    return [build_wheel("alpha", f"{n}.0") for n in range(number)]


async def mirrored(simulator, mirror_of, number=20, **settings) -> tuple:
    index = await simulator(**settings)
    for wheel in wheels(number):
        index.state.publish("alpha", *wheel)
    index.state.publish("keeper", *build_wheel("keeper", "1.0"))
    mirror: Mirror = mirror_of(index)
    await mirror.cycle()
    mirror.clock.advance(2 * DAY_S)
    return index, mirror


def remove(index, start, stop):
    for name, _ in wheels(stop)[start:]:
        index.state.remove_file("alpha", name)


@pytest.mark.parametrize("settings", [{}, {"serials": True}], ids=["etag", "serials"])
async def test_too_many_absent_files_are_held_back_until_a_person_allows_it(simulator, mirror_of, settings):
    """Six of 21 files absent twice stay, the cycle is partial with reason shrink; --allow-shrink lets them go."""
    index, mirror = await mirrored(simulator, mirror_of, **settings)
    before = mirror.files()
    remove(index, 0, 6)
    await mirror.cycle()
    index.state.publish("keeper", *build_wheel("keeper", "2.0"))

    for _ in range(3):
        report = await mirror.cycle()
        assert mirror.files() == before | {"keeper": offered(index)["keeper"]}
        assert (report.outcome.value, mirror.exit_code, failures(report)) == (
            "partial",
            4,
            [("main", None, None, "shrink")],
        )
        (failure,) = report.failures
        assert "6 of 21 files would leave the pages" in failure.detail
        assert "max-shrink = 0.1 allows: 6 absent in two looks (alpha)" in failure.detail
        assert "--allow-shrink" in failure.detail

    report = await mirror.cycle(allow_shrink=True)
    assert (mirror.files(), report.indexes["main"].files_removed) == (offered(index), 6)
    assert (report.outcome.value, failures(report), mirror.exit_code) == ("complete", [], 0)


async def test_five_files_may_always_leave(simulator, mirror_of):
    """Up to five files leave without a question, however small the mirror is."""
    index, mirror = await mirrored(simulator, mirror_of, number=5)
    remove(index, 0, 5)
    await mirror.cycle()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index) | {"alpha": {}}, [])


async def test_the_brake_counts_what_left_within_a_day(simulator, mirror_of):
    """Files leaving bit by bit within 24 hours add up; after a day the count begins anew."""
    index, mirror = await mirrored(simulator, mirror_of)
    remove(index, 0, 4)
    await mirror.cycle()
    await mirror.cycle()
    remove(index, 4, 8)
    await mirror.cycle()
    report = await mirror.cycle()
    assert failures(report) == [("main", None, None, "shrink")]
    assert len(mirror.files()["alpha"]) == 16

    mirror.clock.advance(DAY_S + 1)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])


@pytest.mark.parametrize("how", ["narrowed", "unreachable"])
async def test_lifting_the_brake_of_one_index_leaves_that_of_another(simulator, mirror_of, how):
    """The window begins anew only for an index that took part in the cycle in which a person lifted the brake."""
    first, second = await simulator(), await simulator()
    for wheel in wheels(20):
        first.state.publish("alpha", *wheel)
    for number in range(20):
        second.state.publish("beta", *build_wheel("beta", f"{number}.0"))
    mirror: Mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    mirror.clock.advance(2 * DAY_S)
    remove(first, 0, 5)
    await mirror.cycle()
    await mirror.cycle()
    assert len(mirror.files()["alpha"]) == 15

    for number in range(5):
        second.state.remove_file("beta", build_wheel("beta", f"{number}.0")[0])
    await mirror.cycle(indexes=("second",))
    if how == "unreachable":
        first.inject(unavailable(404), kind="root")
    await mirror.cycle(allow_shrink=True, indexes=("second",) if how == "narrowed" else ())
    assert len(mirror.files()["beta"]) == 15
    first.faults.clear()
    remove(first, 5, 8)
    await mirror.cycle()
    report = await mirror.cycle()

    assert failures(report) == [("first", None, None, "shrink")]
    assert len(mirror.files()["alpha"]) == 15

    await mirror.cycle(allow_shrink=True, indexes=("first",))
    remove(first, 8, 12)
    await mirror.cycle()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(first, second), [])


async def test_an_older_state_knows_when_the_brake_was_lifted(simulator, mirror_of):
    """A state of an earlier version noted the cycle only: it counts for every index of that time."""
    index, mirror = await mirrored(simulator, mirror_of)
    remove(index, 0, 8)
    await mirror.cycle()
    await mirror.cycle(allow_shrink=True)
    downgrade(mirror.root / "state.db", 2)
    remove(index, 8, 12)
    await mirror.cycle()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])


async def test_max_shrink_is_configured(simulator, mirror_of):
    """A larger max-shrink lets more leave."""
    index, mirror = await mirrored(simulator, mirror_of)
    mirror.settings["max_shrink"] = 0.5
    remove(index, 0, 10)
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == offered(index)


async def test_an_index_has_a_brake_of_its_own(simulator, mirror_of):
    """A nightly index that says max-shrink = 1 lists other files in each cycle; the other index keeps its brake."""
    nightly, stable = await simulator(), await simulator()
    for number, wheel in enumerate(wheels(10)):
        nightly.state.publish("night", *build_wheel("night", f"1.{number}"))
        stable.state.publish("alpha", *wheel)
    mirror = mirror_of(nightly=nightly, stable=stable)
    mirror.configure("nightly", max_shrink=1.0)
    await mirror.cycle()
    for night in range(2, 5):
        for name in list(nightly.state.projects["night"].files):
            nightly.state.remove_file("night", name)
        for number in range(10):
            nightly.state.publish("night", *build_wheel("night", f"{night}.{number}"))
        await mirror.cycle()
        report = await mirror.cycle()
        assert (failures(report), mirror.files()["night"]) == ([], offered(nightly)["night"])

    remove(stable, 0, 8)
    await mirror.cycle()
    report = await mirror.cycle()
    assert failures(report) == [("stable", None, None, "shrink")]


async def test_without_a_brake_two_looks_and_the_empty_root_still_hold(simulator, mirror_of):
    """An index with max-shrink = 1 is believed neither after one look nor with an empty root."""
    index, mirror = await mirrored(simulator, mirror_of)
    mirror.configure("main", max_shrink=1.0)
    before = mirror.files()
    index.inject(NOTHING, kind="root")
    for _ in range(2):
        await mirror.cycle()
        assert (mirror.files(), mirror.exit_code) == (before, 4)
    index.faults.clear()
    remove(index, 0, 12)
    await mirror.cycle()
    assert mirror.files() == before
    await mirror.cycle()
    assert mirror.files() == offered(index)


@pytest.mark.parametrize(
    "change",
    [
        {"exclude_files": ("alpha*",)},
        {"exclude_projects": ("alpha",)},
        {"projects": ("keeper",)},
        {"skip_url_patterns": ("*/alpha-*",)},
    ],
    ids=["exclude-files", "exclude-projects", "projects", "skip-url-patterns"],
)
async def test_the_configuration_obeys_the_brake(simulator, mirror_of, change):
    """A pattern that would empty the mirror is held back as well; taken back, all is as before."""
    _, mirror = await mirrored(simulator, mirror_of, serials=True)
    before, pages = mirror.files(), mirror.footprint()
    old = {key: getattr(mirror.config.indexes[0], key) for key in change}
    mirror.configure("main", **change)

    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.files(), mirror.footprint()) == (before, pages)
        assert (mirror.exit_code, failures(report)) == (4, [("main", None, None, "shrink")])

    mirror.configure("main", **old)
    report = await mirror.cycle()
    assert (mirror.files(), failures(report), mirror.exit_code) == (before, [], 0)

    mirror.configure("main", **change)
    await mirror.cycle(allow_shrink=True)
    assert {p: f for p, f in mirror.files().items() if f} == {"keeper": before["keeper"]}


@pytest.mark.parametrize("kind", ["removed", "quarantined"])
async def test_projects_obey_the_brake(simulator, mirror_of, kind):
    """A project with too many files neither leaves nor is emptied without a person's word."""
    index, mirror = await mirrored(simulator, mirror_of)
    before = mirror.files()
    if kind == "removed":
        index.state.unlist_project("alpha")
        await mirror.cycle()
    else:
        index.state.status("alpha", "quarantined")

    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.files(), failures(report)) == (before, [("main", None, None, "shrink")])

    await mirror.cycle(allow_shrink=True)
    assert {p: f for p, f in mirror.files().items() if f} == {"keeper": before["keeper"]}


async def test_what_was_held_back_and_is_listed_again_is_no_matter_any_more(simulator, mirror_of):
    """When the index lists again what the brake had kept, the failure ends by itself."""
    index, mirror = await mirrored(simulator, mirror_of)
    before = mirror.files()
    remove(index, 0, 10)
    await mirror.cycle()
    await mirror.cycle()
    for wheel in wheels(10):
        index.state.publish("alpha", *wheel)

    report = await mirror.cycle()

    assert (mirror.files(), failures(report), report.indexes["main"].files_absent) == (before, [], 0)


async def test_allow_shrink_never_accepts_an_empty_root(simulator, mirror_of):
    """A root without any project is not believed, whatever is allowed."""
    index, mirror = await mirrored(simulator, mirror_of)
    before = mirror.files()
    index.state.unlist_project("alpha")
    index.state.unlist_project("keeper")
    for _ in range(3):
        report = await mirror.cycle(allow_shrink=True)
        assert (mirror.files(), failures(report)) == (before, [("main", None, None, "bad-page")])


async def test_replaced_and_relabelled_files_do_not_count(simulator, mirror_of):
    """The brake counts files that leave the pages, not those that change on them."""
    index, mirror = await mirrored(simulator, mirror_of)
    for number, (name, _) in enumerate(wheels(20)):
        if number % 2:
            index.state.yank("alpha", name)
        else:
            index.state.replace("alpha", name, b"other bytes")
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])

    remove(index, 0, 2)
    await mirror.cycle()
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (offered(index), [])


async def test_a_narrowed_cycle_does_not_forget_the_brake(simulator, mirror_of):
    """A cycle of another project leaves the brake's failure in the report."""
    index, mirror = await mirrored(simulator, mirror_of)
    remove(index, 0, 10)
    await mirror.cycle()
    await mirror.cycle()

    report = await mirror.cycle(projects=("keeper",))

    assert failures(report) == [("main", None, None, "shrink")]


async def test_the_brake_holds_on_the_first_day(simulator, mirror_of):
    """Within the first 24 hours the files published so far are the measure."""
    index = await simulator()
    for wheel in wheels(20):
        index.state.publish("alpha", *wheel)
    mirror = mirror_of(index)
    await mirror.cycle()
    before = mirror.files()
    mirror.configure("main", exclude_files=("alpha-1*",))

    report = await mirror.cycle()

    assert (mirror.files(), failures(report)) == (before, [("main", None, None, "shrink")])
