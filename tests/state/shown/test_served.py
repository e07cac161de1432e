"""The verdict on a blob, for the server: ``mirror.state.shown.served``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from harness.state_rows import add, add_file
from mirror.core.names import Sha256
from mirror.errors import StateError
from mirror.state.schema import SCHEMA_VERSION
from mirror.state.shown.served import BlobState, Verdict
from mirror.state.store import Store

X = Sha256("x")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BlobState]:
    """Yield the state as the server asks it."""
    state = BlobState(path)
    try:
        yield state
    finally:
        state.close()


async def judge(state: BlobState) -> Verdict:
    """Return the verdict on the blob x/f; asked in a thread, since it blocks."""
    return await anyio.to_thread.run_sync(state.judge, X, "f")


async def index(store: Store, position: int, *, name: str = "a", **values: Any) -> int:
    """Add an index that lists a project, and return the project."""
    source = await add(store, "source", name=f"index{position}", position=position)
    return await add(store, "project", source=source, name=name, **values)


async def test_unknown(store: Store) -> None:
    """Only a blob with this name and digest is known."""
    await add(store, "blob", sha256="x", filename="g")
    await add(store, "blob", sha256="y", filename="f")
    with opened(store.path) as state:
        assert await judge(state) is Verdict.UNKNOWN


async def test_unlisted(store: Store) -> None:
    """A blob that no entry ever listed, such as one of a snapshot, is served."""
    await add(store, "blob", sha256="x", filename="f")
    with opened(store.path) as state:
        assert await judge(state) is Verdict.SERVED


WITHDRAWN: list[dict[str, Any]] = [{"withdrawn": "w"}, {"status": "quarantined"}]


@pytest.mark.parametrize("values", [{}, {"status": "archived"}, *WITHDRAWN])
async def test_formerly_listed(store: Store, values: dict[str, Any]) -> None:
    """A file that left the pages is served unless its project is withdrawn."""
    await add(store, "revision")
    await add_file(store, "f", "x", project=await index(store, 0, **values), valid_to=1)
    with opened(store.path) as state:
        assert await judge(state) is (Verdict.WITHDRAWN if values in WITHDRAWN else Verdict.SERVED)


@pytest.mark.parametrize("values", WITHDRAWN)
async def test_listed(store: Store, values: dict[str, Any]) -> None:
    """A file that a page lists is served, whoever withdrew it, also beside an older entry."""
    await add(store, "revision")
    project = await index(store, 0, **values)
    await add_file(store, "f", "x", project=project, valid_to=1)
    await add_file(store, "f", "x", project=project)
    with opened(store.path) as state:
        assert await judge(state) is Verdict.SERVED


@pytest.mark.parametrize(
    ("position", "name", "verdict"),
    [
        (0, "a", Verdict.WITHDRAWN),
        (1, "a", Verdict.WITHDRAWN),
        (2, "a", Verdict.SERVED),
        (0, "b", Verdict.SERVED),
    ],
)
async def test_withdrawn_by_another_index(store: Store, position: int, name: str, verdict: Verdict) -> None:
    """A withdrawal counts for the files of its project in later indexes, not in earlier ones."""
    await add(store, "revision")
    await add_file(store, "f", "x", project=await index(store, 1), valid_to=1)
    await add(store, "source", name="other", position=position)
    await add(store, "project", source=2, name=name, withdrawn="w")
    with opened(store.path) as state:
        assert await judge(state) is verdict


async def test_another_entry_is_served(store: Store) -> None:
    """A file that is withdrawn in one project and not in another is served; other files don't count."""
    await add(store, "revision")
    await add_file(store, "f", "x", project=await index(store, 0, withdrawn="w"), valid_to=1)
    served = await index(store, 1, name="b")
    await add_file(store, "g", "x", project=served)
    await add_file(store, "f", "y", project=served)
    await add_file(store, "g", "x", project=served, valid_to=1)
    with opened(store.path) as state:
        assert await judge(state) is Verdict.WITHDRAWN
        await add_file(store, "f", "x", project=served, valid_to=1)
        assert await judge(state) is Verdict.SERVED


async def test_answers_are_current(store: Store) -> None:
    """An answer is never older than the question: a change by the writer counts at once."""
    await add(store, "revision")
    project = await index(store, 0)
    with opened(store.path) as state:
        assert await judge(state) is Verdict.UNKNOWN
        await add_file(store, "f", "x", project=project, valid_to=1)
        assert await judge(state) is Verdict.SERVED
        await store.connection.execute("UPDATE project SET withdrawn = 'w'")
        assert await judge(state) is Verdict.WITHDRAWN


async def test_another_file_in_its_place(store: Store, tmp_path: Path, empty_state: Path) -> None:
    """A state that was replaced, as by a restored backup, is opened again."""
    await add(store, "blob", sha256="x", filename="f")
    path = tmp_path / "served.db"
    await store.connection.execute("VACUUM INTO ?", (str(path),))
    with opened(path) as state:
        assert await judge(state) is Verdict.SERVED
        await anyio.to_thread.run_sync(path.unlink)
        await anyio.to_thread.run_sync(shutil.copy, empty_state, path)
        assert await judge(state) is Verdict.UNKNOWN


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
async def test_another_version(store: Store, version: int) -> None:
    """A state of a version that can't be read is refused."""
    await store.connection.execute(f"PRAGMA user_version = {version}")
    with opened(store.path) as state, pytest.raises(StateError, match=rf"state {version}\)"):
        await judge(state)


def test_missing(tmp_path: Path) -> None:
    """Without a state nothing is judged."""
    with opened(tmp_path / "state.db") as state:
        assert not state.exists()
        with pytest.raises(StateError, match="No such file"):
            state.judge(X, "f")


def test_damaged(tmp_path: Path) -> None:
    """A file that is no database is an error each time."""
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 1000)
    with opened(path) as state:
        assert state.exists()
        for _ in range(2):
            with pytest.raises(StateError) as raised:
                state.judge(X, "f")
            assert raised.value.is_damage
