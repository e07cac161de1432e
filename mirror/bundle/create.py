"""Make a bundle: the states that it builds on, its files on the medium, and its entry in the
ledger.

Order: the state is frozen as a pin and planned (``planning``) -> volumes, then their accompanying
files, then ``bundle.json`` -> all of it durable -> the signature, durable -> the ledger. So a
recorded sequence belongs to a bundle that is whole on its medium, and a killed run is continued by
the same command. Without the tree's lock, except to freeze and to record.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from mirror.bundle import manifest, signing
from mirror.bundle.hashing import HashingFile, Written
from mirror.bundle.medium import OpenMedium, open_medium
from mirror.bundle.planning import page_list_path, plan_update
from mirror.bundle.readme.leaving import load_leaving, render_leaving
from mirror.bundle.readme.proof import WantProof, render_proof, render_section
from mirror.bundle.receive import (
    ATTACHED,
    BUNDLE_JSON,
    BUNDLE_SIG,
    PROGRAM,
    PROOF,
    SERVER,
    bundle_label,
    volume_name,
)
from mirror.bundle.sources import BundleSources
from mirror.bundle.volumes import CountBytes, lay_out, write_volumes
from mirror.core.pages.render_pages import RENDERER
from mirror.errors import BundleError, ConfigError, TreeError
from mirror.logs import get_logger
from mirror.state.frozen.plan import Plan
from mirror.state.frozen.shipments import (
    ShipmentRow,
    load_chain,
    load_shipments,
    record_shipment,
    record_site_forgotten,
)
from mirror.state.frozen.snapshots import SnapshotRow, count_projects_at
from mirror.state.store import Store
from mirror.tree.atomic import (
    free_bytes,
    full_disk_error,
    make_directory,
    remove_if_there,
    rename_into,
    sync_directory,
    sync_file,
    temporary_path,
    tree_errors,
    write_new,
)
from mirror.tree.layout import PRIVATE_DIRECTORY, PRIVATE_FILE, Layout
from mirror.tree.objects.client import ObjectClient
from mirror.tree.snapshots import pin_path

_log = get_logger(__name__)

_SPARE_BYTES = 1 << 20
_LINE_BYTES = 700
"""Approximate bytes of an item in ``bundle.json`` and ``CONTENTS.json`` together."""
_CHUNK = 1 << 20
_WORTH_BYTES = 64 << 20
"""Written bytes from which an interrupted bundle is continued although newer files were
published.
"""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a bundle: a killed run is continued by the same order."""

    site: str
    target: str
    volume_size: int
    selection: str
    """Identifies the selection of the site's projects, to notice another configuration."""
    snapshot: str | None = None
    since: int | None = None
    full: bool = False
    valid_for_s: float | None = None
    """How long after it was made it should be applied; None: no end."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The position of a bundle in its site's chain."""

    chain: str
    sequence: int
    bases: tuple[ShipmentRow, ...]
    """The states that it applies on, the oldest first; none: it is complete."""


async def find_basis(store: Store, site: str, *, since: int | None, full: bool) -> Basis:
    """Return the states that the next bundle of a site builds on; the first one is complete.

    Raises ``ConfigError``.
    """
    chain = await load_chain(store, site)
    made = await load_shipments(store, site)
    sequence = made[-1].sequence + 1 if made else 1
    if full or (not made and since is None):
        return Basis(chain=chain or secrets.token_hex(16), sequence=sequence, bases=())
    first = made[-1].sequence if since is None and made else since
    bases = tuple(row for row in made if first is not None and row.sequence >= first)
    if not bases or bases[0].sequence != first:
        known = ", ".join(str(row.sequence) for row in made if row.needed) or "none"
        raise ConfigError(
            where="--since", problem=f"no bundle {first} was made for {site}; known are: {known}"
        )
    if not bases[0].needed:
        raise ConfigError(
            where="--since",
            problem=f"the history since bundle {first} was pruned (keep-history);"
            " make it with --full",
        )
    assert chain is not None
    return Basis(chain=chain, sequence=sequence, bases=bases)


async def check_known(store: Store, site: str) -> None:
    """Raise ``ConfigError`` where a site without a table in the configuration was sent less than
    everything before.
    """
    made = await load_shipments(store, site)
    if not made or not made[-1].needed:
        return
    sent, total = int(made[-1].state["projects"]), await count_projects_at(store, made[-1].revision)
    if sent < total:
        raise ConfigError(
            where="--site",
            problem=f"{site} was sent {sent} of {total} projects last, and this configuration has"
            f" no [[site]] {site}, so that it would get everything:"
            " name the right one by --config, or add the table",
        )


def is_continued(plan: Plan, order: Order, basis: Basis, *, is_newest: bool) -> bool:
    """Return whether a plan is complete, of this order, and worth continuing.

    ``is_newest``: whether nothing was published since. Else it is continued only where much of it
    is written, or where it is signed: a signed bundle may be on its way already, and no other
    bundle may have its number.
    """
    kept = plan.meta("order")
    if (
        kept is None
        or msgspec.convert(kept, Order) != order
        or plan.meta("sequence") != basis.sequence
    ):
        return False
    if plan.meta("renderer") != RENDERER and not plan.meta("signed"):
        return False
    written = sum(volume.size for volume in plan.volumes() if volume.sha256 is not None)
    return is_newest or bool(plan.meta("signed")) or written >= _WORTH_BYTES


def clear_begun(plan: Plan, *, is_abandoned: bool = False) -> None:
    """Remove the written files of a bundle that is given up, where its medium is still there.

    A signed bundle may be on its way and stays, unless the user has abandoned it.
    """
    place, signed = plan.meta("directory"), plan.meta("signed")
    if not place or (signed and not is_abandoned):
        return
    with contextlib.suppress(OSError, TreeError, BundleError):
        with open_medium(Path(place)) as medium:
            if BUNDLE_SIG in medium.names() and not is_abandoned:
                return
            _remove_own(medium)
        Path(place).rmdir()


async def make_plan(
    plan: Plan,
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
    """Fill a plan; return whether there is anything to send.

    ``prove`` returns the proofs of wants from the pages of the pin.
    """
    plan.forget()
    await plan_update(plan, store, layout, pin, basis.bases, sources)
    if not _has_news(plan, order, basis):
        return False
    await anyio.to_thread.run_sync(lay_out, plan, order.volume_size)
    state = {
        "revision": pin.revision,
        "digest": await anyio.to_thread.run_sync(manifest.state_digest, plan),
        "projects": pin.projects,
        "files": pin.files,
        "bytes": pin.bytes,
        "pages": plan.count_pages(),
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
    plan.keep(leaving=await load_leaving(plan, store, basis.bases, pin.revision))
    proofs = await prove()
    plan.keep(proof=render_proof(proofs, made_at=_time(now)).decode() if proofs else None)
    # Last: a plan with an order is complete.
    plan.keep(head=head, made_at=now, renderer=RENDERER)
    plan.keep(order=order, sequence=basis.sequence)
    return True


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _has_news(plan: Plan, order: Order, basis: Basis) -> bool:
    if plan.removed() or plan.count_items("blob")[0] or plan.count_items("sidecar")[0]:
        return True
    if order.selection and basis.bases:
        # The root's serial follows the whole mirror: alone it only proves that other sites'
        # projects have changed.
        return any(item.path.count("/") > 1 for item, _ in plan.iter_items("page"))
    return plan.count_items("page")[0] > 0


def head_of(plan: Plan) -> manifest.Head:
    """Return the head of the planned bundle."""
    return msgspec.convert(plan.meta("head"), manifest.Head)


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


def total_bytes(plan: Plan) -> int:
    """Return the bytes of all volumes."""
    return sum(volume.size for volume in plan.volumes())


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """The key that signs a bundle, and a function that announces that a device must be touched for
    a file.
    """

    key: Path | None
    announce: Callable[[str], None]


def write_bundle(
    plan: Plan,
    sources: BundleSources,
    directory: Path,
    key: Signing,
    progress: AbstractContextManager[CountBytes],
) -> str:
    """Write the planned bundle, or its missing parts; return the sha256 of its ``bundle.json``.

    ``progress`` is over before anything is signed.
    Signed files are made and signed in the plan's directory, in the mirror's private part, then
    copied: nothing that is read from the medium gets a signature. Raises ``TreeError``,
    ``BundleError``.
    """
    head = head_of(plan)
    with open_medium(directory, make=True) as medium:
        _prepare(plan, medium)
        _check_space(plan, medium)
        with progress as count_bytes:
            write_volumes(plan, sources.path, medium, count_bytes)
        proof = _write_proof(plan, medium)
        attached = _write_attached(plan, medium, head, key, proof)
        written = _write_manifest(plan, medium, head, attached, key, proof)
        medium.sync()
    sync_directory(directory.parent)
    _log.info("bundle.written", path=str(directory), digest=written.sha256, bytes=total_bytes(plan))
    return written.sha256


def _prepare(plan: Plan, medium: OpenMedium) -> None:
    """Make sure that its folder has only files of this bundle."""
    if plan.meta("directory") == str(medium.path) and medium.names():
        return
    # Another medium is there now: it has none of the written files.
    for volume in plan.volumes():
        plan.record_volume(volume.number, None)
    if BUNDLE_JSON in medium.names():
        raise BundleError(
            problem=f"{medium.path} is another bundle of this name: move it away,"
            " or choose another place"
        )
    _remove_own(medium)
    plan.keep(directory=str(medium.path), signed="")


def _remove_own(medium: OpenMedium) -> None:
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


def _check_space(plan: Plan, medium: OpenMedium) -> None:
    items = sum(plan.count_items(kind)[0] for kind in ("blob", "sidecar", "page"))
    there = sum(medium.size(volume_name(volume.number)) or 0 for volume in plan.volumes())
    needed = total_bytes(plan) + items * _LINE_BYTES + _SPARE_BYTES - there
    free = free_bytes(medium.path)
    if free is not None and free < needed:
        advice = (
            f"{needed} bytes are needed for this bundle; take a larger medium,"
            " and copy the volumes on from there"
        )
        raise full_disk_error(str(medium.path), "too little space", advice)


def _write_proof(plan: Plan, medium: OpenMedium) -> Written | None:
    text = plan.meta("proof")
    if text is None:
        medium.remove(PROOF)
        return None
    return medium.write(PROOF, [text.encode()])


def _write_attached(
    plan: Plan, medium: OpenMedium, head: manifest.Head, key: Signing, proof: Written | None
) -> list[Written]:
    program = _write_program(plan, medium, PROGRAM)
    attached = [program, *_sign_program(plan, medium, program, key, "program")]
    text = manifest.readme(head, medium.path.name, is_signed=key.key is not None)
    if proof is not None:
        text += render_section(plan.meta("proof").encode(), proof)
    leaving = plan.meta("leaving")
    text += "" if leaving is None else render_leaving(leaving)
    attached.append(medium.write(manifest.README, [text.encode()]))
    attached.append(medium.write(manifest.CONTENTS, manifest.render_contents(plan)))
    return attached


def _write_program(plan: Plan, medium: OpenMedium, name: str) -> Written:
    """Write a program of the far side, and keep a private copy to be signed."""
    program = manifest.program(name)
    path = plan.path.with_name(name)
    with tree_errors(path):
        path.write_bytes(program)
    return medium.write(name, [program])


def _sign_program(
    plan: Plan, medium: OpenMedium, written: Written, key: Signing, mark: str
) -> list[Written]:
    """Write the signature of a program, where there is a key."""
    name = f"{written.name}.sig"
    path = plan.path.with_name(written.name)
    with tree_errors(path):
        signature = _signature(plan, path, written, key, mark)
    if signature is None:
        medium.remove(name)
        return []
    return [medium.write(name, [signature])]


def _write_manifest(
    plan: Plan,
    medium: OpenMedium,
    head: manifest.Head,
    attached: list[Written],
    key: Signing,
    proof: Written | None,
) -> Written:
    """Write ``bundle.json``, the sums and then the signature; it is signed before it is copied to
    the medium.

    Server and proof are not listed: receivers of 0.1 refuse a bundle that lists other names.
    """
    server = _write_program(plan, medium, SERVER)
    path = plan.path.with_name(BUNDLE_JSON)
    with (
        tree_errors(path),
        path.open("wb", buffering=0) as private,
        HashingFile(path, private) as out,
    ):
        for piece in manifest.render_manifest(plan, head, attached):
            out.write(piece)
    written = out.written()
    with tree_errors(path), path.open("rb", buffering=0) as file:
        medium.remove(BUNDLE_SIG)
        if medium.write(BUNDLE_JSON, iter(partial(file.read, _CHUNK), b"")) != written:
            raise BundleError(
                problem=f"{path} was changed while it was copied: run the command again"
            )
        volumes = [
            Written(name=volume_name(v.number), size=v.size, sha256=v.sha256 or "")
            for v in plan.volumes()
        ]
        unlisted = [server] if proof is None else [server, proof]
        listed = [*attached, *unlisted, *volumes, written]
        sums = medium.write(manifest.SUMS, [manifest.render_sums(listed)])
        signature = _signature(plan, path, written, key, "signed")
    signatures = _sign_program(plan, medium, server, key, "server")
    signatures += [] if signature is None else [medium.write(BUNDLE_SIG, [signature])]
    for copied in [*attached, *unlisted, written, sums, *signatures]:
        medium.compare(copied)
    path.unlink()
    return written


def _signature(
    plan: Plan, path: Path, written: Written, signing_key: Signing, mark: str
) -> bytes | None:
    """Return the signature of a file in the private part of the mirror; None without a key.

    The plan keeps it as ``mark``, so that the same bytes and the same key need one passphrase or
    touch only.
    """
    key = signing_key.key
    own = [written.sha256, "" if key is None else signing.public_half(key)]
    kept = plan.meta(mark)
    if key is None:
        plan.keep(**{mark: [*own, ""]})
        return None
    if kept and kept[:2] == own and len(kept) > 2:
        return str(kept[2]).encode()
    if signing.is_hardware(key):
        signing_key.announce(written.name)
    made = signing.sign_file(path, key)
    signature = path.with_name(f"{path.name}.sig")
    signature.write_bytes(made)
    signing.describe_signer(path, signature)
    # Recorded first: a signature on a medium always has its mark in the plan.
    plan.keep(**{mark: [*own, made.decode()]})
    return made


async def commit(
    store: Store, layout: Layout, plan: Plan, digest: str, *, bases: Sequence[ShipmentRow]
) -> ShipmentRow:
    """Record a bundle whose signature is on the medium; return its row of the ledger.

    Raises ``BundleError``.
    """
    head = head_of(plan)
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
        volumes=len(plan.volumes()),
        bytes=total_bytes(plan),
        made_at=plan.meta("made_at"),
    )
    await anyio.to_thread.run_sync(partial(_keep_page_list, layout, plan, row))
    await record_shipment(store, row)
    try:
        await anyio.to_thread.run_sync(
            _drop_page_lists, layout, [old for old in made if not old.needed]
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
    await anyio.to_thread.run_sync(_drop_page_lists, layout, rows)
    _log.info("site.forgotten", site=site, bundles=len(rows))
    return len(rows)


def _keep_page_list(layout: Layout, plan: Plan, row: ShipmentRow) -> None:
    path = page_list_path(layout, row.chain, row.sequence)
    with tree_errors(path):
        make_directory(path.parent, PRIVATE_DIRECTORY)
        temporary = temporary_path(path.parent)
        write_new(temporary, manifest.page_lines(plan.iter_pages(by_path=True)), PRIVATE_FILE)
        sync_file(temporary)
        rename_into(temporary, str(path))
    sync_directory(path.parent)


def _drop_page_lists(layout: Layout, rows: Sequence[ShipmentRow]) -> None:
    for row in rows:
        path = page_list_path(layout, row.chain, row.sequence)
        with tree_errors(path):
            remove_if_there(path)


def plan_path(layout: Layout, pin: str) -> Path:
    """Return the path of a pin's work file."""
    return pin_path(layout, pin) / "plan.db"


def sources_of(layout: Layout, pin: str, client: ObjectClient | None = None) -> BundleSources:
    """Return the sources of a bundle; ``client``: of the object store that has the tree."""
    return BundleSources(layout, pin_path(layout, pin), client)


def summary(head: manifest.Head, plan: Plan, directory: Path) -> dict[str, Any]:
    """Return a bundle's part of a report."""
    counts = {kind: plan.count_items(kind)[0] for kind in ("blob", "sidecar", "page")}
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
        "projects_removed": len(plan.removed()),
        "volumes": len(plan.volumes()),
        "bytes": total_bytes(plan),
    }
