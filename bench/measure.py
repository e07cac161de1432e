"""Run programs in turn and measure each: wall, CPU, peak memory, requests, bytes.

CPU and memory are what the kernel counted for the program and its children. The file cache and the disk drift, so that
only runs of one round are compared with each other: a figure that counts is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.upstream import Upstream

OURS = "mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run took."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    requests: int = 0
    body_mib: float = 0.0
    pairs: bool = True
    """Whether the run belongs to a round in which all others ran too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A program to be measured. Its functions get a directory of its own."""

    name: str
    command: Callable[[Path], Sequence[str]]
    check: Callable[[Path], None]
    """Raises ``SystemExit`` where the work was not done."""
    prepare: Callable[[Path], None] = lambda _: None
    environment: Mapping[str, str] = field(default_factory=dict)
    server: str | None = None
    keeps: bool = False
    """Whether the next round finds the directory as this one left it."""
    every: int = 1
    """Run it in each n-th round only: a slow peer needs not take most of the time."""


@dataclass(slots=True)
class Comparison:
    """The runs of one case: contender -> one run for each round."""

    runs: dict[str, list[Run]]

    def median(self, name: str, what: str) -> float:
        return statistics.median(getattr(run, what) for run in self.runs[name])

    def ratios(self, name: str, what: str = "wall_s", ours: str = OURS) -> list[float]:
        """Return ours divided by theirs, for each round that both ran in."""
        every = len(self.runs[ours]) // len(self.runs[name])
        return [
            getattr(a, what) / max(getattr(b, what), 1e-9)
            for a, b in zip(self.runs[ours][::every], self.runs[name], strict=False)
        ]

    def ratio(self, name: str, what: str = "wall_s", ours: str = OURS) -> float:
        return statistics.median(self.ratios(name, what, ours))


def compare(
    contenders: Sequence[Contender], rounds: int, where: Path, upstream: Upstream | None, *, leaves: bool = False
) -> Comparison:
    """Run all contenders in turn, ``rounds`` times; another one begins each round.

    ``leaves``: what each run wrote stays below ``where``. ext4 passes over inodes that were removed in the last minutes,
    looking at each of them for each new one: who runs after a large directory was removed would pay for it.
    """
    runs: dict[str, list[Run]] = {c.name: [] for c in contenders}
    where.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            if number % contender.every:
                continue
            directory = where / (contender.name.replace(" ", "-") + (f"-{number}" if leaves else ""))
            if not (contender.keeps and directory.exists()):
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                contender.prepare(directory)
            runs[contender.name].append(_measured(contender, directory, upstream))
            contender.check(directory)
            if not (contender.keeps or leaves):
                shutil.rmtree(directory)
    return Comparison(runs)


def _measured(contender: Contender, directory: Path, upstream: Upstream | None) -> Run:
    asks = upstream if contender.server else None
    before = asks.traffic(contender.server or "") if asks else None
    os.sync()  # what others left to be written is not this one's
    run = run_once(contender.command(directory), contender.environment, directory / "output.log")
    if asks is None or before is None:
        return run
    after = asks.traffic(contender.server or "")
    return Run(
        wall_s=run.wall_s,
        cpu_s=run.cpu_s,
        peak_mib=run.peak_mib,
        requests=after.requests - before.requests,
        body_mib=(after.body_bytes - before.body_bytes) / 2**20,
    )


def run_once(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Run:
    """Run one program to its end. Raises ``SystemExit`` with the end of its output where it fails."""
    with log.open("wb") as output:
        started = time.monotonic()
        process = start(command, environment, output.fileno())
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()  # nobody waits for it any more, and its directory is about to go
            process.wait()
            raise
        wall_s = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)[:300]}: exit code {process.returncode}\n{tail}")
    return Run(wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / 1024)


def start(command: Sequence[str], environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MIRROR_", "PYTHON"))}
    return subprocess.Popen(
        command, env=clean | dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )


def kill_after(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float) -> None:
    """Start a program and kill it in its middle."""
    with log.open("wb") as output:
        process = start(command, environment, output.fileno())
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def count_syncs(command: Sequence[str], environment: Mapping[str, str], work: Path) -> int | None:
    """Return how often a program asks the disk to sync, counted by strace in a run of its own; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    counted = work / "strace.txt"
    traced = [strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync", "-o", str(counted), *command]
    run_once(traced, environment, work / "strace.log")
    return sum("sync" in line and "resumed" not in line for line in counted.read_text().splitlines())


def count_calls(command: Sequence[str], environment: Mapping[str, str], work: Path) -> int | None:
    """Return the number of system calls of a program and its children, in a run of its own; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    counted = work / "calls.txt"
    run_once([strace, "-c", "-f", "-qq", "-o", str(counted), *command], environment, work / "strace.log")
    total = counted.read_text().splitlines()[-1].split()
    return int(total[3])


def primed(contender: Contender) -> Contender:
    """Let a contender do its work once before it is measured idle."""

    def prepare(directory: Path) -> None:
        contender.prepare(directory)
        run_once(contender.command(directory), contender.environment, directory / "first.log")

    return replace(contender, prepare=prepare)
