"""The writer of requirement files: the digests of pinned lines; options stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mirror.selection.locks.rewrite import KeptDigests

_HASH = re.compile(r"--hash[= ]\s*([A-Za-z0-9_]+:[0-9A-Fa-f]+)")


def write_requirements(text: str, decided: Mapping[int, KeptDigests]) -> str:
    """Return the file with the digests that stay. ``decided``: by the number of a line."""
    physical = text.splitlines(keepends=True)
    for start in sorted(decided, reverse=True):
        end = start
        while end < len(physical) and physical[end - 1].rstrip("\r\n").endswith("\\"):
            end += 1
        old = "".join(physical[start - 1 : end])
        new = _write_line(old, decided[start])
        physical[start - 1 : end] = [new]
    return "".join(physical)


def _write_line(text: str, decided: KeptDigests) -> str:
    """Return one logical line with other digests; unchanged where it has none or keeps all."""
    found = list(_HASH.finditer(text))
    if not found:
        return text
    before = text[: found[0].start()]
    head = before.rstrip(" \t\\\r\n")
    first_gap = before[len(head) :]
    pieces = [head]
    previous = found[0].start()
    for place, match in enumerate(found):
        gap = first_gap if place == 0 else text[found[place - 1].end() : match.start()]
        previous = match.end()
        if match[1].lower() in decided.kept:
            pieces.append(gap + match[0])
    present = {match[1].lower() for match in found}
    gap = first_gap if len(found) == 1 else text[found[0].end() : found[1].start()]
    pieces += [f"{gap}--hash={digest}" for digest in decided.added if digest not in present]
    return "".join(pieces) + text[previous:]
