"""Mend the far side: from its list of damage to a bundle outside the chain; and the contents of its
receipts.

The list comes from beyond the gap: it is matched with the ledger, every path in it must have the
form of one that was sent, and a blob must be of a project that the site gets. A page is mended only
by the very bytes that were sent, searched among the live pages, the snapshots and the pins.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mirror.bundle import manifest
from mirror.bundle.making.contents import page_list_path
from mirror.bundle.receive import (
    MAX_MANIFEST_BYTES,
    METADATA_ENDING,
    FormatError,
    bundle_label,
    hash_file,
    is_plain_name,
    parse_json,
    read_small,
)
from mirror.bundle.sources import BundleSources
from mirror.bundle.volumes import lay_out
from mirror.errors import BundleError, shown_text
from mirror.state.frozen.draft import BundleDraft, BundleItem
from mirror.state.frozen.shipments import ShipmentRow
from mirror.state.frozen.snapshots import load_owners
from mirror.state.store import Store
from mirror.tree.layout import Layout

_BLOB = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})/([^/]+)\Z")
_PAGE = re.compile(r"simple/(?:[a-z0-9]+(?:-[a-z0-9]+)*/)?index\.(?:html|v1_html|v1_json)\Z")

Wants = Callable[[str], bool]


class ReportedDamage(msgspec.Struct, frozen=True, kw_only=True):
    """Damage found by the far side. ``path`` is its unchecked text: it may be anything."""

    path: str
    problem: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A message from the far side: its receipt, or its list of damage."""

    format: int
    site: str
    chain: str
    sequence: int
    digest: str
    state_digest: str | None = None
    free_bytes: int | None = None
    damage: tuple[ReportedDamage, ...] = ()


def read_receipt(path: Path) -> Receipt:
    """Read a receipt or a list. Raises ``BundleError``."""
    try:
        receipt = msgspec.convert(parse_json(read_small(str(path), MAX_MANIFEST_BYTES)), Receipt)
    except OSError as exc:
        raise BundleError(problem=f"{path}: {exc.strerror}") from exc
    except (FormatError, msgspec.ValidationError) as exc:
        raise BundleError(
            problem=f"{path} is no receipt and no list of the far side: {shown_text(str(exc))}"
        ) from exc
    if receipt.format != 1:
        raise BundleError(
            problem=f"{path} has format {receipt.format}, known is 1: update this program"
        )
    return receipt


def find_shipment(
    receipt: Receipt, made: Sequence[ShipmentRow], *, is_receipt: bool = False
) -> ShipmentRow:
    """Return the bundle that a receipt names.

    Raises ``BundleError`` where this ledger does not have it.

    ``is_receipt``: False accepts a list of damage, which need not name the reached state.
    """
    if is_receipt and receipt.state_digest is None:
        raise BundleError(
            problem="this is a list of damage and no receipt: carry back ROOT/receipt.json"
        )
    label = shown_text(bundle_label(receipt.site, receipt.sequence))
    for row in made:
        if (row.site, row.chain, row.sequence) == (receipt.site, receipt.chain, receipt.sequence):
            if row.digest != receipt.digest or receipt.state_digest not in {
                None,
                row.state["digest"],
            }:
                raise BundleError(
                    problem=f"the far side has another {label} than the one in this ledger:"
                    " send one made with --full"
                )
            return row
    raise BundleError(
        problem=f"this ledger knows no {label} of the chain {shown_text(receipt.chain[:8])}…: it"
        " is another mirror's, or the state was lost or put back since;"
        " send one made with --full, which the far side takes by --new-chain"
    )


def acknowledged_changes(
    before: Sequence[ShipmentRow], after: Sequence[ShipmentRow], sequence: int
) -> list[str]:
    """Return, in sentences, the changes that a receipt for one bundle made in the ledger.

    A receipt deletes nothing. It lets ``prune`` forget the history of older bundles, once
    ``keep-history`` has passed since; everyone who holds the medium can make one.
    """
    old = next(row for row in before if row.sequence == sequence)
    new = next(row for row in after if row.sequence == sequence)
    lines = []
    if old.acknowledged_at is None:
        lines.append("it was not acknowledged before")
        released = [str(row.sequence) for row in after if row.sequence < sequence and row.needed]
        held = max((row.sequence for row in before if row.acknowledged_at is not None), default=0)
        if released and held < sequence:
            lines.append(
                f"bundles {', '.join(released)} can be built on by --since for keep-history from"
                " now on; if the site does not have this bundle, make one with --since"
            )
    else:
        lines.append("it was acknowledged before: nothing is let go of")
    if (old.damage or 0) != (new.damage or 0):
        lines.append(
            f"damaged files that it reports: {old.damage or 0} before, {new.damage or 0} now"
        )
    return lines


async def find_withheld(store: Store, receipt: Receipt, wants: Wants) -> frozenset[str]:
    """Return the blobs and sidecars of a receipt that no project of the site lists: requests for
    them are refused.
    """
    asked = _asked_blobs(receipt)
    owners = await load_owners(store, asked.values())
    return frozenset(
        path
        for path, blob in asked.items()
        if not any(wants(name) for name in owners.get(blob, ()))
    )


def find_withdrawn(receipt: Receipt, withdrawn: Container[tuple[str, str]]) -> frozenset[str]:
    """Return the blobs and sidecars of a receipt that are withdrawn."""
    return frozenset(path for path, blob in _asked_blobs(receipt).items() if blob in withdrawn)


def _asked_blobs(receipt: Receipt) -> dict[str, tuple[str, str]]:
    """Return (sha256, filename) of the blobs that a receipt names, by path."""
    asked: dict[str, tuple[str, str]] = {}
    for damage in receipt.damage:
        found = _BLOB.match(damage.path)
        if found is not None:
            asked[damage.path] = (found[3], found[4].removesuffix(METADATA_ENDING))
    return asked


def draft_repair(
    draft: BundleDraft,
    layout: Layout,
    work: Path,
    receipt: Receipt,
    row: ShipmentRow,
    volume_size: int,
    withheld: Container[str],
    sources: BundleSources,
) -> list[str]:
    """Draft the repair of a receipt's damage; return the paths that can't be mended from here.

    ``work``: a directory for copies of the pages. ``withheld``: paths that are not for this site.
    """
    left: list[str] = []
    items: list[BundleItem] = []
    expected = _expected_pages(layout, row, receipt)
    for damage in receipt.damage:
        if damage.problem == "foreign":
            continue
        if _BLOB.match(damage.path):
            item = None if damage.path in withheld else _blob(sources, damage.path)
        else:
            item = _page(sources, layout, work, damage.path, expected.get(damage.path))
        if item is None:
            left.append(damage.path)
        else:
            items.append(item)
    draft.add_items(items)
    lay_out(draft, volume_size)
    now = time.time()
    head = manifest.Head(
        kind="repair",
        site=row.site,
        chain=row.chain,
        sequence=None,
        base={"sequence": row.sequence, "digest": row.digest},
        supersedes=[],
        state=dict(row.state),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
    )
    draft.keep(head=head, made_at=now)
    return left


def _expected_pages(layout: Layout, row: ShipmentRow, receipt: Receipt) -> dict[str, str]:
    wanted = {damage.path for damage in receipt.damage if _PAGE.match(damage.path)}
    path = page_list_path(layout, row.chain, row.sequence)
    if not wanted or not path.is_file():
        return {}
    with path.open(encoding="ascii") as lines:
        return {name: line[:64] for line in lines if (name := line[66:].rstrip("\n")) in wanted}


def _blob(sources: BundleSources, path: str) -> BundleItem | None:
    found = _BLOB.match(path)
    assert found is not None
    is_sidecar = path.endswith(METADATA_ENDING)
    name = found[4].removesuffix(METADATA_ENDING) if is_sidecar else found[4]
    if not is_plain_name(name):
        return None
    try:
        sha256, size = hash_file(str(sources.path(path)))
    except (OSError, BundleError):
        return None
    if not is_sidecar and sha256 != found[3]:
        return None
    return BundleItem(kind="sidecar" if is_sidecar else "blob", path=path, size=size, sha256=sha256)


def _page(
    sources: BundleSources, layout: Layout, work: Path, path: str, expected: str | None
) -> BundleItem | None:
    if expected is None:
        return None
    for data in sources.stored_pages(path):
        if hashlib.sha256(data).hexdigest() == expected:
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            return BundleItem(kind="page", path=path, size=len(data), sha256=expected)
    for place in _places(layout):
        try:
            sha256, size = hash_file(str(place / path))
        except OSError:
            continue
        if sha256 == expected:
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / path, target)
            return BundleItem(kind="page", path=path, size=size, sha256=sha256)
    return None


def _places(layout: Layout) -> Iterator[Path]:
    """Yield the places that may still have the pages of an older state, each with a directory
    ``simple``.
    """
    yield layout.public
    for place in (layout.public / "snapshots", layout.root / "pins"):
        if place.is_dir():
            yield from sorted(place.iterdir())


def unmended(left: Sequence[str]) -> list[dict[str, Any]]:
    """Return the paths that can't be mended, for a report."""
    return [{"path": shown_text(path)} for path in left]
