"""Make a bundle for a site, or one that repairs the files of a site (``mirror bundle create``).

Only one bundle is in the making at a time (``bundle.lock``). The tree's own lock is held to freeze
and to record, not while the bundle is written: a daemon may go on meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from mirror.bundle import repair as mending
from mirror.bundle.agent import unlocked_key
from mirror.bundle.making.basis import Basis, Order, check_known, find_basis
from mirror.bundle.making.contents import blob_place
from mirror.bundle.making.drafts import (
    bundle_directory,
    clear_begun,
    draft_path,
    fill_draft,
    head_of,
    is_continued,
    summary,
    total_bytes,
)
from mirror.bundle.making.ledger import record_bundle
from mirror.bundle.making.writing import Signing, write_bundle
from mirror.bundle.manifest import Head
from mirror.bundle.readme.proof import WantProof
from mirror.bundle.repair import Receipt, find_withdrawn, find_withheld
from mirror.bundle.sources import BundleSources, sources_of
from mirror.bundle.volumes import CountBytes
from mirror.config import Config
from mirror.errors import ConfigError, MirrorError, StateError, TreeError, shown_text
from mirror.holdings.holdings import Holdings
from mirror.holdings.opening import check_user, opened_holdings, opened_holdings_for_reading
from mirror.jobs.bundle_sites import drop_unfinished, load_bundles
from mirror.jobs.prove import prove_wants
from mirror.logs import get_logger
from mirror.selection.proof.answers import Proof
from mirror.selection.proof.checking import ProofMode, with_remembered_wants
from mirror.state.advisories.withdrawn import load_withdrawn_blobs, load_withdrawn_of
from mirror.state.frozen.draft import BundleDraft, open_draft
from mirror.state.frozen.snapshots import FrozenKind, SnapshotRow, load_snapshots
from mirror.tree.layout import Layout
from mirror.tree.lock import hold
from mirror.tree.objects.client import ObjectClient
from mirror.tree.snapshots import pin_path
from mirror.upkeep.snapshot import (
    check_withdrawn,
    clear_interrupted,
    find_snapshot,
    freeze_pin,
    load_revision_to_freeze,
    remove,
)

_log = get_logger(__name__)


class BundleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle to make."""

    config: Config
    site: str
    to: Path
    """The medium; a folder is made below it."""
    key: Path | None
    """Signs it; None: it is not signed."""
    volume_size: int
    snapshot: str | None = None
    since: int | None = None
    full: bool = False
    valid_for_s: float | None = None
    env: Mapping[str, str] = {}
    """Where the resolver is found, for the proof of wants."""
    accepts_withdrawn: bool = False
    """Whether a snapshot with withdrawn files may be sent."""


def _go_on(_head: Head, _draft: BundleDraft) -> bool:
    return True


def _print_nothing(_name: str) -> None:
    pass


def _show_nothing(_size: int, _title: str) -> AbstractContextManager[CountBytes]:
    return nullcontext(lambda _count: None)


class Dialog(msgspec.Struct, frozen=True, kw_only=True):
    """The questions and messages to the person who makes a bundle; none of them by default."""

    confirm_first: Callable[[Head, BundleDraft], bool] = _go_on
    """Whether the first bundle for a site is meant: a typo in its name would send everything."""
    announce_touch: Callable[[str], None] = _print_nothing
    """A key waits to be touched; the argument is the file that it signs."""
    progress: Callable[[int, str], AbstractContextManager[CountBytes]] = _show_nothing
    """Shows how many of these bytes are written."""


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose state is frozen and whose draft is filled."""

    pin: SnapshotRow
    order: Order
    basis: Basis
    client: ObjectClient | None
    """Of the object store that has the tree."""


def create_bundle(request: BundleRequest, dialog: Dialog, *, wait_s: float) -> dict[str, Any]:
    """Make a bundle, or complete one that was begun; return the report."""
    layout = Layout(request.config.mirror.root)
    if not layout.root.is_dir():
        raise ConfigError(where="--root", problem=f"{layout.root} is not there")
    anyio.run(check_user, request.config.mirror)
    # One bundle at a time: the tree's own lock is only held to freeze and to enter.
    with hold(layout.root / "bundle.lock", wait_s=wait_s):
        begun = anyio.run(partial(_prepare, request, layout, wait_s=wait_s))
        if begun is None:
            return {"outcome": "nothing", "site": request.site}
        with open_draft(draft_path(layout, begun.pin.name)) as draft:
            head = head_of(draft)
            directory = bundle_directory(request.to, head)
            if (
                begun.basis.sequence == 1
                and not draft.meta("directory")
                and not dialog.confirm_first(head, draft)
            ):
                anyio.run(partial(drop_unfinished, request.config, request.site, wait_s=wait_s))
                raise ConfigError(
                    where="--site",
                    problem=f"{request.site} was not confirmed, and no bundle was made",
                )
            progress = dialog.progress(total_bytes(draft), f"writing {directory.name}")
            key = Signing(key=request.key, announce=dialog.announce_touch)
            sources = sources_of(layout, begun.pin.name, begun.client)
            with unlocked_key(request.key), closing(sources):
                digest = write_bundle(draft, sources, directory, key, progress)
            report = {
                "outcome": "made",
                **summary(head, draft, directory),
                "digest": digest,
                "signed": request.key is not None,
            }
        anyio.run(partial(_enter, request, begun, digest, wait_s=wait_s))
    return report


def create_repair(request: BundleRequest, path: Path, dialog: Dialog) -> dict[str, Any]:
    """Make a bundle of the files that a far side's list or receipt names; return the report."""
    receipt = mending.read_receipt(path)
    if receipt.site != request.site:
        raise ConfigError(
            where="--repair", problem=f"the list is of the site {shown_text(receipt.site)!r}"
        )
    row = mending.find_shipment(receipt, anyio.run(load_bundles, request.config, request.site))
    withheld, client = anyio.run(_find_withheld, request, receipt)
    layout = Layout(request.config.mirror.root)
    with (
        tempfile.TemporaryDirectory() as temporary,
        open_draft(Path(temporary) / "plan.db") as draft,
    ):
        sources = BundleSources(layout, Path(temporary), client)
        left = mending.draft_repair(
            draft, layout, Path(temporary), receipt, row, request.volume_size, withheld, sources
        )
        head = head_of(draft)
        report: dict[str, Any] = {
            "outcome": "nothing",
            "site": request.site,
            "not_mended": mending.unmended(left),
        }
        if draft.volumes():
            directory = bundle_directory(request.to, head)
            progress = dialog.progress(total_bytes(draft), f"writing {directory.name}")
            key = Signing(key=request.key, announce=dialog.announce_touch)
            with unlocked_key(request.key), closing(sources):
                digest = write_bundle(draft, sources, directory, key, progress)
            report |= {"outcome": "made", **summary(head, draft, directory), "digest": digest}
            report["signed"] = request.key is not None
    return report


async def _prepare(request: BundleRequest, layout: Layout, *, wait_s: float) -> _Begun | None:
    """Freeze a bundle and fill its draft, or find those of an interrupted run; None: there is
    nothing to send.
    """
    async with _opened(request.config, wait_s) as holdings:
        order = _order(request)
        site = next((s for s in request.config.sites if s.name == request.site), None)
        if site is None:
            await check_known(holdings.store, request.site)
        basis = await find_basis(
            holdings.store, request.site, since=request.since, full=request.full
        )
        if request.snapshot is not None and not request.accepts_withdrawn:
            await check_withdrawn(
                holdings.store, await find_snapshot(holdings.store, request.snapshot)
            )
        pin = await _continued_pin(
            holdings, request.site, order, basis, accepts_withdrawn=request.accepts_withdrawn
        )
        client = holdings.client
        if pin is not None:
            return _Begun(pin=pin, order=order, basis=basis, client=client)
        pin = await freeze_pin(
            holdings,
            f"{request.site}-{basis.sequence:06d}",
            wants=None if site is None or site.takes_all else site.wants(),
            snapshot=request.snapshot,
        )
    settings, limits = request.config.mirror, request.config.limits
    with open_draft(draft_path(layout, pin.name)) as draft:
        async with opened_holdings_for_reading(settings, limits) as holdings:
            has_news = await fill_draft(
                draft,
                holdings.store,
                layout,
                pin,
                order,
                basis,
                now=time.time(),
                sources=sources_of(layout, pin.name, client),
                prove=partial(_prove, request, holdings, pin_path(layout, pin.name)),
            )
    if has_news:
        return _Begun(pin=pin, order=order, basis=basis, client=client)
    async with _opened(request.config, wait_s) as holdings:
        await remove(holdings, pin)
    return None


async def _prove(request: BundleRequest, holdings: Holdings, pages: Path) -> Sequence[WantProof]:
    """Prove the wants from the pages of a bundle; none where there are none, or no proof is
    possible.
    """
    config, layout = await with_remembered_wants(request.config, holdings.store), holdings.layout
    if not config.wants:
        return ()
    try:
        proofs = await prove_wants(
            config,
            layout,
            holdings.store,
            request.env,
            simple=pages / "simple",
            client=holdings.client,
            mode=ProofMode.FOR_BUNDLE,
        )
    except MirrorError as exc:
        _log.warning("bundle.unproved", site=request.site, problem=str(exc))
        return ()
    return [WantProof(result=proof.as_json(), files=_blobs_of(proof)) for proof in proofs]


def _blobs_of(proof: Proof) -> tuple[str, ...]:
    """Return the paths of a proof's files below the tree; a bundle has those with a sha256."""
    digests = ((dict(file.digests).get("sha256"), file) for file in proof.unique_files)
    return tuple(blob_place(sha256, file.filename) for sha256, file in digests if sha256)


async def _continued_pin(
    holdings: Holdings, site: str, order: Order, basis: Basis, *, accepts_withdrawn: bool
) -> SnapshotRow | None:
    """Return the pin of an interrupted run with this order; pins of other orders for the site are
    removed, and those of which files were withdrawn since.
    """
    await clear_interrupted(holdings)
    newest = await load_revision_to_freeze(holdings.store, order.snapshot)
    for pin in await load_snapshots(holdings.store, FrozenKind.PIN):
        if pin.name.rpartition("-")[0] != site:
            continue
        is_sound = accepts_withdrawn or not await load_withdrawn_of(holdings.store, pin)
        with open_draft(draft_path(holdings.layout, pin.name)) as draft:
            is_newest = pin.revision == newest
            if is_sound and is_continued(draft, order, basis, is_newest=is_newest):
                return pin
            clear_begun(draft)
        await remove(holdings, pin)
    return None


def _order(request: BundleRequest) -> Order:
    site = next((s for s in request.config.sites if s.name == request.site), None)
    selection = "" if site is None else " ".join([*site.projects, "-", *site.exclude_projects])
    return Order(
        site=request.site,
        target=str(request.to),
        volume_size=request.volume_size,
        selection=selection,
        snapshot=request.snapshot,
        since=request.since,
        full=request.full,
        valid_for_s=request.valid_for_s,
    )


async def _enter(request: BundleRequest, begun: _Begun, digest: str, *, wait_s: float) -> None:
    async with _opened(request.config, wait_s) as holdings:
        with open_draft(draft_path(holdings.layout, begun.pin.name)) as draft:
            await record_bundle(
                holdings.store, holdings.layout, draft, digest, bases=begun.basis.bases
            )
        try:
            await remove(holdings, begun.pin)
        except (StateError, TreeError) as exc:
            # The bundle is entered, and whole: another run would make a second one.
            _log.warning("pin.left", site=request.site, problem=str(exc))


async def _find_withheld(
    request: BundleRequest, receipt: Receipt
) -> tuple[frozenset[str], ObjectClient | None]:
    site = next((s for s in request.config.sites if s.name == request.site), None)
    async with opened_holdings_for_reading(
        request.config.mirror, request.config.limits
    ) as holdings:
        if site is None:
            await check_known(holdings.store, request.site)
        withdrawn: frozenset[str] = frozenset()
        if not request.accepts_withdrawn:
            withdrawn = find_withdrawn(receipt, await load_withdrawn_blobs(holdings.store))
        if site is None or site.takes_all:
            return withdrawn, holdings.client
        withheld = await find_withheld(holdings.store, receipt, site.wants())
        return withdrawn | withheld, holdings.client


def _opened(config: Config, wait_s: float) -> AbstractAsyncContextManager[Holdings]:
    return opened_holdings(config.mirror, config.limits, wait_s=wait_s)
