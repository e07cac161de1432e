"""Mend the findings of a verification in an object store, in the order of writes.

Damaged and foreign objects are moved below ``.quarantine/``, after the pages are written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import IO, Final

import anyio.to_thread

from mirror.core.names import Sha256
from mirror.holdings.holdings import Holdings
from mirror.logs import get_logger
from mirror.publishing.publisher import Publisher
from mirror.state.blobs.durability import record_unsure
from mirror.state.blobs.lost import record_lost, record_pages_damaged, record_sidecars
from mirror.state.blobs.verified import BlobRow
from mirror.state.notes import forget_damage
from mirror.tree.checking.blobs import DamageKind
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import blob_key, sidecar_key
from mirror.tree.objects.pages import ObjectPages
from mirror.tree.wheel import WheelError, extract_metadata
from mirror.upkeep.findings import Verification, shown_path

QUARANTINE: Final = ".quarantine"
_DAMAGED: Final = frozenset({DamageKind.MISSING, DamageKind.SIZE, DamageKind.BYTES})
_log = get_logger(__name__)


async def mend_store(holdings: Holdings, client: ObjectClient, found: Verification) -> None:
    """Mend: lost files leave the pages, metadata and pages are made again, damage is moved
    aside.
    """
    found.doing = "mending"
    now, store, cycle = holdings.clock(), holdings.store, holdings.cycle
    await holdings.writer.begin()
    assert isinstance(holdings.pages, ObjectPages)
    holdings.pages.takes_foreign = True
    damaged = [f for f in found.findings if f.damage in _DAMAGED and f.blob is not None]
    blobs = [f.blob for f in damaged if f.blob is not None]
    if blobs:
        found.lost = await record_lost(store, blobs, cycle=cycle, now=now)
    bad = [f.blob for f in found.findings if f.damage is DamageKind.BAD_FILE and f.blob is not None]
    if bad:
        found.lost += await record_lost(store, bad, cycle=cycle, now=now, keep_blobs=True)
    found.lost += found.lost_to_snapshots
    unfit = await _mend_metadata(holdings, client, found)
    pages = {f.project for f in found.findings if f.damage is DamageKind.PAGE}
    names = {name for name in pages if name is not None}
    if names:
        await record_pages_damaged(store, names, cycle=cycle, now=now)
    publisher = Publisher(holdings)
    await publisher.publish_marked()
    if None in pages:
        await publisher.write_root()
    aside = [
        blob_key(f.blob.sha256, f.blob.filename)
        for f in damaged
        if f.blob is not None and f.damage is not DamageKind.MISSING
    ]
    foreign = [_key(client, f.path) for f in found.findings if f.damage is DamageKind.FOREIGN]
    await anyio.to_thread.run_sync(_move_aside, holdings, client, [*aside, *unfit, *foreign])
    still_lost = {blob_key(f.sha256, f.filename) for f in found.lost_to_snapshots}
    mended = [f for f in found.findings if _key(client, f.path) not in still_lost]
    await forget_damage(store, [shown_path(f.path) for f in mended])


def _key(client: ObjectClient, path: str) -> str:
    return path.removeprefix(client.address.shown("x").removesuffix("x"))


async def _mend_metadata(
    holdings: Holdings, client: ObjectClient, found: Verification
) -> list[str]:
    """Extract the metadata of wheels again; return the metadata objects of files without any."""
    blobs = [
        f.blob for f in found.findings if f.damage is DamageKind.SIDECAR and f.blob is not None
    ]
    if not blobs:
        return []
    await record_unsure(holdings.store, [(blob.sha256, blob.filename) for blob in blobs])
    mended = await anyio.to_thread.run_sync(_put_metadata, holdings, client, blobs)
    await record_sidecars(holdings.store, mended, cycle=holdings.cycle, now=holdings.clock())
    unfit = []
    for blob, digest in mended:
        if digest is None:
            unfit.append(sidecar_key(blob.sha256, blob.filename))
            shown = client.address.shown(blob_key(blob.sha256, blob.filename))
            found.without_metadata.append(shown)
            _log.warning("metadata.dropped", filename=blob.filename, sha256=blob.sha256)
    return unfit


def _put_metadata(
    holdings: Holdings, client: ObjectClient, blobs: Sequence[BlobRow]
) -> list[tuple[BlobRow, Sha256 | None]]:
    mended: list[tuple[BlobRow, Sha256 | None]] = []
    for blob in blobs:
        data = None
        if blob.filename.endswith(".whl"):
            data = _extract(client, blob, holdings.files.metadata_limit_bytes)
        digest = None
        if data is not None:
            digest = holdings.files.place_sidecar(blob.sha256, blob.filename, data)
        mended.append((blob, digest))
    return mended


def _extract(client: ObjectClient, blob: BlobRow, limit_bytes: int) -> bytes | None:
    with client.reading(blob_key(blob.sha256, blob.filename)) as found:
        if found is None:
            return None
        with tempfile.TemporaryFile() as file:
            for block in found[1]:
                file.write(block)
            file.seek(0)
            return _metadata(file, blob.filename, limit_bytes)


def _metadata(file: IO[bytes], filename: str, limit_bytes: int) -> bytes | None:
    try:
        return extract_metadata(file, filename, limit_bytes)  # type: ignore[arg-type]
    except WheelError:
        return None


def _move_aside(holdings: Holdings, client: ObjectClient, keys: Sequence[str]) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for key in keys:
        if client.head(key) is None:
            continue
        to = f"{QUARANTINE}/{stamp}/{key}"
        client.copy(key, to)
        _enter_for_delete(holdings)
        client.delete([key])
        _log.warning(
            "file.moved_aside", path=client.address.shown(key), to=client.address.shown(to)
        )


def _enter_for_delete(holdings: Holdings) -> None:
    """See that an object may be deleted now: the lock is read first."""
    holdings.writer.enter_for_delete()
