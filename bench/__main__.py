"""``python -m bench``: run the cases, print a table, the goals and the change against the last figures; keep the ratios.

The index and the peers run on the same machine and share its cores. What is kept in ``bench/results`` is what another
machine can be compared with: ratios.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.cases import CASES, LIMITS, QUICK
from bench.corpus import Shape
from bench.plot import draw
from bench.records import Bench, Result
from bench.report import (
    RESULTS,
    as_json,
    change_lines,
    goal_lines,
    interpreter,
    load_last,
    markdown,
    save,
    table_lines,
    write_page,
)


def main() -> None:
    """Run the chosen cases."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped, the directories removed
    bandersnatch = options.bandersnatch or shutil.which("bandersnatch")
    if bandersnatch is None:
        print("bandersnatch is not there: it is left out (make bench installs it)", file=sys.stderr)
    names = options.case or (LIMITS if options.limits else QUICK if options.quick else tuple(CASES))
    results: list[Result] = []
    last = load_last(options.results)
    print(interpreter())
    with (
        tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=options.tmpfs) as fast,
        tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=options.disk) as slow,
    ):
        bench = Bench(
            tmpfs=Path(fast),
            disk=Path(slow),
            rounds=options.rounds or (3 if options.quick else 5),
            is_quick=options.quick,
            is_full=options.full,
            is_tiny=options.tiny,
            bandersnatch=bandersnatch,
            slow_every=options.slow_every or (3 if options.quick else 1),
        )
        if options.tiny:
            bench.small = Shape(projects=30, files=2, file_bytes=4000)
            bench.large = Shape(projects=2, files=1, file_bytes=2_000_000)
        for name in names:
            results.append(CASES[name](bench))
            print("\n".join(table_lines(results[-1])), flush=True)
            if options.keep:
                _keep(last, results, options.results)
    print("\n".join([*goal_lines(results), *change_lines(last, as_json(results))]))


def _keep(last: dict[str, Any], results: list[Result], where: Path) -> None:
    """Keep what is known so far: a run of hours may be stopped."""
    merged = save(where, last, as_json(results))
    (where / "table.md").write_text(markdown(merged))
    (where / "plot.svg").write_text(draw(merged))
    if where == RESULTS:
        write_page(merged)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the cases, three rounds: some minutes")
    parser.add_argument(
        "--limits", action="store_true", help="the cases of the limits, five rounds: a quarter of an hour"
    )
    parser.add_argument("--full", action="store_true", help="also 730,000 projects")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only this one; repeatable")
    parser.add_argument("--rounds", type=int, help="how often all of a case run in turn (default 5, with --quick 3)")
    parser.add_argument("--slow-every", type=int, help="run bandersnatch's cold fills in each n-th round only")
    parser.add_argument("--bandersnatch", help="the program (default: looked up)")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a directory in memory")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="a directory on a disk")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the last figures are")
    parser.add_argument("--keep", action="store_true", help="keep the ratios, the table and the plot there")
    parser.add_argument("--tiny", action="store_true", help="corpora of a few files, to try the benchmark itself")
    return parser.parse_args()


if __name__ == "__main__":
    main()
