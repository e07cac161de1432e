"""Move finished files to their places in the tree, and make them durable, many by one sync.

A file that is there already, recorded or not, is never believed: bytes that just arrived and were
checked go over it unless it is as whole as its record says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread

from mirror.errors import TreeError
from mirror.holdings.holdings import Holdings
from mirror.holdings.tree import TreeFiles
from mirror.state.blobs.durability import record_unsure
from mirror.state.entries.held import HeldBlob, load_blobs
from mirror.sync.recording.events import BlobPlaced, FileStaged
from mirror.tree.files import PlacedBlob

_REPLACED_AT_ONCE = 16
"""Maximum number of files at a time that are put over others in an object store."""

PlacedFiles = list[tuple[FileStaged | BlobPlaced, PlacedBlob]]
UnplacedFiles = list[tuple[FileStaged | BlobPlaced, TreeError]]
RecordedBlobs = Mapping[tuple[str, str], HeldBlob]


async def place_files(
    holdings: Holdings, arrived: Sequence[FileStaged], delivered: Sequence[BlobPlaced]
) -> tuple[PlacedFiles, UnplacedFiles]:
    """Move the files to their places that are not there yet, and make all durable.

    Return the placed files, in order, and the files whose own directory can't take them.
    """
    if not arrived and not delivered:
        return [], []
    files, store = holdings.files, holdings.store
    placed, refused = await anyio.to_thread.run_sync(_place, files, arrived, delivered)
    recorded = await load_blobs(store, [(blob.sha256, blob.filename) for _, blob in placed])
    if recorded:
        unsure = await anyio.to_thread.run_sync(_find_unsure, files, placed, recorded)
        await record_unsure(store, unsure)
        recorded = {pair: blob for pair, blob in recorded.items() if pair not in unsure}
    if any(blob.aside is not None for _, blob in placed):
        placed = await anyio.to_thread.run_sync(_replace, files, placed, recorded, refused)
    if placed:
        await anyio.to_thread.run_sync(files.sync, [blob for _, blob in placed])
    return placed, refused


def _place(
    files: TreeFiles, arrived: Sequence[FileStaged], delivered: Sequence[BlobPlaced]
) -> tuple[PlacedFiles, UnplacedFiles]:
    placed: PlacedFiles = []
    refused: UnplacedFiles = []
    for event in arrived:
        try:
            placed.append((event, files.place(event.staged, event.fetch.file.filename)))
        except TreeError as exc:
            if not files.fails_alone(exc):
                raise
            refused.append((event, exc))
    placed += [(event, event.blob) for event in delivered]
    return placed, refused


def _find_unsure(
    files: TreeFiles, placed: PlacedFiles, recorded: RecordedBlobs
) -> set[tuple[str, str]]:
    """Return the recorded blobs that were missing or damaged before their files arrived."""
    known = [(blob, recorded.get((blob.sha256, blob.filename))) for _, blob in placed]
    return {
        (blob.sha256, blob.filename)
        for blob, record in known
        if record is not None and not files.is_whole(blob, record)
    }


def _replace(
    files: TreeFiles, placed: PlacedFiles, durable: RecordedBlobs, refused: UnplacedFiles
) -> PlacedFiles:
    """Move files from staging over files at their paths that are not durable."""

    def replace(item: tuple[FileStaged | BlobPlaced, PlacedBlob]) -> PlacedBlob | TreeError:
        blob = item[1]
        try:
            known = durable.get((blob.sha256, blob.filename))
            return blob if blob.aside is None else files.replace(blob, known)
        except TreeError as exc:
            if not files.fails_alone(exc):
                raise
            return exc

    kept: PlacedFiles = []
    with ThreadPoolExecutor(_REPLACED_AT_ONCE if files.places_early else 1) as threads:
        for (event, _), result in zip(placed, threads.map(replace, placed), strict=True):
            if isinstance(result, TreeError):
                refused.append((event, result))
            else:
                kept.append((event, result))
    return kept
