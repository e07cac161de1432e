"""Fills in the summaries of projects that were mirrored before summaries were recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import anyio.to_thread

from mirror.core.files.summary import parse_summary
from mirror.core.names import ProjectName, Sha256
from mirror.state.shown.search import (
    Summary,
    load_unread,
    load_wheels,
    newest_first,
    record_summaries,
)
from mirror.state.store import Store
from mirror.tree.disk.places import open_plain
from mirror.tree.layout import Layout
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import sidecar_key

_HEAD_BYTES = 1 << 20
"""The summary stands in the headers, which are shorter."""


_THREADS = 16

_ReadHead = Callable[[str, Sha256], bytes | None]
"""Return the beginning of the metadata of a filename and sha256; None where it can't be read."""


async def fill_summaries(store: Store, layout: Layout, client: ObjectClient | None) -> int:
    """Read the summary of each published project that has none yet; return how many were found.

    ``client``: of the object store that has the tree; None: it lies on the disk. Raises
    ``TreeError`` where the store can't be asked.
    """
    head = partial(_head_on_disk, layout) if client is None else partial(_head_in_store, client)
    threads = 1 if client is None else _THREADS
    total, after = 0, ""
    while names := await load_unread(store, after):
        wheels = await load_wheels(store, names)
        found = await anyio.to_thread.run_sync(_read, head, threads, wheels)
        await record_summaries(store, found, [name for name in names if name not in wheels])
        total += len(found)
        after = names[-1]
    return total


def _read(
    head: _ReadHead, threads: int, wheels: Mapping[str, Sequence[tuple[str, str]]]
) -> list[Summary]:
    """Read the metadata of each project's newest wheel; the next run tries unreadable metadata."""

    def read(item: tuple[str, Sequence[tuple[str, str]]]) -> Summary | None:
        name, listed = item
        filename, sha256 = newest_first(listed)[0]
        data = head(filename, Sha256(sha256))
        if data is None:
            return None
        version, text = filename.split("-", 2)[1], parse_summary(data)
        return Summary(name=ProjectName(name), version=version, text=text)

    if threads == 1:
        found = [read(item) for item in wheels.items()]
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(read, wheels.items()))
    return [one for one in found if one is not None]


def _head_on_disk(layout: Layout, filename: str, sha256: Sha256) -> bytes | None:
    try:
        with os.fdopen(open_plain(layout.sidecar_path(sha256, filename)), "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return None


def _head_in_store(client: ObjectClient, filename: str, sha256: Sha256) -> bytes | None:
    got = client.get(sidecar_key(sha256, filename), end=_HEAD_BYTES)
    return None if got is None else got[0]
