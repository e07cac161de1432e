"""``python -m bench.profiling [CASE]``: where the mirror's time goes, by py-spy, which looks from outside."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from bench import peers
from bench.corpus import Shape
from bench.measure import run_once
from bench.records import LARGE, SMALL, Bench

_SHOWN = 40
_PER_SECOND = 250
_SHAPES = {
    "cold-small": SMALL,
    "cold-large": LARGE,
    "idle-serials": SMALL,
    "idle-etags": Shape(projects=20_000, files=3, file_bytes=0),
}


def main() -> None:
    """Profile one case and print what takes longest, alone and with what it calls."""
    parser = argparse.ArgumentParser(prog="python -m bench.profiling", description=__doc__)
    parser.add_argument("case", choices=sorted(_SHAPES), nargs="?", default="cold-small")
    parser.add_argument("--py-spy", default=shutil.which("py-spy"))
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--svg", type=Path, help="write a flame graph there too")
    options = parser.parse_args()
    if options.py_spy is None:
        raise SystemExit("py-spy is not there: run it by `make profile`, or name it with --py-spy")
    with tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=options.tmpfs) as work:
        stacks = _profile(Path(work), options)
    _show(stacks)


def _profile(work: Path, options: argparse.Namespace) -> Counter[tuple[str, ...]]:
    shape = _SHAPES[options.case]
    bench = Bench(tmpfs=work, disk=work, rounds=1, is_quick=True, is_full=False, bandersnatch=None)
    with bench.upstream(shape) as (_, upstream):
        ours = peers.mirror(upstream, shape, server="plain" if options.case == "idle-etags" else "serials")
        directory = work / "run"
        directory.mkdir()
        ours.prepare(directory)
        if options.case.startswith("idle"):
            run_once(ours.command(directory), ours.environment, directory / "first.log")
        spied = [options.py_spy, "record", "--subprocesses", "--threads", "--rate", str(_PER_SECOND), "--output"]
        run = run_once(
            [*spied, str(work / "raw"), "--format", "raw", "--", *ours.command(directory)],
            ours.environment,
            work / "log",
        )
        print(f"{options.case}: {run.wall_s:.2f} s, {run.cpu_s:.2f} s of CPU with py-spy's own")
        if options.svg:
            shutil.rmtree(directory / "root", ignore_errors=not options.case.startswith("idle"))
            subprocess.run(
                [*spied, str(options.svg), "--", *ours.command(directory)], env=dict(ours.environment), check=True
            )
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in (work / "raw").read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def _show(stacks: Counter[tuple[str, ...]]) -> None:
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    threads: Counter[str] = Counter()
    for frames, count in stacks.items():
        named = [frame.rpartition(":")[0] or frame for frame in frames]
        own[named[-1]] += count
        threads[frames[0].partition("(")[0]] += count
        for frame in set(named):
            total[frame] += count
    every = sum(stacks.values())
    print("threads: " + ", ".join(f"{name.strip()} {count / every:.0%}" for name, count in threads.most_common(6)))
    ours = Counter({frame: count for frame, count in total.items() if "(mirror/" in frame})
    for title, counted in (("alone", own), ("with what they call", total), ("ours, with what they call", ours)):
        print(f"\n{title}")
        for frame, count in counted.most_common(_SHOWN):
            print(f"  {count / every:6.1%}  {count / _PER_SECOND:6.2f} s  {frame}")


if __name__ == "__main__":
    main()
