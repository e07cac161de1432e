"""The draft of a bundle: fill it, continue it after an interruption, or give it up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from mirror.bundle import manifest
from mirror.bundle.making.basis import Basis, Order
from mirror.bundle.making.contents import draft_update
from mirror.bundle.medium import OpenMedium, open_medium
from mirror.bundle.readme.leaving import load_leaving
from mirror.bundle.readme.proof import WantProof, render_proof
from mirror.bundle.receive import ATTACHED, BUNDLE_JSON, BUNDLE_SIG, PROOF, bundle_label
from mirror.bundle.sources import BundleSources
from mirror.bundle.volumes import lay_out
from mirror.core.pages.render_pages import RENDERER
from mirror.errors import BundleError, TreeError
from mirror.state.frozen.draft import BundleDraft
from mirror.state.frozen.snapshots import SnapshotRow
from mirror.state.store import Store
from mirror.tree.layout import Layout
from mirror.tree.snapshots import pin_path

_WORTH_BYTES = 64 << 20
"""Written bytes from which an interrupted bundle is continued although newer files were
published.
"""


def draft_path(layout: Layout, pin: str) -> Path:
    """Return the path of a pin's work file."""
    return pin_path(layout, pin) / "plan.db"


async def fill_draft(
    draft: BundleDraft,
    store: Store,
    layout: Layout,
    pin: SnapshotRow,
    order: Order,
    basis: Basis,
    *,
    now: float,
    sources: BundleSources,
    prove: Callable[[], Awaitable[Sequence[WantProof]]],
) -> bool:
    """Fill a draft; return whether there is anything to send.

    ``prove`` returns the proofs of wants from the pages of the pin.
    """
    draft.forget()
    await draft_update(draft, store, layout, pin, basis.bases, sources)
    if not _has_news(draft, order, basis):
        return False
    await anyio.to_thread.run_sync(lay_out, draft, order.volume_size)
    state = {
        "revision": pin.revision,
        "digest": await anyio.to_thread.run_sync(manifest.state_digest, draft),
        "projects": pin.projects,
        "files": pin.files,
        "bytes": pin.bytes,
        "pages": draft.count_pages(),
    }
    references = [{"sequence": base.sequence, "digest": base.digest} for base in basis.bases]
    head = manifest.Head(
        kind="update",
        site=order.site,
        chain=basis.chain,
        sequence=basis.sequence,
        base=references[0] if references else None,
        supersedes=references[1:],
        state=state,
        created_at=_time(now),
        valid_until=None if order.valid_for_s is None else _time(now + order.valid_for_s),
    )
    draft.keep(leaving=await load_leaving(draft, store, basis.bases, pin.revision))
    proofs = await prove()
    draft.keep(proof=render_proof(proofs, made_at=_time(now)).decode() if proofs else None)
    # Last: a draft with an order is complete.
    draft.keep(head=head, made_at=now, renderer=RENDERER)
    draft.keep(order=order, sequence=basis.sequence)
    return True


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _has_news(draft: BundleDraft, order: Order, basis: Basis) -> bool:
    if draft.removed() or draft.count_items("blob")[0] or draft.count_items("sidecar")[0]:
        return True
    if order.selection and basis.bases:
        # The root's serial follows the whole mirror: alone it only proves that other sites'
        # projects have changed.
        return any(item.path.count("/") > 1 for item, _ in draft.iter_items("page"))
    return draft.count_items("page")[0] > 0


def head_of(draft: BundleDraft) -> manifest.Head:
    """Return the head of the bundle."""
    return msgspec.convert(draft.meta("head"), manifest.Head)


def bundle_directory(target: Path, head: manifest.Head) -> Path:
    """Return the directory of a bundle below the one that it is made in."""
    if head.sequence is not None:
        return target / bundle_label(head.site, head.sequence)
    stamp = head.created_at.replace("-", "").replace(":", "")
    path, number = target / f"{head.site}-repair-{stamp}", 1
    while path.exists():
        number += 1
        path = target / f"{head.site}-repair-{stamp}-{number}"
    return path


def total_bytes(draft: BundleDraft) -> int:
    """Return the bytes of all volumes."""
    return sum(volume.size for volume in draft.volumes())


def is_continued(draft: BundleDraft, order: Order, basis: Basis, *, is_newest: bool) -> bool:
    """Return whether a draft is complete, of this order, and worth continuing.

    ``is_newest``: whether nothing was published since. Else it is continued only where much of it
    is written, or where it is signed: a signed bundle may be on its way already, and no other
    bundle may have its number.
    """
    kept = draft.meta("order")
    if (
        kept is None
        or msgspec.convert(kept, Order) != order
        or draft.meta("sequence") != basis.sequence
    ):
        return False
    if draft.meta("renderer") != RENDERER and not draft.meta("signed"):
        return False
    written = sum(volume.size for volume in draft.volumes() if volume.sha256 is not None)
    return is_newest or bool(draft.meta("signed")) or written >= _WORTH_BYTES


def clear_begun(draft: BundleDraft, *, is_abandoned: bool = False) -> None:
    """Remove the written files of a bundle that is given up, where its medium is still there.

    A signed bundle may be on its way and stays, unless the user has abandoned it.
    """
    place, signed = draft.meta("directory"), draft.meta("signed")
    if not place or (signed and not is_abandoned):
        return
    with contextlib.suppress(OSError, TreeError, BundleError):
        with open_medium(Path(place)) as medium:
            if BUNDLE_SIG in medium.names() and not is_abandoned:
                return
            remove_own(medium)
        Path(place).rmdir()


def remove_own(medium: OpenMedium) -> None:
    """Remove the files of an earlier run that did not get far."""
    own = {*ATTACHED, BUNDLE_JSON, BUNDLE_SIG, PROOF, manifest.SUMS}
    names = medium.names()
    foreign = [name for name in names if name not in own and not Path(name).match("volume-*.tar")]
    if foreign:
        raise BundleError(
            problem=f"{medium.path} holds something else ({min(foreign)}): move it away,"
            " or choose another place"
        )
    for name in names:
        medium.remove(name)


def summary(head: manifest.Head, draft: BundleDraft, directory: Path) -> dict[str, Any]:
    """Return a bundle's part of a report."""
    counts = {kind: draft.count_items(kind)[0] for kind in ("blob", "sidecar", "page")}
    return {
        "path": str(directory),
        "kind": head.kind,
        "site": head.site,
        "chain": head.chain,
        "sequence": head.sequence,
        "base": head.base,
        "supersedes": head.supersedes,
        "valid_until": head.valid_until,
        "state": head.state,
        "files": counts["blob"],
        "sidecars": counts["sidecar"],
        "pages": counts["page"],
        "projects_removed": len(draft.removed()),
        "volumes": len(draft.volumes()),
        "bytes": total_bytes(draft),
    }
