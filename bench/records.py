"""The values of the cases: what is to be reached, what a case found, and where and how often it measures."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.corpus import Shape
from bench.measure import Comparison, Contender
from bench.upstream import Upstream, serving

SMALL = Shape(projects=2_000, files=3, file_bytes=20 * 1024)
LARGE = Shape(projects=20, files=1, file_bytes=50 * 2**20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One thing to reach, as measured."""

    text: str
    value: float
    limit: float
    is_ratio: bool = True
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(slots=True, kw_only=True)
class Result:
    """What a case found."""

    name: str
    title: str
    comparison: Comparison
    goals: list[Goal] = field(default_factory=list)
    extra: dict[str, float | int | None] = field(default_factory=dict)


def title_of(case: object) -> str:
    """Return the title of a case: its docstring."""
    return (case.__doc__ or "").rstrip(".")


@dataclass(slots=True, kw_only=True)
class Bench:
    """Where and how often to measure."""

    tmpfs: Path
    disk: Path
    rounds: int
    is_quick: bool
    is_full: bool
    bandersnatch: str | None
    is_tiny: bool = False
    slow_every: int = 1
    small: Shape = SMALL
    large: Shape = LARGE
    cold_s: dict[str, float] = field(default_factory=dict)
    """Medians of the cold fill on tmpfs, for the kill in its middle and for the share of what changed."""

    @contextlib.contextmanager
    def upstream(self, shape: Shape, work: str = "nginx") -> Iterator[tuple[Path, Upstream]]:
        """Write a corpus, unless it is there, and serve it. ``work``: the folder of the server."""
        site = self.tmpfs / f"corpus-{shape.label}"
        if not site.exists():
            corpus(site.with_suffix(".new"), shape)
            site.with_suffix(".new").rename(site)
        with serving(site, self.tmpfs / work) as upstream:
            yield site, upstream

    def bander(
        self, upstream: Upstream, shape: Shape, *, port: int | None = None, keeps: bool = False
    ) -> list[Contender]:
        found = peers.bandersnatch(self.bandersnatch, upstream, shape, port=port, keeps=keeps)
        return [dataclasses.replace(c, every=1 if keeps else self.slow_every) for c in found]


def corpus(site: Path, shape: Shape, *more: str) -> str:
    """Write a corpus, or a release in it, in another process."""
    numbers = [f"--{key.replace('_', '-')}={value}" for key, value in dataclasses.asdict(shape).items()]
    command = [sys.executable, "-m", "bench.corpus", str(site), *numbers, *more]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=peers.HERE).stdout
