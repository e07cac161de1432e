"""Enter a bundle in the ledger of its site, with the list of its pages; forget a site."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from mirror.bundle import manifest
from mirror.bundle.making.contents import page_list_path
from mirror.bundle.making.drafts import head_of, total_bytes
from mirror.errors import BundleError, TreeError
from mirror.logs import get_logger
from mirror.state.frozen.draft import BundleDraft
from mirror.state.frozen.shipments import (
    ShipmentRow,
    load_shipments,
    record_shipment,
    record_site_forgotten,
)
from mirror.state.store import Store
from mirror.tree.disk.durability import sync_directory, sync_file
from mirror.tree.disk.failures import tree_errors
from mirror.tree.disk.places import make_directory, remove_if_there
from mirror.tree.disk.writing import rename_into, temporary_path, write_new
from mirror.tree.layout import PRIVATE_DIRECTORY, PRIVATE_FILE, Layout

_log = get_logger(__name__)


async def record_bundle(
    store: Store, layout: Layout, draft: BundleDraft, digest: str, *, bases: Sequence[ShipmentRow]
) -> ShipmentRow:
    """Record a bundle whose signature is on the medium; return its row of the ledger.

    Raises ``BundleError``.
    """
    head = head_of(draft)
    assert head.sequence is not None
    made = await load_shipments(store, head.site)
    if (made[-1].sequence if made else 0) + 1 != head.sequence:
        raise BundleError(
            problem=f"another bundle for {head.site} was entered meanwhile; throw this one away"
        )
    row = ShipmentRow(
        id=0,
        site=head.site,
        chain=head.chain,
        sequence=head.sequence,
        digest=digest,
        revision=head.state["revision"],
        base=bases[0].sequence if bases else None,
        state=head.state,
        volumes=len(draft.volumes()),
        bytes=total_bytes(draft),
        made_at=draft.meta("made_at"),
    )
    await anyio.to_thread.run_sync(partial(_write_page_list, layout, draft, row))
    await record_shipment(store, row)
    try:
        await anyio.to_thread.run_sync(
            _remove_page_lists, layout, [old for old in made if not old.needed]
        )
    except TreeError as exc:
        _log.warning("page_lists.left", site=row.site, problem=str(exc))
    _log.info("bundle.entered", site=row.site, sequence=row.sequence, digest=digest)
    return row


async def forget_site(store: Store, layout: Layout, site: str) -> int:
    """Remove all that is kept for a site; return how many bundles were entered for it.

    The tree's lock must be held.
    """
    rows = await load_shipments(store, site)
    await record_site_forgotten(store, site)
    await anyio.to_thread.run_sync(_remove_page_lists, layout, rows)
    _log.info("site.forgotten", site=site, bundles=len(rows))
    return len(rows)


def _write_page_list(layout: Layout, draft: BundleDraft, row: ShipmentRow) -> None:
    path = page_list_path(layout, row.chain, row.sequence)
    with tree_errors(path):
        make_directory(path.parent, PRIVATE_DIRECTORY)
        temporary = temporary_path(path.parent)
        write_new(temporary, manifest.page_lines(draft.iter_pages(by_path=True)), PRIVATE_FILE)
        sync_file(temporary)
        rename_into(temporary, str(path))
    sync_directory(path.parent)


def _remove_page_lists(layout: Layout, rows: Sequence[ShipmentRow]) -> None:
    for row in rows:
        path = page_list_path(layout, row.chain, row.sequence)
        with tree_errors(path):
            remove_if_there(path)
