"""Time and memory of a bundle of 1 GiB, in few and in many files, near and far side, beside ``tar`` and ``sha256sum``.

Run: ``python -m bench.gap [DIRECTORY]``. Everything lies below a temporary directory on one disk; each figure is the median
of three runs with warm caches, the disk synced before the clock stops.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mirror.core.model import Entry, ProjectView
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import iter_root_html, iter_root_json, render_project
from mirror.tree.layout import Layout, create_tree
from mirror.tree.pages import PageStore

GIB = 1 << 30
CASES = {"few": (16, 16), "many": (20_000, 2_000)}
"""Files, projects."""
RUNS = 3


def build(root: Path, files: int, projects: int) -> None:
    """Make a tree of 1 GiB and the state of it."""
    layout = Layout(root)
    create_tree(layout)
    pages = PageStore(layout)
    each = GIB // files
    names = [ProjectName(f"project-{n:05d}") for n in range(projects)]
    for number, name in enumerate(names):
        entries = []
        for version in range(number, files, projects):
            data = os.urandom(each)
            sha256 = Sha256(hashlib.sha256(data).hexdigest())
            filename = f"{name}-{version}.tar.gz"
            path = Path(layout.blob_path(sha256, filename))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            entries.append(Entry(filename=filename, sha256=sha256, size=each))
        pages.write_project(name, render_project(ProjectView(name=name, entries=tuple(entries), serial=1)))
    listed = [(name, 1) for name in names]
    pages.write_root(iter_root_html(listed, 1), iter_root_json(listed, 1))
    subprocess.run(
        [sys.executable, "-m", "mirror", "verify", "--repair", "--root", root], check=False, capture_output=True
    )


def measure(prepare: Callable[[], None], command: list[str | Path]) -> tuple[float, float]:
    """Return the median seconds, and the most memory in MiB, of a command with its data on the disk."""
    seconds = []
    memory = 0.0
    for _ in range(RUNS):
        prepare()
        os.sync()
        started = time.perf_counter()
        pid = os.posix_spawnp(str(command[0]), [str(word) for word in command], os.environ, file_actions=QUIET)
        _, status, usage = os.wait4(pid, 0)
        os.sync()
        seconds.append(time.perf_counter() - started)
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{command} failed")
        memory = max(memory, _mebibytes(usage))
    return statistics.median(seconds), memory


QUIET = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]


def _mebibytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def run_case(name: str, work: Path) -> None:
    """Measure one tree and print its lines."""
    near, medium, far, plain = (work / part for part in ("near", "medium", "far", "plain"))
    # In a process of its own: what it takes would count as the memory of the commands that are started later.
    subprocess.run([sys.executable, "-m", "bench.gap", "--build", near, name], check=True)
    key = work / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_name("key.pub").read_text().split()
    trust = work / "allowed_signers"
    trust.write_text(f"near {public[0]} {public[1]}\n")

    def clear(*paths: Path) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)

    def clear_near() -> None:
        clear(medium)
        medium.mkdir()

    def clear_plain() -> None:
        clear(plain)
        plain.mkdir()

    mirror: list[str | Path] = [
        sys.executable,
        "-m",
        "mirror",
        "bundle",
        "create",
        "--root",
        near,
        "--site",
        "s",
        "--local",
        "--to",
        medium,
    ]
    create = measure(clear_near, [*mirror, "--key", key, "--full"])
    tree = near / "public"
    packed = measure(
        clear_plain, ["sh", "-c", f"tar -C {tree} -cf {plain}/t.tar files simple && sha256sum {plain}/t.tar"]
    )
    (bundle,) = medium.iterdir()
    program = work / "receive.py"
    shutil.copy(bundle / "receive.py", program)
    receive: list[str | Path] = [sys.executable, "-I", program, bundle, "--root", far, "--site", "s", "--trust", trust]
    received = measure(lambda: clear(far), receive)
    archive = work / "t.tar"
    shutil.copy(plain / "t.tar", archive)
    unpacked = measure(clear_plain, ["sh", "-c", f"sha256sum {archive} && tar -C {plain} -xf {archive}"])
    for side, ours, theirs in (("near", create, packed), ("far", received, unpacked)):
        print(
            f"{name:5} {side:5} {ours[0]:6.2f} s  {ours[1]:6.0f} MiB   tar + sha256sum {theirs[0]:6.2f} s"
            f"   {ours[0] / theirs[0]:.2f} times"
        )


def main() -> None:
    """Measure both cases."""
    if sys.argv[1:2] == ["--build"]:
        build(Path(sys.argv[2]), *CASES[sys.argv[3]])
        return
    where = sys.argv[1] if len(sys.argv) > 1 else None
    for name in CASES:
        with tempfile.TemporaryDirectory(dir=where) as work:
            run_case(name, Path(work))


if __name__ == "__main__":
    main()
