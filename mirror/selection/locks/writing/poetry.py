"""The writers of poetry.lock and pdm.lock: digests, and the addresses that stand in them."""

from __future__ import annotations

from typing import Any

import tomlkit

from mirror.core.names import normalize_project
from mirror.selection.locks.rewrite import KeptFile, LockRewrite
from mirror.selection.locks.values import filename_of
from mirror.selection.locks.writing.addresses import MirrorAddress
from mirror.selection.locks.writing.toml_tables import change_files, parse_document, set_value

ADVICE = (
    "Poetry takes the address from pyproject.toml: set this source there and run `poetry lock`"
    " inside: {index}"
)
ADVICE_OF_PDM = (
    "PDM takes the address from its own setting: `pdm config pypi.url {index}`, or PDM_PYPI_URL"
)


def write_poetry_lock(
    text: str, rewrite: LockRewrite, address: MirrorAddress, *, where: str
) -> str:
    """Return the lock with digests of held files, and this source where it names another index."""
    document = parse_document(text, where=where)
    older = document.get("metadata", {}).get("files", {})
    for package in document.get("package", []):
        source = package.get("source", {})
        if source.get("type") == "legacy":
            set_value(source, "url", address.without_slash)
        if source.get("type") in {None, "legacy", "pypi"}:
            _write_files(package, "files", package, rewrite, address)
            _write_files(older, str(package["name"]), package, rewrite, address)
    return tomlkit.dumps(document)


def write_pdm_lock(text: str, rewrite: LockRewrite, address: MirrorAddress, *, where: str) -> str:
    """Return the lock with digests of held files, and their addresses where it has static ones."""
    document = parse_document(text, where=where)
    older = document.get("metadata", {}).get("files", {})
    for package in document.get("package", []):
        if "version" in package and not any(key in package for key in ("git", "url", "path")):
            _write_files(package, "files", package, rewrite, address)
            name = f"{package['name']} {package['version']}"
            _write_files(older, name, package, rewrite, address)
    return tomlkit.dumps(document)


def _write_files(
    owner: Any, key: str, package: Any, rewrite: LockRewrite, address: MirrorAddress
) -> None:
    project, version = normalize_project(str(package["name"])), str(package["version"])

    def file_of(file: Any) -> KeptFile | None:
        name = file.get("file") or filename_of(str(file.get("url")))
        return rewrite.files.get((project, version, str(name)))

    def change(file: Any, kept: KeptFile) -> None:
        if "url" in file:
            set_value(file, "url", address.file(kept.held))
        if kept.is_rebuilt:
            set_value(file, "hash", f"sha256:{kept.held.sha256}")

    change_files(owner, key, file_of, change)
