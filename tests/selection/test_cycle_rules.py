"""The rules by which a cycle chooses the files of a want."""

from __future__ import annotations

from harness.in_process import failures, requests
from harness.wants import WantingMirror, add, proofs, wheel
from mirror.config import TargetConfig
from simulator import Status, build_sdist, build_wheel, withheld


async def test_the_view_decides_by_packaging(index, mirror):
    """``requires-python`` with an upper bound, a tag that does not fit, a yank: each passes a version over; of one version
    the best tag is taken, of equal ones the higher build; a pre-release only where nothing else is.
    """
    add(index, "app", "1.0")
    add(index, "app", "1.1", requires_python=">=3.8,<3.12")
    add(index, "app", "1.2", tag="cp312-cp312-win_amd64")
    add(index, "app", "1.3", yanked="broken")
    add(index, "app", "2.0rc1")
    add(index, "lib", "1.0")
    add(index, "lib", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    add(index, "lib", "1.0", tag="cp312-cp312-manylinux_2_34_x86_64")
    add(index, "pre", "3.0b1")
    mirror.want("app", "lib", "pre", "app>=1")
    report = await mirror.cycle()
    assert failures(report) == []
    assert mirror.names() == {
        wheel("app", "1.0"),
        wheel("lib", "1.0", "cp312-cp312-manylinux_2_17_x86_64"),
        wheel("pre", "3.0b1"),
    }
    mirror.want("app==1.3")
    await mirror.cycle()
    assert wheel("app", "1.3") in mirror.names()


async def test_an_earlier_index_owns_what_nobody_needed(simulator, index, tmp_path):
    """A later index never gives a project that an earlier one lists, although nobody has needed it yet."""
    later = await simulator(core_metadata=True)
    add(index, "lib", "1.0")
    add(later, "lib", "9.0")
    add(later, "app", "1.0", "lib")
    mirror = WantingMirror(tmp_path / "two", {"first": index, "second": later})
    mirror.want("app")
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
    assert not [r for r in later.take_requests() if r.project == "lib"]


async def test_a_withheld_version_is_passed_over_in_the_same_cycle(index, mirror):
    """The newest version is listed and withheld (409): the one before it is taken, the exit code is 0, ``check`` names
    both; a retry that succeeds is a change.
    """
    add(index, "app", "1.0")
    add(index, "app", "2.0")
    index.inject(withheld("POLICY_COOLDOWN"), project="app", filename=wheel("app", "2.0"))
    mirror.want("app")
    report = await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0")}
    assert (mirror.exit_code, {f.reason.value for f in report.failures}) == (0, {"withheld"})
    [proof] = await proofs(mirror)
    assert proof["installable"]
    assert proof["instead"] == [{"project": "app", "version": "1.0", "hidden": "2.0", "reason": "withheld"}]
    index.faults.clear()
    await mirror.cycle()
    await mirror.cycle()
    assert wheel("app", "2.0") in mirror.names()


async def test_a_pin_on_a_withheld_version_is_a_gap(index, mirror):
    """Nothing else would do: the gap has the reason, and alone makes no cycle partial."""
    add(index, "app", "1.0")
    add(index, "app", "2.0")
    index.inject(withheld("POLICY_COOLDOWN"), project="app", filename=wheel("app", "2.0"))
    mirror.want("app==2.0")
    await mirror.cycle()
    assert mirror.exit_code == 0
    [proof] = await proofs(mirror)
    assert [(gap["project"], gap["reason"]) for gap in proof["gaps"]] == [("app", "withheld")]


async def test_an_outage_changes_no_resolution(index, mirror):
    """A page that can't be read keeps the set, and the ledger has the index's reason."""
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    mirror.want("app")
    await mirror.cycle()
    add(index, "lib", "2.0")
    index.inject(Status(status=503), kind="page", project="lib")
    report = await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
    assert failures(report) == [("main", "lib", None, "unreachable")]
    index.faults.clear()
    await mirror.cycle()
    assert wheel("lib", "2.0") in mirror.names()


async def test_a_new_want_needs_no_change_upstream(index, mirror):
    """Only the pages of its own closure are asked for."""
    for name in ("app", "other", "third"):
        add(index, name, "1.0")
    mirror.want("app")
    await mirror.cycle()
    index.take_requests()
    mirror.want("app", "other")
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("other", "1.0")}
    assert [r[:2] for r in requests(index) if r[0] == "page"] == [("page", "app"), ("page", "other")]


async def test_metadata_that_lies_is_found_when_the_file_is_held(index, mirror):
    """The index offers metadata without the dependency: the want is resolved again in the same cycle."""
    filename, data = build_wheel("app", "1.0", requires=["lib"])
    index.state.publish("app", filename, data, metadata=b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\n")
    add(index, "lib", "1.0")
    mirror.want("app")
    await mirror.cycle()
    assert mirror.names() == {filename, wheel("lib", "1.0")}
    [proof] = await proofs(mirror)
    assert proof["installable"]


async def test_gaps_are_named_and_the_rest_goes_on(index, mirror):
    """A conflict, a missing wheel, a version that is not there: each has its own reason."""
    add(index, "app", "1.0", "lib<2")
    add(index, "bpp", "1.0", "lib>=2")
    add(index, "lib", "1.0")
    add(index, "lib", "2.0")
    add(index, "win", "1.0", tag="cp312-cp312-win_amd64")
    add(index, "good", "1.0")
    add(index, "addr", "1.0", "elsewhere @ https://example.invalid/elsewhere-1.0-py3-none-any.whl")
    wants = {
        "conflict": ["app", "bpp"],
        "no-wheel": ["win"],
        "no-version": ["good>=9"],
        "not-offered": ["addr"],
    }
    mirror.wants = tuple(w for name, lines in wants.items() for w in mirror.wanted(*lines, name=name))
    mirror.wants += mirror.wanted("good", name="well")
    report = await mirror.cycle()
    assert sorted(f.detail.partition(",")[0] for f in report.failures) == sorted(f"want {name}" for name in wants)
    assert wheel("good", "1.0") in mirror.names()
    found = {proof["want"]: [gap["reason"] for gap in proof["gaps"]] for proof in await proofs(mirror)}
    assert found == {name: [name] for name in wants} | {"well": []}


async def test_a_source_distribution_where_no_wheel_is(index, mirror):
    """It is mirrored with its dependencies and what building it takes, to any depth; ``never``: a gap."""
    index.state.publish("src", *build_sdist("src", "1.0", requires=["lib"], build_requires=["backend>=2"]))
    index.state.publish("backend", *build_sdist("backend", "2.0", build_requires=["tool"], ending=".zip"))
    for name in ("lib", "tool"):
        add(index, name, "1.0")
    mirror.want("src")
    await mirror.cycle()
    wanted = {"src-1.0.tar.gz", "backend-2.0.zip", wheel("lib", "1.0"), wheel("tool", "1.0")}
    assert mirror.names() == wanted
    [proof] = await proofs(mirror)
    assert (proof["installable"], proof["files"]) == (True, 4)
    index.state.publish("only", *build_sdist("only", "1.0"))
    mirror.want("only", sdists="never")
    await mirror.cycle()
    assert mirror.exit_code == 5
    [proof] = await proofs(mirror)
    assert [(gap["project"], gap["reason"]) for gap in proof["gaps"]] == [("only", "no-wheel")]


async def test_dependencies_that_only_code_knows(index, mirror):
    """Resolved with what the file declares, mirrored, and ``unproved`` until the want accepts it."""
    metadata = b"Metadata-Version: 1.2\nName: old\nVersion: 1.0\nRequires-Dist: lib\n"
    index.state.publish("old", *build_sdist("old", "1.0", metadata=metadata))
    add(index, "lib", "1.0")
    mirror.want("old")
    await mirror.cycle()
    assert (mirror.exit_code, mirror.names()) == (0, {"old-1.0.tar.gz", wheel("lib", "1.0")})
    [proof] = await proofs(mirror)
    assert [gap["reason"] for gap in proof["gaps"]] == ["unproved"]
    mirror.want("old", accept_unproved=("old",))
    [proof] = await proofs(mirror)
    assert proof["installable"]


async def test_more_than_the_resolution(index, mirror):
    """``newest N`` of the named projects, each with what it needs; all wheels that fit; source distributions beside them."""
    for number, lib in enumerate((1, 1, 2, 3), start=1):
        add(index, "app", f"{number}.0", f"lib=={lib}")
        add(index, "lib", f"{number}.0")
    add(index, "app", "4.0", "lib==3", tag="cp312-abi3-manylinux_2_17_x86_64")
    index.state.publish("app", *build_sdist("app", "4.0", requires=["lib==3"]))
    mirror.want("app", versions="newest 3")
    await mirror.cycle()
    best = wheel("app", "4.0", "cp312-abi3-manylinux_2_17_x86_64")
    newest = {best, *(wheel("app", f"{n}.0") for n in (2, 3)), *(wheel("lib", f"{n}.0") for n in (1, 2, 3))}
    assert mirror.names() == newest
    mirror.want("app", wheels="all", sdists="always")
    await mirror.cycle()
    assert mirror.names() - newest == {wheel("app", "4.0"), "app-4.0.tar.gz"}


async def test_patch_releases_that_a_marker_tells_apart(index, mirror):
    """``python = "3.11"`` means each patch release: the tree holds all sets, and ``files`` counts their union."""
    add(index, "app", "1.0", "old; python_full_version < '3.11.3'")
    add(index, "old", "1.0")
    mirror.targets = (TargetConfig(name="linux", python=("3.11",), platforms=("linux-x86_64",)),)
    mirror.want("app")
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("old", "1.0")}
    [proof] = await proofs(mirror)
    assert (proof["target"], proof["installable"], proof["files"]) == ("linux/3.11/linux-x86_64", True, 2)


async def test_an_overlay_for_one_target(index, simulator, tmp_path):
    """The owner has no wheel for Windows: an overlay's files are needed for that target only, and newer ones of it change
    nothing elsewhere.
    """
    overlay = await simulator(core_metadata=True)
    add(index, "app", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    add(overlay, "app", "1.0", tag="cp312-cp312-win_amd64")
    add(overlay, "app", "2.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    mirror = WantingMirror(tmp_path / "two", {"first": index, "second": overlay})
    mirror.targets += (TargetConfig(name="windows", python=("3.12.4",), platforms=("windows-x86_64",)),)
    mirror.want("app")
    await mirror.cycle()
    gaps = [proof["gaps"] for proof in await proofs(mirror)]
    assert [[gap["reason"] for gap in found] for found in gaps] == [[], ["no-wheel"]]
    assert "first owns it; second lists it too" in gaps[1][0]["detail"]
    mirror.configure("second", overlay=True, overlay_targets=("windows",))
    await mirror.cycle()
    assert all(proof["installable"] for proof in await proofs(mirror))
    wanted = {wheel("app", "1.0", "cp312-cp312-manylinux_2_17_x86_64"), wheel("app", "1.0", "cp312-cp312-win_amd64")}
    assert mirror.names() == wanted
