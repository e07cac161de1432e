"""The proof in a bundle: whether each want installs from the state that the bundle leads to.

``PROOF.json`` lies next to the volumes, and the signed ``README.txt`` names its digest. The
manifest does not list it, since receivers of 0.1 refuse a bundle that lists a file of another name;
they ignore one that is not listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from mirror.bundle import receive
from mirror.bundle.hashing import Written

_MOST_LINES: Final = 100


class WantProof(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of one want in one target."""

    result: Mapping[str, Any]
    """The object of ``mirror check``."""
    files: Sequence[str]
    """The files that it takes, as paths of the tree."""


def render_proof(proofs: Sequence[WantProof], *, made_at: str) -> bytes:
    """Return ``PROOF.json``.

    Each file is written once; ``needs`` has the places of a want's files.
    """
    files = sorted({path for proof in proofs for path in proof.files})
    places = {path: number for number, path in enumerate(files)}
    results = [
        {**proof.result, "needs": sorted(places[path] for path in set(proof.files))}
        for proof in proofs
    ]
    value = {"format": receive.FORMAT, "made_at": made_at, "files": files, "results": results}
    return receive.render_json(value)


def render_section(proof: bytes, written: Written) -> str:
    """Return the section of ``README.txt``."""
    results = msgspec.json.decode(proof)["results"]
    lines = [f"    {receive.describe_want(one)}\n" for one in results[:_MOST_LINES]]
    if len(results) > _MOST_LINES:
        lines.append(f"    … and {len(results) - _MOST_LINES} more\n")
    digest = receive.PROOF_LINE.format(sha256=written.sha256)
    return f"\nWHAT INSTALLS FROM IT\n\n{''.join(lines)}\n{digest}\n"


def read_results(
    media: Sequence[Path], found: receive.Manifest, problems: list[str]
) -> list[dict[str, Any]] | None:
    """Return the results in a bundle's proof; None where it has none, or none that is whole."""
    given = [receive.Medium(str(medium), str(medium)) for medium in media]
    try:
        data = receive.read_proof(given, found, lambda _line: None)
        return None if data is None else receive.parse_proof(data)["results"]
    except (receive.ReceiveError, receive.FormatError) as exc:
        problems.append(str(exc))
        return None
