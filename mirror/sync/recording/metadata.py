"""The metadata of files: place it as sidecars, and decide which of it a page may offer.

Invariant: a file's page offers the metadata that was published for it first, and no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import anyio.to_thread

from mirror.core.diff import Fetch
from mirror.core.files.distributions import is_wheel
from mirror.core.names import Sha256
from mirror.holdings.holdings import Holdings
from mirror.holdings.tree import TreeFiles
from mirror.logs import get_logger
from mirror.state.blobs.durability import record_unsure
from mirror.state.entries.held import HeldBlob, load_blobs
from mirror.state.entries.offered import load_first
from mirror.sync.recording.events import MetadataFetched
from mirror.sync.recording.placing import PlacedFiles, RecordedBlobs
from mirror.tree.files import PlacedBlob

_log = get_logger(__name__)

OfferedMetadata = dict[tuple[int, Sha256, str], Sha256]
"""(project id, sha256, filename) -> sha256 of the metadata that its page may offer."""


async def place_metadata(
    holdings: Holdings,
    completed: Sequence[MetadataFetched],
    brought: PlacedFiles,
) -> OfferedMetadata:
    """Write fetched metadata into sidecars and make it durable; return the metadata that may be
    offered.

    Only the first that was ever published for a file: any other is left aside, whoever lists
    it.
    """
    fetched = [
        *((e.work, e.wanted.held.sha256, e.wanted.held.filename, e.metadata) for e in completed),
        *((e.work, blob.sha256, blob.filename, e.metadata) for e, blob in brought),
    ]
    found = [(work, sha256, name, data) for work, sha256, name, data in fetched if data is not None]
    if not found:
        return {}
    first = await load_first(holdings.store, [(sha256, name) for _, sha256, name, _ in found])
    offered: OfferedMetadata = {}
    placed: dict[tuple[Sha256, str], bytes] = {}
    for work, sha256, name, data in found:
        digest = Sha256(hashlib.sha256(data).hexdigest())
        if first.setdefault((sha256, name), digest) == digest:
            offered[work.row.id, sha256, name] = digest
            placed[sha256, name] = data
        else:
            _log.warning(
                "metadata.refused",
                index=work.run.name,
                project=work.row.name,
                filename=name,
                cause="other metadata than was published for it first",
            )
    recorded = await load_blobs(holdings.store, placed)
    lost = await anyio.to_thread.run_sync(
        _find_without_sidecar, holdings.files, list(recorded.values())
    )
    await record_unsure(holdings.store, lost)
    await anyio.to_thread.run_sync(_place_sidecars, holdings.files, placed, recorded)
    return offered


def _find_without_sidecar(files: TreeFiles, recorded: Sequence[HeldBlob]) -> list[tuple[str, str]]:
    """Return the blobs whose recorded sidecar is missing or damaged."""
    described = [(b.sha256, b.filename, b.metadata_sha256) for b in recorded]
    return [
        (s, name)
        for s, name, digest in described
        if digest and not files.has_sidecar(s, name, digest)
    ]


def _place_sidecars(
    files: TreeFiles,
    found: Mapping[tuple[Sha256, str], bytes],
    recorded: RecordedBlobs,
) -> None:
    placed = []
    for (sha256, name), data in found.items():
        known = recorded.get((sha256, name))
        digest = files.place_sidecar(
            sha256, name, data, recorded=None if known is None else known.metadata_sha256
        )
        placed.append(PlacedBlob(sha256=sha256, filename=name, size=0, metadata_sha256=digest))
    files.sync(placed)


def metadata_problem(fetch: Fetch, blob: PlacedBlob) -> str | None:
    """Return the fault of a file's metadata, or None. The wheel's own always counts."""
    if blob.metadata_problem is not None:
        return f"no metadata can be served for it: {blob.metadata_problem}"
    advertised = dict(fetch.file.metadata or ()).get("sha256") if is_wheel(blob.filename) else None
    if advertised and blob.metadata_sha256 and advertised != blob.metadata_sha256:
        return (
            "the index advertises other metadata than the wheel contains; the wheel's own is served"
        )
    return None
