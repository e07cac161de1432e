"""The writer of pylock.toml: addresses of files and indexes; entries with a path stay."""

from __future__ import annotations

from typing import Any

import tomlkit

from mirror.core.names import normalize_project
from mirror.selection.locks.held import HeldFiles
from mirror.selection.locks.rewrite import KeptFile, LockRewrite
from mirror.selection.locks.values import filename_of
from mirror.selection.locks.writing.addresses import MirrorAddress, read_time
from mirror.selection.locks.writing.toml_tables import change_files, parse_document, set_value

_DIRECT = ("vcs", "directory", "archive")


def write_pylock(
    text: str, rewrite: LockRewrite, address: MirrorAddress, held: HeldFiles, *, where: str
) -> str:
    """Return the lock with the mirror's addresses. Blocks where other digests are computed."""
    document = parse_document(text, where=where)
    packages = document["packages"]
    for place in reversed(range(len(packages))):
        package = packages[place]
        if any(key in package for key in _DIRECT):
            continue
        project = normalize_project(str(package["name"]))
        version = package.get("version")
        key = (project, None if version is None else str(version))
        if key in rewrite.unneeded and not _has_paths(package):
            del packages[place]
            rewrite.notes.append(f"{' '.join(filter(None, key))}: left out: needed by no target")
            continue
        _write_package(package, rewrite, key, address, held)
    return tomlkit.dumps(document)


def _write_package(
    package: Any,
    rewrite: LockRewrite,
    key: tuple[str, str | None],
    address: MirrorAddress,
    held: HeldFiles,
) -> None:
    if "index" in package:
        set_value(package, "index", address.index)
    if "attestation-identities" in package:
        del package["attestation-identities"]

    def file_of(file: Any) -> KeptFile | None:
        if "url" not in file:
            raise LookupError
        name = file.get("name") or filename_of(str(file.get("path") or file["url"]))
        return rewrite.files.get((*key, str(name)))

    def change(file: Any, kept: KeptFile) -> None:
        set_value(file, "url", address.file(kept.held))
        if kept.is_rebuilt:
            _write_bytes(file, kept, held)

    change_files(package, "wheels", file_of, change)
    if "wheels" in package and not len(package["wheels"]):
        del package["wheels"]
    if "sdist" in package and "url" in package["sdist"]:
        kept = file_of(package["sdist"])
        if kept is None:
            del package["sdist"]
        else:
            change(package["sdist"], kept)


def _write_bytes(file: Any, kept: KeptFile, held: HeldFiles) -> None:
    """Write the digests, size and upload time of the file that is here."""
    hashes = file["hashes"]
    for algorithm in list(hashes):
        digest = held.digest(kept.held, str(algorithm).lower())
        if digest is None:
            del hashes[algorithm]
        else:
            set_value(hashes, algorithm, digest)
    if not len(hashes):
        hashes["sha256"] = kept.held.sha256
    if "size" in file:
        set_value(file, "size", kept.held.size)
    if "upload-time" in file:
        uploaded = read_time(kept.held.upload_time)
        if uploaded is None:
            del file["upload-time"]
        else:
            set_value(file, "upload-time", uploaded)


def _has_paths(package: Any) -> bool:
    files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    return any("url" not in file for file in files)
