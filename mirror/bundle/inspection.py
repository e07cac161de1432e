"""Inspect a bundle: its contents, site, integrity and signer.

Nothing is written, no mirror is needed.

For a scanning station between the sides: the reading and checking is that of the far side's own
program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

from mirror.bundle import manifest, receive, signing
from mirror.bundle.readme.leaving import parse_leaving
from mirror.bundle.readme.proof import read_results
from mirror.errors import BundleError, ConfigError

CountBytes = Callable[[int], None]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The changes of a bundle, for the person who approves it."""

    comes: dict[str, list[str]]
    """Project -> versions of its new files."""
    relabelled: list[str]
    """Projects with other pages and no new files."""


class Inspection(msgspec.Struct, kw_only=True):
    """The contents of a bundle, and its faults."""

    manifest: receive.Manifest
    digest: str
    signer: str | None
    """The signer: a principal of a trust file, else the key's fingerprint; None for nobody."""
    is_trusted: bool
    is_signed: bool
    """Whether there is a signature, good or bad."""
    leaving: dict[str, list[str]] | None
    """Project -> versions that leave; None where the bundle does not say so."""
    wants: list[dict[str, Any]] | None
    """The results of the proof in the bundle, as of ``mirror check``; None where it has none."""
    volumes_here: list[str]
    volumes_missing: list[str]
    problems: list[str]

    def changes(self) -> Changes:
        """Return the projects and versions that are added or changed; the removed ones are
        ``manifest.removed``.
        """
        comes: dict[str, set[str]] = {}
        for item in self.manifest.blobs:
            if not item.path.endswith(receive.METADATA_ENDING):
                project, version = _parse_filename(item.path.rpartition("/")[2])
                comes.setdefault(project, set()).add(version)
        pages = {
            page.path.split("/")[1] for page in self.manifest.pages if page.path.count("/") > 1
        }
        ordered = {project: sorted(versions) for project, versions in sorted(comes.items())}
        return Changes(comes=ordered, relabelled=sorted(pages - comes.keys()))

    def as_json(self) -> dict[str, Any]:
        """Return the report object."""
        m = self.manifest
        return {
            "format": 1,
            "kind": m.kind,
            "site": m.site,
            "chain": m.chain,
            "sequence": m.sequence,
            "digest": self.digest,
            "created_at": m.created_at,
            "valid_until": m.valid_until,
            "tool": m.tool,
            "base": m.base._asdict() if m.base else None,
            "supersedes": [reference._asdict() for reference in m.supersedes],
            "state": m.state._asdict(),
            "blobs": len(m.blobs),
            "bytes": sum(item.size for item in m.blobs),
            "pages": len(m.pages),
            "projects_removed": list(m.removed),
            "comes": self.changes().comes,
            "changes": self.changes().relabelled,
            "leaves": self.leaving,
            "wants": self.wants,
            "signer": self.signer,
            "trusted": self.is_trusted,
            "volumes": [volume.name for volume in m.volumes],
            "volumes_missing": self.volumes_missing,
            "problems": self.problems,
        }


def _parse_filename(name: str) -> tuple[str, str]:
    """Return project and version of a file; a name of another kind is its own project."""
    with contextlib.suppress(InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        if name.endswith(".whl"):
            project, version, _, _ = parse_wheel_filename(name)
        else:
            project, version = parse_sdist_filename(name)
        return str(project), str(version)
    return name, "(another kind of file)"


def find_bundles(directories: Sequence[Path]) -> list[Path]:
    """Return the directories of the bundle's media. Raises ``BundleError``."""
    try:
        return [Path(medium.path) for medium in receive.find_media([str(d) for d in directories])]
    except receive.ReceiveError as exc:
        raise BundleError(problem=str(exc)) from exc


def inspect(media: Sequence[Path], *, trust: Path | None = None) -> Inspection:
    """Read a bundle's manifest. Raises ``BundleError`` where it can't be believed at all."""
    data = b""
    problems: list[str] = []
    for medium in media:
        found = _read_manifest(medium, judges_signature=trust is None)
        if data and found != data:
            raise BundleError(
                problem=f"{medium / receive.BUNDLE_JSON}: of another bundle than {media[0]},"
                " or changed"
            )
        data = found
    signers, is_trusted = _signers(media, data, trust, problems)
    try:
        value = receive.parse_manifest(data)
        signer = (
            receive.choose_signer(signers, value.site) if is_trusted else next(iter(signers), None)
        )
    except receive.FormatError as exc:
        raise BundleError(problem=f"{media[0] / receive.BUNDLE_JSON}: {exc}") from exc
    except receive.Rejected as exc:
        problems.append(str(exc))
        signer, is_trusted = None, False
    if signer is not None:
        _check_server(media, value, trust, problems)
    names = [volume.name for volume in value.volumes]
    here = [name for name in names if any((medium / name).exists() for medium in media)]
    return Inspection(
        manifest=value,
        digest=hashlib.sha256(data).hexdigest(),
        signer=signer,
        is_trusted=is_trusted,
        is_signed=(media[0] / receive.BUNDLE_SIG).exists(),
        leaving=_leaving(media, value),
        wants=read_results(media, value, problems),
        volumes_here=here,
        volumes_missing=[name for name in names if name not in here],
        problems=problems,
    )


def _leaving(media: Sequence[Path], found: receive.Manifest) -> dict[str, list[str]] | None:
    """Return the versions that leave, by a ``README.txt`` with the bytes that the manifest
    lists.
    """
    listed = next((item for item in found.attached if item.name == manifest.README), None)
    if listed is None:
        return None
    for medium in media:
        with contextlib.suppress(OSError, receive.ReceiveError, UnicodeDecodeError):
            data = receive.read_small(str(medium / manifest.README), receive.MAX_MANIFEST_BYTES)
            if hashlib.sha256(data).hexdigest() == listed.sha256:
                return parse_leaving(data.decode())
    return None


def _check_server(
    media: Sequence[Path], found: receive.Manifest, trust: Path | None, problems: list[str]
) -> None:
    """Add a fault where the server in the bundle's folder does not match its signature."""

    def find(data: bytes, signature: bytes) -> list[str]:
        try:
            return _find_signers(media, data, signature, trust)
        except BundleError as exc:
            raise receive.Rejected(str(exc)) from exc

    try:
        given = [receive.Medium(str(medium), str(medium)) for medium in media]
        receive.read_server(given, found, find)
    except receive.Rejected as exc:
        problems.append(str(exc))


def _read_manifest(medium: Path, *, judges_signature: bool) -> bytes:
    """Return ``bundle.json``; a large one only after a check of its signature and its bytes, in
    constant memory.
    """
    path, signature = medium / receive.BUNDLE_JSON, medium / receive.BUNDLE_SIG
    try:
        with os.fdopen(receive.open_plain(str(path)), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > receive.LARGE_BYTES:
                receive.check_text(file, str(path))
                if judges_signature and signature.exists():
                    made = receive.read_small(str(signature), receive.MAX_SIGNATURE_BYTES)
                    signing.describe_signer_of(file.fileno(), made, path)
        return receive.read_small(str(path), receive.MAX_MANIFEST_BYTES)
    except receive.ReceiveError as exc:
        raise BundleError(problem=str(exc)) from exc
    except OSError as exc:
        raise BundleError(problem=f"{path}: can't be read: {exc.strerror}") from exc


def _find_signers(
    media: Sequence[Path], data: bytes, signature: bytes, trust: Path | None
) -> list[str]:
    """Return the signers of bytes, by the trusted keys or, without any, by any key."""
    if trust is None:
        return [signing.describe_signer_of(data, signature, media[0] / receive.BUNDLE_JSON)]
    with tempfile.TemporaryDirectory() as place:
        copy, trusted = Path(place) / "signature", Path(place) / "trust"
        copy.write_bytes(signature)
        given = [receive.Medium(str(medium), str(medium)) for medium in media]
        trusted.write_bytes(receive.read_trust(receive.Root("/"), given, str(trust)))
        keygen = receive.find_ssh_keygen(given)
        return receive.find_signers(data, str(copy), str(trusted), keygen, str(trust))


def _signers(
    media: Sequence[Path], data: bytes, trust: Path | None, problems: list[str]
) -> tuple[list[str], bool]:
    """Return the signers of bytes in memory, and whether the key is trusted; the signature is read
    once.
    """
    path = media[0] / receive.BUNDLE_SIG
    if not path.exists():
        problems.append(f"{receive.BUNDLE_SIG}: is not there: nobody knows who made this bundle")
        return [], False
    try:
        signature = receive.read_small(str(path), receive.MAX_SIGNATURE_BYTES)
        return _find_signers(media, data, signature, trust), trust is not None
    except receive.UsageError as exc:
        raise ConfigError(where="--trust", problem=str(exc)) from exc
    except OSError as exc:
        problems.append(f"{path}: can't be read: {exc.strerror}")
    except (receive.ReceiveError, BundleError) as exc:
        problems.append(str(exc))
    return [], False


def verify(inspection: Inspection, media: Sequence[Path], count_bytes: CountBytes) -> Inspection:
    """Hash every file of a bundle, and each item in it, and add the faults."""
    problems = list(inspection.problems)
    for medium in media:
        for attached in inspection.manifest.attached:
            if (medium / attached.name).exists():
                _check(
                    medium / attached.name, attached, problems, count_bytes, lambda _stream: None
                )
    problems += _check_contents(inspection.manifest)
    for number, volume in enumerate(inspection.manifest.volumes, 1):
        place = next((medium for medium in media if (medium / volume.name).exists()), None)
        if place is not None:
            sizes, digests = _members(inspection.manifest, number)

            def read(
                stream: receive.VolumeStream, sizes: Any = sizes, digests: Any = digests
            ) -> None:
                for name, pieces in receive.iter_members(stream, sizes):
                    digest = hashlib.sha256()
                    for piece in pieces:
                        digest.update(piece)
                    if digests.get(name, digest.hexdigest()) != digest.hexdigest():
                        raise receive.MediumError(
                            f"{receive.shown(name)} has other bytes than listed"
                        )

            _check(place / volume.name, volume, problems, count_bytes, read)
    return msgspec.structs.replace(inspection, problems=problems)


def _check_contents(found: receive.Manifest) -> list[str]:
    """Compare the list for people and scanners with the one that the far side uses."""
    digests = {attached.name: attached.sha256 for attached in found.attached}
    if digests.get(manifest.CONTENTS) in {None, manifest.contents_digest(found)}:
        return []
    return [
        (
            f"{manifest.CONTENTS}: is not the list of what {receive.BUNDLE_JSON} lists:"
            " do not judge the bundle by it"
        )
    ]


def _check(
    path: Path,
    listed: receive.Shipped,
    problems: list[str],
    count_bytes: CountBytes,
    read: Callable[[receive.VolumeStream], None],
) -> None:
    try:
        with receive.VolumeStream(str(path), listed.size, count_bytes) as stream:
            read(stream)
            if stream.hexdigest() != listed.sha256:
                raise receive.MediumError(
                    f"changed: its sha256 is not the one in {receive.BUNDLE_JSON}"
                )
    except receive.MediumError as exc:
        problems.append(f"{path}: {exc}")


def _members(found: receive.Manifest, number: int) -> tuple[dict[str, int], dict[str, str]]:
    """Return the members of a volume, name -> size, and the sha256 of those that are whole
    items.
    """
    sizes: dict[str, int] = {}
    digests: dict[str, str] = {}
    for item in (*found.blobs, *found.pages):
        for part in item.parts:
            if part.volume == number:
                sizes[part.member] = part.size
                if len(item.parts) == 1:
                    digests[part.member] = item.sha256
    return sizes, digests
