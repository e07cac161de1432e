"""Names, digests and patterns: checked when they are made, so that later code may trust them.

Everything here comes from an index, which is not trusted: a name becomes a directory or a file of
the tree, so a name that could leave its place there, or could not be written, is refused with
``UnsafeName``.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NewType

from mirror.errors import UnsafeName, shown_text

ProjectName = NewType("ProjectName", str)
"""A project's name, normalised by PEP 503, safe as a directory name."""

Sha256 = NewType("Sha256", str)
"""64 lower-case hexadecimal digits."""

STRONG_DIGESTS = (
    "sha512",
    "sha3_512",
    "blake2b",
    "sha384",
    "sha3_384",
    "sha256",
    "sha3_256",
    "blake2s",
)
"""The digests that count as sha256 or stronger, the strongest first; names as ``hashlib`` knows
them.
"""

WEAK_DIGESTS = ("sha3_224", "sha224", "sha1", "md5")
"""The other known digests; they count only where no strong one is listed."""

HEX_LENGTHS = {
    "sha512": 128,
    "sha3_512": 128,
    "blake2b": 128,
    "sha384": 96,
    "sha3_384": 96,
    "sha256": 64,
    "sha3_256": 64,
    "blake2s": 64,
    "sha3_224": 56,
    "sha224": 56,
    "sha1": 40,
    "md5": 32,
}
"""The known digests, with their length in hexadecimal digits; a listed digest of another kind is
ignored.
"""

MAX_PROJECT_BYTES = 200
MAX_FILENAME_BYTES = 240

_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\Z", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[-_.]+")
_HEX = re.compile(r"[0-9a-f]+\Z")


def normalize_project(name: str) -> ProjectName:
    """Return the normalised name (PEP 503).

    Raises ``UnsafeName`` for a text that is not a project name at all.
    """
    if len(name) > MAX_PROJECT_BYTES:
        raise UnsafeName(name=name, cause=f"longer than {MAX_PROJECT_BYTES} bytes")
    if not _PROJECT.match(name):
        raise UnsafeName(
            name=name, cause="not the name of a project (letters, digits, '.', '_' and '-')"
        )
    return ProjectName(_SEPARATORS.sub("-", name).lower())


def projects_of_filename(filename: str) -> list[ProjectName]:
    """Return the projects that may have a file of this name, the likeliest first: each is a prefix
    that ends before a hyphen.
    """
    parts = filename.split("-")
    ends = range(1, len(parts))
    found: dict[ProjectName, None] = {}
    for end in ends if filename.endswith(".whl") else reversed(ends):
        with contextlib.suppress(UnsafeName):
            found[normalize_project("-".join(parts[:end]))] = None
    return list(found)


def check_filename(name: str) -> str:
    """Return ``name`` if it may become a file of the tree. Raises ``UnsafeName``.

    Refused: empty or blank, ``.`` and ``..``, a slash or backslash, control characters, lone
    surrogates, more than 240 bytes, and the ending ``.metadata``, which is reserved for the
    mirror's sidecars (PEP 658).
    """
    if not name.strip() or name in {".", ".."}:
        raise UnsafeName(name=name, cause="no plain file name")
    if "/" in name or "\\" in name:
        raise UnsafeName(name=name, cause="it contains a path separator")
    if not name.isprintable():
        raise UnsafeName(name=name, cause="it contains control or unprintable characters")
    if len(name.encode("utf-8")) > MAX_FILENAME_BYTES:
        raise UnsafeName(name=name, cause=f"longer than {MAX_FILENAME_BYTES} bytes")
    if name.endswith(".metadata"):
        raise UnsafeName(name=name, cause="the ending .metadata is reserved for metadata sidecars")
    return name


def check_sha256(value: str) -> Sha256:
    """Return ``value`` as a ``Sha256``.

    Raises ``ValueError`` unless it is 64 lower-case hexadecimal digits.
    """
    if len(value) != HEX_LENGTHS["sha256"] or not _HEX.match(value):
        raise ValueError("not a sha256 in lower-case hexadecimal digits")
    return Sha256(value)


def known_digests(listed: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    """Return the usable ones of the listed digests of metadata, lower-cased and sorted by
    algorithm.

    A digest of an unknown kind, of the wrong length or not hexadecimal is left out: it can't be
    compared.
    """
    kept: dict[str, str] = {}
    for algorithm, value in listed:
        if not isinstance(value, str):
            continue
        name, digits = algorithm.lower().replace("-", "_"), value.lower()
        if HEX_LENGTHS.get(name) == len(digits) and _HEX.match(digits):
            kept[name] = digits
    return tuple(sorted(kept.items()))


class MalformedDigestError(ValueError):
    """A listed digest that can't be compared with anything; the text names it."""


def read_digests(listed: Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    """Return the digests that an index lists for a file, lower-cased and sorted by algorithm.

    None and an empty text give no digest, and an algorithm that is not known here counts for
    nothing. Raises ``MalformedDigestError`` for a digest of sha256 or stronger that is not its
    number of hexadecimal digits, or is listed with two values; for a weaker one only where no
    stronger one is listed.
    """
    read: dict[str, str] = {}
    malformed: dict[str, str] = {}
    for algorithm, value in listed:
        name = algorithm.lower().replace("-", "_")
        if name not in HEX_LENGTHS or value is None or value == "":
            continue
        digits = value.lower() if isinstance(value, str) else ""
        if len(digits) != HEX_LENGTHS[name] or not _HEX.match(digits):
            said = shown_text(repr(value), 40)
            malformed[name] = (
                f"its listed {name} is {said} instead of {HEX_LENGTHS[name]} hexadecimal digits"
            )
        elif read.setdefault(name, digits) != digits:
            malformed[name] = f"it is listed with two different {name} digests"
    is_strong = any(name in STRONG_DIGESTS for name in (*read, *malformed))
    for name, problem in malformed.items():
        if name in STRONG_DIGESTS or not is_strong:
            raise MalformedDigestError(problem)
    return tuple(sorted((name, digits) for name, digits in read.items() if name not in malformed))


def digests_to_compare(digests: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the digests to compare with the bytes: all of sha256 or stronger, weaker ones only
    without a strong one.

    A weak one that the host's OpenSSL forbids can't be compared, and is left out.
    """
    offered = dict(digests)
    strong = tuple((name, offered[name]) for name in STRONG_DIGESTS if name in offered)
    return strong or tuple(
        (name, offered[name]) for name in WEAK_DIGESTS if name in offered and _is_allowed(name)
    )


def _is_allowed(algorithm: str) -> bool:
    """Return whether the host's OpenSSL computes a digest; one in FIPS mode may refuse the weak
    ones.
    """
    try:
        hashlib.new(algorithm, usedforsecurity=False)
    except ValueError:
        return False
    return True


def strongest_digest(digests: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the strongest (algorithm, hexadecimal digits) of sha256 or better, or None."""
    offered = dict(digests)
    for algorithm in STRONG_DIGESTS:
        if algorithm in offered:
            return algorithm, offered[algorithm]
    return None


def compile_patterns(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a predicate: whether any of the shell patterns matches the whole text,
    case-sensitively.
    """
    listed = tuple(patterns)
    if "*" in listed:
        return lambda _text: True
    if not listed:
        return lambda _text: False
    joined = re.compile("|".join(f"(?:{fnmatch.translate(p)})" for p in listed))
    return lambda text: joined.match(text) is not None


def normalize_pattern(pattern: str) -> str:
    """Return a project pattern in the form of normalised names: ``zope.*`` means ``zope-*``.

    Brackets keep their meaning: text between ``[`` and ``]`` is only lower-cased.
    """
    pieces = re.split(r"(\[[^\]]*\])", pattern)
    return "".join(
        p.lower() if p.startswith("[") else _SEPARATORS.sub("-", p).lower() for p in pieces
    )
