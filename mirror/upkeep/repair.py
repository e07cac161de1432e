"""Mend a verification's findings, in the order of writes (``docs/explanation/order-of-writes.md``).

Rows close and pages are marked, pages are written, and only then unlisted files are moved aside.
After a kill, the next run or cycle continues.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import anyio.to_thread

from mirror.core.names import ProjectName, Sha256
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.durability import record_unsure
from mirror.state.blobs.lost import record_lost, record_pages_damaged, record_sidecars
from mirror.state.blobs.verified import BlobRow
from mirror.state.notes import forget_damage
from mirror.tree.checking.aside import move_aside
from mirror.tree.checking.blobs import DamageKind, wheel_metadata
from mirror.tree.checking.modes import open_modes
from mirror.tree.checking.page_places import clear_page_place
from mirror.tree.checking.single_files import exists, sync_path
from mirror.tree.layout import Layout
from mirror.upkeep.findings import Verification, shown_path
from mirror.upkeep.stores.mend import mend_store

_log = get_logger(__name__)


async def repair(holdings: Holdings, found: Verification) -> None:
    """Mend the findings: lost files leave the pages, sidecars and pages are made again, damage is
    moved aside.

    The next cycle fetches the files that ``found.lost`` lists afterwards.
    """
    if holdings.client is not None:
        await mend_store(holdings, holdings.client, found)
        return
    found.doing = "mending"
    now = holdings.clock()
    await anyio.to_thread.run_sync(
        open_modes, [f.path for f in found.findings if f.damage is DamageKind.MODE]
    )
    damaged = [
        f
        for f in found.findings
        if f.damage in {DamageKind.MISSING, DamageKind.SIZE, DamageKind.BYTES}
    ]
    blobs = [f.blob for f in damaged if f.blob is not None]
    if blobs:
        found.lost = await record_lost(holdings.store, blobs, cycle=holdings.cycle, now=now)
    bad = [f.blob for f in found.findings if f.damage is DamageKind.BAD_FILE and f.blob is not None]
    if bad:  # their bytes stay like those of any removed file: a snapshot may list them
        found.lost += await record_lost(
            holdings.store, bad, cycle=holdings.cycle, now=now, keep_blobs=True
        )
    found.lost += found.lost_to_snapshots
    unfit = await _mend_sidecars(holdings, found)
    pages = {f.project for f in found.findings if f.damage is DamageKind.PAGE}
    await anyio.to_thread.run_sync(_clear_page_places, holdings.layout, pages)
    names = {name for name in pages if name is not None}
    if names:
        await record_pages_damaged(holdings.store, names, cycle=holdings.cycle, now=now)
    publisher = Publisher(holdings)
    await publisher.publish_marked()
    if None in pages:
        await publisher.write_root()
    aside = [f.path for f in damaged if f.damage is not DamageKind.MISSING]
    foreign = [f.path for f in found.findings if f.damage is DamageKind.FOREIGN]
    await anyio.to_thread.run_sync(_move_aside, holdings.layout, [*aside, *unfit, *foreign])
    still_lost = {
        holdings.layout.blob_path(file.sha256, file.filename) for file in found.lost_to_snapshots
    }
    mended = [f for f in found.findings if f.path not in still_lost]
    await forget_damage(holdings.store, [shown_path(f.path) for f in mended])


async def _mend_sidecars(holdings: Holdings, found: Verification) -> list[str]:
    """Extract the metadata of wheels again; return the sidecars of wheels without any."""
    blobs = [
        f.blob for f in found.findings if f.damage is DamageKind.SIDECAR and f.blob is not None
    ]
    if not blobs:
        return []
    await record_unsure(holdings.store, [(blob.sha256, blob.filename) for blob in blobs])
    mended = await anyio.to_thread.run_sync(_write_sidecars, holdings, blobs)
    await record_sidecars(holdings.store, mended, cycle=holdings.cycle, now=holdings.clock())
    unfit = []
    for blob, digest in mended:
        if digest is None:
            unfit.append(holdings.layout.sidecar_path(blob.sha256, blob.filename))
            found.without_metadata.append(holdings.layout.blob_path(blob.sha256, blob.filename))
            _log.warning("metadata.dropped", filename=blob.filename, sha256=blob.sha256)
    return unfit


def _write_sidecars(
    holdings: Holdings, blobs: Sequence[BlobRow]
) -> list[tuple[BlobRow, Sha256 | None]]:
    mended: list[tuple[BlobRow, Sha256 | None]] = []
    for blob in blobs:
        data = None
        if blob.filename.endswith(".whl"):
            data = wheel_metadata(
                holdings.layout, blob.sha256, blob.filename, holdings.files.metadata_limit_bytes
            )
        mended.append(
            (
                blob,
                None if data is None else write_sidecar(holdings, blob.sha256, blob.filename, data),
            )
        )
    return mended


def write_sidecar(holdings: Holdings, sha256: Sha256, filename: str, data: bytes) -> Sha256:
    """Replace a sidecar durably; an existing one is moved aside."""
    sidecar = holdings.layout.sidecar_path(sha256, filename)
    if exists(sidecar):
        move_aside(holdings.layout, sidecar, keep=True)
    digest = holdings.files.place_sidecar(sha256, filename, data)
    sync_path(sidecar)
    return digest


def _clear_page_places(layout: Layout, pages: Collection[ProjectName | None]) -> None:
    for name in pages:
        for moved in clear_page_place(layout, name):
            _log.warning("file.moved_aside", to=str(moved))


def _move_aside(layout: Layout, paths: Sequence[str]) -> None:
    for path in paths:
        if exists(path):
            moved = move_aside(layout, path)
            _log.warning("file.moved_aside", path=shown_path(path), to=shown_path(str(moved)))
