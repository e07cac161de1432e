"""Record a snapshot that was found in a tree whose state was lost.

Its history stays unknown, but its files are learnt from its pages: no blob of it is pruned, and a
file that an index withdraws later is known to be in it, also where no live page lists it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio.to_thread

from mirror.core.model import ListedFile, ProjectPage
from mirror.core.names import ProjectName, Sha256, check_sha256
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.state.entries.rebuilt import FormerFile, record_former_files
from mirror.state.frozen.snapshots import (
    FrozenKind,
    record_kept_blobs,
    record_snapshot,
    record_snapshot_ready,
)

_PAGES_AT_ONCE = 200
_log = get_logger(__name__)

ReadPages = Callable[[Sequence[ProjectName]], list[ProjectPage]]
"""Read the pages of some projects, those that can be read. Blocking."""


async def record_found_snapshot(
    holdings: Holdings,
    source: int,
    name: str,
    projects: Sequence[ProjectName],
    read: ReadPages,
    is_current: Callable[[], bool] = lambda: False,
) -> None:
    """Record the snapshot and its files. ``source``: of the entries that belong to no index.

    ``is_current``: asked at the end, whether this version's renderer wrote all of its pages.
    """
    store = holdings.store
    row = await record_snapshot(
        store, FrozenKind.SNAPSHOT, name, revision=0, now=holdings.clock(), rebuilt=True
    )
    files = size = 0
    for start in range(0, len(projects), _PAGES_AT_ONCE):
        some = projects[start : start + _PAGES_AT_ONCE]
        pages = await anyio.to_thread.run_sync(read, some)
        found = [former for page in pages for former in _former_files(page, name)]
        await record_kept_blobs(store, row, [(one.sha256, one.filename) for one in found])
        await record_former_files(store, source, found)
        files += len(found)
        size += sum(one.size for one in found)
    await record_snapshot_ready(
        store, row, projects=len(projects), files=files, size=size, is_current=is_current()
    )


def _former_files(page: ProjectPage, snapshot: str) -> list[FormerFile]:
    found = []
    for file in page.files:
        sha256 = _sha256_of(file)
        if sha256 is None:
            problem = "its page lists this file without a sha256: `mirror verify` names the damage"
            _log.warning(
                "snapshot.file_unknown",
                snapshot=snapshot,
                project=page.name,
                filename=file.filename,
                problem=problem,
            )
            continue
        found.append(
            FormerFile(
                project=page.name,
                filename=file.filename,
                sha256=sha256,
                size=file.size or 0,
                labels=file.labels,
            )
        )
    return found


def _sha256_of(file: ListedFile) -> Sha256 | None:
    try:
        return check_sha256(dict(file.digests)["sha256"])
    except (KeyError, ValueError):
        return None
