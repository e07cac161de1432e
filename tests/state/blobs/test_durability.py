"""The queries of ``mirror.state.blobs.durability``."""

from __future__ import annotations

from typing import Any

import pytest

from harness.state_rows import add, rows_of
from mirror.core.names import Sha256
from mirror.state.blobs.durability import (
    UnsureBlob,
    load_durable,
    load_ended_by_storage,
    load_unsure,
    record_durable,
    record_unsure,
)
from mirror.state.store import Store

ENDED: dict[str, Any] = {"finished_at": 1.0, "exit_code": 0}


@pytest.mark.parametrize(
    ("cycles", "cycle", "is_so"),
    [
        ([], 1, False),
        ([ENDED, ENDED], 2, False),
        ([{}, ENDED], 2, True),
        ([ENDED, {}], 2, False),
        ([{**ENDED, "problem": "full"}, ENDED], 2, True),
        ([{**ENDED, "exit_code": 6}, ENDED], 2, True),
        ([{**ENDED, "exit_code": 7}, ENDED], 2, False),
        ([{}, ENDED, ENDED], 3, False),
        ([ENDED, {}, ENDED], 3, True),
    ],
)
async def test_load_ended_by_storage(store: Store, cycles: list[dict[str, Any]], cycle: int, *, is_so: bool) -> None:
    """Only the cycle before counts: it has no end, a problem of the disk, or its exit code."""
    for values in cycles:
        await add(store, "cycle", **values)
    assert await load_ended_by_storage(store, cycle) is is_so


@pytest.fixture
async def blobs(store: Store) -> None:
    """Two unsure blobs, and whole ones."""
    for sha256, filename, verified in (
        ("aa", "f", 0.0),
        ("ab", "f", 5.0),
        ("ab", "g", -1.0),
        ("ac", "f", -1.0),
        ("b", "f", 1.0),
        ("9f", "f", 1.0),
    ):
        await add(store, "blob", sha256=sha256, filename=filename, size=3, verified=verified, metadata_sha256="m")


async def test_load_durable(store: Store, blobs: None) -> None:
    """Whole blobs are found by the beginning of their digest."""
    assert await load_durable(store, "a") == {"aa", "ab"}
    assert await load_durable(store, "ab") == {"ab"}


async def test_load_unsure(store: Store, blobs: None) -> None:
    """Unsure blobs are found."""
    assert await load_unsure(store) == [unsure("ab", "g"), unsure("ac", "f")]


async def test_record_unsure(store: Store, blobs: None) -> None:
    """Only the blob of this name and digest becomes unsure."""
    await record_unsure(store, [("ab", "f")])
    assert await load_unsure(store) == [unsure("ab", "f"), unsure("ab", "g"), unsure("ac", "f")]


async def test_record_durable(store: Store, blobs: None) -> None:
    """An unsure blob is whole from now on; one that was whole keeps its times."""
    await record_durable(store, [unsure("ab", "g"), unsure("aa", "f")], now=9.0)
    assert await rows_of(store, "blob", "sha256, filename, stored, verified") == [
        ("9f", "f", 0.0, 1.0),
        ("aa", "f", 0.0, 0.0),
        ("ab", "f", 0.0, 5.0),
        ("ab", "g", 9.0, 9.0),
        ("ac", "f", 0.0, -1.0),
        ("b", "f", 0.0, 1.0),
    ]


def unsure(sha256: str, filename: str) -> UnsureBlob:
    return UnsureBlob(sha256=Sha256(sha256), filename=filename, size=3, metadata_sha256=Sha256("m"))
