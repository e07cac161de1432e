"""The cases of wants: a resolution beside uv alone, many wants with one changed page, a first want on a large root."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

from bench import peers
from bench.corpus import Shape, name_of
from bench.measure import OURS, Comparison, Contender, compare, run_once
from bench.records import Bench, Goal, Result, corpus, title_of
from bench.upstream import PASSWORD, USER, Upstream

_TARGETS = """
[[target]]
name = "t"
python = [{pythons}]
platforms = ["linux-x86_64", "windows-x86_64"]
"""
_PYTHONS = ("3.11.9", "3.12.4", "3.13.1")


def resolved(bench: Bench) -> Result:
    """First cycle of a want of 300 projects, beside `uv pip compile` asked for the same"""
    shape = Shape(projects=30 if bench.is_tiny else 1_000, files=2, file_bytes=2_000)
    names = [name_of(number) for number in range(min(300, shape.projects))]
    with bench.upstream(shape) as (_, upstream):
        ours = _wanting(upstream, shape, _one_target() + _want("apps", names))
        beside = _uv(upstream, names)
        found = compare([ours, beside], bench.rounds, bench.tmpfs / "run", upstream)
    shutil.rmtree(bench.tmpfs / "run")
    extra = {"seconds beyond uv": found.median(OURS, "wall_s") - found.median("uv pip compile", "wall_s")}
    return Result(name="want-resolved", title=title_of(resolved), comparison=found, extra=dict(extra))


def alone(bench: Bench) -> Result:
    """One resolution of 300 projects without downloads and proof, beside `uv pip compile` asked for the same"""
    shape = Shape(projects=30 if bench.is_tiny else 1_000, files=2, file_bytes=2_000)
    names = [name_of(number) for number in range(min(300, shape.projects))]
    with bench.upstream(shape) as (_, upstream):
        ours = _dry(_wanting(upstream, shape, _one_target() + _want("apps", names)))
        idle = _dry(_wanting(upstream, shape, _one_target() + _want("apps", names[:1]), name="one project"))
        found = compare([ours, idle, _uv(upstream, names)], bench.rounds, bench.tmpfs / "run", upstream)
    shutil.rmtree(bench.tmpfs / "run")
    goal = Goal(text="of uv's time", value=found.ratio("uv pip compile"), limit=1.3)
    extra = {
        "seconds beyond one project's": found.median(OURS, "wall_s") - found.median("one project", "wall_s"),
        "seconds of uv": found.median("uv pip compile", "wall_s"),
    }
    return Result(name="want-alone", title=title_of(alone), comparison=found, goals=[goal], extra=dict(extra))


def changed(bench: Bench) -> Result:
    """Cycle of many wants and targets with one page changed, beside their first one"""
    count, pythons = (200, 3) if bench.is_full else (5, 1) if bench.is_tiny else (20, 2)
    shape = Shape(projects=4 * count, files=2, file_bytes=2_000, seed=7)
    wants = "".join(_want(f"w{n}", [name_of(4 * n + i) for i in range(4)]) for n in range(count))
    quoted = ", ".join(f'"{python}"' for python in _PYTHONS[:pythons])
    with bench.upstream(shape) as (site, upstream):
        starts = bench.tmpfs / "starts"
        ours = _counted(_wanting(upstream, shape, _TARGETS.format(pythons=quoted) + wants), starts)
        place = bench.tmpfs / "run"
        place.mkdir()
        ours.prepare(place)
        first = run_once(ours.command(place), ours.environment, place / "first.log")
        corpus(site, shape, "--release=0.0001", "--generation=1")
        starts.write_text("")
        second = run_once(ours.command(place), ours.environment, place / "second.log")
        runs = starts.read_text().count("compile")
    shutil.rmtree(place)
    shutil.rmtree(site)
    found = Comparison(runs={OURS: [second], "first cycle": [first]})
    # one want has the changed page: for each environment a resolution and a proof
    goal = Goal(text="resolvers started", value=runs, limit=4 * pythons, is_ratio=False)
    return Result(name="wants-changed", title=title_of(changed), comparison=found, goals=[goal])


def large_root(bench: Bench) -> Result:
    """First want on a large root: the root, and the pages of the closure"""
    projects = 730_000 if bench.is_full else 200 if bench.is_tiny else 20_000
    shape = Shape(projects=projects, files=1, file_bytes=0)
    with bench.upstream(shape) as (_, upstream):
        ours = _wanting(upstream, shape, _one_target() + _want("apps", ["nowhere-at-all", name_of(0)]))
        found = compare([ours], bench.rounds, bench.tmpfs / "run", upstream)
    shutil.rmtree(bench.tmpfs / "run")
    pages = max(run.requests for run in found.runs[OURS])
    goal = Goal(text="requests", value=pages, limit=12, is_ratio=False)
    return Result(name="want-large-root", title=title_of(large_root), comparison=found, goals=[goal])


def _one_target() -> str:
    return '\n[[target]]\nname = "t"\npython = ["3.12.4"]\nplatforms = ["linux-x86_64"]\n'


def _want(name: str, requirements: list[str]) -> str:
    quoted = ", ".join(f'"{one}"' for one in requirements)
    return f'\n[[want]]\nname = "{name}"\nrequirements = [{quoted}]\n'


def _dry(contender: Contender) -> Contender:
    """Let a mirror resolve, and fetch nothing."""

    def command(directory: Path) -> list[str]:
        return [*contender.command(directory), "--dry-run"]

    return dataclasses.replace(contender, command=command)


def _wanting(upstream: Upstream, shape: Shape, wants: str, name: str = OURS) -> Contender:
    """Return the mirror of some wants; exit code 5 counts as done, where a want has a gap."""
    ours = peers.mirror(upstream, shape, server="plain", config=wants, holds_all=False, name=name)

    def command(directory: Path) -> list[str]:
        return ["sh", "-c", '"$@" || [ $? = 5 ]', "sh", *ours.command(directory)]

    uv = Path(sys.executable).with_name("uv")
    program = {"MIRROR_UV": str(uv)} if uv.exists() else {}
    environment = {**ours.environment, **program}
    return dataclasses.replace(ours, command=command, environment=environment, check=lambda _: None)


def _uv(upstream: Upstream, names: list[str]) -> Contender:
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.exists() else "uv"
    url = upstream.url("plain").replace("http://", f"http://{USER}:{PASSWORD}@")

    def prepare(directory: Path) -> None:
        (directory / "asked.in").write_text("".join(f"{name}\n" for name in names))

    def command(directory: Path) -> list[str]:
        options = ["--quiet", "--no-config", "--only-binary", ":all:", "--python-version", "3.12.4"]
        cache = ["--cache-dir", f"{directory}/cache", "--output-file", f"{directory}/answer.txt"]
        return [program, "pip", "compile", *options, "--default-index", url, *cache, f"{directory}/asked.in"]

    return Contender(name="uv pip compile", command=command, prepare=prepare, check=lambda _: None, server="plain")


def _counted(contender: Contender, starts: Path) -> Contender:
    """Let the resolver's starts be counted, a line for each."""
    uv = contender.environment.get("MIRROR_UV") or shutil.which("uv") or "uv"
    program = starts.with_name("counting-uv")
    program.write_text(f'#!/bin/sh\necho "$2" >> {starts}\nexec {uv} "$@"\n')
    program.chmod(0o755)
    return dataclasses.replace(contender, environment={**contender.environment, "MIRROR_UV": str(program)})


CASES = {"want-alone": alone, "want-resolved": resolved, "wants-changed": changed, "want-large-root": large_root}
