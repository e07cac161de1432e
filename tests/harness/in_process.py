"""A mirror under test: cycles of the real program in this process, and what they leave on the disk, read back.

Nothing here shares code with what writes the tree: pages are read as JSON and, by pypi-simple, as HTML; the state is
read with SQL. ``Mirror.cycle`` checks the invariants of the tree after each cycle::

    mirror = Mirror(tmp_path / "mirror", {"main": simulator})
    report = await mirror.cycle()
    assert mirror.files() == offered(simulator)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

from pypi_simple import ProjectPage

from harness.prepared_state import states_prepared
from mirror.config import AuthConfig, Config, IndexConfig, Limits, MirrorSettings, TargetConfig
from mirror.config.rules import RulesConfig
from mirror.sync.cycle import run_cycle
from mirror.sync.cycle_parts import Cycle, Options
from mirror.sync.ending import record_outcome
from mirror.sync.report import Report
from mirror.upstream.limits.retry import RetryPolicy
from mirror.wiring.cycle import opened_cycle
from simulator import Simulator

_P = ParamSpec("_P")
_T = TypeVar("_T")

_READER = "reader"


def in_another_thread(read: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function that looks at the disk run where neither the guard of the event loop nor coverage follows it.

    The guard walks the stack at each call that could block, and coverage sees each line: both double a test's time.
    """

    @functools.wraps(read)
    def run(*arguments: _P.args, **options: _P.kwargs) -> _T:
        ended: Future[_T] = Future()

        def work() -> None:
            sys.settrace(None)
            try:
                ended.set_result(read(*arguments, **options))
            except BaseException as exc:  # noqa: BLE001 - raised again where the test is
                ended.set_exception(exc)

        if threading.current_thread().name == _READER:
            return read(*arguments, **options)
        thread = threading.Thread(target=work, name=_READER)
        thread.start()
        thread.join()
        return ended.result()

    return run


Files = dict[str, dict[str, str]]
"""Project -> filename -> sha256."""

DAY_S = 86_400.0


@dataclass
class Clock:
    """A clock that only a test moves."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Mirror:
    """One mirror, of one or several simulators. Change ``indexes``, ``settings`` and ``limits`` between its cycles."""

    def __init__(self, root: Path, simulators: Mapping[str, Simulator], **options: Any) -> None:
        """``options`` are fields of the ``IndexConfig`` of every index."""
        self.root = root
        self.clock = Clock()
        self.env: dict[str, str] = {}
        self.settings: dict[str, Any] = {}
        self.rules: dict[str, Any] = {}
        """Fields of ``RulesConfig``."""
        self.targets: tuple[TargetConfig, ...] = ()
        self.limits: dict[str, Any] = {"disk_reserve": 0, "pages": 4, "downloads": 4}
        self.indexes = {
            name: {"url": s.url, "auth": AuthConfig(kind="none"), **options} for name, s in simulators.items()
        }
        self.retry_policy = RetryPolicy(base_s=0.0001, cap_s=0.0002)
        """The usual one, with shorter pauses."""
        self.exit_code: int | None = None
        """Of the last cycle."""

    def configure(self, index: str, **options: Any) -> None:
        """Change the configuration of an index."""
        self.indexes[index] |= options

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return Config(
            mirror=MirrorSettings(root=self.root, **self.settings),
            limits=Limits(**self.limits),
            indexes=tuple(IndexConfig(name=name, **options) for name, options in self.indexes.items()),
            source="a test",
            rules=RulesConfig(**self.rules),
            targets=self.targets,
        )

    async def cycle(self, **options: Any) -> Report:
        """Run one cycle a minute after the last one, check the tree, and return the report."""
        report = await self.unchecked_cycle(**options)
        check_tree(self.root)
        return report

    async def unchecked_cycle(self, **options: Any) -> Report:
        """The same for a test that checks the tree in its own way."""
        self.clock.advance(60.0)
        async with self.opened(**options) as cycle:
            report = await run_cycle(cycle)
            code = report.exit_code()
            await record_outcome(cycle.holdings, cycle.report, code)
        self.exit_code = int(code)
        return report

    @contextlib.asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Cycle]:
        """Open a cycle that is ready to run, for a test that looks into it."""
        async with contextlib.AsyncExitStack() as running:
            opened = opened_cycle(
                self.config, Options(**options), env=self.env, clock=self.clock, retry_policy=self.retry_policy
            )
            with states_prepared():
                cycle = await running.enter_async_context(opened)
            yield cycle

    async def plan(self, **options: Any) -> list[tuple[str, str, str, str]]:
        """Return the plan of ``--dry-run`` as (index, project, filename, action), sorted."""
        report = await self.cycle(dry_run=True, **options)
        assert report.plan is not None
        return sorted((i.index, i.project, i.filename, i.action) for i in report.plan)

    def files(self) -> Files:
        """Return what the pages list."""
        return {
            project: {name: labels["hashes"]["sha256"] for name, labels in files.items()}
            for project, files in published(self.root).items()
        }

    def labels(self, project: str, filename: str) -> dict[str, Any]:
        """Return what the JSON page says of a file."""
        return published(self.root)[project][filename]

    def page(self, project: str) -> dict[str, Any]:
        """Return a project's JSON page."""
        return read_json(self.root / "public/simple" / project / "index.v1_json")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the state."""
        return query(self.root, sql, *values)

    def ledger(self) -> list[tuple[str, str, str, str]]:
        """Return the ledger as (index, project, filename, reason)."""
        return self.query(
            "SELECT s.name, f.project, f.filename, f.reason FROM failure f JOIN source s ON s.id = f.source ORDER BY 1, 2, 3"
        )

    @in_another_thread
    def footprint(self) -> dict[str, tuple[int, int]]:
        """Return inode and time of each public file: equal ones were not written again."""
        paths = [p for p in (self.root / "public").rglob("*") if p.is_file()]
        return {str(p.relative_to(self.root)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in paths}

    @in_another_thread
    def bytes_on_disk(self) -> dict[str, bytes]:
        """Return the content of every file of the mirror, the state too."""
        return {str(p.relative_to(self.root)): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}


def counters(report: Report, index: str = "main") -> dict[str, int]:
    """Return the counters of one index that are not zero, without bytes and requests."""
    hidden = {"name", "bytes_downloaded", "requests"}
    return {k: v for k, v in report.indexes[index].as_json().items() if v and k not in hidden}


def failures(report: Report) -> list[tuple[str, str | None, str | None, str]]:
    """Return the failures of a report as (index, project, filename, reason), as they stand there."""
    return [(f.index, f.project, f.filename, f.reason.value) for f in report.failures]


def offered(*simulators: Simulator) -> Files:
    """Return what the listed projects of some simulators offer; the first one wins a filename."""
    found: Files = {}
    for simulator in simulators:
        for project in simulator.state.projects.values():
            if project.listed:
                files = found.setdefault(project.name, {})
                for file in project.offered():
                    files.setdefault(file.filename, file.hash("sha256"))
    return {project: files for project, files in sorted(found.items()) if files}


def requests(simulator: Simulator) -> list[tuple[str, str | None, str | None, int | None]]:
    """Return the requests since the last call as (kind, project, filename, status), sorted."""
    taken = [(r.kind, r.project, r.filename, r.status) for r in simulator.take_requests()]
    return sorted(taken, key=lambda r: tuple(str(part or "") for part in r))


@in_another_thread
def published(root: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what the JSON pages list: project -> filename -> the file's object without its name and URL."""
    path = root / "public/simple/index.v1_json"
    names = [p["name"] for p in read_json(path)["projects"]] if path.exists() else []
    return {
        name: {
            f["filename"]: {k: v for k, v in f.items() if k not in {"filename", "url"}}
            for f in read_json(root / "public/simple" / name / "index.v1_json")["files"]
        }
        for name in names
    }


def read_json(path: Path) -> dict[str, Any]:
    """Return a page."""
    page: dict[str, Any] = json.loads(path.read_bytes())
    return page


@in_another_thread
def query(root: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the state."""
    with closing(sqlite3.connect(f"file:{root}/state.db?mode=rw", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()


@in_another_thread
def check_tree(root: Path, *, html: bool = True) -> None:
    """Fail unless the tree keeps its invariants: pages, bytes, metadata and state agree with each other.

    Without ``html`` where an index says what HTML can't carry, or the oracle does not know.
    """
    simple = root / "public/simple"
    directories = sorted(p.name for p in simple.iterdir() if p.is_dir()) if simple.exists() else []
    pages = {name: read_json(simple / name / "index.v1_json") for name in directories}
    _check_root(simple, pages)
    for name, page in pages.items():
        _check_files(simple / name, page)
        if html:
            _check_html(simple / name, name)
    if (root / "state.db").exists():
        _check_state(root, pages)


def _check_root(simple: Path, pages: Mapping[str, Any]) -> None:
    if not (simple / "index.v1_json").exists():
        assert not pages, "there are project pages without a root"
        return
    root = read_json(simple / "index.v1_json")
    serials = {name: page["meta"]["_last-serial"] for name, page in pages.items()}
    assert {p["name"]: p["_last-serial"] for p in root["projects"]} == serials, "the root lists other projects"
    html = (simple / "index.html").read_text()
    assert [line.partition('"')[2].partition("/")[0] for line in html.splitlines() if "<a " in line] == sorted(pages)
    assert (simple / "index.v1_html").read_text() == html


def _check_files(directory: Path, page: Mapping[str, Any]) -> None:
    names = [f["filename"] for f in page["files"]]
    assert len(names) == len(set(names)), "a filename stands there twice"
    for file in page["files"]:
        blob = directory / unquote(file["url"])
        data, sha256 = blob.read_bytes(), file["hashes"]["sha256"]
        assert hashlib.sha256(data).hexdigest() == sha256, f"{blob} holds other bytes than listed"
        assert blob.parent.name == sha256
        assert len(data) == file["size"]
        metadata = file.get("core-metadata")
        if metadata:
            sidecar = Path(f"{blob}.metadata").read_bytes()
            assert metadata == {"sha256": hashlib.sha256(sidecar).hexdigest()}


def _check_html(directory: Path, name: str) -> None:
    html = (directory / "index.html").read_text()
    assert (directory / "index.v1_html").read_text() == html
    _check_equal(name, html, (directory / "index.v1_json").read_text())


@functools.lru_cache(maxsize=10_000)  # most pages stand as the cycle before has left them
def _check_equal(name: str, html: str, text: str) -> None:
    """Fail unless a project's HTML and JSON say the same."""
    page = json.loads(text)
    base = f"https://mirror.example/simple/{name}/"
    read = ProjectPage.from_html(name, html, base_url=base)
    told = {
        p.filename: (p.digests, p.requires_python, p.yanked_reason if p.is_yanked else None, p.metadata_digests or None)
        for p in read.packages
    }
    wanted = {
        f["filename"]: (
            {"sha256": f["hashes"]["sha256"]},
            f.get("requires-python"),
            None if f["yanked"] is False else "" if f["yanked"] is True else f["yanked"],
            f.get("core-metadata") or None,
        )
        for f in page["files"]
    }
    assert told == wanted, "HTML and JSON disagree"
    assert f"<!--SERIAL {page['meta']['_last-serial']}-->" in html


def _check_state(root: Path, pages: Mapping[str, Any]) -> None:
    listed = [
        (name, f["filename"], f["hashes"]["sha256"], f["size"], _yanked(f["yanked"]))
        for name, page in pages.items()
        for f in page["files"]
    ]
    with closing(sqlite3.connect(f"file:{root}/state.db?mode=rw", uri=True)) as connection:
        unpublished = connection.execute("SELECT name FROM page WHERE marked = 1 OR published = 0").fetchall()
        names = connection.execute("SELECT name FROM page ORDER BY name").fetchall()
        rows = connection.execute(
            "SELECT p.name, e.filename, e.sha256, e.size, e.yanked FROM entry e JOIN project p ON p.id = e.project"
            " WHERE e.valid_to IS NULL ORDER BY 1, 2"
        ).fetchall()
        held = connection.execute(
            "SELECT filename, sha256 FROM blob WHERE unlisted_since IS NULL ORDER BY 1, 2"
        ).fetchall()
    assert unpublished == []
    assert [name for (name,) in names] == sorted(pages)
    assert rows == sorted(listed, key=lambda r: r[:2]), "the state and the pages disagree"
    assert held == sorted({(r[1], r[2]) for r in rows}), "blobs are noted as unlisted wrongly"


def _yanked(value: bool | str) -> str | None:
    return None if value is False else "" if value is True else value
