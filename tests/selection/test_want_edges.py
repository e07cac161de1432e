"""Wants at their edges: files that are not there, rules of the proof, a resolver that hangs, answers in another order."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from harness.in_process import DAY_S, failures
from harness.wants import WantingMirror, add, proofs, wheel
from mirror.config import WantConfig
from mirror.jobs.prove import prove_tree
from mirror.selection.resolving import uv
from simulator import build_sdist


async def test_a_pattern_that_matches_nothing_never_counts_as_empty(index, mirror, tmp_path):
    """The want fails, alone; a list beside it goes on, and what a vanished file needed stays published."""
    add(index, "app", "1.0")
    add(index, "lib", "1.0")
    wants = tmp_path / "wants.txt"
    wants.write_text("app\n")
    mirror.wants = (WantConfig(name="files", files=(str(wants),)), *mirror.wanted("lib", name="list"))
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}
    wants.unlink()
    report = await mirror.cycle()
    assert [reason for *_, reason in failures(report)] == ["unresolved"]
    assert "no file matches this pattern" in report.failures[0].detail
    assert mirror.names() == {wheel("app", "1.0"), wheel("lib", "1.0")}


async def test_more_versions_and_deep_builds(index, mirror):
    """A further version that can't be resolved is left out and fails nothing; build requirements that need each other end."""
    add(index, "app", "1.0")
    add(index, "app", "2.0", "nowhere")
    add(index, "app", "3.0")
    index.state.publish("src", *build_sdist("src", "1.0", build_requires=["tool"]))
    index.state.publish("tool", *build_sdist("tool", "1.0", build_requires=["src"]))
    mirror.want("app", "src", versions="newest 3")
    report = await mirror.cycle()
    assert failures(report) == []
    assert mirror.names() == {wheel("app", "1.0"), wheel("app", "3.0"), "src-1.0.tar.gz", "tool-1.0.tar.gz"}
    [proof] = await proofs(mirror)
    assert proof["installable"]


async def test_a_newer_source_distribution_is_what_a_client_would_take(index, mirror):
    """Where all is listed, a plain install takes the newer source distribution: the proof wants what building it takes."""
    mirror.configure("main", select="listed", exclude_projects=("tool",))
    add(index, "app", "1.0")
    index.state.publish("app", *build_sdist("app", "2.0", build_requires=["tool"]))
    add(index, "tool", "1.0")
    mirror.want("app", sdists="never")
    await mirror.cycle()
    [proof] = await proofs(mirror)
    assert [gap["project"] for gap in proof["gaps"]] == ["tool"]
    mirror.configure("main", exclude_projects=())
    await mirror.cycle()
    [proof] = await proofs(mirror)
    assert (proof["installable"], proof["files"]) == (True, 2)


async def test_a_file_for_check_that_nobody_wanted(index, mirror, tmp_path):
    """A name that a root lists and no want needed: the gap says which index lists it."""
    add(index, "app", "1.0")
    add(index, "other", "1.0")
    mirror.want("app")
    await mirror.cycle()
    asked = tmp_path / "asked.txt"
    asked.write_text("other\nnowhere\n")
    [proof] = await prove_tree(mirror.config, mirror.env, names=[str(asked)])
    gaps = {gap.project: (gap.reason.value, gap.detail) for gap in proof.gaps}
    assert gaps["other"] == ("not-offered", "main lists it: add a want")
    assert gaps["nowhere"][0] == "not-offered"
    assert proof.want is None


async def test_a_resolver_that_hangs(index, mirror, tmp_path, monkeypatch):
    """It is ended with its children, and the want has a reason; another version of it is asked again."""
    monkeypatch.setattr(uv, "LIMIT_S", 0.2)
    add(index, "app", "1.0")
    program = tmp_path / "uv"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo uv 8; exit; }\nsleep 1000 & wait\n')
    program.chmod(0o755)
    mirror.env = {"MIRROR_UV": str(program)}
    mirror.want("app")
    report = await mirror.cycle()
    assert "did not end within" in report.failures[0].detail
    monkeypatch.undo()
    mirror.env = {}
    await mirror.cycle()
    assert mirror.names() == {wheel("app", "1.0")}


async def test_the_resolver_gets_no_secret_as_an_argument(index, mirror, tmp_path):
    """``ps`` shows arguments: the view's address is in the environment, which has nothing else of ours."""
    add(index, "app", "1.0")
    log, program = tmp_path / "log", tmp_path / "uv"
    real = Path(sys.executable).with_name("uv")
    lines = f'echo "$@" >> {log}.arguments\nenv > {log}.environment\nexec {real} "$@"\n'
    program.write_text(f"#!/bin/sh\n{lines}")
    program.chmod(0o755)
    mirror.env = {"MIRROR_UV": str(program), "MAIN_TOKEN": "a-secret-of-the-index"}
    mirror.want("app")
    await mirror.cycle()
    arguments = (tmp_path / "log.arguments").read_text()
    environment = (tmp_path / "log.environment").read_text()
    assert "127.0.0.1" not in arguments
    assert "a-secret-of-the-index" not in environment
    names = {line.partition("=")[0] for line in environment.splitlines()} - {"PWD", "_", "SHLVL", "OLDPWD", "LC_CTYPE"}
    assert names == {
        "PATH",
        "HOME",
        "UV_NO_CONFIG",
        "UV_PYTHON_DOWNLOADS",
        "UV_DEFAULT_INDEX",
        "UV_NO_PROGRESS",
        "NO_PROXY",
    }


async def test_a_jump_of_the_clock_ends_nothing(index, mirror):
    """Files that no want needs stay through one, and the brake counts only other removals."""
    mirror.settings = {"keep_unwanted_s": 4 * DAY_S}
    for name in ("app", "gone"):
        add(index, name, "1.0")
    mirror.want("app", "gone")
    await mirror.cycle()
    mirror.want("app")
    await mirror.cycle()
    mirror.clock.advance(1_000 * DAY_S)
    await mirror.cycle()
    assert wheel("gone", "1.0") in mirror.names()


async def test_equal_trees_from_shuffled_answers(simulator, tmp_path):
    """The order of projects, files and wants changes nothing."""
    found = []
    for seed in (1, 2):
        rng = random.Random(seed)
        index = await simulator(core_metadata=True)
        files = [("app", "1.0", "mid>=1"), ("app", "2.0", "mid<2"), ("mid", "1.0", "low"), ("mid", "2.0", "low")]
        files += [("low", "1.0"), ("low", "1.0"), ("top", "1.0", "app", "low")]
        rng.shuffle(files)
        for project, version, *requires in files:
            add(index, project, version, *requires)
        mirror = WantingMirror(tmp_path / f"mirror-{seed}", {"main": index})
        wants = [*mirror.wanted("top", name="a"), *mirror.wanted("mid", name="b")]
        rng.shuffle(wants)
        mirror.wants = tuple(wants)
        await mirror.cycle()
        found.append(mirror.files())
    assert found[0] == found[1]


async def test_an_extra_that_a_version_does_not_have(index, mirror):
    """Installers only warn of it: the set installs, and the proof names the extra and those that there are."""
    add(index, "app", "1.0", "lib; extra == 'fast'")
    add(index, "lib", "1.0", "app[nothing]")
    mirror.want("app[Fast,typo]", "lib")
    report = await mirror.cycle()
    assert failures(report) == []
    [proof] = await proofs(mirror)
    assert (proof["installable"], proof["gaps"]) == (True, [])
    assert proof["warnings"] == ["app[Fast,typo]: app 1.0 has no extra typo; it has fast"]


async def test_a_version_that_only_a_later_index_has(index, simulator, tmp_path):
    """The gap names the owner, and the index that may not give it; the resolver's words have no preamble."""
    later = await simulator(core_metadata=True)
    add(index, "lib", "1.0")
    add(later, "lib", "9.0")
    for name, limit in (("one", "lib<1"), ("two", "lib>=1")):
        add(index, name, "1.0", limit)
    add(index, "lib", "0.5")
    mirror = WantingMirror(tmp_path / "two", {"main": index, "later": later})
    mirror.wants = (*mirror.wanted("lib==9.0", name="pinned"), *mirror.wanted("one", "two", name="torn"))
    await mirror.cycle()
    [pinned], [torn] = [proof["gaps"] for proof in await proofs(mirror)]
    assert (pinned["reason"], pinned["detail"]) == (
        "no-version",
        "main lists 1.0, 0.5; main owns it; later lists it too",
    )
    assert torn["detail"].startswith("lib<1 of one and lib>=1 of two exclude each other; Because ")
