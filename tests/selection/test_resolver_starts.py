"""When the resolver is started, and what its runs share."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from harness.wants import WantingMirror, add, proofs
from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.state.missing.ledger import FailureRow, load_project_failures
from mirror.state.store import Store
from mirror.sync.needs import pages


@pytest.fixture
async def index(simulator):
    return await simulator(core_metadata=True)


class Started:
    """A program in front of uv that counts how it is started; ``take`` returns the words since the last call."""

    def __init__(self, folder: Path) -> None:
        self.program, self._log = folder / "uv", folder / "started.log"
        neighbour = Path(sys.executable).parent / "uv"
        uv = neighbour if neighbour.exists() else shutil.which("uv")
        self.program.write_text(f'#!/bin/sh\necho "$1 $2" >> {self._log}\nexec {uv} "$@"\n')
        self.program.chmod(0o755)

    def take(self) -> list[str]:
        lines = self._log.read_text().split("\n")[:-1] if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return [line.strip() for line in lines]


@pytest.fixture
def started(tmp_path: Path) -> Started:
    return Started(tmp_path)


@pytest.fixture
def mirror(tmp_path: Path, index, started: Started) -> WantingMirror:
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    mirror.env = {"MIRROR_UV": str(started.program)}
    return mirror


async def test_an_idle_cycle_starts_no_program(index, mirror, started):
    """The version of uv is remembered by its file; another file is asked for its version once."""
    add(index, "app", "1.0")
    mirror.want("app")
    await mirror.cycle()
    assert started.take() == ["--version", "pip compile"]
    await mirror.cycle()
    assert started.take() == []
    started.program.write_bytes(started.program.read_bytes() + b"# a newer one\n")
    await mirror.cycle()
    assert started.take() == ["--version"]


async def test_runs_share_a_cache_and_nothing_else(index, mirror, started):
    """Each want is known to depend on the names that it asked for itself, although runs for one target share a cache."""
    add(index, "one", "1.0", "both", "first")
    add(index, "two", "1.0", "both", "second")
    for name in ("both", "first", "second"):
        add(index, name, "1.0")
    mirror.wants = mirror.wanted("one", name="a") + mirror.wanted("two", name="b")
    await mirror.cycle()
    asked = "SELECT r.want, a.project FROM asked a JOIN resolution r ON r.id = a.resolution ORDER BY 1, 2"
    names = {"a": ("both", "first", "one"), "b": ("both", "second", "two")}
    assert mirror.query(asked) == [(want, name) for want in names for name in names[want]]
    started.take()
    add(index, "first", "2.0")
    await mirror.cycle()
    assert started.take() == ["pip compile"]
    assert "first-2.0-py3-none-any.whl" in mirror.names()


async def test_a_proof_is_run_again_only_where_its_rows_changed(index, mirror, started):
    """After a cycle one want's page changed: its resolution and its proof run, and no other. A proof by hand reads the
    bytes again although no row changed; what was damaged is judged again after the next change.
    """
    for name in ("one", "two"):
        add(index, name, "1.0")
    mirror.wants = mirror.wanted("one", name="a") + mirror.wanted("two", name="b")
    await mirror.proved_cycle()
    assert started.take() == ["--version", *["pip compile"] * 4]
    add(index, "one", "2.0")
    report = await mirror.proved_cycle()
    assert started.take() == ["pip compile"] * 2
    assert [(proof["want"], proof["installable"]) for proof in report.wants] == [("a", True), ("b", True)]
    add(index, "two", "1.0", tag="cp312-cp312-win_amd64")  # of no target
    await mirror.proved_cycle()
    assert started.take() == []
    [blob] = mirror.root.rglob("two-1.0-py3-none-any.whl")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1])
    assert [[gap["reason"] for gap in proof["gaps"]] for proof in await proofs(mirror)] == [[], ["damaged"]]
    assert started.take() == []
    mirror.wants = mirror.wanted("one", name="a")
    report = await mirror.proved_cycle()
    assert [proof["want"] for proof in report.wants] == ["a"]
    assert mirror.query("SELECT want FROM proof") == [("a",)]


async def test_a_system_without_a_temporary_folder(index, mirror, tmp_path, monkeypatch):
    """A cycle keeps the resolver's files in its own root, and removes what a killed one left there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    left = mirror.root / "cache/mirror-resolve-left"
    left.mkdir(parents=True)
    add(index, "app", "1.0")
    mirror.want("app")
    await mirror.proved_cycle()
    assert mirror.names() == {"app-1.0-py3-none-any.whl"}
    assert not list((mirror.root / "cache").glob("mirror-resolve-*"))
    add(index, "app", "2.0")
    await mirror.proved_cycle()
    mirror.want("app>=1")
    with pytest.raises(TreeError, match="set TMPDIR"):
        await proofs(mirror)


async def test_a_listing_is_read_once_for_all_that_depend_on_it(index, mirror, started, monkeypatch):
    """Many wants need the same projects: how often the state is asked does not grow with their number."""
    asked: list[ProjectName] = []

    async def counted(store: Store, source: int, project: ProjectName) -> dict[str, FailureRow]:
        asked.append(project)
        return await load_project_failures(store, source, project)

    monkeypatch.setattr(pages, "load_project_failures", counted)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # several at the same time may each read a listing
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    add(index, "other", "1.0")
    mirror.wants = tuple(want for n in range(9) for want in mirror.wanted("app", "other", name=f"w{n}"))
    await mirror.cycle()
    started.take()
    asked.clear()
    await mirror.cycle()
    assert sorted(asked) == ["app", "lib", "other"]
    asked.clear()
    add(index, "lib", "1.0", tag="cp312-cp312-win_amd64")  # of no target: all wants are compared by their rows
    await mirror.cycle()
    assert started.take() == []
    assert len(asked) <= 3 * 3
