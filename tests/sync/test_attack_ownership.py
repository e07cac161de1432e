"""Owners, overlays, withdrawals and configuration changes, where an outage or a change of mind comes in between."""

from __future__ import annotations

import pytest

from harness.in_process import failures, offered, requests
from simulator import Status, build_sdist, build_wheel, unavailable, withheld


def wheel(name, version="1.0", **options):
    return build_wheel(name, version, **options)


@pytest.mark.parametrize("validators", ["etag", "none"])
@pytest.mark.parametrize("serials", [False, True], ids=["no-serials", "serials"])
async def test_a_lifted_withdrawal_brings_the_files_back_although_the_page_is_as_before(
    simulator, mirror_of, validators, serials
):
    """A project that was withdrawn and is given out again with the very same page has its files again."""
    upstream = await simulator(validators=validators, serials=serials)
    upstream.state.publish("bad", *wheel("bad"))
    upstream.state.publish("other", *wheel("other"))
    mirror = mirror_of(upstream)
    await mirror.cycle()
    before = mirror.files()
    upstream.inject(withheld("MALWARE_DETECTED"), kind="page", project="bad")
    await mirror.cycle(full=True)
    assert mirror.files() == {"bad": {}, "other": before["other"]}
    upstream.faults.clear()
    await mirror.cycle()
    assert mirror.files() == before


async def test_a_project_that_was_displaced_comes_back_when_its_new_owner_leaves_the_configuration(
    simulator, mirror_of
):
    """An index whose project another one has taken over publishes it again when that one is gone."""
    first, second = await simulator(), await simulator()
    second.state.publish("both", *wheel("both", "1.0"))
    mirror = mirror_of(second=second)
    await mirror.cycle()
    alone = mirror.files()
    first.state.publish("both", *wheel("both", "2.0"))
    configured = dict(mirror.indexes)
    mirror.indexes = mirror_of(root="x", first=first).indexes | configured
    await mirror.cycle()
    assert mirror.files() == offered(first)
    mirror.indexes = configured
    await mirror.cycle(allow_shrink=True)
    await mirror.cycle()
    assert mirror.files() == alone


async def test_an_index_that_was_taken_away_and_comes_back_is_mirrored_again(simulator, mirror_of):
    """An index that left the configuration, whose files are gone, is mirrored anew when it is configured again."""
    first, second = await simulator(), await simulator()
    first.state.publish("one", *wheel("one"))
    second.state.publish("two", *wheel("two"))
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    both, configured = mirror.files(), dict(mirror.indexes)
    del mirror.indexes["second"]
    await mirror.cycle(allow_shrink=True)
    assert mirror.files() == offered(first)
    mirror.indexes = configured
    report = await mirror.cycle()
    assert (mirror.files(), failures(report)) == (both, [])


async def test_an_index_that_comes_back_while_it_is_down_still_guards_its_projects(simulator, mirror_of):
    """A later index gets no new project while the root of an index that was taken away and came back is unread."""
    first, second = await simulator(), await simulator()
    first.state.publish("mine", *wheel("mine"))
    second.state.publish("other", *wheel("other"))
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    configured = dict(mirror.indexes)
    del mirror.indexes["first"]
    await mirror.cycle(allow_shrink=True)
    mirror.indexes = configured
    second.state.publish("mine", *wheel("mine", "66.6"))
    first.inject(Status(status=404), kind="root")
    await mirror.cycle()
    assert mirror.files() == {"other": offered(second)["other"]}


@pytest.mark.parametrize("change", ["patterns", "url"])
async def test_a_changed_index_that_is_down_guards_the_projects_it_may_list(simulator, mirror_of, change):
    """Other patterns or another URL make the last good root of an index unknown: later ones get no new project."""
    first, second = await simulator(), await simulator()
    first.state.publish("known", *wheel("known"))
    first.state.publish("secret", *wheel("secret"))
    second.state.publish("public", *wheel("public"))
    mirror = mirror_of(first=first, second=second)
    mirror.configure("first", projects=("known",))
    await mirror.cycle()
    before = mirror.files()
    second.state.publish("secret", *wheel("secret", "66.6"))
    if change == "patterns":
        mirror.configure("first", projects=("*",))
    else:
        mirror.configure("first", url=first.url.replace("/simple/", "/elsewhere/simple/"))
    first.inject(Status(status=404), kind="root")
    await mirror.cycle()
    assert mirror.files() == before
    await mirror.cycle(indexes=("second",))
    assert mirror.files() == before


async def test_the_ledger_of_an_index_that_left_the_configuration_is_not_reported(simulator, mirror_of):
    """What can't be tried again, since its index is not configured any more, makes no cycle partial."""
    first, second = await simulator(), await simulator()
    first.state.publish("one", *wheel("one"))
    file = second.state.publish("two", *wheel("two"))
    second.inject(Status(status=404), filename=file.filename)
    mirror = mirror_of(first=first, second=second)
    assert (await mirror.cycle()).outcome.value == "partial"
    configured = dict(mirror.indexes)
    del mirror.indexes["second"]
    report = await mirror.cycle()
    assert (report.outcome.value, failures(report), mirror.exit_code) == ("complete", [], 0)
    second.faults.clear()
    mirror.indexes = configured
    await mirror.cycle()
    assert mirror.files() == offered(first, second)


async def test_a_file_that_the_owner_lists_and_cannot_give_is_not_taken_from_the_overlay(simulator, mirror_of):
    """A filename that the owner begins to list is the owner's, although its bytes can't be had."""
    owner, extra = await simulator(), await simulator()
    owner.state.publish("lib", *wheel("lib", "1.0"))
    name, _ = wheel("lib", "1.0", tag="py3-none-linux_x86_64")
    extra.state.publish("lib", name, wheel("lib", "1.0", size_pad=9)[1])
    mirror = mirror_of(owner=owner, extra=extra)
    mirror.configure("extra", overlay=True)
    await mirror.cycle()
    assert set(mirror.files()["lib"]) == {"lib-1.0-py3-none-any.whl", name}
    owner.state.publish("lib", name, wheel("lib", "1.0", size_pad=10)[1])
    owner.inject(withheld("POLICY_COOLDOWN"), filename=name)
    await mirror.cycle()
    assert set(mirror.files()["lib"]) == {"lib-1.0-py3-none-any.whl"}


@pytest.mark.parametrize("how", ["first-fill", "later"])
async def test_a_file_that_the_owners_patterns_leave_out_is_not_taken_from_the_overlay(simulator, mirror_of, how):
    """What the owner lists and its file patterns don't want is out for the overlay too, from the first cycle on."""
    owner, extra = await simulator(), await simulator()
    sdist = build_sdist("lib", "1.0")
    owner.state.publish("lib", *wheel("lib", "1.0"))
    extra.state.publish("lib", *sdist)
    extra.state.publish("lib", *wheel("lib", "9.0"))
    mirror = mirror_of(owner=owner, extra=extra)
    mirror.configure("owner", files=("*.whl",))
    mirror.configure("extra", overlay=True)
    if how == "later":
        await mirror.cycle()
    owner.state.publish("lib", *sdist)
    await mirror.cycle()
    await mirror.cycle()
    assert set(mirror.files()["lib"]) == {"lib-1.0-py3-none-any.whl", "lib-9.0-py3-none-any.whl"}


@pytest.mark.parametrize("how", ["status", "409"])
async def test_an_owners_withdrawal_withdraws_the_files_of_the_overlay_in_the_same_cycle(simulator, mirror_of, how):
    """When the owner withdraws a project, what the overlay added goes with it; both come back when it is lifted."""
    owner, extra = await simulator(), await simulator()
    owner.state.publish("lib", *wheel("lib", "1.0"))
    extra.state.publish("lib", *wheel("lib", "2.0"))
    mirror = mirror_of(owner=owner, extra=extra)
    mirror.configure("extra", overlay=True)
    await mirror.cycle()
    before = mirror.files()
    assert before == offered(owner, extra)
    if how == "status":
        owner.state.status("lib", "quarantined")
    else:
        owner.inject(withheld("MALWARE_DETECTED"), kind="page", project="lib")
    await mirror.cycle()
    assert mirror.files() == {"lib": {}}
    owner.state.status("lib", None)
    owner.faults.clear()
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == before


async def test_an_overlay_adds_nothing_to_a_project_whose_owners_page_was_never_read(simulator, mirror_of):
    """While nobody knows which filenames the owner lists, an overlay adds none: they might be the owner's."""
    owner, extra = await simulator(), await simulator()
    owner.state.publish("lib", *wheel("lib", "1.0"))
    extra.state.publish("lib", *wheel("lib", "1.0", size_pad=10))
    extra.state.publish("other", *wheel("other"))
    owner.inject(Status(status=404), kind="page")
    mirror = mirror_of(owner=owner, extra=extra)
    mirror.configure("extra", overlay=True)
    await mirror.cycle()
    assert set(mirror.files()) == {"other"}
    owner.faults.clear()
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == offered(owner, extra)


async def test_versions_of_an_index_that_contributes_nothing_are_not_on_the_page(simulator, mirror_of):
    """An index that lost a project to another one leaves none of its versions behind on the page."""
    first, second = await simulator(), await simulator()
    second.state.publish("both", *wheel("both", "66.6"))
    mirror = mirror_of(first=first, second=second)
    first.state.publish("own", *wheel("own"))
    await mirror.cycle()
    first.state.publish("both", *wheel("both", "1.0"))
    await mirror.cycle()
    assert (mirror.files(), mirror.page("both")["versions"]) == (offered(first), ["1.0"])


async def test_four_broken_pages_do_not_stop_the_others(simulator, mirror_of):
    """Pages that answer 500 each time are failures of their own: the index answers, so the cycle goes on."""
    upstream = await simulator(serials=True)
    for name in ("a", "b", "c", "d", "e", "z"):
        upstream.state.publish(name, *wheel(name))
    mirror = mirror_of(upstream)
    for name in ("a", "b", "c", "d", "e"):
        upstream.inject(unavailable(500), kind="page", project=name)
    report = await mirror.cycle()
    assert (set(mirror.files()), mirror.exit_code) == ({"z"}, 5)
    assert {f[1] for f in failures(report)} == {"a", "b", "c", "d", "e"}
    assert requests(upstream)


async def test_a_file_that_the_owner_took_over_is_not_taken_back_by_a_retry_of_the_overlay(simulator, mirror_of):
    """A file of the overlay that was withheld is not fetched once the owner lists its name, however that was learnt."""
    owner, extra = await simulator(), await simulator()
    owner.state.publish("lib", *wheel("lib", "1.0"))
    name, data = wheel("lib", "2.0")
    extra.state.publish("lib", name, data + b"\0")
    extra.inject(withheld("POLICY_COOLDOWN"), filename=name)
    mirror = mirror_of(owner=owner, extra=extra)
    mirror.configure("extra", overlay=True)
    await mirror.cycle()
    owner.state.publish("lib", name, data)
    await mirror.cycle(indexes=("owner",))
    extra.faults.clear()
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == offered(owner, extra)


@pytest.mark.parametrize("files", [1, 2], ids=["nothing-held", "some-held"])
async def test_what_failed_for_a_former_owner_is_not_in_the_ledger(simulator, mirror_of, files):
    """A failed file of a project that an earlier index owns now makes no cycle partial, and is fetched if it comes back."""
    first, second = await simulator(), await simulator()
    first.state.publish("own", *wheel("own"))
    bad = second.state.publish("both", *wheel("both", "1.0"))
    if files == 2:
        second.state.publish("both", *wheel("both", "1.1"))
    second.inject(Status(status=404), filename=bad.filename)
    mirror = mirror_of(first=first, second=second)
    await mirror.cycle()
    first.state.publish("both", *wheel("both", "2.0"))
    await mirror.cycle()
    report = await mirror.cycle()
    assert (failures(report), mirror.exit_code, mirror.files()) == ([], 0, offered(first))
    second.faults.clear()
    first.state.delete_project("both")
    await mirror.cycle()
    await mirror.cycle()
    assert mirror.files() == offered(first, second)
