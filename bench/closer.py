"""The cases that say how close to the limit the mirror is: fills and idle cycles of fixed sizes beside a bare loop, verify
beside one core's hashlib, and what denied files, rules and wants add to an idle cycle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench import peers
from bench.corpus import Shape, name_of
from bench.measure import OURS, Comparison, Contender, compare, count_calls, primed, run_once
from bench.records import Bench, Goal, Result, title_of

_KIB, _MIB = 1024, 2**20


def fill_1000(bench: Bench) -> Result:
    """Cold fill, 1,000 projects of 3 files of 20 KiB."""
    return _fill(bench, "fill-1000", 1_000, wall=1.3, cpu=1.9)


def fill_10000(bench: Bench) -> Result:
    """Cold fill, 10,000 projects of 3 files of 20 KiB."""
    return _fill(bench, "fill-10000", 10_000, wall=1.15, cpu=None)


def _fill(bench: Bench, name: str, projects: int, *, wall: float, cpu: float | None) -> Result:
    shape = Shape(projects=30 if bench.is_tiny else projects, files=3, file_bytes=20 * _KIB)
    with _serving(bench, shape) as upstream:
        ours, loop = peers.mirror(upstream, shape), peers.loop(upstream, shape)
        contenders = [ours, loop, *bench.bander(upstream, shape)]
        rounds = bench.rounds
        if projects > 1_000:  # minutes each: one round of the slow peer says enough
            rounds = min(rounds, 3)
            contenders[2:] = [dataclasses.replace(one, every=rounds) for one in contenders[2:]]
        found = compare(contenders, rounds, bench.tmpfs / "run", upstream)
        calls = {one.name: _calls(bench, one) for one in (ours, loop)} if cpu is not None else {}
    goals = [Goal(text="of the bare loop's time", value=found.ratio("bare loop"), limit=wall)]
    if cpu is not None:
        goals.append(Goal(text="of the bare loop's CPU", value=found.ratio("bare loop", "cpu_s"), limit=cpu))
    if "bandersnatch" in found.runs:
        goals.append(Goal(text="of bandersnatch's time", value=found.ratio("bandersnatch"), limit=1 / 5))
    extra = _beyond_start(bench, found)
    for one, count in calls.items():
        if count is not None:
            extra[f"system_calls_for_each_file_{one.replace(' ', '_')}"] = round(count / shape.file_count, 1)
    ours_calls = calls.get(OURS)
    if ours_calls is not None:
        each = ours_calls / shape.file_count
        goals.append(Goal(text="system calls for each file", value=each, limit=35, is_ratio=False))
    return Result(name=name, title=title_of(CASES[name]), comparison=found, goals=goals, extra=extra)


_IMPORTS = {
    OURS: "import mirror.cli.app, mirror.cli.commands.sync.once, mirror.jobs.once, mirror.workers.process",
    "bare loop": "import aiohttp, asyncio, base64, hashlib, json",
}


def _beyond_start(bench: Bench, found: Comparison) -> dict[str, float | int | None]:
    """Return what the imports alone take, and the ratio of CPU without them: it shows what a longer run comes to."""
    extra: dict[str, float | int | None] = {}
    cpu_s: dict[str, float] = {}
    for name, imports in _IMPORTS.items():
        command = peers.plain_command(name, [sys.executable, "-c", imports])
        runs = [
            run_once(command.command(bench.tmpfs), command.environment, bench.tmpfs / "start.log") for _ in range(5)
        ]
        cpu_s[name] = min(run.cpu_s for run in runs)
        extra[f"CPU_s_of_the_imports_{name.replace(' ', '_')}"] = round(cpu_s[name], 3)
    rest = {name: found.median(name, "cpu_s") - cpu_s[name] for name in cpu_s}
    extra["CPU_beyond_the_imports,_of_the_loop's"] = round(rest[OURS] / max(rest["bare loop"], 1e-3), 2)
    return extra


@contextlib.contextmanager
def _serving(bench: Bench, shape: Shape) -> Iterator[peers.Upstream]:
    """Serve a corpus, and remove it: those of the larger cases together would not fit into memory."""
    with bench.upstream(shape) as (site, upstream):
        yield upstream
    shutil.rmtree(site)


def _calls(bench: Bench, contender: Contender) -> int | None:
    """Count the system calls of one run of a contender."""
    directory = bench.tmpfs / "calls"
    directory.mkdir()
    contender.prepare(directory)
    counted = count_calls(contender.command(directory), contender.environment, bench.tmpfs)
    shutil.rmtree(directory)
    return counted


def idle_1000(bench: Bench) -> Result:
    """Idle cycle of 1,000 pages, no serials."""
    return _idle(bench, "idle-1000", 1_000)


def idle_10000(bench: Bench) -> Result:
    """Idle cycle of 10,000 pages, no serials."""
    return _idle(bench, "idle-10000", 10_000)


def _idle(bench: Bench, name: str, projects: int) -> Result:
    shape = Shape(projects=30 if bench.is_tiny else projects, files=3, file_bytes=0)
    with bench.upstream(shape) as (_, upstream):
        contenders = [
            primed(peers.mirror(upstream, shape, server="plain", keeps=True)),
            peers.idle_loop(upstream, shape),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
        shutil.rmtree(bench.tmpfs / "run")
    goal = Goal(text="of the bare loop's time", value=found.ratio("bare loop"), limit=1.15)
    extra = _beyond_start(bench, found)
    return Result(name=name, title=title_of(CASES[name]), comparison=found, goals=[goal], extra=extra)


def verify_large(bench: Bench) -> Result:
    """Verify large files (4 GiB; with --quick 1 GiB), in the page cache."""
    shape = Shape(projects=20 if bench.is_quick else 80, files=1, file_bytes=50 * _MIB)
    return _verify(bench, "verify-large", bench.large if bench.is_tiny else shape, 0.65)


def verify_small(bench: Bench) -> Result:
    """Verify 10,000 wheels of 20 KiB in 1,000 projects, in the page cache."""
    shape = Shape(projects=1_000, files=10, file_bytes=20 * _KIB)
    return _verify(bench, "verify-small", bench.small if bench.is_tiny else shape, 2.5)


def _verify(bench: Bench, name: str, shape: Shape, limit: float) -> Result:
    tree = bench.tmpfs / "verified"
    tree.mkdir()
    with _serving(bench, shape) as upstream:
        filled = peers.mirror(upstream, shape)
        filled.prepare(tree)
        run_once(filled.command(tree), filled.environment, tree / "fill.log")
    contenders = [peers.verify(tree), peers.hash_loop(tree)]
    found = compare(contenders, bench.rounds, bench.tmpfs / "run", None)
    shutil.rmtree(tree)
    goal = Goal(text="of one core's hashlib loop", value=found.ratio("hashlib"), limit=limit)
    return Result(name=name, title=title_of(CASES[name]), comparison=found, goals=[goal])


def idle_denied(bench: Bench) -> Result:
    """Idle cycle by hand with one file in a hundred denied: each is asked for again."""
    shape = Shape(projects=60 if bench.is_tiny else 1_000, files=3, file_bytes=2 * _KIB)
    with bench.upstream(shape) as (_, upstream):
        denied = peers.mirror(upstream, shape, server="denying", keeps=True)
        return _beside_plain(bench, "idle-denied", shape, upstream, _partial(denied))


def idle_rules(bench: Bench) -> Result:
    """Idle cycle with rules that leave files out."""
    shape = Shape(projects=60 if bench.is_tiny else 1_000, files=3, file_bytes=2 * _KIB)
    rules = '\n[rules]\nnewest = 2\npre-releases = "never"\nyanked = "never"\nversions = ["project-000001>=0.0.1"]\n'
    with bench.upstream(shape) as (_, upstream):
        ruled = peers.mirror(upstream, shape, server="plain", keeps=True, config=rules, holds_all=False)
        return _beside_plain(bench, "idle-rules", shape, upstream, ruled)


def idle_wants(bench: Bench) -> Result:
    """Idle cycle with 50 wants of the same index."""
    shape = Shape(projects=60 if bench.is_tiny else 1_000, files=3, file_bytes=2 * _KIB)
    names = ", ".join(f'"{name_of(number)}"' for number in range(50))
    wants = (
        'select = "listed"\n\n[[target]]\nname = "a"\npython = ["3.11"]\nplatforms = ["linux-x86_64"]\nglibc = "2.28"\n'
    )
    wants += f'\n[[want]]\nname = "apps"\nrequirements = [{names}]\n'
    with bench.upstream(shape) as (_, upstream):
        wanting = peers.mirror(upstream, shape, server="plain", keeps=True, config=wants)
        uv = Path(sys.executable).with_name("uv")
        program = {"MIRROR_UV": str(uv)} if uv.exists() else {}
        wanting = dataclasses.replace(wanting, environment={**wanting.environment, **program})
        return _beside_plain(bench, "idle-wants", shape, upstream, wanting)


def _beside_plain(bench: Bench, name: str, shape: Shape, upstream: peers.Upstream, ours: Contender) -> Result:
    """Compare an idle cycle with the same one without the additions."""
    plain = peers.mirror(upstream, shape, server="plain", keeps=True, name="without")
    found: Comparison = compare([primed(ours), primed(plain)], bench.rounds, bench.tmpfs / "run", upstream)
    shutil.rmtree(bench.tmpfs / "run")
    goal = Goal(text="of the CPU without", value=found.ratio("without", "cpu_s"), limit=1.1)
    return Result(name=name, title=title_of(CASES[name]), comparison=found, goals=[goal])


def _partial(contender: Contender) -> Contender:
    """Let exit code 5 count as done: some files are denied."""

    def command(directory: Path) -> list[str]:
        return ["sh", "-c", '"$@" || [ $? = 5 ]', "sh", *contender.command(directory)]

    return dataclasses.replace(contender, command=command, check=lambda _: None)


CASES = {
    "fill-1000": fill_1000,
    "fill-10000": fill_10000,
    "idle-1000": idle_1000,
    "idle-10000": idle_10000,
    "verify-large": verify_large,
    "verify-small": verify_small,
    "idle-denied": idle_denied,
    "idle-rules": idle_rules,
    "idle-wants": idle_wants,
}
