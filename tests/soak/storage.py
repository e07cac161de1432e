"""Cycles in which one call of the storage fails, and what must hold afterwards.

``Storage`` runs real cycles with ``failing_calls.c`` loaded. A case is one call by its number in a cycle, and an errno.
"""

from __future__ import annotations

import atexit
import errno
import functools
import os
import random
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.in_process import check_tree, offered, query
from harness.quick_disk import QUICK_DISK
from soak.killing import LARGE_BYTES, Killing, check_disk

ERRORS = tuple(errno.__dict__[name] for name in ("ENOSPC", "EIO", "EACCES", "EROFS", "EMFILE", "EDQUOT"))
FIRST, UPDATE = "first", "update"
"""A mirror from nothing, and a cycle that adds, changes and removes."""

_CODES = frozenset({0, 5, 6})
"""0 where the program can do without the call; 5 where one project's own directory is at fault."""


@dataclass(frozen=True)
class Case:
    """One call that fails."""

    scenario: str
    call: str
    number: int
    error: int
    below: str = ""
    """Only calls below this part of the mirror count."""
    beside: bool = False
    """Worker processes fetch the files; each of them has its own n-th call."""
    many: bool = False
    """Each batch is made durable by syncfs, as a large one is."""

    def __str__(self) -> str:
        where = f" below {self.below}" if self.below else ""
        how = [word for word, is_so in (("worker processes", self.beside), ("syncfs", self.many)) if is_so]
        kind = f" ({', '.join(how)})" if how else ""
        return f"{self.scenario}: {errno.errorcode[self.error]} of {self.call} {self.number}{where}{kind}"


def compiler() -> str | None:
    """Return a C compiler, or None."""
    return shutil.which("gcc") or shutil.which("cc")


@functools.cache
def build() -> Path:
    """Build the library, which ends with this process, and return its path."""
    directory = tempfile.TemporaryDirectory(dir=QUICK_DISK)
    atexit.register(directory.cleanup)
    library = Path(directory.name) / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Storage(Killing):
    """One index, and a mirror of it in two states from which each case begins."""

    def __init__(self, work: Path, seed: int = 0) -> None:
        work.mkdir(parents=True, exist_ok=True)
        super().__init__(work, seed, preload=build())
        self._before = work / "before"

    def prepare(self) -> None:
        """Make the mirror that the update begins with, and what comes after it."""
        state = self.upstream.state
        for number in range(3):
            self.publish(f"project-{number}", sdist=number == 0)
            self.publish(f"project-{number}")
        self.cycle_to_its_end()
        self.change(lambda: state.unlist_project("project-2"))
        self.cycle_to_its_end()  # the first of two looks
        shutil.copytree(self.root, self._before, symlinks=True)
        self.publish("project-0", sdist=True)
        self.publish("project-1", size_pad=LARGE_BYTES)
        self.publish("project-3")
        wheel = next(name for name in state["project-1"].files if name.endswith(".whl"))
        self.change(lambda: state.yank("project-1", wheel, "broken"))

    def begin(self, scenario: str) -> None:
        """Bring the mirror into the state in which a scenario begins."""
        shutil.rmtree(self.root, ignore_errors=True)
        if scenario == UPDATE:
            shutil.copytree(self._before, self.root, symlinks=True)
        self.log.unlink(missing_ok=True)

    def count(self, scenario: str, *, beside: bool = False) -> Counter[str]:
        """Return how often a cycle without any fault makes each call."""
        self.begin(scenario)
        self.beside = beside
        trace = self.work / "trace"
        trace.unlink(missing_ok=True)
        assert self.cycle(fail={"tree": str(self.root), "trace": str(trace)}) == 0, self.told()
        return Counter(line.split(" ", 1)[0] for line in trace.read_text().splitlines())

    def check(self, case: Case) -> int:
        """Run a cycle in which the call fails, and one that repairs; return the first one's exit code."""
        self.begin(case.scenario)
        self.beside = case.beside
        tree = self.root / case.below
        fail = {"tree": str(tree), "call": case.call, "number": case.number, "error": case.error}
        code = self.cycle(fail=fail, many=case.many)
        said = self.log.read_text()
        assert code in _CODES, f"{case}: exit code {code}, {self.told()}"
        assert "Traceback" not in said, f"{case}: {self.told()}"
        if code == 6:
            errors = [line for line in said.splitlines() if line.startswith("error: ")]
            assert len(errors) <= 1, f"{case}: {self.told()}"
        self.check_repaired(str(case))
        return code

    def check_repaired(self, what: str) -> None:
        """Fail unless the disk keeps its invariants after a fault, and the next cycle repairs it without trusting it."""
        check_disk(self.root)
        with _Watched(self.root, self.work / "watched") as watched:
            self.log.unlink(missing_ok=True)
            self.beside = False
            for _ in range(2):  # a removal needs two looks
                assert self.cycle() == 0, f"{what}, the cycle after it: {self.told()}"
                if self.files() == offered(self.upstream):
                    break
            watched.check(what)
        check_tree(self.root)
        assert self.files() == offered(self.upstream), f"{what}: {self.told()}"
        assert list((self.root / "staging").iterdir()) == [], f"{what}: something stays in staging"


def all_cases(storage: Storage, draw: random.Random) -> list[Case]:
    """Return a case for each call of both scenarios, in random order, with an errno for each."""
    cases = [
        Case(scenario, call, number, draw.choice(ERRORS), beside=draw.random() < 0.2, many=draw.random() < 0.2)
        for scenario in (FIRST, UPDATE)
        for call, count in sorted(storage.count(scenario).items())
        for number in range(1, count + 1)
    ]
    draw.shuffle(cases)
    return cases


class _Watched:
    """The blobs and directories that lay in the tree after a fault: which of them are still the same inodes.

    Blobs are kept by hard links, directories by open descriptors, so that no new one gets their inode.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self._root, self._place = root, place
        self._recorded: dict[Path, bool] = {}
        self._directories: dict[Path, tuple[int, bool]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir()
        files = self._root / "public/files"
        known = set()
        if (self._root / "state.db").exists() and query(self._root, "SELECT 1 FROM sqlite_master WHERE name = 'blob'"):
            known = {(r[0], r[1]) for r in query(self._root, "SELECT sha256, filename FROM blob WHERE verified >= 0")}
        for path in self._blobs(files):
            os.link(path, self._place / str(len(self._recorded)))
            self._recorded[path] = (path.parent.name, path.name) in known
        self._open_directories({sha256 for sha256, _ in known})
        return self

    def _open_directories(self, known: set[str]) -> None:
        files, simple = self._root / "public/files", self._root / "public/simple"
        durable = {files.joinpath(*parts) for s in known for parts in ((s[:2],), (s[:2], s[2:4]), (s[:2], s[2:4], s))}
        for path in (path for path in files.rglob("*") if path.is_dir()):
            self._directories[path] = (os.open(path, os.O_RDONLY), path in durable)
        has_pages = (self._root / "state.db").exists() and query(
            self._root, "SELECT 1 FROM sqlite_master WHERE name = 'page'"
        )
        rows = query(self._root, "SELECT name FROM page WHERE published = 1") if has_pages else []
        published = {name for (name,) in rows}
        for path in simple.glob("*/"):
            self._directories[path] = (os.open(path, os.O_RDONLY), path.name in published)

    def __exit__(self, *_: object) -> None:
        for descriptor, _is_durable in self._directories.values():
            os.close(descriptor)
        shutil.rmtree(self._place)

    def check(self, what: str) -> None:
        """Fail where what was not durable is still trusted, or what was durable was written again."""
        for number, (path, is_recorded) in enumerate(self._recorded.items()):
            if not path.exists():
                continue
            is_same = path.samefile(self._place / str(number))
            assert is_same == is_recorded, (
                f"{what}: {path.name}, {'recorded, was replaced' if is_recorded else 'never recorded, is trusted'}"
            )

        for path, (descriptor, is_durable) in self._directories.items():
            if path.exists():
                is_same = os.path.samestat(path.stat(), os.fstat(descriptor))
                assert is_same == is_durable, f"{what}: {path} was made again: {not is_same}, is durable: {is_durable}"

    def _blobs(self, files: Path) -> Iterator[Path]:
        for path in sorted(files.rglob("*")):
            if path.is_file() and path.suffix != ".metadata":
                yield path
