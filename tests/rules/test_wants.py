"""The rules as inputs of a resolution: what the resolver may take, the gaps, locks, and when it runs again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.in_process import DAY_S, failures, requests
from harness.wants import WantingMirror, proofs
from mirror.config.rules import IndexRulesConfig
from simulator import build_wheel


@pytest.fixture
async def index(simulator):
    """One index that offers metadata and upload times, as PyPI does."""
    return await simulator(core_metadata=True)


@pytest.fixture
def mirror(tmp_path, index):
    return WantingMirror(tmp_path / "mirror", {"main": index})


def add(index, mirror, project, version, *requires, age=100.0, tag="py3-none-any", **labels):
    """Publish a wheel that is ``age`` days old at the mirror's time."""
    time = datetime.fromtimestamp(mirror.clock.now - age * DAY_S, UTC).isoformat().replace("+00:00", "Z")
    filename, data = build_wheel(project, version, requires=requires, tag=tag)
    index.state.publish(project, filename, data, upload_time=time, **labels)
    return filename


def gaps(proof):
    return [(gap["project"], gap["reason"]) for gap in proof["gaps"]]


async def test_a_cooldown_is_an_input_of_the_resolution(index, mirror):
    """A young version and one that only a dependency needs are passed over; at the end they come, without a page."""
    mirror.rules = {"min_age_s": 7 * DAY_S}
    held = [add(index, mirror, "app", "1.0", "lib"), add(index, mirror, "lib", "1.0")]
    young = [add(index, mirror, "app", "2.0", "lib", age=2), add(index, mirror, "lib", "2.0", age=1)]
    mirror.want("app")
    report = await mirror.cycle()
    assert (mirror.names(), mirror.exit_code, failures(report)) == (set(held), 0, [])
    [proof] = await proofs(mirror)
    assert proof["installable"]
    assert {(one["project"], one["hidden"], one["reason"]) for one in proof["instead"]} == {
        ("app", "2.0", "cooldown"),
        ("lib", "2.0", "cooldown"),
    }
    made = mirror.query("SELECT made_at FROM resolution")
    await mirror.cycle()
    assert mirror.query("SELECT made_at FROM resolution") == made
    requests(index)
    mirror.clock.advance(5 * DAY_S)
    await mirror.cycle()
    assert mirror.names() == {*held, young[0]}
    asked = requests(index)
    assert [one for one in asked if one[0] == "page" and one[3] != 304] == []
    mirror.clock.advance(1 * DAY_S)
    await mirror.cycle()
    assert mirror.names() == {*held, *young}
    requests(index)
    await mirror.cycle()
    assert {status for *_, status in requests(index)} == {304}


async def test_a_pin_in_cooldown_is_a_gap_with_its_end(index, mirror):
    """The gap says until when, the cycle stays complete, and the pin comes then."""
    mirror.rules = {"min_age_s": 7 * DAY_S}
    add(index, mirror, "app", "1.0")
    young = add(index, mirror, "app", "2.0", age=2)
    end = datetime.fromtimestamp(mirror.clock.now + 5 * DAY_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    mirror.want("app==2.0")
    report = await mirror.cycle()
    assert (mirror.names(), mirror.exit_code, failures(report)) == (set(), 0, [])
    [proof] = await proofs(mirror)
    assert gaps(proof) == [("app", "cooldown")]
    assert end in proof["gaps"][0]["detail"]
    mirror.clock.advance(5 * DAY_S)
    await mirror.cycle()
    assert mirror.names() == {young}
    assert (await proofs(mirror))[0]["installable"]


async def test_a_project_in_cooldown_as_a_whole(index, mirror):
    """All its files are young: the gap is the cooldown, exit code 0; an urgent one comes at once."""
    mirror.rules = {"min_age_s": 7 * DAY_S}
    name = add(index, mirror, "app", "1.0", age=0)
    mirror.want("app")
    await mirror.cycle()
    assert (mirror.names(), mirror.exit_code) == (set(), 0)
    assert gaps((await proofs(mirror))[0]) == [("app", "cooldown")]
    mirror.rules |= {"urgent": ("app",)}
    await mirror.cycle()
    assert mirror.names() == {name}


async def test_the_other_files_of_a_lock_come(index, mirror, tmp_path):
    """A file of a lock in cooldown is a gap; the others come, and this one at its end, whatever else the version has."""
    mirror.rules = {"min_age_s": 7 * DAY_S}
    old = add(index, mirror, "lib", "1.0")
    pure = add(index, mirror, "app", "1.0")
    young = add(index, mirror, "app", "1.0", age=1, tag="cp312-cp312-win_amd64")
    lock = tmp_path / "pylock.toml"
    files = {name: index.state[name.partition("-")[0]].files[name] for name in (old, pure, young)}
    entry = '{{name = "{}", url = "https://i/{}", size = {}, hashes = {{sha256 = "{}"}}}}'
    wheels = {n: entry.format(n, n, len(f.data), f.hash("sha256")) for n, f in files.items()}
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "test"\n'
        f'[[packages]]\nname = "lib"\nversion = "1.0"\nwheels = [{wheels[old]}]\n'
        f'[[packages]]\nname = "app"\nversion = "1.0"\nwheels = [{wheels[pure]}, {wheels[young]}]\n'
    )
    mirror.wants = mirror.wanted(name="lock", lock_platforms="all")
    import msgspec

    mirror.wants = (msgspec.structs.replace(mirror.wants[0], files=(str(lock),)),)
    report = await mirror.cycle()
    assert (mirror.names(), mirror.exit_code, failures(report)) == ({old, pure}, 0, [])
    mirror.clock.advance(6 * DAY_S)
    await mirror.cycle()
    assert mirror.names() == {old, pure, young}


RULES = {
    "versions": ({"versions": ("lib<2",)}, "lib", {"lib-1.0"}),
    "not-after": ({"not_after": datetime(2026, 10, 20, tzinfo=UTC).date()}, "lib", {"lib-1.0"}),
    "yanked-never": ({"yanked": "never"}, "lib==3.0", set()),
    "yanked-where-pinned": ({"yanked": "where-pinned"}, "lib==3.0", {"lib-3.0"}),
    "yanked-always": ({"yanked": "always"}, "lib", {"lib-3.0"}),
    "pre-releases-never": ({"pre_releases": "never"}, "lib==4.0rc1", set()),
    "pre-releases-where-needed": ({"pre_releases": "where-needed"}, "lib", {"lib-2.0"}),
    "pre-releases-where-needed-named": ({"pre_releases": "where-needed"}, "lib>=4.0rc1", {"lib-4.0rc1"}),
    "pre-releases-always": ({"pre_releases": "always"}, "lib", {"lib-4.0rc1"}),
    "newest-and-platforms-are-for-patterns": ({"newest": 1, "platforms": "targets"}, "lib==1.0", {"lib-1.0"}),
}


@pytest.mark.parametrize(("rules", "requirement", "taken"), RULES.values(), ids=RULES)
async def test_rules_of_a_want(index, mirror, rules, requirement, taken):
    """Each rule decides what the resolver may take; a pin that it keeps out is the gap ``left-out``, exit code 0."""
    mirror.rules = rules
    add(index, mirror, "lib", "1.0", age=90)
    add(index, mirror, "lib", "2.0", age=10)
    add(index, mirror, "lib", "3.0", age=10, yanked="broken")
    add(index, mirror, "lib", "4.0rc1", age=10)
    mirror.want(requirement)
    await mirror.cycle()
    assert {name.removesuffix("-py3-none-any.whl") for name in mirror.names()} == taken
    assert mirror.exit_code == 0
    [proof] = await proofs(mirror)
    # A client takes a yanked file only where it is pinned, which the proof says.
    assert proof["installable"] == (bool(taken) and rules != {"yanked": "always"})
    if not taken:
        assert gaps(proof) == [("lib", "left-out")]
        key = next(iter(rules)).replace("_", "-")
        assert f"is left out by {key} of main" in proof["gaps"][0]["detail"]


async def test_rules_change_the_resolution(index, mirror):
    """A narrower rule has the want resolved again; what it needs no more waits for ``keep-unwanted``, or leaves."""
    new, old = add(index, mirror, "lib", "2.0"), add(index, mirror, "lib", "1.0")
    mirror.want("lib")
    await mirror.cycle()
    assert mirror.names() == {new}
    mirror.rules = {"versions": ("lib<2",)}
    await mirror.cycle()
    assert mirror.names() == {old}
    mirror.rules = {}
    await mirror.cycle()
    assert mirror.names() >= {new}


async def test_patterns_leave_what_a_want_needs(index, mirror):
    """In an index that is mirrored by patterns, ``newest`` and ``platforms`` spare the files of wants."""
    mirror.configure("main", select="listed")
    versions = [add(index, mirror, "lib", f"{n}.0") for n in range(1, 4)]
    mirror.rules = {"newest": 1}
    mirror.want("lib==1.0")
    await mirror.cycle()
    assert mirror.names() == {versions[0], versions[2]}
    mirror.want("lib==2.0")
    await mirror.cycle()
    assert mirror.names() == set(versions)  # the earlier set is wanted until the new one is held
    await mirror.cycle()
    assert mirror.names() == {versions[1], versions[2]}
    requests(index)
    await mirror.cycle()
    assert {status for *_, status in requests(index)} == {304}


async def test_pre_releases_of_one_index_only(simulator, index, tmp_path):
    """``always`` of one index shows no pre-release of another, unless that one lists nothing else."""
    other = await simulator(core_metadata=True)
    mirror = WantingMirror(tmp_path / "two", {"first": index, "second": other})
    mirror.configure("first", rules=IndexRulesConfig(pre_releases="always"))
    mine = [add(index, mirror, "lib", "1.0"), add(index, mirror, "lib", "2.0rc1")]
    theirs = [add(other, mirror, "app", "1.0"), add(other, mirror, "app", "2.0rc1")]
    only = add(other, mirror, "new", "1.0b1")
    mirror.want("lib", "app", "new")
    await mirror.cycle()
    assert mirror.names() == {mine[1], theirs[0], only}
