"""The cases of a server under load: beside other servers on the same tree, with slow clients, beside a first fill, searching.

«Per core» is CPU of the server's processes: client and server share the machine's cores, so that wall time says less. A load
case measures each server in turn, in each round; the servers run all the time, idle while others are asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import peers
from bench.corpus import Shape, name_of
from bench.measure import OURS, Comparison, Run, run_once
from bench.records import Bench, Goal, Result, title_of
from bench.servers import Server, all_servers, ours
from bench.upstream import PASSWORD, USER, free_port, wait_for

_PYTHON_SERVERS = ("pypiserver", "devpi-server", "simple-repository-server")
_SLOW_CLIENTS = 500
COMMON_WORDS = [
    "python",
    "api",
    "client",
    "data",
    "tools",
    "web",
    "django",
    "aws",
    "utils",
    "lib",
    "simple",
    "cli",
    "test",
    "plugin",
    "server",
    "async",
    "sdk",
    "google",
    "model",
    "core",
    "framework",
    "ml",
    "flask",
    "json",
    "file",
    "parser",
    "pytest",
    "config",
    "bot",
    "wrapper",
    "manager",
    "database",
    "sql",
    "azure",
    "cloud",
    "time",
    "text",
    "image",
    "graph",
    "http",
    "auth",
    "net",
    "log",
    "app",
    "package",
    "module",
    "project",
    "service",
    "helper",
    "kit",
]
"""Fifty words that names of packages have, the commonest first."""


def load_pages(bench: Bench) -> Result:
    """Load: project pages of 300 files."""
    shape = Shape(projects=1_000 if bench.is_full else 10, files=300, file_bytes=1_700)
    if bench.is_tiny:
        shape = Shape(projects=2, files=5, file_bytes=1_700)
    requests = {"nginx": 4_000, OURS: 4_000} if not bench.is_tiny else {}
    found = _load(bench, shape, "pages", requests=requests, least=30)
    goals = [
        Goal(
            text=f"times as many pages per core as {name}",
            value=_times(found, name),
            limit=5.0,
            at_least=True,
        )
        for name in _PYTHON_SERVERS
        if name in found.runs
    ]
    share = Goal(text="of nginx's pages per core", value=_times(found, "nginx"), limit=0.3, at_least=True)
    return _result("load-pages", load_pages, found, [*goals, share])


def load_small_files(bench: Bench) -> Result:
    """Load: files of 20 KiB."""
    shape = Shape(projects=40 if not bench.is_tiny else 2, files=3, file_bytes=20 * 1024)
    requests = {"nginx": 4_000, OURS: 4_000} if not bench.is_tiny else {}
    found = _load(bench, shape, "files", requests=requests, least=400 if not bench.is_tiny else 20)
    return _result("load-small-files", load_small_files, found, [])


def load_large_files(bench: Bench) -> Result:
    """Load: files of 20 MiB."""
    shape = Shape(projects=3, files=1, file_bytes=20 * 2**20 if not bench.is_tiny else 2**20)
    count = 6 if bench.is_tiny else 300 if bench.is_full else 60
    found = _load(bench, shape, "files", requests={}, least=count, connections=4)
    share = Goal(text="of nginx's bytes a second", value=1 / found.ratio("nginx"), limit=0.8, at_least=True)
    return _result("load-large-files", load_large_files, found, [share])


def _times(found: Comparison, name: str) -> float:
    """Return how many requests we answer by the CPU that another server takes for one."""
    return found.median(name, "cpu_s") / max(found.median(OURS, "cpu_s"), 1e-9)


def _result(name: str, case: object, found: Comparison, goals: list[Goal], **extra: float) -> Result:
    title = title_of(case)
    return Result(name=name, title=title, comparison=found, goals=goals, extra=dict(extra))


@contextlib.contextmanager
def _tree(bench: Bench, shape: Shape) -> Iterator[Path]:
    """Mirror a corpus and yield the root."""
    with bench.upstream(shape) as (_, upstream):
        contender = peers.mirror(upstream, shape)
        directory = bench.tmpfs / "served"
        directory.mkdir()
        contender.prepare(directory)
        run_once(contender.command(directory), contender.environment, directory / "sync.log")
    try:
        yield directory / "root"
    finally:
        shutil.rmtree(directory)


def _load(
    bench: Bench, shape: Shape, what: str, *, requests: dict[str, int], least: int, connections: int = 8
) -> Comparison:
    """Ask each server for the same pages or files; a server's number of requests is ``least`` unless it has its own.

    The figures are of 1,000 requests.
    """
    programs = Path(bench.bandersnatch).parent if bench.bandersnatch else None
    with _tree(bench, shape) as root, all_servers(root, bench.tmpfs / "servers", programs) as servers:
        projects = [name_of(number) for number in range(shape.projects)]
        found = measure(bench, servers, projects, what, requests=requests, least=least, connections=connections)
    shutil.rmtree(bench.tmpfs / "servers", ignore_errors=True)
    return found


def measure(
    bench: Bench,
    servers: Sequence[Server],
    projects: Sequence[str],
    what: str,
    *,
    requests: dict[str, int],
    least: int,
    connections: int = 8,
) -> Comparison:
    """Ask running servers for the pages or files of some projects, in turn, after all caches are warm."""
    runs: dict[str, list[Run]] = {}
    for server in servers:
        targets = [server.page(p) for p in projects]
        if what == "files":
            targets = list(itertools.chain.from_iterable(server.files(project) for project in projects))
        (bench.tmpfs / f"{server.name}.targets").write_text("\n".join(targets))
        ask(bench, server, requests=len(targets), connections=connections)
    for number in range(bench.rounds):
        turn = number % len(servers)
        for server in (*servers[turn:], *servers[:turn]):
            count = requests.get(server.name, least)
            before = server.cpu_s()
            told = ask(bench, server, requests=count, connections=connections)
            run = Run(
                wall_s=1000 * told["wall_s"] / count,
                cpu_s=1000 * (server.cpu_s() - before) / count,
                peak_mib=server.rss_mib(),
                requests=1000,
                body_mib=told["bytes"] / 2**20 * 1000 / count,
            )
            runs.setdefault(server.name, []).append(run)
    return Comparison(runs)


def ask(bench: Bench, server: Server, *words: str, requests: int, connections: int) -> dict[str, Any]:
    """Run the client of a load against a server; return what it measured."""
    command = [
        sys.executable, "-m", "bench.load_client", f"127.0.0.1:{server.port}", f"{bench.tmpfs}/{server.name}.targets",
        f"--requests={requests}", f"--connections={connections}", "--header=Accept: text/html",
        "--header=Accept-Encoding: gzip", *words,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=peers.HERE)
    if done.returncode != 0:
        raise SystemExit(f"{server.name} did not answer all requests")
    return dict(json.loads(done.stdout))


def slow_clients(bench: Bench) -> Result:
    """Memory under 500 slow clients."""
    shape = Shape(projects=3, files=1, file_bytes=20 * 2**20 if not bench.is_tiny else 2**20)
    clients = _SLOW_CLIENTS if not bench.is_tiny else 5
    runs: dict[str, list[Run]] = {OURS: []}
    (bench.tmpfs / "slow").mkdir()
    with _tree(bench, shape) as root, ours(root, bench.tmpfs / "slow") as server:
        targets = server.files(name_of(0))
        (bench.tmpfs / f"{OURS}.targets").write_text("\n".join(targets))
        ask(bench, server, requests=20, connections=4)
        before_mib = server.rss_mib()
        for _ in range(bench.rounds):
            started, cpu_s = time.monotonic(), server.cpu_s()
            peak_mib = asyncio.run(_hold(server, targets[0], clients))
            run = Run(
                wall_s=time.monotonic() - started, cpu_s=server.cpu_s() - cpu_s, peak_mib=peak_mib, requests=clients
            )
            runs[OURS].append(run)
    found = Comparison(runs)
    growth = found.median(OURS, "peak_mib") - before_mib
    goal = Goal(text=f"MiB more with {clients} slow clients", value=growth, limit=32, is_ratio=False)
    return _result("slow-clients", slow_clients, found, [goal], memory_at_rest_mib=round(before_mib, 1))


async def _hold(server: Server, target: str, clients: int) -> float:
    """Let clients take a file byte by byte for some seconds; return the server's largest memory meanwhile."""
    reading: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    peak = 0.0
    for _ in range(clients):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reading.append((reader, writer))
    for _ in range(5):
        for reader, _writer in reading:
            if not await reader.read(1):
                raise SystemExit("a slow client was cut")
        peak = max(peak, server.rss_mib())
        await asyncio.sleep(1)
    for _, writer in reading:
        writer.transport.abort()
    return peak


def search(bench: Bench) -> Result:
    """The first 20 hits of a search."""
    projects = 730_000 if bench.is_full else 2_000 if bench.is_tiny else 100_000
    root = bench.tmpfs / "searched"
    command = [sys.executable, "-m", "bench.searched", str(root), str(projects)]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=peers.HERE).stdout.split()
    rng = random.Random(4)
    texts = [*COMMON_WORDS[:50], *(_part(rng, names) for _ in range(1_000 if not bench.is_tiny else 20))]
    (bench.tmpfs / f"{OURS}.targets").write_text("\n".join(f"/-/api/v1/projects?q={text}&limit=20" for text in texts))
    (bench.tmpfs / "search").mkdir()
    runs: dict[str, list[Run]] = {OURS: []}
    told: list[dict[str, Any]] = []
    for _ in range(bench.rounds):
        shutil.rmtree(bench.tmpfs / "search", ignore_errors=True)
        (bench.tmpfs / "search").mkdir()
        with ours(root, bench.tmpfs / "search") as server:  # a new one: answers are kept
            before = server.cpu_s()
            told.append(ask(bench, server, requests=len(texts), connections=1))
            cpu_s = server.cpu_s() - before
            runs[OURS].append(
                Run(wall_s=told[-1]["wall_s"], cpu_s=cpu_s, peak_mib=server.rss_mib(), requests=len(texts))
            )
    shutil.rmtree(root)
    p95, worst = (sorted(one[key] for one in told)[len(told) // 2] for key in ("p95_ms", "worst_ms"))
    goals = [
        Goal(text=f"ms at the 95th percentile, {projects:,} projects", value=p95, limit=20, is_ratio=False),
        Goal(text=f"ms at most, {projects:,} projects", value=worst, limit=80, is_ratio=False),
    ]
    return _result("search", search, Comparison(runs), goals, cpu_ms_each=round(1000 * cpu_s / len(texts), 2))


def _part(rng: random.Random, names: Sequence[str]) -> str:
    name = rng.choice(names)
    size = rng.randint(1, 8)
    first = rng.randrange(max(1, len(name) - size))
    return name[first : first + size].strip("-") or name


def beside_fill(bench: Bench) -> Result:
    """A page of the daemon's server beside a first fill."""
    held = Shape(projects=20, files=20, file_bytes=1_700)
    filled = bench.small
    directory = bench.tmpfs / "beside"
    directory.mkdir()
    told: dict[str, list[dict[str, Any]]] = {"filling": [], "idle": []}
    runs: dict[str, list[Run]] = {"filling": [], "idle": []}
    with bench.upstream(held) as (_, first), bench.upstream(filled, "nginx-2") as (_, second):
        for _ in range(bench.rounds):
            shutil.rmtree(directory)
            directory.mkdir()
            contender = peers.mirror(first, held)
            contender.prepare(directory)
            run_once(contender.command(directory), contender.environment, directory / "sync.log")
            _serve_beside(bench, directory, second.url("serials"), held, told, runs)
    shutil.rmtree(directory)
    p99 = {name: sorted(one["p99_ms"] for one in found)[len(found) // 2] for name, found in told.items()}
    goal = Goal(text="of the 99th percentile without one", value=p99["filling"] / p99["idle"], limit=3.0)
    extra = {f"p99_ms_{name}": round(value, 2) for name, value in p99.items()}
    return _result("beside-fill", beside_fill, Comparison(runs), [goal], **extra)


def _serve_beside(
    bench: Bench,
    directory: Path,
    url: str,
    held: Shape,
    told: dict[str, list[dict[str, Any]]],
    runs: dict[str, list[Run]],
) -> None:
    """Start the daemon with one more index, and ask for pages until its cycle has ended, then as often again."""
    port, config, ended = free_port(), directory / "mirror.toml", directory / "ended"
    index = f'\n[[index]]\nname = "second"\nurl = "{url}"\n[index.auth]\nkind = "basic"\nusername-env = "BENCH_USER"\n'
    serve = f'password-env = "BENCH_PASSWORD"\n[serve]\nlisten = "127.0.0.1:{port}"\n'
    config.write_text(config.read_text().replace("[mirror]\n", '[mirror]\ninterval = "1h"\n') + index + serve)
    (bench.tmpfs / f"{OURS}.targets").write_text("\n".join(f"/simple/{name_of(n)}/" for n in range(held.projects)))
    environment = peers.CREDENTIAL | {"BENCH_USER": USER, "BENCH_PASSWORD": PASSWORD}
    log = directory / "daemon.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "mirror", "sync", "--config", str(config), "--log-format", "json"]
        process = subprocess.Popen(
            command, env=os.environ | environment | {"PYTHONPATH": str(peers.HERE)}, stdout=output, stderr=output
        )
        try:
            wait_for(port, process)
            server = Server(name=OURS, pid=process.pid, port=port)
            server.files(name_of(0))  # the daemon listens before its server has started
            client = subprocess.Popen(_paced(bench, server, f"--until={ended}"), stdout=subprocess.PIPE, cwd=peers.HERE)
            while b'"cycle.finished"' not in log.read_bytes():
                if process.poll() is not None:
                    raise SystemExit("the daemon ended")
                time.sleep(0.1)
            ended.touch()
            filling = json.loads(client.communicate()[0])
            count = f"--requests={filling['requests']}"
            idle = json.loads(subprocess.check_output(_paced(bench, server, count), cwd=peers.HERE))
        finally:
            process.terminate()
            process.wait()
    for name, one in (("filling", filling), ("idle", idle)):
        told[name].append(one)
        runs[name].append(Run(wall_s=one["wall_s"], cpu_s=0.0, peak_mib=0.0, requests=one["requests"]))


def _paced(bench: Bench, server: Server, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "bench.load_client", f"127.0.0.1:{server.port}", f"{bench.tmpfs}/{OURS}.targets",
        "--rate=25", "--connections=20", *words,
    ]  # fmt: skip
