"""The cases: what runs side by side, and what is to be reached (ratios of one run)."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench import closer, load, peers, stores, wants
from bench.corpus import Shape
from bench.measure import OURS, Comparison, Contender, Run, compare, count_syncs, kill_after, run_once
from bench.records import Bench, Goal, Result, corpus, title_of
from bench.upstream import delayed, serving

_ANOTHER_ROOT = "another root"

LIBRARIES = """
import aiohttp, aiosqlite, anyio, msgspec, packaging.version, selectolax.lexbor, typer.main
try:
    from pydantic import TypeAdapter  # newer versions of typer import it for each command
except ImportError:
    pass
"""


def cold_small(bench: Bench) -> Result:
    """Cold fill, many small, tmpfs."""
    with bench.upstream(bench.small) as (site, upstream):
        contenders = [
            peers.mirror(upstream, bench.small),
            *bench.bander(upstream, bench.small),
            peers.loop(upstream, bench.small),
            *peers.curl(upstream, site, bench.small),
            *peers.floor(site, bench.small),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
    bench.cold_s = {name: found.median(name, "wall_s") for name in found.runs}
    goals = [Goal(text="of the bare loop's time", value=found.ratio("bare loop"), limit=1.5)]
    return Result(
        name="cold-small", title=title_of(cold_small), comparison=found, goals=_with_bander(found, 1 / 5, goals)
    )


def cold_latency(bench: Bench) -> Result:
    """Cold fill, many small, 20 ms for each request."""
    with (
        bench.upstream(bench.small) as (_, upstream),
        delayed(upstream.ports["serials"], 20) as serials,
        delayed(upstream.ports["open"], 20) as unlocked,
        delayed(upstream.ports["plain"], 20) as plain,
        delayed(upstream.ports["plain"], 0) as undelayed,
    ):
        contenders = [
            peers.mirror(upstream, bench.small, port=serials),
            *bench.bander(upstream, bench.small, port=unlocked),
            peers.loop(upstream, bench.small, port=plain),
            dataclasses.replace(peers.loop(upstream, bench.small, port=undelayed), name="bare loop, 0 ms"),
            dataclasses.replace(peers.loop(upstream, bench.small), name="bare loop, no proxy"),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
    extra = {"proxy_cost_ratio": round(found.ratio("bare loop, no proxy", ours="bare loop, 0 ms"), 2)}
    return Result(
        name="cold-latency",
        title=title_of(cold_latency),
        comparison=found,
        goals=_with_bander(found, 1 / 3),
        extra=extra,
    )


def cold_disk(bench: Bench) -> Result:
    """Cold fill, many small, disk, durable."""
    with bench.upstream(bench.small) as (site, upstream):
        ours = peers.mirror(upstream, bench.small)
        contenders = [
            ours,
            *bench.bander(upstream, bench.small),
            peers.loop(upstream, bench.small, is_durable=True),
            peers.writer(site, bench.small),
            *peers.floor(site, bench.small),
        ]
        found = compare(contenders, bench.rounds, bench.disk / "run", upstream, leaves=True)
        syncs = _syncs(bench.disk / "run", ours)
        shutil.rmtree(bench.disk / "run")
    goals = [
        Goal(text="of writing the same files with syncfs", value=found.ratio("write+syncfs"), limit=1.5),
        Goal(text="of a bare loop with syncfs", value=found.ratio("bare loop+syncfs"), limit=1.5),
    ]
    return Result(
        name="cold-disk",
        title=title_of(cold_disk),
        comparison=found,
        goals=_with_bander(found, 1 / 3, goals),
        extra={"syncs_of_the_mirror": syncs},
    )


def cold_large(bench: Bench) -> Result:
    """Cold fill, few large, tmpfs."""
    with bench.upstream(bench.large) as (site, upstream):
        contenders = [
            peers.mirror(upstream, bench.large),
            *peers.curl(upstream, site, bench.large),
            peers.loop(upstream, bench.large),
            *peers.floor(site, bench.large),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
    goals = [Goal(text="of the bare loop's time", value=found.ratio("bare loop"), limit=1.0)]
    if "curl -Z" in found.runs:
        goals.append(Goal(text="of curl's time", value=found.ratio("curl -Z"), limit=1.3))
    return Result(name="cold-large", title=title_of(cold_large), comparison=found, goals=goals)


def idle_serials(bench: Bench) -> Result:
    """Idle cycle, serials in the root."""
    with bench.upstream(bench.small) as (_, upstream):
        ours = _filled(peers.mirror(upstream, bench.small, keeps=True))
        contenders = [
            ours,
            *(_filled(c) for c in bench.bander(upstream, bench.small, keeps=True)),
            peers.plain_command("libraries", [sys.executable, "-c", LIBRARIES]),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
        syncs = count_syncs(ours.command(bench.tmpfs / "run" / OURS), ours.environment, bench.tmpfs)
        shutil.rmtree(bench.tmpfs / "run")
    beyond_s = found.median(OURS, "cpu_s") - found.median("libraries", "cpu_s")
    goals = [
        Goal(text="requests", value=found.median(OURS, "requests"), limit=1, is_ratio=False),
        Goal(text="s of CPU beyond importing the libraries", value=beyond_s, limit=0.15, is_ratio=False),
    ]
    return Result(
        name="idle-serials",
        title=title_of(idle_serials),
        comparison=found,
        goals=_with_bander(found, 0.7, goals),
        extra={"syncs_of_the_mirror": syncs},
    )


def idle_etags(bench: Bench) -> Result:
    """Idle cycle, no serials."""
    shape = Shape(projects=20_000, files=3, file_bytes=0)
    with bench.upstream(shape) as (_, upstream):
        contenders = [
            _filled(peers.mirror(upstream, shape, server="plain", keeps=True)),
            peers.idle_loop(upstream, shape),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
        shutil.rmtree(bench.tmpfs / "run")
    rates = [1 / ratio for ratio in found.ratios("bare loop")]
    share = sorted(rates)[len(rates) // 2]
    goal = Goal(text="of the bare loop's requests a second", value=share, limit=0.75, at_least=True)
    return Result(name="idle-etags", title=title_of(idle_etags), comparison=found, goals=[goal])


def changed(bench: Bench) -> Result:
    """1 % changed, serials in the root."""
    cold_s = bench.cold_s.get(OURS) or cold_small(bench).comparison.median(OURS, "wall_s")
    shape, site = bench.small, bench.tmpfs / "corpus-changing"
    corpus(site, shape)
    generation, files = 0, shape.file_count
    with serving(site, bench.tmpfs / "nginx") as upstream:
        ours = _filled(peers.mirror(upstream, shape, keeps=True))
        idle = dataclasses.replace(ours, name="idle")
        runs: dict[str, list[Run]] = {OURS: [], "idle": []}
        directory = bench.tmpfs / "run" / OURS
        directory.mkdir(parents=True)
        ours.prepare(directory)
        for _ in range(bench.rounds):
            runs["idle"].append(run_once(idle.command(directory), idle.environment, directory / "idle.log"))
            generation += 1
            files += int(corpus(site, shape, "--release=0.01", f"--generation={generation}"))
            runs[OURS].append(run_once(ours.command(directory), ours.environment, directory / "output.log"))
            peers.check_mirror(directory, shape, files)
    shutil.rmtree(bench.tmpfs / "run")
    shutil.rmtree(site)
    found = Comparison(runs)
    limit_s = found.median("idle", "wall_s") + 3 * 0.01 * cold_s
    goal = Goal(text="of idle + 3 % of the cold fill", value=found.median(OURS, "wall_s") / limit_s, limit=1.0)
    return Result(name="changed", title=title_of(changed), comparison=found, goals=[goal])


def killed(bench: Bench) -> Result:
    """Resumed after a kill at half."""
    if not bench.cold_s:
        cold_small(bench)
    with bench.upstream(bench.small) as (_, upstream):
        contenders = [peers.mirror(upstream, bench.small), *bench.bander(upstream, bench.small)]
        halves = [_half_done(c, bench.cold_s[c.name] / 2) for c in contenders]
        found = compare(halves, bench.rounds, bench.tmpfs / "run", upstream)
    share = found.median(OURS, "wall_s") / bench.cold_s[OURS]
    return Result(
        name="killed", title=title_of(killed), comparison=found, extra={"share_of_a_cold_fill": round(share, 2)}
    )


def growth(bench: Bench) -> Result:
    """Growth, idle cycles over pages only."""
    sizes = [2_000, 20_000] if bench.is_quick else [2_000, 20_000, 200_000]
    runs: dict[str, list[Run]] = {}
    extra: dict[str, float | int | None] = {}
    bare = run_once([sys.executable, "-c", "pass"], {}, bench.tmpfs / "bare.log").peak_mib
    for projects in sizes:
        _grow(bench, projects, ["plain", "serials"], runs, extra)
    if bench.is_full:
        _grow(bench, 730_000, ["serials"], runs, extra)
    found = Comparison(runs)
    goals = []
    if not bench.is_quick:
        each = {n: found.median(f"idle, {n} projects, plain", "wall_s") / n for n in sizes}
        peak = found.median("idle, 200000 projects, plain", "peak_mib") - bare
        goals.append(
            Goal(text="MiB above the interpreter, 200,000 without serials", value=peak, limit=120, is_ratio=False)
        )
        goals.append(Goal(text="of the cost for each project at 20,000", value=each[200_000] / each[20_000], limit=1.2))
    if bench.is_full:
        name = f"idle, 730000 projects, serials, {_ANOTHER_ROOT}"
        goals.append(
            Goal(text="s of CPU, 730,000 with serials", value=found.median(name, "cpu_s"), limit=10, is_ratio=False)
        )
        goals.append(
            Goal(text="MiB, 730,000 with serials", value=found.median(name, "peak_mib"), limit=400, is_ratio=False)
        )
    return Result(name="growth", title=title_of(growth), comparison=found, goals=goals, extra=extra)


def _grow(
    bench: Bench, projects: int, servers: list[str], runs: dict[str, list[Run]], extra: dict[str, float | int | None]
) -> None:
    shape = Shape(projects=projects, files=3, file_bytes=0)
    with bench.upstream(shape) as (site, upstream):
        for server in servers:
            directory = bench.tmpfs / "run" / server
            directory.mkdir(parents=True)
            ours = peers.mirror(upstream, shape, server=server, keeps=True)
            ours.prepare(directory)
            first = run_once(ours.command(directory), ours.environment, directory / "first.log")
            runs[f"first, {projects} projects, {server}"] = [first]
            rounds = 1 if projects > 20_000 else 3
            idle = [run_once(ours.command(directory), ours.environment, directory / "idle.log") for _ in range(rounds)]
            runs[f"idle, {projects} projects, {server}"] = idle
            if server == "serials":  # as on an index where something changes each minute: the whole root is read
                root = site / "simple/root-serials.json"
                root.write_bytes(root.read_bytes() + b"\n")
                again = run_once(ours.command(directory), ours.environment, directory / "again.log")
                runs[f"idle, {projects} projects, {server}, {_ANOTHER_ROOT}"] = [again]
            state = (directory / "root/state.db").stat().st_size
            extra[f"state_bytes_for_each_project_{projects}_{server}"] = round(state / projects)
            ours.check(directory)
            shutil.rmtree(directory)
    shutil.rmtree(site)


def start(bench: Bench) -> Result:
    """Start: mirror --version."""
    contender = peers.plain_command(OURS, [sys.executable, "-m", "mirror", "--version"])
    python = peers.plain_command("python", [sys.executable, "-c", "pass"])
    found = compare([contender, python], max(9, bench.rounds), bench.tmpfs / "run", None)
    goal = Goal(text="s of CPU", value=found.median(OURS, "cpu_s"), limit=0.12, is_ratio=False)
    return Result(name="start", title=title_of(start), comparison=found, goals=[goal])


RULES = """
[rules]
min-age = "7d"
urgent = ["our-*"]
not-after = "2100-01-01"
pre-releases = "where-needed"
yanked = "never"
newest = 50
versions = ["nothing<1"]
platforms = "targets"
exclude-vulnerable = "all"
advisories = "{advisories}"

[[target]]
name = "linux"
python = ["3.11", "3.12", "3.13"]
platforms = ["linux-x86_64", "linux-aarch64"]
"""


def ruled(bench: Bench) -> Result:
    """Cold fill of 1,000 projects with all rules set, tmpfs."""
    shape = Shape(projects=30 if bench.is_tiny else 1_000, files=3, file_bytes=20 * 1024)
    advisories = bench.tmpfs / "osv"
    advisories.mkdir()
    for number in range(2_000):
        project = {"ecosystem": "PyPI", "name": f"elsewhere-{number}"}
        affected = [{"package": project, "versions": ["1.0"]}]
        record = {"id": f"PYSEC-2026-{number}", "modified": "2026-01-01T00:00:00Z", "affected": affected}
        (advisories / f"PYSEC-2026-{number}.json").write_text(json.dumps(record))
    with bench.upstream(shape) as (_, upstream):
        contenders = [
            peers.mirror(upstream, shape, config=RULES.format(advisories=advisories)),
            peers.mirror(upstream, shape, name="no rules"),
        ]
        found = compare(contenders, bench.rounds, bench.tmpfs / "run", upstream)
    shutil.rmtree(advisories)
    goal = Goal(text="of the time without rules", value=found.ratio("no rules"), limit=1.1)
    return Result(name="ruled", title=title_of(ruled), comparison=found, goals=[goal])


CASES: dict[str, Callable[[Bench], Result]] = {
    "start": start,
    "cold-small": cold_small,
    "cold-latency": cold_latency,
    "cold-disk": cold_disk,
    "cold-large": cold_large,
    "idle-serials": idle_serials,
    "idle-etags": idle_etags,
    **closer.CASES,
    "changed": changed,
    "killed": killed,
    **wants.CASES,
    "ruled": ruled,
    "growth": growth,
    "load-pages": load.load_pages,
    "load-small-files": load.load_small_files,
    "load-large-files": load.load_large_files,
    "slow-clients": load.slow_clients,
    "search": load.search,
    "beside-fill": load.beside_fill,
    **stores.CASES,
}
QUICK = (
    "start",
    "cold-small",
    "cold-large",
    "fill-1000",
    "idle-serials",
    "idle-1000",
    "verify-large",
    "verify-small",
    "idle-denied",
    "idle-rules",
    "idle-wants",
    "changed",
    "load-pages",
    "search",
)
LIMITS = (
    "fill-1000",
    "fill-10000",
    "idle-1000",
    "idle-serials",
    "cold-large",
    "verify-large",
    "verify-small",
    "idle-denied",
    "idle-rules",
    "idle-wants",
)
"""How close to the limit the mirror is: a quarter of an hour on two cores."""


def _with_bander(found: Comparison, limit: float, goals: list[Goal] | None = None) -> list[Goal]:
    if "bandersnatch" not in found.runs:
        return goals or []
    return [Goal(text="of bandersnatch's time", value=found.ratio("bandersnatch"), limit=limit), *(goals or [])]


def _filled(contender: Contender) -> Contender:
    """Let a contender do its work once before it is measured idle."""

    def prepare(directory: Path) -> None:
        contender.prepare(directory)
        run_once(contender.command(directory), contender.environment, directory / "first.log")

    return dataclasses.replace(contender, prepare=prepare)


def _half_done(contender: Contender, seconds: float) -> Contender:
    def prepare(directory: Path) -> None:
        contender.prepare(directory)
        kill_after(contender.command(directory), contender.environment, directory / "first.log", seconds)

    return dataclasses.replace(contender, prepare=prepare)


def _syncs(where: Path, contender: Contender) -> int | None:
    directory = where / "syncs"
    directory.mkdir(parents=True)
    contender.prepare(directory)
    found = count_syncs(contender.command(directory), contender.environment, directory)
    shutil.rmtree(directory)
    return found
