"""Import every module and run a small cycle with what is installed here: the declared floors of the dependencies.

Run by ``.ci/floors`` in an environment of its own; ``tests/`` is on the path for the simulator of an index.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mirror
from simulator import ThreadedSimulator, build_wheel


def main() -> None:
    """Raise where anything fails."""
    names = [module.name for module in pkgutil.walk_packages(mirror.__path__, "mirror.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    for formats in ("json", "html"):
        run_cycles(formats)
    print(f"{len(names)} modules and a cycle work with the oldest dependencies")


def run_cycles(formats: str) -> None:
    """Mirror a small index that speaks this format with the real program, and look at the tree."""
    with ThreadedSimulator(formats=formats) as index, tempfile.TemporaryDirectory() as work:
        index.state.publish("demo", *build_wheel("demo", "1.0"))
        root = Path(work, "mirror")
        sync = ["sync", "--once", "--index-url", index.url, "--root", root]
        for command in (sync, [*sync, "--full"], ["verify", "--root", root], ["status", "--root", root]):
            words = [sys.executable, "-m", "mirror", "--log-level", "error", *map(str, command)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        if len(list(root.glob("public/files/*/*/*/*.whl"))) != 1:
            raise SystemExit(f"the cycle of an index that speaks {formats} has mirrored nothing")


if __name__ == "__main__":
    main()
