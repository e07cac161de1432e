"""The writer of uv.lock: addresses of files, registries, and indexes of requirements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tomlkit

from mirror.core.names import normalize_project
from mirror.errors import shown_url
from mirror.selection.locks.rewrite import KeptFile, LockRewrite
from mirror.selection.locks.values import filename_of
from mirror.selection.locks.writing.addresses import MirrorAddress, is_address, read_time
from mirror.selection.locks.writing.toml_tables import (
    change_files,
    lists_of,
    parse_document,
    set_value,
)

ADVICE = "configure uv with exactly this index, to the last slash: {index}"


def write_uv_lock(text: str, rewrite: LockRewrite, address: MirrorAddress, *, where: str) -> str:
    """Return the lock with the mirror's addresses; a clash of two entries becomes a problem."""
    document = parse_document(text, where=where)
    packages = document.get("package", [])
    rewrite.problems += _clashes(packages)
    for package in packages:
        if _registry(package.get("source")) is not None:
            _write_package(package, rewrite, address)
    for dependency in _dependencies(packages):
        if _registry(dependency.get("source")) is not None:
            set_value(dependency["source"], "registry", address.index)
    for requirement in _requirements(document, packages):
        if is_address(str(requirement.get("index", ""))):
            set_value(requirement, "index", address.index)
    return tomlkit.dumps(document)


def _write_package(package: Any, rewrite: LockRewrite, address: MirrorAddress) -> None:
    set_value(package["source"], "registry", address.index)
    project, version = normalize_project(str(package["name"])), package.get("version")

    def file_of(file: Any) -> KeptFile | None:
        name = file.get("filename") or filename_of(str(file.get("url") or file.get("path")))
        return rewrite.files.get((project, None if version is None else str(version), str(name)))

    def change(file: Any, kept: KeptFile) -> None:
        set_value(file, "url", address.file(kept.held))
        if kept.is_rebuilt:
            set_value(file, "hash", f"sha256:{kept.held.sha256}")
            set_value(file, "size", kept.held.size)
            _set_upload_time(file, kept.held.upload_time)

    change_files(package, "wheels", file_of, change)
    if "wheels" in package and not len(package["wheels"]):
        del package["wheels"]
    if "sdist" in package:
        kept = file_of(package["sdist"])
        if kept is None:
            del package["sdist"]
        else:
            change(package["sdist"], kept)


def _set_upload_time(file: Any, upload_time: str | None) -> None:
    """Write a time as uv does, without zeros at the end of its fraction."""
    new = read_time(upload_time)
    if new is None:
        file.pop("upload-time", None)
        return
    fraction = f".{new.microsecond:06}".rstrip("0").rstrip(".")
    set_value(file, "upload-time", f"{new:%Y-%m-%dT%H:%M:%S}{fraction}Z")


def _registry(source: Any) -> str | None:
    """Return the address of a registry; None for any other source."""
    registry = source.get("registry") if isinstance(source, dict) else None
    return str(registry) if registry is not None and is_address(str(registry)) else None


def _dependencies(packages: Any) -> Iterator[Any]:
    for package in packages:
        yield from package.get("dependencies", [])
        for key in ("optional-dependencies", "dev-dependencies"):
            for dependencies in lists_of(package.get(key, {})):
                yield from dependencies


def _requirements(document: Any, packages: Any) -> Iterator[Any]:
    """Yield the requirements that may name an index: of members, of a script, of groups."""
    tables = [package["metadata"] for package in packages if "metadata" in package]
    tables += [document["manifest"]] if "manifest" in document else []
    for table in tables:
        for listed in lists_of(table):
            yield from (item for item in listed if isinstance(item, dict))
        for key in ("requires-dev", "dependency-groups"):
            for listed in lists_of(table.get(key, {})):
                yield from listed


def _clashes(packages: Any) -> list[str]:
    """Return a problem for each two entries that would become equal: uv refuses such a lock."""
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for package in packages:
        registry = _registry(package.get("source"))
        if registry is None:
            continue
        key = (str(package["name"]), str(package.get("version")))
        if key in seen:
            name = f"{key[0]} {key[1]}"
            both = f"from {shown_url(seen[key])} and from {shown_url(registry)}"
            problems.append(f"{name} {both}: the two entries would become one, which uv refuses")
        seen[key] = registry
    return problems
