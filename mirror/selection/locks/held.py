"""The files of a lock's projects that this mirror holds, from the state or from the pages alone."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import anyio.to_thread
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from mirror.core.names import ProjectName, Sha256
from mirror.core.store_address import parse_store_address
from mirror.errors import TreeError
from mirror.selection.proof.published import DiskPages, Published, sha256_of
from mirror.selection.wants import LockedPackage, LockedSet
from mirror.state.entries.served_files import (
    ServedFile,
    load_blobs_without_entries,
    load_served_files,
)
from mirror.state.objects import load_claim
from mirror.state.store import Store
from mirror.tree.disk.places import open_plain
from mirror.tree.layout import Layout
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.opening import DiskOpener, StoreOpener, TreeOpener

_METADATA_LIMIT_BYTES = 16 << 20


class HeldFiles:
    """The held files of a lock's projects, each by project; published ones come first."""

    def __init__(self, opener: TreeOpener, files: Iterable[ServedFile]) -> None:
        self._opener = opener
        self._files: Mapping[str, list[ServedFile]] = defaultdict(list)
        for file in files:
            self._files[file.project].append(file)
        self._digests: dict[tuple[str, str, str], str | None] = {}

    def named(self, project: str, filename: str) -> list[ServedFile]:
        """Return the held files of this name."""
        return [file for file in self._files.get(project, ()) if file.filename == filename]

    def of_version(self, project: str, specifier: str) -> list[ServedFile]:
        """Return the held wheels and source distributions of the version that ``==`` pins."""
        try:
            wanted = SpecifierSet(specifier)
        except InvalidSpecifier:
            return []
        return [
            file
            for file in self._files.get(project, ())
            if (version := version_of(file.filename)) is not None
            and wanted.contains(version, prereleases=True)
        ]

    def matches(self, file: ServedFile, digests: Iterable[str]) -> bool:
        """Return whether a held file has one of these digests; where there is none, by its name.

        Reads the blob where no digest is a sha256. Blocks.
        """
        listed = [digest.partition(":") for digest in digests]
        if not listed:
            return True
        of_sha256 = [digits for algorithm, _, digits in listed if algorithm == "sha256"]
        if of_sha256:
            return file.sha256 in of_sha256
        return any(self.digest(file, algorithm) == digits for algorithm, _colon, digits in listed)

    def digest(self, file: ServedFile, algorithm: str) -> str | None:
        """Return a digest of a held blob; None where it can't be read. Blocks."""
        if algorithm == "sha256":
            return file.sha256
        key = (file.sha256, file.filename, algorithm)
        if key not in self._digests:
            self._digests[key] = _hash_blob(self._opener, file, algorithm)
        return self._digests[key]


async def load_held(lock: LockedSet, layout: Layout, store: Store | None) -> HeldFiles:
    """Return the held files of a lock's projects; without a state the pages count.

    Raises ``TreeError`` or ``StateError``.
    """
    projects = [package.project for package in lock.packages]
    if store is None:
        found = await anyio.to_thread.run_sync(_from_pages, lock, layout)
        return HeldFiles(DiskOpener(layout), found)
    files = await load_served_files(store, projects)
    listed = _listed_sha256(lock)
    blobs = await load_blobs_without_entries(store, listed)
    for sha256, names in blobs.items():
        for filename, size in names:
            project = listed[sha256].project
            blob = ServedFile(
                project=project, filename=filename, sha256=sha256, size=size, is_published=False
            )
            files.append(blob)
    claim = await load_claim(store)
    if claim is None:
        return HeldFiles(DiskOpener(layout), files)
    address = parse_store_address(claim.address)
    client = await anyio.to_thread.run_sync(ObjectClient, address, os.environ)
    return HeldFiles(StoreOpener(client), files)


def version_of(filename: str) -> Version | None:
    """Return the version in the name of a wheel or source distribution; None for other files."""
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1]
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None


def _from_pages(lock: LockedSet, layout: Layout) -> list[ServedFile]:
    """Return the listed files, and files of the lock that lie at their places in the tree."""
    if not layout.simple.is_dir():
        raise TreeError(
            path=str(layout.simple), problem="is not there: this is no tree of a mirror"
        )
    published = Published(
        DiskOpener(layout), DiskPages(layout.simple), metadata_limit_bytes=_METADATA_LIMIT_BYTES
    )
    found: list[ServedFile] = []
    for project in dict.fromkeys(package.project for package in lock.packages):
        for offer in published.read(ProjectName(project)).offers:
            sha256 = sha256_of(offer.file)
            if sha256 is not None and _size_of(layout, sha256, offer.file.filename) is not None:
                found.append(
                    ServedFile(
                        project=project,
                        filename=offer.file.filename,
                        sha256=sha256,
                        size=offer.file.size or 0,
                        upload_time=offer.file.labels.upload_time,
                        requires_python=offer.file.labels.requires_python,
                    )
                )
    known = {(file.sha256, file.filename) for file in found}
    for digits, package in _listed_sha256(lock).items():
        for filename in _names_of_blob(layout, digits):
            size = _size_of(layout, Sha256(digits), filename)
            if size is not None and (digits, filename) not in known:
                found.append(
                    ServedFile(
                        project=package.project,
                        filename=filename,
                        sha256=digits,
                        size=size,
                        is_published=False,
                    )
                )
    return found


def _listed_sha256(lock: LockedSet) -> dict[str, LockedPackage]:
    """Return each sha256 that a lock names, with its package."""
    found: dict[str, LockedPackage] = {}
    for package in lock.packages:
        of_files = (digest for file in package.files for digest in file.digests)
        for digest in (*of_files, *package.digests):
            algorithm, _, digits = digest.partition(":")
            if algorithm == "sha256":
                found.setdefault(digits, package)
    return found


def _names_of_blob(layout: Layout, sha256: str) -> list[str]:
    folder = Path(layout.blob_path(Sha256(sha256), "x")).parent
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    return [name for name in names if not name.endswith(".metadata")]


def _size_of(layout: Layout, sha256: Sha256, filename: str) -> int | None:
    """Return the size of a plain file at a blob's place; None where there is none."""
    try:
        with os.fdopen(open_plain(layout.blob_path(sha256, filename)), "rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError:
        return None


def _hash_blob(opener: TreeOpener, file: ServedFile, algorithm: str) -> str | None:
    try:
        with opener.open_blob(Sha256(file.sha256), file.filename) as blob:
            new = partial(hashlib.new, algorithm, usedforsecurity=False)
            return hashlib.file_digest(blob, new).hexdigest()  # type: ignore[arg-type]
    except (OSError, ValueError):
        return None
