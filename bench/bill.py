"""``python -m bench.bill``: count the requests of a tree in a store, and reckon them for a whole index.

The mirror works on small indexes of four shapes through a front that counts. Three of them give what each project and each
file takes; the fourth must come to the same count, or the reckoning ends. Printed: a table for the documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bench import peers
from bench.corpus import Shape
from bench.measure import run_once
from bench.records import corpus
from bench.upstream import Upstream, serving
from harness.faulty_front import FaultyFront
from harness.storing import BUCKET, ObjectStore, Prefix, start_seaweedfs

PROJECTS, FILES = 730_000, 10_000_000
_SHAPES = ((20, 1), (20, 4), (40, 1))
_CHECK = (30, 3)
_LARGE = (600, 2)
"""So many that other processes fetch, and a page may be put again when more of its files have come."""
_DOLLARS = {
    "PUT": Fraction(5, 10**6),
    "POST": Fraction(5, 10**6),
    "GET": Fraction(4, 10**7),
    "HEAD": Fraction(4, 10**7),
    "DELETE": Fraction(0),
}
"""For one request, of a store that bills each."""
_EXACT = ("file", "metadata", "page")
_KINDS = (
    (re.compile(r"\.lock$"), "lock"),
    (re.compile(r"simple(-json)?/index\.html$"), "root page"),
    (re.compile(r"simple(-json)?/.+/index\.html$"), "page"),
    (re.compile(r"files/.+\.metadata$"), "metadata"),
    (re.compile(r"files/"), "file"),
)

Counts = Counter[tuple[str, str]]
"""(kind of object, method) -> requests, or (kind of object, "bytes") -> bytes that lie there."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A count as a sum: once, for each project, for each file."""

    once: Fraction
    project: Fraction
    file: Fraction

    def at(self, projects: int, files: int) -> Fraction:
        return self.once + self.project * projects + self.file * files


class Mirrored:
    """One mirror of one index, whose requests to the store are counted."""

    def __init__(self, work: Path, upstream: Upstream, shape: Shape, store: ObjectStore, front: FaultyFront) -> None:
        self._folder, self._front = work / shape.label, front
        self._folder.mkdir()
        self.objects = Prefix(store, f"bill-{shape.label}")
        self._ours = peers.mirror(upstream, shape, server="plain", keeps=True)
        self._ours.prepare(self._folder)
        config = self._folder / "mirror.toml"
        tree = f'tree = "{self.objects.address}"'
        config.write_text(config.read_text().replace("[mirror]\n", f"[mirror]\n{tree}\n", 1))
        self._environment = {**self._ours.environment, **store.env, "AWS_ENDPOINT_URL": front.url}

    def cycle(self) -> Counts:
        """Run a cycle and return its requests."""
        return self.run([*self._ours.command(self._folder)])

    def run(self, command: list[str]) -> Counts:
        """Run a command and return its requests."""
        self._front.requests.clear()
        run_once(command, self._environment, self._folder / "output.log")
        return Counter((self._kind(path), method) for method, path in self._front.requests)

    def verify(self) -> Counts:
        """Read all again."""
        return self.run([sys.executable, "-m", "mirror", "verify", "--config", f"{self._folder}/mirror.toml"])

    def sizes(self) -> Counts:
        """Return the bytes of all objects by kind."""
        found: Counts = Counter()
        for key, size in self.objects.sizes().items():
            found[_kind_of(key), "bytes"] += size
        return found

    def _kind(self, path: str) -> str:
        key, _, query = path.partition("?")
        if "list-type" in query:
            return "list"
        return _kind_of(key.removeprefix(f"/{BUCKET}/{self.objects.name}/"))


def _kind_of(key: str) -> str:
    return next((kind for pattern, kind in _KINDS if pattern.match(key)), "judgement of the engine")


def main() -> None:
    """Count, check and print."""
    options = argparse.ArgumentParser(prog="python -m bench.bill", description=__doc__)
    options.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"))
    place = options.parse_args().tmpfs
    with tempfile.TemporaryDirectory(prefix="mirror-bill-", dir=place) as work:
        store = start_seaweedfs(Path(work) / "engine")
        try:
            with _counting(store) as front:
                print(_reckoned(Path(work), store, front))
        finally:
            store.stop()


@contextlib.contextmanager
def _counting(store: ObjectStore) -> Iterator[FaultyFront]:
    front = FaultyFront(store.endpoint)
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        thread.join()
        front.server_close()


def _reckoned(work: Path, store: ObjectStore, front: FaultyFront) -> str:
    fills: dict[tuple[int, int], Counts] = {}
    for projects, each in (*_SHAPES, _CHECK, _LARGE):
        shape = Shape(projects=projects, files=each, file_bytes=2_000)
        site = work / f"site-{shape.label}"
        corpus(site, shape)
        with serving(site, work / "nginx") as upstream:
            mirrored = Mirrored(work, upstream, shape, store, front)
            fills[projects, each] = mirrored.cycle() + mirrored.sizes()
            if (projects, each) == _CHECK:
                verified, idle, changes = _later(mirrored, site, shape)
        shutil.rmtree(site)
    filled = {key: _fitted(fills, key) for key in sorted(set().union(*(fills[shape] for shape in _SHAPES)))}
    _compare(filled, fills[_CHECK])
    lines = list(_lines(filled, verified, idle, changes))
    pages = Fraction(fills[_LARGE]["page", "PUT"], _LARGE[0])
    return "\n".join([*lines, f"a fill of {_LARGE[0]} projects: {_short(pages)} puts of pages for each"])


def _later(mirrored: Mirrored, site: Path, shape: Shape) -> tuple[Counts, Counts, dict[int, Counts]]:
    """Return what verify, an idle cycle, and cycles after 1 and 6 changed projects ask for."""
    verified, idle, changes = mirrored.verify(), mirrored.cycle(), {}
    for generation, count in enumerate((1, 6)):
        corpus(site, shape, f"--release={count / shape.projects}", f"--generation={generation + 1}")
        changes[count] = mirrored.cycle()
    return verified, idle, changes


def _fitted(fills: dict[tuple[int, int], Counts], key: tuple[str, str]) -> Linear:
    (few, one), (_, more), (many, _) = _SHAPES
    base, by_files, by_projects = (fills[shape][key] for shape in _SHAPES)
    file = Fraction(by_files - base, few * (more - one))
    project = Fraction(by_projects - base, many - few) - file * one
    return Linear(base - project * few - file * few * one, project, file)


def _compare(filled: dict[tuple[str, str], Linear], counted: Counts) -> None:
    """End where the fourth shape took other requests than the three before foretell."""
    projects, each = _CHECK
    for (kind, method), linear in filled.items():
        foretold, found = linear.at(projects, projects * each), counted[kind, method]
        if kind in _EXACT and method != "bytes" and foretold != found:
            raise SystemExit(f"{kind}, {method}: {found} requests were counted, {float(foretold)} were reckoned")


def _lines(
    filled: dict[tuple[str, str], Linear], verified: Counts, idle: Counts, changes: dict[int, Counts]
) -> Iterator[str]:
    yield "| first fill | once | each project | each file | a whole index |"
    yield "|---|---|---|---|---|"
    dollars = Fraction(0)
    for (kind, method), linear in filled.items():
        total = linear.at(PROJECTS, FILES)
        if method == "bytes" and kind not in {"page", "root page"}:
            continue
        what = f"{kind}, bytes" if method == "bytes" else f"{kind}: {method}"
        if method != "bytes":
            dollars += total * _DOLLARS[method]
        cells = (_short(linear.once), _short(linear.project), _short(linear.file), f"{round(total):,}")
        yield f"| {what} | {' | '.join(cells)} |"
    yield f"\n{PROJECTS:,} projects, {FILES:,} files: {float(dollars):,.0f} dollars"
    few, many = changes
    yield f"an idle cycle: {sum(idle.values())} requests"
    for key in sorted(changes[few].keys() | changes[many].keys()):
        each = Fraction(changes[many][key] - changes[few][key], many - few)
        yield f"changed, {key[0]}: {key[1]}: {_short(each)} each, {_short(changes[few][key] - each * few)} once"
    projects, each_project = _CHECK
    yield f"verify of {projects} projects, {projects * each_project} files: {dict(verified)}"


def _short(value: Fraction) -> str:
    return f"{float(value):.4g}"


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin"
    main()
