"""Measures each import within a function of mirror/: what it would add at the top of its file.

Run by hand after a change of such an import: ``python tests/style/import_costs.py [FILE…]`` prints
place, CPU time and text. Before a block, the interpreter imports its file, and for a command all
that ``mirror --help`` imports; the time is the least of five runs.
"""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from local_imports import import_blocks
from modules import read_module

_REPOSITORY = Path(__file__).parent.parent.parent
_RUNS = 5
_PROGRAM = """
import importlib, json, os, sys, time
loaded, blocks, runs = json.load(sys.stdin)
for name in loaded:
    importlib.import_module(name)
for block in blocks * runs:
    sys.stdout.flush()
    if os.fork() == 0:
        started = time.process_time()
        exec(block)
        print((time.process_time() - started) * 1000, flush=True)
        os._exit(0)
    os.wait()
"""


def main() -> None:
    """Print the cost of each block of the named files, or of all."""
    parser = argparse.ArgumentParser(description="Measure the imports within functions.")
    parser.add_argument("files", nargs="*", type=Path, help="Files of mirror/. Default: all.")
    files = parser.parse_args().files or sorted((_REPOSITORY / "mirror").rglob("*.py"))
    for place, text, cost_ms in measure(files):
        print(f"{place}: {cost_ms:.1f} ms: {text}", flush=True)


def measure(files: list[Path]) -> Iterator[tuple[str, str, float]]:
    """Yield place, text and CPU time in ms of each block of imports within a function."""
    for path in files:
        name = path.resolve().relative_to(_REPOSITORY)
        module = ".".join(name.with_suffix("").parts).removesuffix(".__init__")
        loaded = ["mirror.cli.app", module] if name.is_relative_to("mirror/cli/commands") else [module]
        found = list(import_blocks(read_module(path.resolve(), _REPOSITORY)))
        blocks = ["\n".join(map(ast.unparse, block)) for block in found]
        costs_ms = _costs(loaded, blocks) if blocks else []
        for block, text, cost_ms in zip(found, blocks, costs_ms, strict=True):
            yield f"{name}:{block[0].lineno}", text.replace("\n", "; "), cost_ms


def _costs(loaded: list[str], blocks: list[str]) -> list[float]:
    """Return the least CPU time of each block, each run a fork of an interpreter that has imported
    no more than ``loaded``.
    """
    given = json.dumps([loaded, blocks, _RUNS])
    done = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True, input=given)
    spent = [float(line) for line in done.stdout.split()]
    return [min(spent[number :: len(blocks)]) for number in range(len(blocks))]


if __name__ == "__main__":
    main()
