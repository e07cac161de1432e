"""Several indexes: the first that lists a project owns it, also while it is down."""

from __future__ import annotations

import pytest

from harness.in_process import failures, offered, requests
from simulator import Status, build_sdist, build_wheel

KINDS = pytest.mark.parametrize("settings", [{}, {"serials": True}], ids=["etag", "serials"])


def publish(simulator, *names, version="1.0"):
    for name in names:
        simulator.state.publish(name, *build_wheel(name, version))


def owner_changes(report):
    return [(e["project"], e["from"], e["to"]) for e in report.events if e["event"] == "owner-changed"]


@KINDS
async def test_the_first_index_that_lists_a_project_owns_it(simulator, mirror_of, settings):
    """A project that both list comes from the first alone; the second is not even asked for its page."""
    first, second = await simulator(**settings), await simulator(**settings)
    publish(first, "shared", "one")
    publish(second, "shared", version="99.0")
    publish(second, "two")
    mirror = mirror_of(first=first, second=second)

    report = await mirror.cycle()

    assert mirror.files() == {**offered(second), **offered(first)}
    assert (second.count(project="shared"), failures(report), owner_changes(report)) == (0, [], [])
    first.take_requests()
    second.take_requests()
    await mirror.cycle()
    if settings:
        assert (len(first.requests), len(second.requests)) == (1, 1)


@KINDS
@pytest.mark.parametrize("status", [401, 403, 404], ids=["401", "403", "404"])
async def test_an_index_that_was_never_read_lets_no_later_one_publish_new_projects(
    simulator, mirror_of, settings, status
):
    """While nobody knows what the first index lists, the second publishes nothing new: no dependency confusion."""
    first, second = await simulator(**settings), await simulator(**settings)
    publish(first, "shared", "one")
    publish(second, "shared", "two", version="99.0")
    first.inject(Status(status=status), kind="root")
    mirror = mirror_of(first=first, second=second)

    for _ in range(2):
        report = await mirror.cycle()
        assert (mirror.files(), report.outcome.value) == ({}, "partial")
    first.faults.clear()

    report = await mirror.cycle()
    assert mirror.files() == {**offered(second), **offered(first)}
    assert failures(report) == []


async def test_an_index_that_was_read_once_may_be_down(simulator, mirror_of):
    """Once the first index's root is known, its outage changes no owner and does not stop the second."""
    first, second = await simulator(), await simulator()
    publish(first, "shared")
    publish(second, "shared", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    publish(second, "two")
    first.inject(Status(status=404), kind="root")

    for _ in range(3):
        report = await mirror.cycle()
        assert mirror.files() == {"shared": offered(first)["shared"], "two": offered(second)["two"]}
        assert owner_changes(report) == []


@KINDS
async def test_a_project_that_its_owner_loses_is_handed_over_after_two_looks(simulator, mirror_of, settings):
    """The next index owns it in the very cycle in which the owner's second look misses it, and that is reported."""
    first, second = await simulator(**settings), await simulator(**settings)
    publish(first, "shared", "one")
    publish(second, "shared", "two", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    before = mirror.files()
    first.state.unlist_project("shared")

    report = await mirror.cycle()
    assert (mirror.files(), owner_changes(report)) == (before, [])

    report = await mirror.cycle()
    assert mirror.files() == before | {"shared": offered(second)["shared"]}
    assert owner_changes(report) == [("shared", "first", "second")]
    assert (failures(report), report.outcome.value) == ([], "complete")

    report = await mirror.cycle()
    assert (mirror.files(), owner_changes(report)) == (before | {"shared": offered(second)["shared"]}, [])


@KINDS
async def test_a_project_that_an_earlier_index_begins_to_list_is_taken_over(simulator, mirror_of, settings):
    """The earlier index owns it from then on: its files replace the other's, and that is reported once."""
    first, second = await simulator(**settings), await simulator(**settings)
    publish(first, "one")
    publish(second, "shared", "two", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    publish(first, "shared")

    report = await mirror.cycle()
    assert mirror.files() == {**offered(second), **offered(first)}
    assert owner_changes(report) == [("shared", "second", "first")]
    assert owner_changes(await mirror.cycle()) == []

    first.state.unlist_project("shared")
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == {**offered(first), **offered(second)}


async def test_a_takeover_waits_for_the_owners_page(simulator, mirror_of):
    """Until the new owner's page could be read, the files of the former one stay."""
    first, second = await simulator(), await simulator()
    publish(first, "one")
    publish(second, "shared", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    before = mirror.files()
    publish(first, "shared")
    first.inject(Status(status=404), kind="page", project="shared")

    await mirror.cycle()
    assert mirror.files() == before
    first.faults.clear()
    await mirror.cycle()
    assert mirror.files() == offered(first)


async def test_a_project_that_the_owners_patterns_leave_out_belongs_to_the_next(simulator, mirror_of):
    """An index owns what it lists and wants; what its patterns leave out is the next one's at once."""
    first, second = await simulator(), await simulator()
    publish(first, "shared", "one")
    publish(second, "shared", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    mirror.configure("first", exclude_projects=("shared",))

    await mirror.cycle()

    assert mirror.files() == {"one": offered(first)["one"], "shared": offered(second)["shared"]}


@KINDS
async def test_an_index_that_left_the_configuration_stays_until_allow_shrink(simulator, mirror_of, settings):
    """Its files stay and are reported in each cycle; --allow-shrink takes them away; configured again, all is back."""
    first, second = await simulator(**settings), await simulator(**settings)
    publish(first, "one")
    publish(second, "two")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    before = mirror.files()
    second_options = mirror.indexes.pop("second")

    for _ in range(3):
        report = await mirror.cycle()
        assert mirror.files() == before
        assert report.events == [{"event": "index-left", "index": "second", "projects": "1"}]
        assert (report.outcome.value, mirror.exit_code) == ("complete", 0)

    await mirror.cycle(allow_shrink=True)
    assert mirror.files() == offered(first)
    report = await mirror.cycle()
    assert (mirror.files(), report.events) == (offered(first), [])

    mirror.indexes["second"] = second_options
    report = await mirror.cycle()
    assert (mirror.files(), report.total("bytes_downloaded")) == (before, 0)


async def test_a_renamed_index_hands_its_files_over(simulator, mirror_of):
    """Under another name the same index publishes its files again, from the blobs that are held."""
    index = await simulator(serials=True)
    publish(index, "one", "two")
    mirror = mirror_of(old=index)
    await mirror.cycle()
    before = mirror.files()
    mirror.indexes = {"new": mirror.indexes["old"]}

    report = await mirror.cycle()
    assert (mirror.files(), report.total("bytes_downloaded")) == (before, 0)
    await mirror.cycle(allow_shrink=True)
    assert mirror.files() == before
    assert (await mirror.cycle()).events == []


@KINDS
async def test_a_changed_url_drops_the_validators(simulator, mirror_of, settings):
    """At another address everything is read again, and nothing that is held is downloaded."""
    index, other = await simulator(**settings), await simulator(**settings)
    publish(index, "one", "two")
    publish(other, "one", "two")
    mirror = mirror_of(index)
    await mirror.cycle()
    mirror.configure("main", url=other.url)

    report = await mirror.cycle()

    assert requests(other) == [("page", "one", None, 200), ("page", "two", None, 200), ("root", None, None, 200)]
    assert (mirror.files(), report.total("bytes_downloaded")) == (offered(other), 0)
    if settings:
        await mirror.cycle()
        assert len(other.requests) == 1


async def test_the_order_of_the_indexes_decides(simulator, mirror_of):
    """Swapped indexes swap the owner of what both list, with a report."""
    first, second = await simulator(), await simulator()
    publish(first, "shared")
    publish(second, "shared", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    mirror.indexes = {"second": mirror.indexes["second"], "first": mirror.indexes["first"]}

    report = await mirror.cycle()

    assert mirror.files() == offered(second)
    assert owner_changes(report) == [("shared", "first", "second")]


async def test_three_indexes_hand_over_one_after_the_other(simulator, mirror_of):
    """A project goes from the first to the second and from that to the third as each loses it."""
    simulators = [await simulator() for _ in range(3)]
    for number, index in enumerate(simulators):
        publish(index, "shared", f"own{number}", version=f"{number + 1}.0")
    mirror = mirror_of(a=simulators[0], b=simulators[1], c=simulators[2])
    await mirror.cycle()

    for number in (0, 1):
        simulators[number].state.unlist_project("shared")
        await mirror.cycle()
        report = await mirror.cycle()
        assert mirror.files()["shared"] == offered(simulators[number + 1])["shared"]
        assert owner_changes(report) == [("shared", "ab"[number], "bc"[number])]


async def test_two_owners_lost_at_once(simulator, mirror_of):
    """When the first two lose a project at the same time, the third owns it in that cycle."""
    simulators = [await simulator() for _ in range(3)]
    for number, index in enumerate(simulators):
        publish(index, "shared", f"own{number}", version=f"{number + 1}.0")
    mirror = mirror_of(a=simulators[0], b=simulators[1], c=simulators[2])
    await mirror.cycle()
    simulators[0].state.unlist_project("shared")
    simulators[1].state.unlist_project("shared")
    await mirror.cycle()
    await mirror.cycle()

    assert mirror.files()["shared"] == offered(simulators[2])["shared"]


async def test_the_plan_of_a_hand_over(simulator, mirror_of):
    """A plan says that the owner's files leave and which of the next owner's come, without a change on the disk."""
    first, second = await simulator(), await simulator()
    publish(first, "shared", "one")
    publish(second, "shared", "two", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    first.state.unlist_project("shared")
    await mirror.cycle()
    before = mirror.bytes_on_disk()

    plan = await mirror.plan()

    assert [(i, p, a) for i, p, _, a in plan] == [("first", "shared", "remove"), ("second", "shared", "fetch")]
    assert mirror.bytes_on_disk() == before


async def test_the_plan_of_a_takeover(simulator, mirror_of):
    """A plan says that the new owner's files come and those of the former owner leave."""
    first, second = await simulator(), await simulator()
    publish(first, "one")
    publish(second, "shared", version="99.0")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    publish(first, "shared")

    plan = await mirror.plan()

    assert [(i, p, a) for i, p, _, a in plan] == [("first", "shared", "fetch"), ("second", "shared", "remove")]


async def test_the_plan_of_an_index_that_left(simulator, mirror_of):
    """With --allow-shrink a plan names the files of an index that left the configuration, and else it does not."""
    first, second = await simulator(), await simulator()
    publish(first, "one")
    publish(second, "two")
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    del mirror.indexes["second"]

    assert await mirror.plan() == []
    assert [(i, p, a) for i, p, _, a in await mirror.plan(allow_shrink=True)] == [("second", "two", "remove")]


async def test_the_plan_of_several_indexes(simulator, mirror_of):
    """A plan names for each file the index that the cycle takes it from."""
    first, second = await simulator(), await simulator()
    publish(first, "shared")
    first.state.publish("shared", *build_sdist("shared", "1.0"))
    publish(second, "shared", "two", version="99.0")
    mirror = mirror_of(first=first, second=second)

    plan = await mirror.plan()

    assert [(i, p, a) for i, p, _, a in plan] == [("first", "shared", "fetch")] * 2 + [("second", "two", "fetch")]
