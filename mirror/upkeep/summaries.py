"""Fills in the summaries of projects that were mirrored before summaries were recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

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
from mirror.tree.atomic import open_plain
from mirror.tree.layout import Layout

_HEAD_BYTES = 1 << 20
"""The summary stands in the headers, which are shorter."""


async def fill_summaries(store: Store, layout: Layout) -> int:
    """Read the summary of each published project that has none yet; return how many were found."""
    total, after = 0, ""
    while names := await load_unread(store, after):
        wheels = await load_wheels(store, names)
        found = await anyio.to_thread.run_sync(_read, layout, wheels)
        await record_summaries(store, found, [name for name in names if name not in wheels])
        total += len(found)
        after = names[-1]
    return total


def _read(layout: Layout, wheels: Mapping[str, Sequence[tuple[str, str]]]) -> list[Summary]:
    """Read the metadata of each project's newest wheel; the next run tries unreadable metadata."""
    found = []
    for name, listed in wheels.items():
        filename, sha256 = newest_first(listed)[0]
        try:
            with os.fdopen(open_plain(layout.sidecar_path(Sha256(sha256), filename)), "rb") as file:
                text = parse_summary(file.read(_HEAD_BYTES))
        except OSError:
            continue
        found.append(Summary(name=ProjectName(name), version=filename.split("-", 2)[1], text=text))
    return found
