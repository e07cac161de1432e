"""Write a bundle to its medium: volumes, programs, documents, ``bundle.json``, then the signatures.

Signed files are made and signed in the mirror's private part, then copied: nothing that is read
from the medium gets a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import msgspec

from mirror.bundle import manifest, signing
from mirror.bundle.hashing import HashingFile, Written
from mirror.bundle.making.drafts import head_of, remove_own, total_bytes
from mirror.bundle.medium import OpenMedium, open_medium
from mirror.bundle.readme.leaving import render_leaving
from mirror.bundle.readme.proof import render_section
from mirror.bundle.receive import (
    BUNDLE_JSON,
    BUNDLE_SIG,
    PROGRAM,
    PROOF,
    SERVER,
    volume_name,
)
from mirror.bundle.sources import BundleSources
from mirror.bundle.volumes import CountBytes, write_volumes
from mirror.errors import BundleError
from mirror.logs import get_logger
from mirror.state.frozen.draft import BundleDraft
from mirror.tree.disk.durability import sync_directory
from mirror.tree.disk.failures import free_bytes, full_disk_error, tree_errors

_log = get_logger(__name__)

_SPARE_BYTES = 1 << 20
_LINE_BYTES = 700
"""Approximate bytes of an item in ``bundle.json`` and ``CONTENTS.json`` together."""
_CHUNK = 1 << 20


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """The key that signs a bundle, and a function that announces that a device must be touched for
    a file.
    """

    key: Path | None
    announce: Callable[[str], None]


def write_bundle(
    draft: BundleDraft,
    sources: BundleSources,
    directory: Path,
    key: Signing,
    progress: AbstractContextManager[CountBytes],
) -> str:
    """Write the bundle of a draft, or its missing parts; return the sha256 of its ``bundle.json``.

    ``progress`` is over before anything is signed.
    Raises ``TreeError``, ``BundleError``.
    """
    head = head_of(draft)
    with open_medium(directory, make=True) as medium:
        _prepare(draft, medium)
        _check_space(draft, medium)
        with progress as count_bytes:
            write_volumes(draft, sources.path, medium, count_bytes)
        proof = _write_proof(draft, medium)
        attached = _write_attached(draft, medium, head, key, proof)
        written = _write_manifest(draft, medium, head, attached, key, proof)
        medium.sync()
    sync_directory(directory.parent)
    _log.info(
        "bundle.written", path=str(directory), digest=written.sha256, bytes=total_bytes(draft)
    )
    return written.sha256


def _prepare(draft: BundleDraft, medium: OpenMedium) -> None:
    """Make sure that its folder has only files of this bundle."""
    if draft.meta("directory") == str(medium.path) and medium.names():
        return
    # Another medium is there now: it has none of the written files.
    for volume in draft.volumes():
        draft.record_volume(volume.number, None)
    if BUNDLE_JSON in medium.names():
        raise BundleError(
            problem=f"{medium.path} is another bundle of this name: move it away,"
            " or choose another place"
        )
    remove_own(medium)
    draft.keep(directory=str(medium.path), signed="")


def _check_space(draft: BundleDraft, medium: OpenMedium) -> None:
    items = sum(draft.count_items(kind)[0] for kind in ("blob", "sidecar", "page"))
    there = sum(medium.size(volume_name(volume.number)) or 0 for volume in draft.volumes())
    needed = total_bytes(draft) + items * _LINE_BYTES + _SPARE_BYTES - there
    free = free_bytes(medium.path)
    if free is not None and free < needed:
        advice = (
            f"{needed} bytes are needed for this bundle; take a larger medium,"
            " and copy the volumes on from there"
        )
        raise full_disk_error(str(medium.path), "too little space", advice)


def _write_proof(draft: BundleDraft, medium: OpenMedium) -> Written | None:
    text = draft.meta("proof")
    if text is None:
        medium.remove(PROOF)
        return None
    return medium.write(PROOF, [text.encode()])


def _write_attached(
    draft: BundleDraft, medium: OpenMedium, head: manifest.Head, key: Signing, proof: Written | None
) -> list[Written]:
    program = _write_program(draft, medium, PROGRAM)
    attached = [program, *_sign_program(draft, medium, program, key, "program")]
    text = manifest.readme(head, medium.path.name, is_signed=key.key is not None)
    if proof is not None:
        text += render_section(draft.meta("proof").encode(), proof)
    leaving = draft.meta("leaving")
    text += "" if leaving is None else render_leaving(leaving)
    attached.append(medium.write(manifest.README, [text.encode()]))
    attached.append(medium.write(manifest.CONTENTS, manifest.render_contents(draft)))
    return attached


def _write_program(draft: BundleDraft, medium: OpenMedium, name: str) -> Written:
    """Write a program of the far side, and keep a private copy to be signed."""
    program = manifest.program(name)
    path = draft.path.with_name(name)
    with tree_errors(path):
        path.write_bytes(program)
    return medium.write(name, [program])


def _sign_program(
    draft: BundleDraft, medium: OpenMedium, written: Written, key: Signing, mark: str
) -> list[Written]:
    """Write the signature of a program, where there is a key."""
    name = f"{written.name}.sig"
    path = draft.path.with_name(written.name)
    with tree_errors(path):
        signature = _signature(draft, path, written, key, mark)
    if signature is None:
        medium.remove(name)
        return []
    return [medium.write(name, [signature])]


def _write_manifest(
    draft: BundleDraft,
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
    server = _write_program(draft, medium, SERVER)
    path = draft.path.with_name(BUNDLE_JSON)
    with (
        tree_errors(path),
        path.open("wb", buffering=0) as private,
        HashingFile(path, private) as out,
    ):
        for piece in manifest.render_manifest(draft, head, attached):
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
            for v in draft.volumes()
        ]
        unlisted = [server] if proof is None else [server, proof]
        listed = [*attached, *unlisted, *volumes, written]
        sums = medium.write(manifest.SUMS, [manifest.render_sums(listed)])
        signature = _signature(draft, path, written, key, "signed")
    signatures = _sign_program(draft, medium, server, key, "server")
    signatures += [] if signature is None else [medium.write(BUNDLE_SIG, [signature])]
    for copied in [*attached, *unlisted, written, sums, *signatures]:
        medium.compare(copied)
    path.unlink()
    return written


def _signature(
    draft: BundleDraft, path: Path, written: Written, signing_key: Signing, mark: str
) -> bytes | None:
    """Return the signature of a file in the private part of the mirror; None without a key.

    The draft keeps it as ``mark``, so that the same bytes and the same key need one passphrase or
    touch only.
    """
    key = signing_key.key
    own = [written.sha256, "" if key is None else signing.public_half(key)]
    kept = draft.meta(mark)
    if key is None:
        draft.keep(**{mark: [*own, ""]})
        return None
    if kept and kept[:2] == own and len(kept) > 2:
        return str(kept[2]).encode()
    if signing.is_hardware(key):
        signing_key.announce(written.name)
    made = signing.sign_file(path, key)
    signature = path.with_name(f"{path.name}.sig")
    signature.write_bytes(made)
    signing.describe_signer(path, signature)
    # Recorded first: a signature on a medium always has its mark in the draft.
    draft.keep(**{mark: [*own, made.decode()]})
    return made
