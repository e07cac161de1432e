"""``make soak``: kill cycles, play histories, change statements and serve hostile answers, and print the figures.

Ends by itself; 0 where nothing broke.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from harness.ceph import missing_programs
from harness.quick_disk import QUICK_DISK
from mirror.logs import configure_logging
from soak import history, hostile
from soak.bundles import tamper_many
from soak.commands import Commands, all_command_cases
from soak.killing import Killing, kill_many
from soak.storage import Storage, all_cases, compiler

_PROJECT = Path(__file__).parent.parent.parent
_AT_ONCE = 50
"""Kills on one mirror, before a fresh one."""


def main() -> int:
    """Run both, print what was done, and return the exit code."""
    options = _options()
    # What the program says is in the way here, and so is what the simulator says of clients that were killed.
    configure_logging("error", "json", io.StringIO())
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("HYPOTHESIS_PROFILE", "soak")
    figures: Counter[str] = Counter()
    started = time.monotonic()
    violations = _kill(options.kills, options.seed, figures)
    violations += _play(options.histories, options.seed, figures) if options.histories else 0
    violations += _tamper(options.bundles, options.seed, figures)
    violations += _fail_storage(options.seed, options.storage_errors, figures)
    violations += _fuzz(options.workers, figures)
    violations += _run_clients(options.workers, figures)
    violations += _fill_stores(options.workers, figures)
    violations += _ask_ceph(options.workers, figures)
    violations += _change_statements(options.statements, options.seed, figures)
    violations += _answer(options.answers)
    print(f"seed: {options.seed}")
    for name, count in figures.items():
        print(f"{name}: {count}")
    print(f"minutes: {(time.monotonic() - started) / 60:.1f}")
    print(f"violations: {violations}")
    return 1 if violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--statements", type=int, default=50, help="changes to the SQL of the state")
    parser.add_argument("--bundles", type=int, default=500, help="signed bundles with hostile pages and metadata")
    parser.add_argument(
        "--storage-errors", type=int, default=1000, help="most calls that fail, of cycles and of commands each"
    )
    parser.add_argument("--workers", default="2", help="processes for the property tests; 0: leave them out")
    parser.add_argument("--answers", default="", help="hostile answers whose name has this in it; -: none")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    return parser.parse_args()


def _kill(kills: int, first_seed: int, figures: Counter[str]) -> int:
    violations = 0
    for number, done in enumerate(range(0, kills, _AT_ONCE)):
        with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work:
            killing = Killing(Path(work), first_seed + number)
            try:
                with killing:
                    kill_many(killing, min(_AT_ONCE, kills - done))
            except AssertionError:
                traceback.print_exc()
                violations += 1
        survived = killing.kills.total()
        figures["kills survived"] += survived
        print(f"  {figures['kills survived']} kills; the last {survived}: {dict(killing.kills)}", flush=True)
    return violations


def _tamper(count: int, first_seed: int, figures: Counter[str]) -> int:
    """Let the far side receive hostile bundles of a trusted key."""
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work:
        figures.update(tamper_many(Path(work), count, first_seed))
    return figures["tampered bundles fell"]


def _fail_storage(first_seed: int, most: int, figures: Counter[str]) -> int:
    """Fail calls of the storage in cycles and in other commands; print how many were tried, held and fell."""
    if most == 0 or compiler() is None:
        print("  storage errors: left out" + ("" if compiler() else ", since there is no C compiler"))
        return 0
    tried = fell = 0
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work, Storage(Path(work)) as storage:
        storage.prepare()
        cases = all_cases(storage, random.Random(first_seed))
        for case in cases[:most]:
            tried += 1
            try:
                storage.check(case)
            except AssertionError:
                traceback.print_exc()
                fell += 1
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as work, Commands(Path(work)) as commands:
        commands.prepare()
        for command_case in all_command_cases(commands, random.Random(first_seed))[:most]:
            tried += 1
            try:
                commands.try_case(command_case)
            except AssertionError:
                traceback.print_exc()
                fell += 1
    print(f"  storage errors: tried {tried}, held {tried - fell}, fell: {fell}", flush=True)
    figures["storage errors survived"] += tried - fell
    return fell


def _fuzz(workers: str, figures: Counter[str]) -> int:
    """Run the property tests with very many examples each."""
    if workers == "0":
        return 0
    command = [sys.executable, "-m", "pytest", "-n", workers, "-m", "hypothesis", "--hypothesis-show-statistics"]
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    figures["inputs tried"] += sum(int(n) for n in re.findall(r"(\d+) passing, ", done.stdout))
    if done.returncode:
        print(done.stdout + done.stderr)
    return int(done.returncode != 0)


def _run_clients(workers: str, figures: Counter[str]) -> int:
    """Let the newest of each package manager lock and install, and devpi stand beside a mirror."""
    if workers == "0":
        return 0
    names = ("client_matrix", "client_config", "outside_locks", "own_packages")
    files = [f"tests/clients/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-n", workers, *files]
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    figures["clients that installed"] += int(passed[1]) if passed else 0
    if done.returncode:
        print(done.stdout + done.stderr)
    return int(done.returncode != 0)


def _fill_stores(workers: str, figures: Counter[str]) -> int:
    """Run the tests of the cycle, and many kills, with the tree in an object store."""
    if workers == "0":
        return 0
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        workers,
        "tests/objects",
        "tests/sync",
        "-k",
        "cycle or objects",
    ]
    env = {**os.environ, "MIRROR_TEST_TREE": "store"}
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False, env=env)
    passed = re.search(r"(\d+) passed", done.stdout)
    figures["scenarios on an object store"] += int(passed[1]) if passed else 0
    if done.returncode:
        print(done.stdout + done.stderr)
    return int(done.returncode != 0)


def _ask_ceph(workers: str, figures: Counter[str]) -> int:
    """Run the tests of stores against Ceph's radosgw, with pip and uv over its website mode."""
    missing = missing_programs()
    if workers == "0" or missing:
        print("  Ceph: left out" + (f", not installed: {', '.join(missing)}" if missing else ""))
        return 0
    places = ["tests/objects", "tests/clients/test_object_store.py", "tests/tree/test_store_probe.py"]
    places += ["tests/tree/test_tree_copy.py", "tests/tree/test_object_client.py"]
    # Neither is about the engine; a cluster is SeaweedFS's own.
    left_out = "not two_hundred_kills and not short_processes and not volume_server"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", *places, "-k", left_out]
    env = {**os.environ, "MIRROR_TEST_STORE": "ceph"}
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False, env=env)
    passed = re.search(r"(\d+) passed", done.stdout)
    figures["scenarios on Ceph's radosgw"] += int(passed[1]) if passed else 0
    if done.returncode:
        print(done.stdout + done.stderr)
    return int(done.returncode != 0)


def _change_statements(number: int, first_seed: int, figures: Counter[str]) -> int:
    """Let the tests of the state find random changes to its statements."""
    command = [sys.executable, "-m", "soak.statements", str(number), str(first_seed)]
    done = subprocess.run(command, cwd=_PROJECT, capture_output=True, text=True, check=False)
    for name, count in re.findall(r"^(changes [a-z ]+): (\d+)$", done.stdout, re.MULTILINE):
        figures[name] += int(count)
    if done.returncode:
        print(done.stdout + done.stderr)
    return int(done.returncode != 0)


def _answer(wanted: str) -> int:
    """Let one index answer what is made to fill memory; print what was tried, held and fell."""
    outcomes: Counter[str] = Counter()
    for name, make in hostile.HOSTILE.items():
        if wanted not in name:
            continue
        with tempfile.TemporaryDirectory(dir=QUICK_DISK) as directory:
            done = hostile.try_case(make(), Path(directory) / "work")
        outcomes["fell" if done.problem else "held"] += 1
        figures = f"{done.peak_bytes >> 20} MiB in the largest process, {done.cpu_s:.0f} s of CPU"
        print(f"  {name}: {figures}{': ' + done.problem if done.problem else ''}", flush=True)
    print(f"hostile answers: tried: {outcomes.total()}, held: {outcomes['held']}, fell: {outcomes['fell']}")
    return outcomes["fell"]


def _play(count: int, first_seed: int, figures: Counter[str]) -> int:
    @seed(first_seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(one=history.histories)
    def play(one: history.History) -> None:
        figures["histories played"] += 1
        figures["cycles compared with the model"] += len(one.rounds)
        figures["faults injected"] += sum(
            event.what.endswith("fault") and event.value is not None for r in one.rounds for event in r.events
        )
        with tempfile.TemporaryDirectory(dir=QUICK_DISK) as directory:
            asyncio.run(history.play(one, Path(directory) / "mirror"))

    try:
        play()
    except AssertionError:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
