"""Time, CPU and peak memory of ``mirror sync --once`` over a generated index; prints a table, then the same as JSON.

The index runs in another process on this machine and shares its cores, so the times are upper bounds. CPU and memory
are the mirror's alone, as the kernel counted them for its process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MIRROR = [sys.executable, "-m", "mirror"]


class Upstream:
    """The index's process."""

    def __init__(self, projects: int, files: int) -> None:
        command = [sys.executable, "-m", "bench.upstream", f"--projects={projects}", f"--files={files}"]
        self._process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url: str = self._read()["url"]

    def tell(self, command: str) -> Any:
        """Give one command and return its answer."""
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def _read(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Run all cycles and print what they took."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--projects", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=1, help="files of each project")
    parser.add_argument("--changed", type=int, default=100, help="projects with a new release in the third cycle")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirror-bench-") as work:
        print(f"an index of {options.projects} projects with {options.files} small wheel(s) each …", flush=True)
        with Upstream(options.projects, options.files) as upstream:
            cycles = _measure_all(upstream, Path(work) / "root", options.changed)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({"format": 1, **vars(options), **machine, "cycles": cycles}))


def _measure_all(upstream: Upstream, root: Path, changed: int) -> list[dict[str, Any]]:
    print(f"{'cycle':<44}{'seconds':>9}{'CPU s':>9}{'peak MiB':>10}{'requests':>10}{'new files':>11}", flush=True)
    cycles = [_measure(upstream, root, "first fill")]
    cycles.append(_measure(upstream, root, "nothing changed, serials in the root"))
    upstream.tell(f"publish {changed}")
    cycles.append(_measure(upstream, root, f"{changed} new releases, serials in the root"))
    upstream.tell("serials off")
    cycles.append(_measure(upstream, root, "every page is another one (no more serials)"))
    cycles.append(_measure(upstream, root, "nothing changed, ETags only"))
    return cycles


def _measure(upstream: Upstream, root: Path, label: str) -> dict[str, Any]:
    command = [*MIRROR, "sync", "--once", "--index-url", upstream.url, "--root", str(root), "--json"]
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        output.seek(0)
        printed = output.read()
    if process.returncode != 0:
        raise SystemExit(f"{label}: mirror ended with exit code {process.returncode}\n{printed[:2000]}")
    measured = {
        "cycle": label,
        "seconds": round(seconds, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "requests": upstream.tell("requests"),
        "files_new": json.loads(printed)["indexes"][0]["files_new"],
    }
    _, *numbers = measured.values()
    widths = (9, 9, 10, 10, 11)
    print(f"{label:<44}" + "".join(f"{n:>{w}}" for n, w in zip(numbers, widths, strict=True)), flush=True)
    return measured


if __name__ == "__main__":
    main()
