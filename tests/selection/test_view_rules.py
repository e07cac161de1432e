"""What the view hides, refuses and answers, and what a resolution does then."""

from __future__ import annotations

import shutil

from harness.in_process import failures, requests
from harness.wants import add, proofs, wheel
from mirror.config import TargetConfig
from mirror.selection.view import answers
from simulator import Status, build_sdist, build_wheel, withheld


async def test_metadata_that_is_refused(index, mirror):
    """Not there (400, 404, 410): the wheel's own is read. Refused: the version is passed over in the same run, and the
    true reason stays. Of another digest: the same, until the file itself is held, whose own metadata counts.
    """
    names = {
        "gone": (410, "2.0"),
        "old": (400, "2.0"),
        "lost": (404, "2.0"),
        "kept": (409, "1.0"),
        "shut": (403, "1.0"),
    }
    for name, (status, version) in names.items():
        add(index, name, "1.0")
        add(index, name, "2.0")
        kind = "metadata" if version == "2.0" else None
        index.inject(Status(status=status), kind=kind, project=name, filename=wheel(name, "2.0"))
    add(index, "lies", "1.0")
    filename, data = build_wheel("lies", "2.0")
    index.state.publish("lies", filename, data, core_metadata={"sha256": "0" * 64})
    mirror.want(*names, "lies")
    await mirror.cycle()
    expected = {wheel(name, version) for name, (_, version) in names.items()}
    assert mirror.names() - {wheel("lies", "1.0")} == expected | {filename}
    [proof] = await proofs(mirror)
    assert {one["project"]: one["reason"] for one in proof["instead"]} == {"kept": "withheld", "shut": "failed"}
    mirror.want("kept==2.0", "shut==2.0")
    await mirror.cycle()
    [proof] = await proofs(mirror)
    gaps = {gap["project"]: gap for gap in proof["gaps"]}
    assert {name: gap["reason"] for name, gap in gaps.items()} == {"kept": "withheld", "shut": "failed"}
    assert "denied" in gaps["shut"]["detail"]


async def test_files_that_are_refused_for_good(index, mirror):
    """Each is hidden with its reason, and the version before it is taken in the same cycle; a pin names the reason."""
    for name in ("absent", "bad", "large", "denied"):
        add(index, name, "1.0")
    for name in ("absent", "denied"):
        add(index, name, "2.0")
    filename, data = build_wheel("bad", "2.0")
    index.state.publish("bad", filename, data, hashes={"sha256": "0" * 64})
    index.state.publish("large", *build_wheel("large", "2.0", size_pad=9_000))
    index.inject(Status(status=404), kind="file", project="absent", filename=wheel("absent", "2.0"))
    index.inject(Status(status=403), kind="file", project="denied", filename=wheel("denied", "2.0"))
    mirror.limits["file_size"] = 8_000
    mirror.want("absent", "bad", "large", "denied")
    report = await mirror.cycle()
    assert mirror.names() == {wheel(name, "1.0") for name in ("absent", "bad", "large", "denied")}
    reasons = {f.project: f.reason.value for f in report.failures}
    ledger = {"absent": "not-found", "bad": "digest-mismatch", "large": "too-large", "denied": "denied"}
    assert reasons == ledger
    [proof] = await proofs(mirror)
    gaps = {name: "too-large" if name == "large" else "failed" for name in ledger}
    assert {one["project"]: one["reason"] for one in proof["instead"]} == gaps
    mirror.wants = tuple(w for name in ledger for w in mirror.wanted(f"{name}==2.0", name=name))
    await mirror.cycle()
    found = {proof["want"]: proof["gaps"][0] for proof in await proofs(mirror)}
    assert {name: gap["reason"] for name, gap in found.items()} == gaps
    assert all(ledger[name] in gap["detail"] for name, gap in found.items() if name != "large")


async def test_a_chain_of_refusals_ends_and_goes_on(index, mirror):
    """At most five times a cycle: then the want keeps its earlier set, and the next cycle goes on from there."""
    add(index, "app", "1.0")
    mirror.want("app")
    await mirror.cycle()
    for number in range(2, 11):
        add(index, "app", f"{number}.0")
        index.inject(withheld("POLICY_COOLDOWN"), kind="file", project="app", filename=wheel("app", f"{number}.0"))
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0")}
    assert len(mirror.ledger()) == 6
    await mirror.cycle()
    assert len(mirror.ledger()) == 9
    [proof] = await proofs(mirror)
    assert proof["installable"]
    assert proof["instead"] == [{"project": "app", "version": "1.0", "hidden": "10.0", "reason": "withheld"}]


async def test_what_a_rule_leaves_out_is_never_asked_for(index, mirror):
    """No byte of it, and no page of a name that no root lists; the gap names the key."""
    add(index, "app", "1.0", "lib", "nowhere")
    add(index, "lib", "1.0")
    add(index, "other", "1.0")
    mirror.configure("main", exclude_files=("lib-*",))
    mirror.want("app")
    await mirror.cycle()
    assert not [r for r in requests(index) if r[1] in {"nowhere", "other"} or "lib-" in (r[2] or "")]
    [proof] = await proofs(mirror)
    gaps = {gap["project"]: gap for gap in proof["gaps"]}
    assert {name: gap["reason"] for name, gap in gaps.items()} == {"lib": "not-served", "nowhere": "not-offered"}
    assert "exclude-files" in gaps["lib"]["detail"]
    add(index, "lib", "2.0")
    mirror.configure("main", exclude_files=("lib-1*",))
    mirror.want("lib==1.0")
    await mirror.cycle()
    [proof] = await proofs(mirror)
    assert [(gap["reason"], "exclude-files" in gap["detail"]) for gap in proof["gaps"]] == [("left-out", True)]


async def test_a_lost_cache_costs_requests_only(index, mirror):
    """Its pages are read again without validators; no resolver starts, and nothing changes. A damaged entry is lost."""
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    mirror.want("app")
    await mirror.cycle()
    inputs = "SELECT cycle FROM resolution"
    computed = mirror.query(inputs)
    index.take_requests()
    shutil.rmtree(mirror.root / "cache")
    await mirror.cycle()
    assert [r[:2] for r in requests(index) if r[3] == 200 and r[0] == "page"] == [("page", "app"), ("page", "lib")]
    for entry in (mirror.root / "cache/pages").rglob("*"):
        if entry.is_file():
            entry.write_bytes(entry.read_bytes()[:-1])
    await mirror.cycle()
    assert mirror.query(inputs) == computed
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}


async def test_a_file_that_is_absent_once_changes_nothing(index, mirror):
    """What is published stays in the view until its removal is applied, which takes two looks."""
    add(index, "app", "1.0")
    add(index, "app", "2.0")
    add(index, "kept", "1.0")
    mirror.want("app", "kept")
    await mirror.cycle()
    index.state.remove_file("app", wheel("app", "2.0"))
    await mirror.cycle(allow_shrink=True)
    assert wheel("app", "2.0") in mirror.names()
    assert wheel("app", "1.0") not in mirror.names()
    await mirror.cycle(allow_shrink=True)
    await mirror.cycle(allow_shrink=True)
    assert mirror.names() == {wheel("app", "1.0"), wheel("kept", "1.0")}


async def test_metadata_that_nobody_can_have_now_makes_the_run_void(index, mirror):
    """A 503 is the index's fault: the want keeps its set, and the report has the index's reason, not ``unresolved``."""
    add(index, "app", "1.0")
    mirror.want("app")
    await mirror.cycle()
    add(index, "app", "2.0")
    index.inject(Status(status=503), kind="metadata", project="app", filename=wheel("app", "2.0"))
    report = await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0")}
    assert "unresolved" not in {reason for *_, reason in failures(report)}
    index.faults.clear()
    await mirror.cycle()
    assert wheel("app", "2.0") in mirror.names()


async def test_a_dependency_pins_a_yanked_release(index, mirror):
    """Pip takes it with a warning, uv only as a line of its own: it is mirrored."""
    add(index, "app", "1.0", "lib==1.0")
    add(index, "lib", "1.0", yanked="broken")
    add(index, "lib", "2.0")
    mirror.want("app")
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
    [proof] = await proofs(mirror)
    assert proof["installable"]


async def test_free_threaded_and_stable_interfaces(index, mirror):
    """``3.13t`` takes its own wheels and never abi3; the other one takes abi3."""
    for tag in ("cp313-cp313t-manylinux_2_17_x86_64", "cp312-abi3-manylinux_2_17_x86_64"):
        add(index, "app", "1.0", tag=tag)
    add(index, "app", "2.0", tag="cp312-abi3-manylinux_2_17_x86_64")
    target = {"platforms": ("linux-x86_64",)}
    mirror.targets = (TargetConfig(name="free", python=("3.13t",), **target),)
    mirror.targets += (TargetConfig(name="plain", python=("3.13",), **target),)
    mirror.want("app")
    await mirror.cycle()
    assert mirror.names() == {
        wheel("app", "1.0", "cp313-cp313t-manylinux_2_17_x86_64"),
        wheel("app", "2.0", "cp312-abi3-manylinux_2_17_x86_64"),
    }


async def test_source_distributions_beyond_the_limit(index, mirror, monkeypatch):
    """One run reads so many of a project and no more: the others are passed over as unproved."""
    monkeypatch.setattr(answers, "MAX_SDISTS", 3)
    for number in range(1, 7):
        index.state.publish("src", *build_sdist("src", f"{number}.0", requires=["nowhere"] if number > 1 else []))
    mirror.want("src")
    await mirror.cycle()
    [proof] = await proofs(mirror)
    assert not proof["installable"]
    read = [r for r in requests(index) if r[0] == "file"]
    assert len(read) <= 3


async def test_an_index_that_leads_on_for_ever(index, mirror, monkeypatch):
    """Too many names end the run; only this want fails."""
    monkeypatch.setattr(answers, "MAX_NAMES", 8)
    for number in range(20):
        add(index, f"p{number}", "1.0", f"p{number + 1}")
    add(index, "well", "1.0")
    mirror.want("p0")
    mirror.wants += mirror.wanted("well", name="good")
    report = await mirror.cycle()
    assert [f.detail.partition(",")[0] for f in report.failures] == ["want apps"]
    assert mirror.names() == {wheel("well", "1.0")}
