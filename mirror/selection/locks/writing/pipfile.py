"""The writer of Pipfile.lock: addresses of sources, and digests."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from mirror.core.names import normalize_project
from mirror.selection.locks.pipfile import CATEGORIES
from mirror.selection.locks.rewrite import LockRewrite
from mirror.selection.locks.writing.addresses import MirrorAddress
from mirror.selection.wants import LockedSet

_INDENTS: tuple[int | str | None, ...] = (4, 2, "\t", None)


def write_pipfile_lock(
    text: str, lock: LockedSet, rewrite: LockRewrite, address: MirrorAddress
) -> str:
    """Return the lock with the mirror as its sources and the digests of held files."""
    document = json.loads(text)
    decisions = {
        (lock.packages[place].project, lock.packages[place].version): decided
        for place, decided in rewrite.digests.items()
    }
    form = _form_of(text, document)
    for source in document.get("_meta", {}).get("sources", []):
        source["url"] = address.index
    for category in CATEGORIES:
        for name, package in document.get(category, {}).items():
            version = str(package.get("version", "")).removeprefix("==").strip("=")
            decided = decisions.get((normalize_project(name), version or None))
            if decided is not None and "hashes" in package:
                kept = [digest for digest in package["hashes"] if digest.lower() in decided.kept]
                package["hashes"] = [*kept, *decided.added]
    return form(document)


def _form_of(text: str, document: Any) -> Callable[[Any], str]:
    """Return how to write JSON as this text is written; as pipenv writes it where nothing fits."""
    ending = text[len(text.rstrip()) :]
    for indent in _INDENTS:
        for ascii_only in (True, False):
            written = partial(_written, indent=indent, ascii_only=ascii_only, ending=ending)
            if written(document) == text:
                return written
    return partial(_written, indent=4, ascii_only=True, ending="\n")


def _written(value: Any, *, indent: int | str | None, ascii_only: bool, ending: str) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only) + ending
