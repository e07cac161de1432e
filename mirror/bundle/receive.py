"""The far side of the gap: checks and applies bundles, and writes the receipt for the near side.

One file, standard library only, Python 3.9. Apply the bundle in DIR, hash everything again, serve
an older kept state, print the state::

    python3 -I receive.py DIR [DIR ...] --root ROOT --trust ALLOWED_SIGNERS --site NAME
    python3 -I receive.py --root ROOT --check [--list FILE]
    python3 -I receive.py --root ROOT --rollback [SEQUENCE]
    python3 -I receive.py --root ROOT --status

The file defines the format of bundles (the near side imports its reader from here) and the layout
of the far tree::

    ROOT/serve.py                            the server of the tree, from a bundle that was accepted
    ROOT/receive.py                          this file, from a bundle that was accepted
    ROOT/receive.json                        the applied bundles
    ROOT/receive.lock                        locked while receive.py works
    ROOT/receipt.json                        to be carried back to the near side
    ROOT/states/bundle-NNNNNN.sha256         the pages of each kept state, as sha256sum writes them
    ROOT/states/bundle-NNNNNN.proof.json     whether each want installs from that state
    ROOT/staging/                            unpacked volumes, states in the making
    ROOT/public/files/<aa>/<bb>/<sha256>/…   blobs
    ROOT/public/snapshots/bundle-NNNNNN/     simple/… and files -> ../../files
    ROOT/public/simple -> snapshots/bundle-NNNNNN/simple

Invariants: nothing of a bundle is believed before ``ssh-keygen -Y verify`` has accepted
``bundle.json`` (read once, from then on only those bytes count); nothing reaches ``public/`` before
every volume and every item was verified; blobs, then pages, then the switch, each synced to disk
before the next; the switch is one rename; every file that a page lists exists. A bundle is hostile
input even when it is signed: no path leaves the root, no link is followed, sizes are bounded by the
manifest. Killed anywhere, the same command completes the work. Media are only read.

Exit codes: 0 done · 2 wrong usage · 5 a volume is not there yet · 6 the disk · 7 rejected, or
damage was found · 8 another process works on this root · 130 stopped.
"""

# This file runs on hosts with Python 3.9 and uses nothing newer, against the proposals of linters.
# Paths are plain strings, since each costs little time for each file; messages are printed, since
# the file is a program of its own.
# ruff: noqa: B905, PYI034, RUF007, S603, T201, UP007, UP035, UP045
# ruff: noqa: PTH100, PTH102, PTH103, PTH104, PTH105, PTH106, PTH108, PTH109, PTH113, PTH114
# ruff: noqa: PTH115, PTH116, PTH117, PTH118, PTH119, PTH120, PTH123, PTH208, PTH211

# The first statement that runs: ``sys`` is part of the interpreter and read from no file. Nothing
# else may be imported before this guard, ``__future__`` neither, since Python looks for every
# module in the folder of the script first.
import sys

if __name__ == "__main__" and not sys.flags.isolated:
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[:1]
    # Only the modules of this Python: no working directory and no module of the user.
    _own = (f"{sys.base_prefix}/", f"{sys.base_exec_prefix}/")
    sys.path = [path for path in sys.path if path.startswith(_own)]

import argparse
import base64
import calendar
import contextlib
import errno
import fcntl
import hashlib
import html
import io
import json
import os
import platform
import pwd
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional, Union
from urllib.parse import unquote

FORMAT = 1
NAMESPACE = "bundle@offline-mirror"
BUNDLE_JSON = "bundle.json"
BUNDLE_SIG = "bundle.json.sig"
PROGRAM = "receive.py"
SERVER = "serve.py"
SERVER_SIG = "serve.py.sig"
README = "README.txt"
PROOF = "PROOF.json"
PROOF_LINE = "The proof is PROOF.json, sha256 {sha256}."
ATTACHED = ("receive.py", "receive.py.sig", README, "CONTENTS.json", SERVER, SERVER_SIG)
"""The names that a manifest may list. The near side does not list the server, since receivers of
0.1 would refuse the bundle: the signature of the server itself counts.
"""
PAGE_NAMES = ("index.html", "index.v1_html", "index.v1_json")
METADATA_ENDING = ".metadata"
KINDS = ("update", "repair")

MAX_MANIFEST_BYTES = 1 << 30
MAX_SIGNATURE_BYTES = 64 * 1024
MAX_TRUST_BYTES = 4 * 1024 * 1024
MAX_PROGRAM_BYTES = 4 * 1024 * 1024
MAX_STATE_BYTES = 16 * 1024 * 1024
MAX_PROOF_BYTES = 64 * 1024 * 1024
MAX_INTEGER = 1 << 53
MAX_DEPTH = 16
MAX_FILENAME_BYTES = 240
MAX_PROJECT_BYTES = 200
MAX_PAX_BYTES = 64 * 1024
BLOCK = 512
DEFAULT_KEEP = 3

_CHUNK = 1 << 20
_SPARE_BYTES = 16 << 20
LARGE_BYTES = 32 << 20
_SHOWN = 20
_HASH_LINE = re.compile(r"([0-9a-f]{64})  (simple/[a-z0-9._/-]+)")
_PLACED_LINE = re.compile(r"([0-9a-f]{64})  (files/[^/]+/[^/]+/[^/]+/[^/]+)\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_CHAIN = re.compile(r"[0-9a-f]{32}\Z")
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z\Z")
_PROJECT = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_BLOB = re.compile(r"files/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})/([^/]+)\Z")
_PAGE = re.compile(r"simple/(?:([a-z0-9-]+)/)?(index\.html|index\.v1_html|index\.v1_json)\Z")
_STATE_NAME = re.compile(r"bundle-[0-9]{6,16}(?:-[0-9a-f]{8})?\Z")
_LINK = re.compile(r"\.\./\.\./(files/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}/)([^/?#]+)\Z")
_FOR_SITE = re.compile(r"@site:([^@]*)\Z")
_PROOF_LINE = re.compile(rb"^The proof is PROOF\.json, sha256 ([0-9a-f]{64})\.$", re.MULTILINE)
_SERVE_FORMAT = re.compile(rb"^SERVE_FORMAT = ([0-9]{1,6})$", re.MULTILINE)
_STAGED = re.compile(r"bundle-[0-9a-f]{64}\Z")
_TEMPORARY = re.compile(r"(?:dropped|file|link|page|probe|signature)-[0-9a-f]{16}\Z")
_NOT_OF_THE_FILE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of opening a file that have another cause than the file."""
_SYNCFS_REPORTS = (5, 8)
"""The kernel from which on syncfs returns an error of the disk."""
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV}
)


# --- what can go wrong
# --------------------------------------------------------------------------------------------------


class FormatError(ValueError):
    """Bytes that are no bundle of this format."""


class ReceiveError(Exception):
    """A failure with its exit code; its sentences give the operator's next step."""

    code = 1

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "\n".join(self.reasons)


class UsageError(ReceiveError):
    """Called wrongly; nothing was touched."""

    code = 2


class Incomplete(ReceiveError):
    """Volumes are not there yet."""

    code = 5


class DiskError(ReceiveError):
    """The root can't be written, or is not one."""

    code = 6


class Rejected(ReceiveError):
    """The bundle is refused, or damage was found."""

    code = 7


class Misfit(Rejected):
    """The bundle is good, and not the next one here.

    ``sequence``: its own; None for one of another site.
    """

    def __init__(self, reason: str, sequence: Optional[int]) -> None:
        super().__init__(reason)
        self.sequence = sequence


class Locked(ReceiveError):
    """Another process works on this root."""

    code = 8


class MediumError(Exception):
    """A file of a medium can't be read, or differs from the manifest."""


def shown(text: str, limit: int = 300) -> str:
    """Return ``text`` fit for a terminal: unprintable characters are escaped."""
    safe = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii", "replace")
        for c in text[:limit]
    )
    return safe if len(text) <= limit else safe + "…"


# --- the format: JSON
# --------------------------------------------------------------------------------------------------


def render_json(value: object) -> bytes:
    """Return the canonical bytes of a value: sorted keys, no blanks, ASCII only, one line break at
    the end.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii") + b"\n"


def parse_json(data: bytes, limit_bytes: int = MAX_MANIFEST_BYTES) -> Any:
    """Read JSON strictly: ASCII, no key twice, no fractions, bounded integers, depth and size.

    Raises ``FormatError``.
    """
    return _parse_json(data, limit_bytes, _unique)


def _parse_json(
    data: bytes, limit_bytes: int, read_object: Callable[[list[tuple[str, Any]]], Any]
) -> Any:
    if len(data) > limit_bytes:
        raise FormatError(f"larger than {limit_bytes} bytes")
    try:
        value = json.loads(
            data.decode("ascii"),
            object_pairs_hook=read_object,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as exc:
        raise FormatError("not ASCII") from exc
    except RecursionError as exc:
        raise FormatError(f"nested deeper than {MAX_DEPTH}") from exc
    except ValueError as exc:
        raise exc if isinstance(exc, FormatError) else FormatError(f"no JSON: {exc}") from exc
    _check_depth(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a key stands twice in an object")
    return value


def _integer(text: str) -> int:
    # Checked as text: making a number of a million digits takes minutes.
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise FormatError("an integer is too large")
    return int(text)


def _no_number(text: str) -> Any:
    raise FormatError(f"{text[:20]} is no integer")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise FormatError(f"nested deeper than {MAX_DEPTH}")


# --- the format: the manifest
# --------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Where a stretch of an item lies: the volume's number from 1, the member's name, its size."""

    volume: int
    member: str
    size: int


class Item(NamedTuple):
    """A blob, sidecar or page."""

    path: str
    size: int
    sha256: str
    parts: tuple[Part, ...]


class Shipped(NamedTuple):
    """A file of the bundle's directory."""

    name: str
    size: int
    sha256: str


class Reference(NamedTuple):
    """Another bundle: its sequence, and the sha256 of its ``bundle.json``."""

    sequence: int
    digest: str


class StateOf(NamedTuple):
    """The state that a bundle leads to.

    ``digest``: of the sorted lines ``<sha256>  <path>`` of its pages.
    """

    revision: int
    digest: str
    projects: int
    files: int
    bytes: int
    pages: int


class Manifest(NamedTuple):
    """A checked ``bundle.json``."""

    kind: str
    tool: str
    created_at: str
    valid_until: Optional[str]
    site: str
    chain: str
    sequence: Optional[int]
    base: Optional[Reference]
    supersedes: tuple[Reference, ...]
    state: StateOf
    attached: tuple[Shipped, ...]
    volumes: tuple[Shipped, ...]
    blobs: tuple[Item, ...]
    pages: tuple[Item, ...]
    removed: tuple[str, ...]

    @property
    def label(self) -> str:
        """The bundle's name for people."""
        return (
            f"{self.site}-repair"
            if self.sequence is None
            else bundle_label(self.site, self.sequence)
        )


def bundle_label(site: str, sequence: int) -> str:
    """Return the name of a bundle and of its directory."""
    return f"{site}-{sequence:06d}"


def volume_name(number: int) -> str:
    """Return the file name of a volume; numbers start at 1."""
    return f"volume-{number:04d}.tar"


def parse_manifest(data: bytes) -> Manifest:
    """Read and check ``bundle.json``. Raises ``FormatError``, which names the fault."""
    value = _parse_json(data, MAX_MANIFEST_BYTES, _object_of_manifest)
    has_end = isinstance(value, dict) and "valid_until" in value
    top = _keys(
        value,
        "bundle.json",
        "attached base blobs chain created_at format kind pages removed sequence site state"
        " supersedes tool volumes" + (" valid_until" if has_end else ""),
        # A receiver that does not know this key refuses the bundle: it would not heed it.
    )
    if top["format"] != FORMAT:
        raise FormatError(
            f"format {top['format']!r}: this program knows format {FORMAT}; take a newer receive.py"
        )
    manifest = Manifest(
        kind=_one_of(top["kind"], KINDS),
        tool=_line(top["tool"], "tool"),
        created_at=_matching(top["created_at"], _TIME, "created_at"),
        valid_until=_moment(top["valid_until"]) if has_end else None,
        site=_matching(top["site"], _SITE, "site"),
        chain=_matching(top["chain"], _CHAIN, "chain"),
        sequence=None
        if top["sequence"] is None
        else _count(top["sequence"], "sequence", at_least=1),
        base=None if top["base"] is None else _reference(top["base"], "base"),
        supersedes=tuple(
            _reference(v, "supersedes") for v in _list(top["supersedes"], "supersedes")
        ),
        state=_state_of(top["state"]),
        attached=tuple(_shipped(v, "attached") for v in _list(top["attached"], "attached")),
        volumes=tuple(_shipped(v, "volumes") for v in _list(top["volumes"], "volumes")),
        blobs=_items(top["blobs"], "blobs"),
        pages=_items(top["pages"], "pages"),
        removed=tuple(_project(v) for v in _list(top["removed"], "removed")),
    )
    _check_chain_fields(manifest)
    _check_shipped(manifest)
    for item in manifest.blobs:
        _check_blob(item)
    _check_pages(manifest)
    _check_parts(manifest)
    return manifest


_ITEM_KEYS = frozenset({"path", "size", "sha256", "parts"})


def _object_of_manifest(pairs: list[tuple[str, Any]]) -> Any:
    """Make an ``Item`` of what looks like one at once: a million dicts would take gigabytes."""
    value = _unique(pairs)
    return _item(value) if value.keys() == _ITEM_KEYS else value


def _item(value: dict[str, Any]) -> Item:
    path = _line(value["path"], "path", 1024)
    parts = []
    for part in _list(value["parts"], path):
        if not isinstance(part, list) or len(part) != 3:
            raise FormatError(f"{shown(path)}: a part is [volume, member, size]")
        member = _line(part[1], path, 1024)
        # One string instead of two for each whole blob.
        parts.append(
            Part(
                _count(part[0], path, 1), path if member == path else member, _count(part[2], path)
            )
        )
    return Item(
        path, _count(value["size"], path), _matching(value["sha256"], _SHA256, path), tuple(parts)
    )


def _items(value: Any, where: str) -> tuple[Item, ...]:
    items = tuple(_list(value, where))
    if not all(isinstance(item, Item) for item in items):
        raise FormatError(f"{where}: an item has exactly the keys parts, path, sha256 and size")
    for before, after in zip(items, items[1:]):
        if before.path >= after.path:
            raise FormatError(f"{where}: {shown(after.path)} stands twice or not in order")
    return items


def _check_chain_fields(manifest: Manifest) -> None:
    if manifest.kind == "repair":
        if (
            manifest.sequence is not None
            or manifest.base is None
            or manifest.supersedes
            or manifest.removed
        ):
            raise FormatError(
                "a repair has a base, and neither sequence nor supersedes nor removed"
            )
        return
    if manifest.sequence is None:
        raise FormatError("sequence: missing")
    others = ((manifest.base,) if manifest.base else ()) + manifest.supersedes
    if any(other.sequence >= manifest.sequence for other in others):
        raise FormatError("base and supersedes: not older than the bundle itself")
    if len({other.sequence for other in others}) != len(others):
        raise FormatError("base and supersedes: a sequence stands twice")


def _check_shipped(manifest: Manifest) -> None:
    names = [shipped.name for shipped in manifest.attached]
    if len(set(names)) != len(names) or not set(names) <= set(ATTACHED):
        raise FormatError(f"attached: expected each of {', '.join(ATTACHED)} at most once")
    for number, volume in enumerate(manifest.volumes, 1):
        if volume.name != volume_name(number):
            raise FormatError(
                f"volumes: expected {volume_name(number)}, found {shown(volume.name)}"
            )
        if volume.size % BLOCK:
            raise FormatError(f"{volume.name}: its size is no multiple of {BLOCK}")


def _check_blob(item: Item) -> None:
    found = _BLOB.match(item.path)
    name = found.group(4) if found else ""
    is_sidecar = name.endswith(METADATA_ENDING)
    plain = name[: -len(METADATA_ENDING)] if is_sidecar else name
    if (
        not found
        or not found.group(3).startswith(found.group(1) + found.group(2))
        or not is_plain_name(plain)
    ):
        raise FormatError(f"blobs: {shown(item.path)!r} is no path of a blob")
    if not is_sidecar and found.group(3) != item.sha256:
        raise FormatError(f"blobs: {shown(item.path)} does not lie under its own sha256")


def is_plain_name(name: str) -> bool:
    """Return whether a file name may become a file of the tree."""
    return (
        name not in {"", ".", ".."}
        and "/" not in name
        and "\\" not in name
        and name.isprintable()
        and len(name.encode("utf-8", "surrogatepass")) <= MAX_FILENAME_BYTES
        and not name.endswith(METADATA_ENDING)
    )


def _check_pages(manifest: Manifest) -> None:
    names: dict[str, set[str]] = {}
    for item in manifest.pages:
        found = _PAGE.match(item.path)
        if not found:
            raise FormatError(f"pages: {shown(item.path)!r} is no path of a page")
        names.setdefault(_project(found.group(1)) if found.group(1) else "", set()).add(
            found.group(2)
        )
    for before, after in zip(manifest.removed, manifest.removed[1:]):
        if before >= after:
            raise FormatError(f"removed: {after} stands twice or not in order")
    if manifest.kind == "repair":
        return
    for project, found_names in names.items():
        if len(found_names) != len(PAGE_NAMES):
            raise FormatError(
                f"pages: {project or 'the root'} has not all of {', '.join(PAGE_NAMES)}"
            )
    for project in manifest.removed:
        if project in names:
            raise FormatError(f"removed: {project} has pages as well")
    if manifest.base is None and ("" not in names or manifest.removed):
        raise FormatError("a full bundle has the root's pages and removes nothing")


def _check_parts(manifest: Manifest) -> None:
    used = [0] * len(manifest.volumes)
    shared: dict[tuple[int, str], int] = {}
    split: dict[str, tuple[Part, ...]] = {}
    for item in (*manifest.blobs, *manifest.pages):
        if not item.parts or sum(part.size for part in item.parts) != item.size:
            raise FormatError(f"{shown(item.path)}: its parts do not add up to {item.size} bytes")
        if len(item.parts) > 1:
            _check_split(item, split)
        for number, part in enumerate(item.parts, 1):
            if part.member != _member_name(item, number) or part.volume > len(used):
                raise FormatError(
                    f"{shown(item.path)}: part {number} does not lie where it belongs"
                )
            if part.member is item.path:
                used[part.volume - 1] += part.size
            elif shared.setdefault((part.volume, part.member), part.size) != part.size:
                raise FormatError(f"{shown(item.path)}: another size than an item of equal sha256")
    for (number, _), size in shared.items():
        used[number - 1] += size
    for volume, size in zip(manifest.volumes, used):
        if size > volume.size:
            raise FormatError(f"{volume.name}: more in it than its size allows")


def _member_name(item: Item, number: int) -> str:
    """Return the name that a part has in its volume; a page's bytes may serve several pages."""
    if len(item.parts) > 1:
        return f"parts/{item.sha256}/{number:04d}"
    return item.path if item.path.startswith("files/") else f"pages/{item.sha256}"


def _check_split(item: Item, split: dict[str, tuple[Part, ...]]) -> None:
    if any(part.size == 0 for part in item.parts):
        raise FormatError(f"{shown(item.path)}: an empty part")
    if split.setdefault(item.sha256, item.parts) != item.parts:
        raise FormatError(f"{shown(item.path)}: equal sha256, other parts than another item")


def _state_of(value: Any) -> StateOf:
    found = _keys(value, "state", "bytes digest files pages projects revision")
    return StateOf(
        digest=_matching(found["digest"], _SHA256, "state.digest"),
        **{
            key: _count(found[key], f"state.{key}")
            for key in ("revision", "projects", "files", "bytes", "pages")
        },
    )


def _reference(value: Any, where: str) -> Reference:
    found = _keys(value, where, "digest sequence")
    return Reference(
        _count(found["sequence"], where, 1), _matching(found["digest"], _SHA256, where)
    )


def _shipped(value: Any, where: str) -> Shipped:
    found = _keys(value, where, "name sha256 size")
    name = _line(found["name"], where)
    return Shipped(name, _count(found["size"], name), _matching(found["sha256"], _SHA256, name))


def _keys(value: Any, where: str, names: str) -> dict[str, Any]:
    expected = set(names.split())
    if not isinstance(value, dict) or value.keys() != expected:
        given = sorted(set(value) ^ expected) if isinstance(value, dict) else []
        raise FormatError(
            f"{where}: expected exactly {', '.join(sorted(expected))};"
            f" differs in {shown(str(given))}"
        )
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{shown(where)}: expected a list")
    return value


def _line(value: Any, where: str, limit: int = 200) -> str:
    if not isinstance(value, str) or not value or len(value) > limit or not value.isprintable():
        raise FormatError(f"{shown(where)}: expected one line of text")
    return value


def _matching(value: Any, pattern: re.Pattern[str], where: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise FormatError(f"{shown(where)}: {shown(repr(value))} is not of the expected form")
    return value


def _moment(value: Any) -> str:
    text = _matching(value, _TIME, "valid_until")
    if seconds_of(text) is None:
        raise FormatError(f"valid_until: {shown(text)} is no time")
    return text


def seconds_of(text: str) -> Optional[int]:
    """Return the seconds since the epoch of a time in UTC; None where it is none, such as in month
    13.
    """
    try:
        return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def _one_of(value: Any, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise FormatError(f"kind: expected one of {', '.join(allowed)}")
    return value


def _count(value: Any, where: str, at_least: int = 0) -> int:
    if type(value) is not int or value < at_least:
        raise FormatError(f"{shown(where)}: expected an integer from {at_least}")
    return value


def _project(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_PROJECT_BYTES or not _PROJECT.match(value):
        raise FormatError(f"{shown(repr(value))} is no normalised project name")
    return value


# --- the format: volumes
# --------------------------------------------------------------------------------------------------


def open_plain(path: str) -> int:
    """Open a file for reading. Raises ``OSError``, also for a link or anything else that is no
    plain file.

    Raises ``DiskError`` where that says nothing about the file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in _NOT_OF_THE_FILE:
            raise DiskError(f"{shown(path)}: {exc.strerror}; run the same command again") from exc
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no plain file", path)
    return descriptor


class VolumeStream:
    """A file of a medium, read once from start to end, hashed on the way.

    Never reads more than its listed size.
    """

    def __init__(
        self, path: str, size: int, on_read: Optional[Callable[[int], None]] = None
    ) -> None:
        self._path = path
        self._left = size
        self._buffer = memoryview(b"")
        self._hash = hashlib.sha256()
        self._on_read = on_read
        try:
            self._descriptor = open_plain(path)
        except OSError as exc:
            raise MediumError(f"can't be read: {exc.strerror}") from exc
        found = os.fstat(self._descriptor).st_size
        if found != size:
            os.close(self._descriptor)
            raise MediumError(f"has {found} bytes instead of {size}")

    def __enter__(self) -> "VolumeStream":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def take(self, limit: int) -> memoryview:
        """Return from 1 to ``limit`` bytes; nothing at the end."""
        if not self._buffer and self._left:
            self._fill()
        taken, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return taken

    def exactly(self, count: int) -> bytes:
        """Return this number of bytes. Raises ``MediumError`` when there are fewer."""
        if len(self._buffer) >= count:
            taken, self._buffer = self._buffer[:count], self._buffer[count:]
            return bytes(taken)
        pieces = bytearray()
        while len(pieces) < count:
            piece = self.take(count - len(pieces))
            if not piece:
                raise MediumError("ends in the middle of a member")
            pieces += piece
        return bytes(pieces)

    def hexdigest(self) -> str:
        """Read the rest and return the sha256 of the whole."""
        while self.take(_CHUNK):
            pass
        return self._hash.hexdigest()

    def _fill(self) -> None:
        try:
            data = os.read(self._descriptor, min(_CHUNK, self._left))
        except OSError as exc:
            raise MediumError(f"can't be read: {exc.strerror}") from exc
        if not data:
            raise MediumError("became shorter while it was read")
        self._left -= len(data)
        self._hash.update(data)
        self._buffer = memoryview(data)
        if self._on_read:
            self._on_read(len(data))


def iter_members(
    volume: VolumeStream, sizes: dict[str, int]
) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Yield (name, pieces of bytes) of each member; the pieces must be used up before the next is
    asked for.

    ``sizes`` are the members that the volume must have, each once; it is emptied. Plain files in
    ustar headers only, and pax headers that say nothing but path and size: what else a tar can hold
    is refused. Raises ``MediumError``.
    """
    longer: dict[str, str] = {}
    while True:
        header = volume.exactly(BLOCK)
        if not header.strip(b"\0"):
            break
        name, size, kind = _read_header(header)
        if kind == b"x":
            if longer or size > MAX_PAX_BYTES:
                raise MediumError("an extended header that is too large or repeated")
            longer = _read_pax(volume.exactly(size + -size % BLOCK)[:size])
            continue
        if kind not in {b"0", b"\0"}:
            raise MediumError(f"{shown(name)} is no plain file (tar type {kind!r})")
        name, size, longer = longer.get("path", name), int(longer.get("size", size)), {}
        if name not in sizes:
            raise MediumError(f"{shown(name)} is not listed in it, or stands twice")
        expected = sizes.pop(name)
        if size != expected:
            raise MediumError(f"{shown(name)} has {size} bytes instead of {expected}")
        yield name, _pieces(volume, size)
        volume.exactly(-size % BLOCK)
    if sizes:
        raise MediumError(f"{shown(next(iter(sizes)))} is missing in it")
    while rest := volume.take(_CHUNK):
        if bytes(rest).strip(b"\0"):
            raise MediumError("has something after its end")


def _pieces(volume: VolumeStream, size: int) -> Iterator[memoryview]:
    while size:
        piece = volume.take(size)
        if not piece:
            raise MediumError("ends in the middle of a member")
        size -= len(piece)
        yield piece


def _read_header(header: bytes) -> tuple[str, int, bytes]:
    if header[257:263] != b"ustar\0":
        raise MediumError("is no POSIX tar")
    try:
        checksum = int(header[148:156].strip(b"\0 ") or b"0", 8)
        size = int(header[124:136].strip(b"\0 ") or b"0", 8)
        name = header[:100].split(b"\0", 1)[0].decode("utf-8")
        prefix = header[345:500].split(b"\0", 1)[0].decode("utf-8")
    except ValueError as exc:
        raise MediumError("has a damaged header") from exc
    if checksum != sum(header) - sum(header[148:156]) + 8 * 32 or size < 0:
        raise MediumError("has a damaged header")
    return f"{prefix}/{name}" if prefix else name, size, header[156:157]


def _read_pax(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        # Digits only, and few: int() takes signs, blanks and underscores.
        count = int(length) if length.isdigit() and len(length) < 8 else 0
        record, data = data[len(length) + 1 : count - 1], data[max(count, 1) :]
        try:
            key, equals, text = record.decode("utf-8").partition("=")
        except UnicodeDecodeError as exc:
            raise MediumError("has a damaged extended header") from exc
        if not count or not equals or key in found or key not in {"path", "size"}:
            raise MediumError(f"has an extended header with {shown(key)!r}")
        if key == "size" and not (text.isascii() and text.isdigit() and len(text) < 17):
            raise MediumError("has a damaged extended header")
        found[key] = text
    return found


# --- the signature
# --------------------------------------------------------------------------------------------------


def find_ssh_keygen(media: "Sequence[Medium]" = ()) -> str:
    """Return the path of the host's ``ssh-keygen``. Raises ``UsageError``.

    Elements of ``PATH`` that are empty, relative or on a medium do not count: a bundle must not
    bring its own judge.
    """
    own = {os.stat("/").st_dev, os.stat(sys.base_prefix).st_dev}
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{directory}/ssh-keygen"
        if not os.path.isabs(directory) or not os.path.isfile(path) or not os.access(path, os.X_OK):
            continue
        if not any(_leads_over(path, medium, set(medium), own) for medium in media):
            return path
    said = os.strerror(errno.ENOENT)
    raise UsageError(f"ssh-keygen can't be run ({said}): install OpenSSH 8.2 or newer")


def check_ssh_keygen(media: "Sequence[Medium]" = ()) -> str:
    """Return the path of a ``ssh-keygen`` that can verify and look signers up (OpenSSH 8.2).

    Raises ``UsageError``.
    """
    path = find_ssh_keygen(media)
    try:
        answer = _ssh_keygen(path, "-Y", "find-principals")
    except OSError as exc:
        raise UsageError(
            f"ssh-keygen can't be run ({exc.strerror}): install OpenSSH 8.2 or newer"
        ) from exc
    if b"find-principals" not in answer.stderr or b"nsupported" in answer.stderr:
        said = shown(answer.stderr.decode("utf-8", "replace").strip().split("\n")[0])
        raise UsageError(f"ssh-keygen is too old: OpenSSH 8.2 or newer is needed (it said: {said})")
    return path


def find_signers(
    data: Union[bytes, int], signature: str, trust: str, keygen: str, label: str
) -> list[str]:
    """Return the principals whose key, trusted in ``trust``, made the signature file over ``data``.
    Raises ``Rejected``.

    ``data``: bytes, or a descriptor that is read from its start. ``signature`` and ``trust`` are
    read more than once: neither may lie where somebody else writes. ``label``: how the operator
    named ``trust``.
    """
    found = _ssh_keygen(keygen, "-Y", "find-principals", "-s", signature, "-f", trust)
    lines = found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else []
    if lines:
        # ssh-keygen stops at the first line that fits; a key may stand in several, each for another
        # site.
        lines += _other_principals(signature, trust, keygen)
    found_names = (name.strip() for line in lines for name in line.split(","))
    # An excluded pattern of a line is not a principal, though ssh-keygen names it among them.
    names = list(dict.fromkeys(name for name in found_names if name and not name.startswith("!")))
    if not names:
        said = shown(found.stderr.decode("utf-8", "replace").strip().split("\n")[0]).replace(
            trust, label
        )
        raise Rejected(
            f"{BUNDLE_SIG}: the signature is by no key of {label}" + (f" ({said})" if said else "")
        )
    good, reason = [], b""
    for name in names:
        words = ["-Y", "verify", "-f", trust, "-I", name, "-n", NAMESPACE, "-s", signature]
        answer = _ssh_keygen(keygen, *words, stdin=data)
        if answer.returncode == 0:
            good.append(name)
        reason = reason or answer.stderr or answer.stdout
    if good:
        return good
    said = shown(reason.decode("utf-8", "replace").strip().split("\n")[0])
    raise Rejected(
        f"{BUNDLE_JSON}: changed, or not signed for bundles, by {shown(names[0])} ({said})"
    )


def _other_principals(signature: str, trust: str, keygen: str) -> list[str]:
    """Return the principals of each line of ``trust`` that may be of the key that made a
    signature.
    """
    with open(signature, "rb") as made, open(trust, "rb") as trusted:
        key = _key_in(made.read())
        lines = [
            line
            for line in trusted.read().splitlines()
            if key in line or b"cert-authority" in line.lower()
        ]
    found = []
    for line in lines:
        words = ["-Y", "find-principals", "-s", signature, "-f", "/dev/stdin"]
        answer = _ssh_keygen(keygen, *words, stdin=line + b"\n")
        if answer.returncode == 0:
            found += answer.stdout.decode("utf-8", "replace").splitlines()
    return found


def _key_in(signature: bytes) -> bytes:
    """Return the public key of a signature as a line of ``allowed_signers`` has it
    (PROTOCOL.sshsig).
    """
    inner = b"".join(line for line in signature.splitlines() if not line.startswith(b"-----"))
    with contextlib.suppress(ValueError):
        data = base64.b64decode(inner)
        return base64.b64encode(data[14 : 14 + int.from_bytes(data[10:14], "big")])
    return b"cert-authority"


def choose_signer(signers: Sequence[str], site: str) -> str:
    """Return the first principal that may sign for a site. Raises ``Rejected``.

    A principal that ends in ``@site:SITE`` signs for that site only; any other for all.
    """
    for name in signers:
        found = _FOR_SITE.search(name)
        if not found or found.group(1) == site:
            return name
    raise Rejected(f"{BUNDLE_SIG}: {shown(signers[0])} does not sign for the site {shown(site)}")


def _ssh_keygen(
    program: str, *arguments: str, stdin: Union[bytes, int] = b""
) -> "subprocess.CompletedProcess[bytes]":
    found = os.environ.get("PATH", os.defpath).split(os.pathsep)
    env = {**os.environ, "LC_ALL": "C", "PATH": os.pathsep.join(filter(os.path.isabs, found))}
    given: dict[str, Any] = {"input": stdin}
    if isinstance(stdin, int):
        os.lseek(stdin, 0, os.SEEK_SET)
        given = {"stdin": stdin}
    return subprocess.run([program, *arguments], capture_output=True, env=env, check=False, **given)


# --- the disk
# --------------------------------------------------------------------------------------------------


class Root:
    """The paths of the far tree, and how its files are written."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.public = f"{self.path}/public"
        self.files = f"{self.public}/files"
        self.snapshots = f"{self.public}/snapshots"
        self.simple = f"{self.public}/simple"
        self.staging = f"{self.path}/staging"
        self.states = f"{self.path}/states"
        self.record = f"{self.path}/receive.json"
        self.receipt = f"{self.path}/receipt.json"
        self.program = f"{self.path}/{PROGRAM}"
        self.server = f"{self.path}/{SERVER}"

    def state(self, name: str) -> str:
        """Return the directory of a state."""
        return f"{self.snapshots}/{name}"

    def page_list(self, name: str) -> str:
        """Return the path of the list of a state's pages."""
        return f"{self.states}/{name}.sha256"

    def proof(self, name: str) -> str:
        """Return the path of the proof that came with a state."""
        return f"{self.states}/{name}.proof.json"

    def temporary(self, kind: str) -> str:
        """Return a fresh path in ``staging``; the next run removes its content."""
        return f"{self.staging}/{kind}-{secrets.token_hex(8)}"

    def staged(self, *patterns: re.Pattern[str]) -> list[str]:
        """Return the names in ``staging`` under the names that this program uses; files of the
        operator stay untouched.
        """
        names = sorted(os.listdir(self.staging))
        return [
            f"{self.staging}/{name}"
            for name in names
            if any(pattern.match(name) for pattern in patterns)
        ]

    def replace(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Replace a file, private by default; it is durable when this returns."""
        temporary = self.temporary("file")
        with open(temporary, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(os.path.dirname(path))

    def sync(self, *places: str) -> None:
        """Make some files and directories durable, and all below them.

        By one syncfs, where that reports failures.
        """
        if reports_failed_syncs():
            with contextlib.suppress(ImportError, AttributeError):
                import ctypes  # 3 ms

                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                        raise OSError(
                            ctypes.get_errno(), "could not be written to the disk", self.path
                        )
                finally:
                    os.close(descriptor)
                return
        for place in places:
            sync_below(place)
            sync_directory(os.path.dirname(place))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def reports_failed_syncs() -> bool:
    """Return whether syncfs reports a failure: Linux does since 5.8. Before, only fsync does."""
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return numbers is not None and (int(numbers.group(1)), int(numbers.group(2))) >= _SYNCFS_REPORTS


def sync_below(directory: str) -> None:
    """Make a file, or a directory with all files and names below it, durable, one by one."""
    if stat.S_ISREG(os.lstat(directory).st_mode):
        sync_directory(directory, os.O_NOFOLLOW)
        return
    for place, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = f"{place}/{name}"
            if stat.S_ISREG(os.lstat(path).st_mode):
                sync_directory(path, os.O_NOFOLLOW)
        sync_directory(place)


def sync_directory(path: str, flags: int = os.O_DIRECTORY) -> None:
    """Make a directory's names durable; by other flags a file's bytes."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_there(path: str) -> bool:
    """Return whether anything is there, a dangling link too.

    Raises ``OSError`` where that can't be found out.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def make_directory(path: str, mode: int = 0o755) -> None:
    """Make a directory unless it is there; a link in its place is refused."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise OSError(errno.ENOTDIR, "is no directory, or a link to one: move it away", path)


def remove_tree(path: str) -> None:
    """Remove a file, link or directory; a missing one is not an error."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_directory:
        shutil.rmtree(path)
    else:
        os.unlink(path)


def hash_file(path: str) -> tuple[str, int]:
    """Return sha256 and size of a plain file, in constant memory. Raises ``OSError``."""
    descriptor = open_plain(path)
    try:
        digest, size = hashlib.sha256(), 0
        while block := os.read(descriptor, _CHUNK):
            digest.update(block)
            size += len(block)
        return digest.hexdigest(), size
    finally:
        os.close(descriptor)


def read_small(path: str, limit_bytes: int) -> bytes:
    """Return the bytes of a plain file. Raises ``OSError``, also when it is larger."""
    descriptor = open_plain(path)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if os.fstat(descriptor).st_size > limit_bytes:
            raise OSError(errno.EFBIG, f"is larger than {limit_bytes} bytes", path)
        data = bytearray()
        while len(data) <= limit_bytes and (
            block := file.read(min(_CHUNK, limit_bytes + 1 - len(data)))
        ):
            data += block
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"is larger than {limit_bytes} bytes", path)
    return bytes(data)


def check_owner(root: Root, words: Sequence[str]) -> None:
    """Raise ``UsageError`` for another user than the owner of the received tree, or else of the
    root.

    The owner could neither replace nor serve the files that this user writes. A root that the group
    of this user may write counts too. ``words``: the command line, for the advice.
    """
    user = os.geteuid()
    for path in (root.record, root.path):
        try:
            found = os.stat(path)
        except OSError:
            continue
        group_writes = found.st_mode & stat.S_IWGRP and found.st_gid in {
            os.getegid(),
            *os.getgroups(),
        }
        if found.st_uid == user or (path == root.path and group_writes):
            return
        program = [sys.executable, "-I", os.path.abspath(__file__)]
        command = " ".join(shlex.quote(word) for word in [*_run_as(found, user), *program, *words])
        raise UsageError(
            f"{path} belongs to another user: run it as its owner, by: {shown(command, 4000)}"
        )


def _run_as(found: os.stat_result, user: int) -> list[str]:
    try:
        words = ["runuser", "-u", pwd.getpwuid(found.st_uid).pw_name, "--"]
    except KeyError:  # runuser knows names only
        words = [
            "setpriv",
            f"--reuid={found.st_uid}",
            f"--regid={found.st_gid}",
            "--clear-groups",
            "--",
        ]
    return words if user == 0 else ["sudo", *words]


@contextlib.contextmanager
def locked(root: Root) -> Iterator[None]:
    """Hold the root's lock, making the root on the way. Raises ``Locked``."""
    os.makedirs(root.path, exist_ok=True)
    descriptor = os.open(
        f"{root.path}/receive.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Locked(
                f"another process is working on {root.path}; try again when it is done"
            ) from exc
        yield
    finally:
        os.close(descriptor)


def prepare(root: Root) -> None:
    """Make the directories, remove the rest of a killed run, and try whether links work.

    Raises ``DiskError``.
    """
    if is_there(f"{root.path}/state.db"):
        raise UsageError(
            f"{root.path} is the root of a mirror itself:"
            " choose another directory for what is received"
        )
    if is_there(root.simple) and not os.path.islink(root.simple):
        raise DiskError(
            f"{root.simple} is no link: it was not made by this program; choose another root"
        )
    for path in (root.staging, root.states):
        make_directory(path, 0o700)
    for path in (root.public, root.files, root.snapshots):
        make_directory(path)
    probe = f"{root.public}/.receive-probe"
    remove_tree(probe)
    for path in root.staged(_TEMPORARY):
        remove_tree(path)
    first, second = root.temporary("probe"), root.temporary("probe")
    os.close(_private(first, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.link(first, probe)
        os.symlink("files", second)
        os.replace(second, probe)
    except OSError as exc:
        if exc.errno in _NO_LINKS:
            raise DiskError(
                f"{root.path}: its file system has no hard links or symbolic links"
                f" ({exc.strerror}), or public/ is another one than staging/:"
                " put the root on ext4, XFS, Btrfs or ZFS"
            ) from exc
        raise
    finally:
        for path in (probe, first, second):
            remove_tree(path)


def check_space(
    root: Root, manifest: Manifest, pending: "Sequence[Sequence[MemberTarget]]"
) -> None:
    """Raise ``DiskError`` unless there is room for the items still to be unpacked, and for the new
    state.
    """
    found = os.statvfs(root.path)
    # Files that the tree seems to hold are hashed and left out later: a full bundle needs room for
    # new and damaged files.
    wanted = [
        target for targets in pending for target in targets if not _seems_held(root, target.item)
    ]
    unit = found.f_frsize or 4096
    directories = 0 if manifest.kind == "repair" else manifest.state.projects + 2
    # A blob takes up to two directories of its own.
    inodes = 3 * len(wanted) + directories
    needed = (
        sum(target.size + -target.size % unit for target in wanted)
        + (2 * len(wanted) + directories) * unit
    )
    free = found.f_bavail * found.f_frsize
    if found.f_blocks and free < needed + _SPARE_BYTES:
        raise DiskError(
            f"{root.path}: {needed + _SPARE_BYTES} bytes are needed, {free} are free: make room"
        )
    if found.f_files and found.f_favail < inodes:
        raise DiskError(
            f"{root.path}: {inodes} new files are needed,"
            f" the file system has room for {found.f_favail}"
        )


def _seems_held(root: Root, item: Item) -> bool:
    return (
        len(item.parts) == 1
        and item.path.startswith("files/")
        and _is_there(f"{root.public}/{item.path}", item.size)
    )


def free_bytes(path: str) -> int:
    """Return how many bytes may still be written."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


# --- what was applied
# --------------------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """A kept state. ``name``: its directory; ``digest``: of the bundle; ``state``: of its pages."""

    name: str
    sequence: int
    digest: str
    state: str
    created_at: str
    applied_at: str


class Record(NamedTuple):
    """``receive.json``. ``applied``: the kept states, newest last; ``next``: a state that is about
    to be switched to.

    ``sweep``: states and blobs that nothing lists any more may lie there still.
    """

    site: str
    chain: str
    signer: str
    applied: tuple[Applied, ...]
    next: Optional[Applied] = None
    sweep: bool = False

    @property
    def last(self) -> Applied:
        """The newest state."""
        return self.applied[-1]


def load_record(root: Root) -> Optional[Record]:
    """Return the record of applied bundles; None where no bundle ever was.

    Raises ``DiskError`` for a damaged record.
    """
    try:
        value = parse_json(read_small(root.record, MAX_STATE_BYTES), MAX_STATE_BYTES)
        top = _keys(value, "receive.json", "applied chain format next signer site sweep")
        if top["format"] != FORMAT:
            raise FormatError(f"format {top['format']!r}; take a newer receive.py")
        record = Record(
            site=_matching(top["site"], _SITE, "site"),
            chain=_matching(top["chain"], _CHAIN, "chain"),
            signer=str(top["signer"]),
            applied=tuple(_applied(v) for v in _list(top["applied"], "applied")),
            next=None if top["next"] is None else _applied(top["next"]),
            sweep=bool(top["sweep"]),
        )
    except FileNotFoundError:
        return None
    except FormatError as exc:
        raise DiskError(
            f"{root.record} is damaged ({exc}): move it away,"
            " and receive a bundle made with --full with --new-chain"
        ) from exc
    return record if record.applied or record.next else None


def _applied(value: Any) -> Applied:
    found = _keys(value, "applied", "applied_at created_at digest name sequence state")
    return Applied(
        name=_matching(found["name"], _STATE_NAME, "name"),
        sequence=_count(found["sequence"], "sequence", 1),
        digest=_matching(found["digest"], _SHA256, "digest"),
        state=_matching(found["state"], _SHA256, "state"),
        created_at=_line(found["created_at"], "created_at"),
        applied_at=_line(found["applied_at"], "applied_at"),
    )


def save_record(root: Root, record: Record) -> None:
    """Write ``receive.json``; it is durable when this returns."""
    value = record._asdict()
    value["applied"] = [entry._asdict() for entry in record.applied]
    value["next"] = record.next._asdict() if record.next else None
    root.replace(root.record, render_json({"format": FORMAT, **value}))


def live_name(root: Root) -> Optional[str]:
    """Return the name of the state that is served."""
    try:
        parts = os.readlink(root.simple).split("/")
    except OSError as exc:
        if exc.errno in {errno.ENOENT, errno.ENOTDIR, errno.EINVAL}:  # the last: it is not a link
            return None
        raise
    return (
        parts[1] if len(parts) == 3 and parts[0] == "snapshots" and parts[2] == "simple" else None
    )


def recover(root: Root, record: Optional[Record], keep: int) -> Optional[Record]:
    """Finish or drop the work of a killed run, and return the record as it is then."""
    if record is None:
        return None
    if record.next is not None:
        is_live = live_name(root) == record.next.name
        if is_live:
            switch(root, record.next.name)  # its sync may have failed
        record = commit(root, record, record.next, keep) if is_live else record._replace(next=None)
    return record if record.applied else None


def commit(root: Root, record: Record, entry: Applied, keep: int) -> Record:
    """Record that a state is the newest now; older ones beyond ``keep`` are no longer kept."""
    applied = (*record.applied, entry)
    done = record._replace(
        applied=applied[-keep:], next=None, sweep=record.sweep or len(applied) > keep
    )
    save_record(root, done)
    return done


# --- the chain
# --------------------------------------------------------------------------------------------------


def settle_site(given: Optional[str], record: Optional[Record]) -> str:
    """Return the name of this site: as the first use named it. Raises ``UsageError``."""
    if given is not None and not _SITE.match(given):
        raise UsageError(f"--site {shown(given)}: expected the name of a site, such as plant")
    if record is not None:
        if given not in {None, record.site}:
            raise UsageError(f"--site {given}: what was received here is of the site {record.site}")
        return record.site
    if given is None:
        raise UsageError(
            "--site is missing: the first time, name the site that this is, as in --site plant"
        )
    return given


def judge_time(manifest: Manifest, talk: "Talk", *, allow_expired: bool) -> None:
    """Raise ``Rejected`` for a bundle whose time is over; warn where the clock can't be right."""
    clock, made = time.time(), seconds_of(manifest.created_at)
    if made is not None and clock < made:
        talk.print_line(
            f"warning: {manifest.label} was made at {manifest.created_at},"
            f" and this host's clock says {now()}: set the clock"
        )
    end = None if manifest.valid_until is None else seconds_of(manifest.valid_until)
    if end is not None and clock > end and not allow_expired:
        raise Rejected(
            f"{manifest.label} should have been applied until {manifest.valid_until}: ask the"
            " near side for a new one. If this old state is wanted:"
            " run it again with --allow-expired"
        )


def judge(
    manifest: Manifest,
    digest: str,
    record: Optional[Record],
    site: str,
    *,
    new_chain: bool,
    is_fresh: bool,
) -> bool:
    """Return whether the bundle is to be applied; False: it is the one applied last.

    Raises ``Rejected``.
    """
    label = manifest.label
    if manifest.site != site:
        raise Misfit(f"{label} is for the site {manifest.site!r}; this one is {site!r}", None)
    if record is None:
        _judge_first(manifest, new_chain=new_chain, is_fresh=is_fresh)
        return True
    last = record.last
    here = bundle_label(record.site, last.sequence)
    if manifest.chain != record.chain:
        if manifest.base is not None:
            raise Rejected(
                f"{label} belongs to another chain ({manifest.chain[:8]}…) than what was applied"
                f" here ({record.chain[:8]}…): ask the near side for a bundle made with --full"
            )
        if not new_chain:
            raise Rejected(
                f"{label} begins a new chain ({manifest.chain[:8]}…): ask the near side why;"
                " if this is wanted, run it again with --new-chain"
            )
        return True
    if manifest.kind == "repair":
        assert manifest.base is not None
        if manifest.base != (last.sequence, last.digest):
            base = bundle_label(manifest.site, manifest.base.sequence)
            raise Rejected(
                f"this repair mends the state of {base}; this site has {here}:"
                " make a new list by --check"
            )
        return True
    assert manifest.sequence is not None
    if digest == last.digest:
        return False
    if manifest.base is None and new_chain:
        return True
    if manifest.sequence <= last.sequence:
        said = _outdated(manifest, last, here)
        raise (
            Rejected(said)
            if manifest.sequence == last.sequence
            else Misfit(said, manifest.sequence)
        )
    if manifest.base is None or (last.sequence, last.digest) in (
        manifest.base,
        *manifest.supersedes,
    ):
        return True
    raise Misfit(_misfit(manifest, manifest.base, last, here), manifest.sequence)


def _outdated(manifest: Manifest, last: Applied, here: str) -> str:
    label = manifest.label
    if manifest.sequence == last.sequence:
        said = (
            f"{label} is another bundle than the {label} that was applied here (a"
            " fork of the chain)"
        )
    else:
        said = (
            f"{label} is older than {here}, which was applied here;"
            " an older state is served by --rollback"
        )
    if manifest.base is not None:
        return said
    return (
        f"{said}. If the near side was put back from a backup, and this is wanted:"
        " run it again with --new-chain"
    )


def _judge_first(manifest: Manifest, *, new_chain: bool, is_fresh: bool) -> None:
    if manifest.base is not None:
        base = bundle_label(manifest.site, manifest.base.sequence)
        raise Misfit(
            f"{manifest.label} builds on {base}, and nothing was received here yet:"
            f" missing is {base} and what came before it, or a bundle made with --full",
            manifest.sequence,
        )
    if not is_fresh and not new_chain:
        raise Rejected(
            "receive.json is missing, but something was received here before:"
            " put it back from a backup, or run this again with --new-chain"
        )


def _misfit(manifest: Manifest, base: Reference, last: Applied, here: str) -> str:
    label = manifest.label
    fitting = [(base.sequence, base.digest), *manifest.supersedes]
    if any(sequence == last.sequence for sequence, _ in fitting):
        return (
            f"{label} builds on another {here} than the one that was applied here (a fork of the"
            " chain): ask the near side for a bundle made with --full"
        )
    if base.sequence < last.sequence:
        return (
            f"{label} builds on {bundle_label(manifest.site, base.sequence)} and does not"
            f" supersede {here}, which was applied here (a fork of the chain):"
            f" ask the near side for a bundle made with --since {last.sequence}"
        )
    missing = [bundle_label(manifest.site, n) for n in range(last.sequence + 1, base.sequence + 1)][
        : _SHOWN + 1
    ]
    named = ", ".join(missing[:_SHOWN]) + (
        "" if len(missing) <= _SHOWN else f", … up to {base.sequence:06d}"
    )
    return (
        f"{label} builds on {bundle_label(manifest.site, base.sequence)}; this site has {here}."
        f" Missing: {named}. If that is lost, ask the near side for a bundle made with --since"
        f" {last.sequence}"
    )


# --- media
# --------------------------------------------------------------------------------------------------


class Medium(NamedTuple):
    """A place with a bundle or a part of it: as the operator named it, and the bundle's directory
    there.
    """

    given: str
    path: str


def find_media(directories: Sequence[str]) -> list[Medium]:
    """Return where the bundle lies: in each directory itself, or in the only bundle directly below
    it.
    """
    media = []
    for given in directories:
        found = _bundles_in(given)
        if len(found) != 1:
            raise UsageError(f"{shown(given)} is no bundle: name one of {shown(', '.join(found))}")
        media.append(Medium(given, found[0]))
    return media


def find_bundles(directories: Sequence[str]) -> list[list[Medium]]:
    """Return the media of each bundle, in the order in which they are to be applied.

    Several bundles lie below one directory where not every medium was received before the next
    came; parts of one bundle have folders of one name.
    """
    found = [(given, _bundles_in(given)) for given in directories]
    if all(len(paths) == 1 for _, paths in found):
        return [[Medium(given, paths[0]) for given, paths in found]]
    groups: dict[str, list[Medium]] = {}
    for given, paths in found:
        for path in paths:
            groups.setdefault(os.path.basename(os.path.abspath(path)), []).append(
                Medium(given, path)
            )
    return [groups[name] for name in sorted(groups, key=_place_in_order)]


def _place_in_order(name: str) -> tuple[bool, int, str]:
    numbered = re.search(r"-([0-9]{6,16})\Z", name)
    return (numbered is None, int(numbered.group(1)) if numbered else 0, name)


def _has_bundle(directory: str) -> bool:
    """Return whether a bundle's manifest is in a directory; no other user's folder on the medium is
    one.
    """
    with contextlib.suppress(PermissionError):
        return is_there(f"{directory}/{BUNDLE_JSON}")
    return False


def _bundles_in(given: str) -> list[str]:
    if _has_bundle(given):
        return [given]
    try:
        names = sorted(os.listdir(given))
    except OSError as exc:
        raise UsageError(f"{shown(given)}: {exc.strerror}") from exc
    found = [f"{given}/{name}" for name in names if _has_bundle(f"{given}/{name}")]
    if not found:
        raise UsageError(f"{shown(given)} is no bundle: there is no {BUNDLE_JSON} in it")
    return found


def check_places(root: Root, media: Sequence[Medium]) -> None:
    """Refuse a program that lies on a medium, since it would speak for itself, and a root there."""
    own = os.path.realpath(__file__)
    for medium in media:
        if _lies_in(os.path.realpath(root.path), medium.path):
            raise UsageError(
                f"--root {shown(root.path)} lies in the bundle: media are only read,"
                " choose another directory"
            )
        if _lies_in(own, medium.path):
            raise UsageError(
                f"this copy of {PROGRAM} lies in the bundle: run ROOT/{PROGRAM}, or at first use"
                " copy it with its signature to a directory of this host,"
                " check it there by ssh-keygen -Y verify, and run that copy (README.txt)"
            )


def read_trust(root: Root, media: Sequence[Medium], trust: str) -> bytes:
    """Return the trust file, which must have come another way than the bundle.

    Raises ``UsageError``.
    """
    try:
        descriptor = os.open(trust, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise UsageError(f"--trust {shown(trust)}: {exc.strerror}") from exc
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise UsageError(f"--trust {shown(trust)}: is no plain file")
    with os.fdopen(descriptor, "rb") as file:
        for medium in media:
            if _is_of_medium(trust, found, medium):
                raise UsageError(
                    f"{shown(trust)} lies in the bundle:"
                    " trust must come another way than what it judges"
                )
            if _is_on_mount(root, trust, found, medium):
                raise UsageError(
                    f"{shown(trust)} lies on the same medium as the bundle:"
                    " trust must come another way than what it judges"
                )
        data = file.read(MAX_TRUST_BYTES + 1)
    if len(data) > MAX_TRUST_BYTES:
        raise UsageError(f"--trust {shown(trust)}: is larger than {MAX_TRUST_BYTES} bytes")
    return data


def _is_of_medium(trust: str, found: os.stat_result, medium: Medium) -> bool:
    """Return whether a file, a link that leads to it, or a second name of it lies below the folder
    of a bundle.
    """
    places = {*medium, _parent_on_medium(medium.path)}
    if _leads_over(trust, medium, places, None):
        return True
    return found.st_nlink > 1 and any(_has_link(place, found) for place in places)


def _leads_over(path: str, medium: Medium, places: set[str], own: Optional[set[int]]) -> bool:
    """Return whether a path ends in one of some places, or is a link that lies there, or leads over
    one.

    ``own``: devices of this host; a path on the device of a medium that is none of them counts as
    well.
    """
    device = os.stat(medium.path).st_dev
    is_apart = own is not None and device not in own
    disk_places = [found for place in places if (found := _place_on_disk(place)) is not None]
    for step in _steps_to(path):
        if any(_lies_in(step, place) for place in places) or (
            is_apart and os.lstat(step).st_dev == device
        ):
            return True
        found = _place_on_disk(step)
        # The same folder may be mounted in two places.
        if found is not None and any(
            found[0] == place[0] and os.path.commonpath([found[1], place[1]]) == place[1]
            for place in disk_places
        ):
            return True
    return False


def _steps_to(path: str) -> list[str]:
    """Return each link that a path leads over, and where it ends; the folders on the way to each
    are real ones.
    """
    steps: list[str] = []
    place, rest = "/", os.path.join(os.getcwd(), path).split("/")[::-1]
    # As many links as Linux follows.
    while rest and len(steps) < 40:
        name = rest.pop()
        if name == "..":
            place = os.path.dirname(place)
        elif name not in {"", "."}:
            here = os.path.join(place, name)
            try:
                target = os.readlink(here)
            except OSError:
                place = here
                continue
            steps.append(here)
            place = "/" if target.startswith("/") else place
            rest += target.split("/")[::-1]
    return [*steps, place]


def _place_on_disk(path: str) -> Optional[tuple[str, str]]:
    """Return the device of a path and where it lies there; None where the kernel does not report
    it.
    """
    best: Optional[tuple[str, str, str]] = None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                device, inner, mount = (
                    _MOUNT_ESCAPE.sub(_unescaped, word) for word in line.split(" ")[2:5]
                )
                # Of several mounts on one folder the last one is seen.
                if os.path.commonpath([path, mount]) == mount and (
                    best is None or len(mount) >= len(best[2])
                ):
                    best = (device, inner, mount)
    except (OSError, ValueError):
        return None
    return (
        None
        if best is None
        else (best[0], os.path.normpath(os.path.join(best[1], os.path.relpath(path, best[2]))))
    )


_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")


def _unescaped(found: "re.Match[str]") -> str:
    return chr(int(found.group(1), 8))


def _parent_on_medium(path: str) -> str:
    """Return the folder above a bundle; the bundle's own where that is where a medium is
    mounted.
    """
    real = os.path.realpath(path)
    parent = os.path.dirname(real)
    return real if parent == "/" or os.path.ismount(real) else parent


def _has_link(directory: str, found: os.stat_result) -> bool:
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(f"{place}/{name}"), found):
                    return True
    return False


def _is_on_mount(root: Root, trust: str, found: os.stat_result, medium: Medium) -> bool:
    """Return whether a file, or a link to it, lies on the file system of a bundle that is mounted
    apart from the one that this program runs on.
    """
    place = root.path
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    own = {os.stat(place).st_dev, os.stat("/").st_dev}
    device = os.stat(medium.path).st_dev
    return device not in own and (found.st_dev == device or _leads_over(trust, medium, set(), own))


def _lies_in(path: str, directory: str) -> bool:
    return os.path.commonpath([path, os.path.realpath(directory)]) == os.path.realpath(directory)


def read_manifest(
    root: Root, media: Sequence[Medium], trust: Optional[bytes], keygen: str, label: str
) -> tuple[bytes, list[str]]:
    """Return ``bundle.json``, the same on every medium, and the principals that signed it. Raises
    ``Rejected``.

    A large one is judged from the medium first, so that an unsigned one does not fill the memory;
    the judgement of the bytes in hand counts.
    """
    signature = None if trust is None else read_signature(media)
    first, signers = b"", []
    for medium in media:
        path = f"{medium.path}/{BUNDLE_JSON}"
        try:
            descriptor = open_plain(path)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                if size > LARGE_BYTES and not first:
                    check_text(file, path)
                    if signature is not None:
                        _find_signers(root, descriptor, signature, trust or b"", keygen, label)
            data = read_small(path, MAX_MANIFEST_BYTES)
        except OSError as exc:
            raise Rejected(f"{shown(path)}: can't be read: {exc.strerror}") from exc
        if first and data != first:
            raise Rejected(
                f"{shown(path)}: changed, or of another bundle than {shown(media[0].path)}"
            )
        first = data
    if signature is not None:
        signers = _find_signers(root, first, signature, trust or b"", keygen, label)
    return first, signers


def check_text(file: Any, path: str) -> None:
    """Raise ``Rejected`` for a large manifest that is no JSON in ASCII at first sight, in constant
    memory.
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_MANIFEST_BYTES:
        raise Rejected(f"{shown(path)}: can't be read: is larger than {MAX_MANIFEST_BYTES} bytes")
    while block := file.read(_CHUNK):
        if not block.isascii() or b"\0" in block:
            raise Rejected(f"{shown(path)}: is no JSON in ASCII")


def read_signature(media: Sequence[Medium]) -> bytes:
    """Return the signature of the bundle. Raises ``Rejected``."""
    paths = [f"{medium.path}/{BUNDLE_SIG}" for medium in media]
    path = next((path for path in paths if is_there(path)), paths[0])
    try:
        return read_small(path, MAX_SIGNATURE_BYTES)
    except OSError as exc:
        raise Rejected(
            f"{shown(path)}: can't be read: {exc.strerror}; an unsigned bundle needs --unsigned"
        ) from exc


def _find_signers(
    root: Root, data: Union[bytes, int], signature: bytes, trust: bytes, keygen: str, label: str
) -> list[str]:
    """Have ``ssh-keygen`` judge private copies: bytes that it reads twice must not change in
    between.
    """
    copies = [root.temporary("signature"), root.temporary("signature")]
    try:
        for copy, text in zip(copies, (signature, trust)):
            with open(copy, "xb", opener=_private) as file:
                file.write(text)
        return find_signers(data, copies[0], copies[1], keygen, label)
    finally:
        for copy in copies:
            remove_tree(copy)


def check_attached(media: Sequence[Medium], manifest: Manifest) -> None:
    """Compare the files next to the volumes, on each medium, with the manifest.

    Raises ``Rejected``, naming each.
    """
    problems = []
    for medium in media:
        for attached in manifest.attached:
            path = f"{medium.path}/{attached.name}"
            if not is_there(path):
                continue
            try:
                with VolumeStream(path, attached.size) as stream:
                    if stream.hexdigest() != attached.sha256:
                        raise MediumError(f"changed: its sha256 is not the one in {BUNDLE_JSON}")
            except MediumError as exc:
                problems.append(f"{shown(path)}: {exc}")
    if problems:
        raise Rejected(*problems)


def read_server(
    media: Sequence[Medium], manifest: Manifest, find: Callable[[bytes, bytes], Sequence[str]]
) -> Optional[bytes]:
    """Return the server of the bundle, proved by the manifest or by its signature; or None.

    ``find`` returns the principals that signed bytes (data, signature). Raises ``Rejected``.
    """
    folder = next((m.path for m in media if is_there(f"{m.path}/{SERVER}")), None)
    if folder is None:
        return None
    path, signature = f"{folder}/{SERVER}", f"{folder}/{SERVER_SIG}"
    try:
        data = read_small(path, MAX_PROGRAM_BYTES)
        listed = {item.name: item.sha256 for item in manifest.attached}
        if SERVER in listed:
            if hashlib.sha256(data).hexdigest() != listed[SERVER]:
                raise Rejected(f"{shown(path)}: its sha256 is not the one in {BUNDLE_JSON}")
        elif not is_there(signature):
            return None
        else:
            try:
                choose_signer(find(data, read_small(signature, MAX_SIGNATURE_BYTES)), manifest.site)
            except Rejected as exc:
                raise Rejected(
                    f"{shown(path)}: changed, or {SERVER_SIG} is by no key that signs for this site"
                ) from exc
    except OSError as exc:
        raise Rejected(f"{shown(path)}: can't be read: {exc.strerror}") from exc
    if not _SERVE_FORMAT.search(data):
        raise Rejected(f"{shown(path)}: is another file than the server, under its name")
    return data


def read_proof(
    media: Sequence[Medium], manifest: Manifest, say: Callable[[str], None]
) -> Optional[bytes]:
    """Return the proof of the bundle, whose digest the listed ``README.txt`` names; or None.

    Raises ``Rejected``.
    """
    digest = _digest_of_proof(media, manifest)
    if digest is None:
        return None
    path = next((f"{m.path}/{PROOF}" for m in media if is_there(f"{m.path}/{PROOF}")), None)
    if path is None:
        say(f"{PROOF} is not on the medium: nobody can show here which wants install")
        return None
    try:
        data = read_small(path, MAX_PROOF_BYTES)
    except OSError as exc:
        raise Rejected(f"{shown(path)}: can't be read: {exc.strerror}") from exc
    if hashlib.sha256(data).hexdigest() != digest:
        raise Rejected(f"{shown(path)}: changed: its sha256 is not the one in {README}")
    try:
        parse_proof(data)
    except FormatError as exc:
        say(f"{PROOF} can't be shown: {exc}; a newer receive.py may read it")
        return None
    return data


def _digest_of_proof(media: Sequence[Medium], manifest: Manifest) -> Optional[str]:
    listed = next((item for item in manifest.attached if item.name == README), None)
    if listed is None or listed.size > MAX_PROOF_BYTES:
        return None
    for medium in media:
        with contextlib.suppress(OSError):
            data = read_small(f"{medium.path}/{README}", listed.size)
            found = _PROOF_LINE.findall(data)
            if found and hashlib.sha256(data).hexdigest() == listed.sha256:
                return str(found[0].decode())
    return None


def parse_proof(data: bytes) -> dict[str, Any]:
    """Return a proof: its files, and a result for each want and target. Raises ``FormatError``.

    Keys of newer versions are left out.
    """
    try:
        proof = parse_json(data, MAX_PROOF_BYTES)
        files = [_line(path, "files", 1024) for path in _list(proof["files"], "files")]
        results = [_proved(one, len(files)) for one in _list(proof["results"], "results")]
    except (KeyError, TypeError) as exc:
        raise FormatError(f"no proof: {type(exc).__name__} {exc}") from exc
    return {"files": files, "results": results}


def _proved(value: dict[str, Any], files: int) -> dict[str, Any]:
    """Return the result for one want and target."""
    if not isinstance(value["installable"], bool):
        raise FormatError("installable: expected true or false")
    needs = [_count(number, "needs") for number in _list(value["needs"], "needs")]
    if any(number >= files for number in needs):
        raise FormatError("needs: a number of no file")
    gaps = [
        {key: _text(gap[key], key) for key in ("project", "requirement", "reason", "detail")}
        for gap in _list(value["gaps"], "gaps")
    ]
    return {
        "want": None if value["want"] is None else _text(value["want"], "want"),
        "file": None if value["file"] is None else _text(value["file"], "file"),
        "target": _text(value["target"], "target"),
        "installable": value["installable"],
        "files": _count(value["files"], "files"),
        "bytes": _count(value["bytes"], "bytes"),
        "gaps": gaps,
        "needs": needs,
    }


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{where}: expected text")
    return value


def describe_want(result: dict[str, Any]) -> str:
    """Return one line: a want, a target, and whether it installs there, or its first gap."""
    name = shown(str(result["want"] or result["file"]))
    if result["want"] and result["file"]:
        name = f"{name} ({shown(result['file'])})"
    place = f"{name} in {shown(result['target'])}"
    if result["installable"]:
        return f"{place}: installs, {result['files']} files"
    gap = result["gaps"][0] if result["gaps"] else {"requirement": "", "project": "", "reason": "?"}
    what = shown(gap["requirement"] or gap["project"])
    more = len(result["gaps"]) - 1
    rest = f", and {more} more" if more > 0 else ""
    return f"{place}: DOES NOT INSTALL: {what} {shown(gap['reason'])}".replace("  ", " ") + rest


def load_proof(root: Root, name: Optional[str]) -> dict[str, Any]:
    """Return the proof that is kept with a state; an empty one where there is none that can be
    read.
    """
    if name is not None:
        with contextlib.suppress(OSError, FormatError):
            return parse_proof(read_small(root.proof(name), MAX_PROOF_BYTES))
    return {"files": [], "results": []}


def wants_of(root: Root) -> dict[str, Any]:
    """Return the results of the served state's proof as a part of a report; nothing where there is
    none.
    """
    results = load_proof(root, live_name(root))["results"]
    shown_keys = [{k: v for k, v in result.items() if k != "needs"} for result in results]
    return {"wants": shown_keys} if shown_keys else {}


def hurt_wants(root: Root, name: str, damage: "Sequence[Damage]") -> list[str]:
    """Return a line for each want that takes a damaged file."""
    proof = load_proof(root, name)
    hurt = {item.path for item in damage}
    lines = []
    for result in proof["results"]:
        paths = [proof["files"][n] for n in result["needs"] if proof["files"][n] in hurt]
        if paths:
            where = f"{shown(str(result['want'] or result['file']))} in {shown(result['target'])}"
            lines.append(
                f"{where} does not install: {shown(paths[0].rpartition('/')[2])} is damaged"
            )
    return lines


# --- unpacking
# --------------------------------------------------------------------------------------------------


class Talk:
    """The lines for the operator while it works: steps always, percents on a terminal only."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._total = self._done = 0
        self._next_s = 0.0

    def print_line(self, line: str) -> None:
        """Print a step; that nobody reads it stops nothing."""
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    def expect(self, total_bytes: int) -> None:
        """Set the counts to zero."""
        self._total, self._done, self._next_s = total_bytes, 0, time.monotonic() + 2

    def advance(self, count: int) -> None:
        """Count bytes; a line every few seconds."""
        self._done += count
        if self._is_terminal and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + 2
            share = 100 * self._done // max(self._total, 1)
            self.print_line(f"  {share:3d} %  {self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB")


class MemberTarget(NamedTuple):
    """A member to be unpacked: of which item, where to, from which byte of it on."""

    item: Item
    path: str
    size: int
    offset: int


_PLACED = "placed"
"""Name of the list of files that move from a bundle's directory in ``staging`` into the tree."""


class Work:
    """The unpacked items of one bundle, in ``staging``; they stay when a run ends early.

    ``volume-NNNN.done`` says that a volume was verified and all of it is on disk; ``verified`` says
    so of all items.
    """

    def __init__(self, root: Root, digest: str) -> None:
        self.path = f"{root.staging}/bundle-{digest}"
        self.files = f"{self.path}/files"
        self.placed = f"{self.path}/{_PLACED}"
        self.state = f"{self.path}/state"

    def target(self, item: Item) -> str:
        """Return where an item is unpacked to."""
        if item.path.startswith("files/"):
            return f"{self.path}/{item.path}"
        return f"{self.path}/pages/{item.sha256[:2]}/{item.sha256}"

    def has(self, mark: str) -> bool:
        """Return whether a mark is set."""
        return is_there(f"{self.path}/{mark}")

    def mark(self, mark: str) -> None:
        """Set a mark; the files that it vouches for must be on disk already."""
        os.close(_private(f"{self.path}/{mark}", os.O_CREAT | os.O_WRONLY))
        sync_directory(self.path)

    def forget(self, numbers: Iterable[int]) -> None:
        """Have volumes unpacked again."""
        for mark in ["verified", *(_done(n) for n in numbers)]:
            remove_tree(f"{self.path}/{mark}")
        sync_directory(self.path)


def _done(number: int) -> str:
    return f"{volume_name(number)}.done"


def unpack(root: Root, work: Work, media: Sequence[Medium], manifest: Manifest, talk: Talk) -> None:
    """Unpack and verify every volume into ``staging``. Raises ``Rejected`` or ``Incomplete``,
    naming each volume.

    A volume that is damaged or not there does not keep the others from being unpacked and
    remembered.
    """
    if work.has("verified"):
        return
    make_directory(work.path, 0o700)
    pending = find_targets(work, manifest)
    _check_space_well(root, work, manifest, [list(targets.values()) for targets in pending])
    problems: list[tuple[int, str]] = []
    missing = []
    talk.expect(sum(v.size for n, v in enumerate(manifest.volumes, 1) if not work.has(_done(n))))
    for number, volume in enumerate(manifest.volumes, 1):
        if work.has(_done(number)):
            continue
        copies = [path for m in media if is_there(path := f"{m.path}/{volume.name}")]
        if not copies:
            missing.append(volume.name)
            continue
        for path in copies:
            try:
                _unpack_volume(root, path, volume, pending[number - 1], talk)
            except MediumError as exc:
                problems.append((number, f"{shown(path)}: {exc}"))
                continue
            root.sync(work.path)
            work.mark(_done(number))
            talk.print_line(f"{volume.name}: verified")
            break
    lacking = [
        f"not there yet: {name}: run this again with the medium that has it" for name in missing
    ]
    # A good copy on another medium makes up for a bad one.
    open_problems = [problem for number, problem in problems if not work.has(_done(number))]
    if open_problems:
        raise Rejected(*open_problems, *lacking)
    if lacking:
        raise Incomplete(*lacking)
    if _verify_split(work, manifest):
        root.sync(work.path)
    work.mark("verified")


def find_targets(work: Work, manifest: Manifest) -> list[dict[str, MemberTarget]]:
    """Return, for each volume, its members by name; nothing for volumes that were unpacked
    before.
    """
    is_done = [work.has(_done(number)) for number in range(1, len(manifest.volumes) + 1)]
    targets: list[dict[str, MemberTarget]] = [{} for _ in manifest.volumes]
    for item in (*manifest.blobs, *manifest.pages):
        offset = 0
        for part in item.parts:
            if not is_done[part.volume - 1]:
                target = MemberTarget(item, work.target(item), part.size, offset)
                targets[part.volume - 1].setdefault(part.member, target)
            offset += part.size
    return targets


def _check_space_well(
    root: Root, work: Work, manifest: Manifest, pending: list[list[MemberTarget]]
) -> None:
    """Check the free space; unpacked items of other bundles are removed where they take it."""
    others = [path for path in root.staged(_STAGED) if path != work.path]
    if others:
        with contextlib.suppress(DiskError):
            check_space(root, manifest, pending)
            return
        for path in others:
            remove_tree(path)
    check_space(root, manifest, pending)


def _unpack_volume(
    root: Root, path: str, volume: Shipped, targets: dict[str, MemberTarget], talk: Talk
) -> None:
    with VolumeStream(path, volume.size, talk.advance) as stream:
        for name, pieces in iter_members(
            stream, {name: target.size for name, target in targets.items()}
        ):
            _unpack_member(root, targets[name], pieces)
        if stream.hexdigest() != volume.sha256:
            raise MediumError(f"changed: its sha256 is not the one in {BUNDLE_JSON}")


def _unpack_member(root: Root, target: MemberTarget, pieces: Iterator[memoryview]) -> None:
    item = target.item
    is_whole = len(item.parts) == 1
    digest = hashlib.sha256()
    if is_whole and _is_held(root, item):
        for piece in pieces:
            digest.update(piece)
    else:
        descriptor = _open_target(target.path, os.O_TRUNC if is_whole else 0)
        try:
            if not is_whole:
                os.ftruncate(descriptor, item.size)
                os.lseek(descriptor, target.offset, os.SEEK_SET)
            for piece in pieces:
                if is_whole:
                    digest.update(piece)
                rest = piece
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
    if is_whole and digest.hexdigest() != item.sha256:
        raise MediumError(f"{shown(item.path)}: its sha256 is not the one in {BUNDLE_JSON}")


def _is_held(root: Root, item: Item) -> bool:
    """Return whether a blob lies in the tree already, whole."""
    path = f"{root.public}/{item.path}"
    try:
        return (
            item.path.startswith("files/")
            and os.lstat(path).st_size == item.size
            and hash_file(path) == (item.sha256, item.size)
        )
    except OSError:
        return False


def _open_target(path: str, flags: int) -> int:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        _make_parents(path)
        return os.open(path, flags, 0o644)


def _make_parents(path: str) -> None:
    """Make the directories above a path; the lowest first, since the others are mostly there."""
    parent = path[: path.rindex("/")]
    try:
        os.mkdir(parent)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_parents(parent)
        os.mkdir(parent)


def _verify_split(work: Work, manifest: Manifest) -> bool:
    """Hash the items that came in parts; items with equal bytes share one joined file.

    Return whether there were any.
    """
    made: dict[str, str] = {}
    for item in (*manifest.blobs, *manifest.pages):
        if len(item.parts) == 1:
            continue
        target = work.target(item)
        if item.sha256 in made:
            if not is_there(target):
                _make_parents(target)
                link_or_copy(made[item.sha256], target)
            continue
        made[item.sha256] = target
        if hash_file(target) != (item.sha256, item.size):
            work.forget(part.volume for part in item.parts)
            raise Rejected(f"{shown(item.path)}: its parts do not make the sha256 in {BUNDLE_JSON}")
    return bool(made)


def link_or_copy(source: str, target: str) -> None:
    """Make a hard link, or a copy where a file has as many links as the file system allows."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as exc:
        if exc.errno != errno.EMLINK:
            raise
        shutil.copyfile(source, target, follow_symlinks=False)


# --- applying
# --------------------------------------------------------------------------------------------------


class Tree:
    """The files of the far tree as they will be: items that are unpacked and not placed yet, above
    the files that are there.

    ``sidecars``: path -> sha256 of the metadata that a bundle brings.
    """

    def __init__(self, root: Root, work: Work, manifest: Manifest) -> None:
        self._public, self._staged = root.public, work.path
        brought = [item for item in manifest.blobs if item.path.endswith(METADATA_ENDING)]
        self.sidecars = {item.path: item.sha256 for item in brought}

    def has(self, path: str, size: Optional[int]) -> bool:
        """Return whether a file will be there."""
        return _is_there(f"{self._staged}/{path}", size) or _is_there(
            f"{self._public}/{path}", size
        )

    def sidecar(self, path: str) -> str:
        """Return the sha256 that a sidecar will have; "" where there will be none."""
        with contextlib.suppress(OSError):
            return self.sidecars.get(path) or hash_file(f"{self._public}/{path}")[0]
        return ""


def judge_blobs(root: Root, work: Work, record: Optional[Record], manifest: Manifest) -> Tree:
    """Return the tree as it will be. Raises ``Rejected`` where another file in the folder of a
    digest would be replaced.

    Metadata is not derived from its file's digest. A file keeps the metadata that a kept state
    lists; other bytes come only in the place of damaged ones, or of metadata that no kept state
    lists any more.
    """
    tree = Tree(root, work, manifest)
    if not all(tree.has(item.path, item.size) for item in manifest.blobs):
        # Held when their volume was unpacked, and gone since; others have left this place already.
        remove_tree(work.path)
        raise Incomplete(
            "files went from the tree while this bundle was unpacked:"
            " run this again with all its media"
        )
    brought = {path for path in tree.sidecars if _is_there(f"{work.path}/{path}", None)}
    is_repair = manifest.kind == "repair"
    if not is_repair:
        # Also where metadata was lost: a kept state may still list it.
        brought = {path for path in brought if is_there(os.path.dirname(f"{root.public}/{path}"))}
    if not brought:
        return tree
    listed = _listed_sidecars(root, kept_states(root, record), brought)
    problems = []
    for path in sorted(brought):
        digests = listed.get(path, {})
        judges = list(digests.items())[:1] if is_repair else list(digests.items())
        # Without a digest ("") the present file is the one that the state offers; only a repair
        # knows that it is damaged.
        other = [
            name
            for name, sha256 in judges
            if sha256 != tree.sidecars[path] and (sha256 or not is_repair)
        ]
        if other:
            problems.append(f"{shown(path)}: {other[0]} lists other metadata for this file")
        elif is_repair and not digests:
            problems.append(f"{shown(path)}: no kept state lists metadata for this file")
    if problems:
        hint = (
            "nothing beside a digest is replaced: ask the near side for a bundle with the"
            " metadata that was sent first, or none"
        )
        raise Rejected(*problems[:_SHOWN], hint)
    return tree


def kept_states(root: Root, record: Optional[Record]) -> list[str]:
    """Return the names of the kept states, the newest last.

    Where the record is lost, all that are there are kept until another one is served.
    """
    if record is not None:
        return [entry.name for entry in record.applied]
    live = live_name(root)
    if live is None:
        return []  # nothing was ever served: the present files are of a run that was killed
    others = (name for name in os.listdir(root.snapshots) if _STATE_NAME.match(name))
    return [*sorted(name for name in others if name != live), live]


def _listed_sidecars(
    root: Root, states: Sequence[str], paths: set[str]
) -> dict[str, dict[str, str]]:
    """Return for each of some sidecars: name of a kept state -> the sha256 that it lists, "" for
    none; newest first.
    """
    found: dict[str, dict[str, str]] = {path: {} for path in paths}
    read: dict[int, list[Listed]] = {}
    for state in reversed(states):
        simple = f"{root.state(state)}/simple"
        for project in os.listdir(simple):
            # A page that can't be read names nothing: --check finds it.
            with contextlib.suppress(OSError, FormatError):
                if project not in PAGE_NAMES:
                    inode, listed = _files_of(f"{simple}/{project}/{PAGE_NAMES[2]}", found, read)
                    read[inode] = listed
                    for file in listed:
                        found[file.path + METADATA_ENDING][state] = file.sidecar or ""
    return found


def _files_of(
    path: str, wanted: dict[str, Any], read: "dict[int, list[Listed]]"
) -> "tuple[int, list[Listed]]":
    """Return a page's inode and which of the wanted sidecars it lists; states share their unchanged
    pages.
    """
    with os.fdopen(open_plain(path), "rb") as file:
        inode = os.fstat(file.fileno()).st_ino
        if inode in read:
            return inode, read[inode]
        listed = parse_page(file.read())
    return inode, [
        f for f in listed if f.sidecar is not None and f.path + METADATA_ENDING in wanted
    ]


def place_blobs(root: Root, work: Work, manifest: Manifest) -> None:
    """Move blobs that were judged into the tree; they are durable when this returns."""
    if not is_there(work.files):
        return
    moving = [item for item in manifest.blobs if is_there(f"{work.path}/{item.path}")]
    # Durable before the first file moves: a failed sync is reported only once.
    root.replace(work.placed, "".join(f"{item.sha256}  {item.path}\n" for item in moving).encode())
    moved: list[str] = []
    _merge(work.files, root.files, moved)
    root.sync(*moved)
    os.unlink(work.placed)


def _merge(source: str, target: str, moved: list[str]) -> None:
    """Move a directory's contents into another; a directory that is not there yet goes in one
    rename.

    ``moved`` gets the path of each file or directory that was moved.
    """
    with os.scandir(source) as found:
        entries = list(found)
    for entry in entries:
        path = f"{target}/{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            os.replace(entry.path, path)
            moved.append(path)
            continue
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            os.rename(entry.path, path)
            moved.append(path)
            continue
        if not stat.S_ISDIR(mode):
            raise OSError(errno.ENOTDIR, "is no directory: move it away", path)
        _merge(entry.path, path, moved)


def renew_placed(root: Root) -> None:
    """Write again, as new files, the files that an earlier run placed and may not have made
    durable.

    A file whose bytes are lost by now leaves the tree: it is unpacked again.
    """
    for folder in root.staged(_STAGED):
        listed = f"{folder}/{_PLACED}"
        if not is_there(listed):
            continue
        lines = b"".join(_blocks(listed)).decode().splitlines()
        matches = [match for match in map(_PLACED_LINE.match, lines) if match]
        renewed = [match for match in matches if _write_again(root, *match.groups())]
        root.sync(*(f"{root.public}/{match.group(2)}" for match in renewed))
        os.unlink(listed)


def _write_again(root: Root, sha256: str, place: str) -> bool:
    """Replace a file of the tree by a copy; return whether it is there and whole."""
    path = f"{root.public}/{place}"
    if not is_there(path):
        return False
    temporary = root.temporary("file")
    shutil.copyfile(path, temporary, follow_symlinks=False)
    if os.path.islink(temporary) or hash_file(temporary)[0] != sha256:
        remove_tree(path)
        return False
    os.replace(temporary, path)
    return True


def _is_there(path: str, size: Optional[int]) -> bool:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(found.st_mode) and size in {None, found.st_size}


def build_state(root: Root, work: Work, base: Optional[Applied], manifest: Manifest) -> None:
    """Make the new state's pages below the work's directory: hard links to the base's pages, and
    the bundle's own.
    """
    remove_tree(work.state)
    simple = f"{work.state}/simple"
    _make_parents(f"{simple}/")
    os.symlink("../../files", f"{work.state}/files")
    changed: dict[str, list[Item]] = {}
    for item in manifest.pages:
        changed.setdefault(item.path[len("simple/") :].rpartition("/")[0], []).append(item)
    left = {*changed, *manifest.removed}
    if base is not None:
        try:
            _link_unchanged(f"{root.state(base.name)}/simple", simple, left)
        except OSError as exc:
            raise Rejected(
                f"the state {base.name} is damaged ({exc}): run --check,"
                " and carry the list back for a repair"
            ) from exc
    for project, items in changed.items():
        directory = f"{simple}/{project}" if project else simple
        make_directory(directory)
        for item in items:
            link_or_copy(work.target(item), f"{directory}/{item.path.rpartition('/')[2]}")


def _link_unchanged(base: str, simple: str, left: set[str]) -> None:
    if "" not in left:
        for name in PAGE_NAMES:
            link_or_copy(f"{base}/{name}", f"{simple}/{name}")
    for project in os.listdir(base):
        if project in PAGE_NAMES or project in left:
            continue
        os.mkdir(f"{simple}/{project}")
        for name in PAGE_NAMES:
            link_or_copy(f"{base}/{project}/{name}", f"{simple}/{project}/{name}")


class Listing:
    """The files that the pages of kept states list: hashes of paths, since paths themselves take
    much memory.

    Two paths with one hash would keep a blob that nobody lists: no harm.
    """

    def __init__(self) -> None:
        self.paths: dict[int, int] = {}
        self.inodes: set[int] = set()

    def add(self, path: str, label: Union[str, int, None] = None) -> bool:
        """Add a path with its size or sha256 on a page; False when the last page listed the
        same.
        """
        key, listed = hash(path), hash(label)
        if self.paths.get(key, ~listed) == listed:
            return False
        self.paths[key] = listed
        return True


class Listed(NamedTuple):
    """A file as a page lists it; ``sidecar``: the digest of its metadata, "" where the page does
    not list it.
    """

    path: str
    sha256: str
    size: int
    sidecar: Optional[str]


def parse_page(data: bytes, project: str = "", *, is_new: bool = False) -> list[Listed]:
    """Return the files that a project's JSON page lists. Raises ``FormatError``, also for a link
    out of the tree.

    ``project``: whose page it must be. ``is_new``: it was never judged before.
    """
    try:
        page = _read_page(data, is_new=is_new)
        found = [_listed(file) for file in page["files"]]
        if is_new:
            _check_keys(page, page.get("meta"), page["files"])
        if project and _normalised(page["name"]) != project:
            raise ValueError(f"it is the page of {page['name']!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise FormatError(f"no page of an index: {shown(str(exc))}") from exc
    return found


class _Ambiguous(dict[str, Any]):
    """An object in which a key stands twice: clients differ in which of them they take."""


def _read_page(data: bytes, *, is_new: bool) -> Any:
    """Return a JSON page, in UTF-8 and no other encoding. Raises ``ValueError``."""
    text = data.decode("utf-8")
    return (
        json.loads(text, object_pairs_hook=_marked, parse_constant=_no_number)
        if is_new
        else json.loads(text)
    )


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _Ambiguous(value)


def _check_keys(page: Any, meta: Any, items: list[dict[str, Any]]) -> None:
    """Raise ``FormatError`` where a key that clients read stands twice."""
    inner = [value for item in items for key, value in item.items() if key in _READ_OBJECTS]
    if any(isinstance(value, _Ambiguous) for value in (page, meta, *items, *inner)):
        raise FormatError("a key stands twice in an object")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _listed(file: dict[str, Any]) -> Listed:
    link = _LINK.match(file["url"])
    sha256 = file["hashes"]["sha256"]
    name = unquote(link.group(2), errors="strict") if link else ""
    if (
        not link
        or link.group(1) != f"files/{sha256[:2]}/{sha256[2:4]}/{sha256}/"
        or not is_plain_name(name)
    ):
        raise ValueError(f"the link {file['url']!r} does not lead to a blob")
    metadata = file.get("core-metadata", False)
    if name != file.get("filename", name) or any(
        file.get(key, metadata) not in (False, metadata) for key in _OLDER_NAMES
    ):
        raise ValueError(f"{name!r} has another name or other metadata elsewhere on the page")
    return Listed(link.group(1) + name, sha256, _count(file["size"], name), _sidecar_of(metadata))


def _sidecar_of(metadata: Any) -> Optional[str]:
    """Return the sha256 of a file's metadata: empty where none is listed, None without metadata."""
    if metadata is False:
        return None
    return str(metadata["sha256"]) if isinstance(metadata, dict) else ""


_OLDER_NAMES = ("dist-info-metadata", "data-dist-info-metadata", "data-core-metadata")
_READ_OBJECTS = frozenset({"hashes", "core-metadata", *_OLDER_NAMES})
_HTML_TOKEN = re.compile(
    r'<a href="([^"&<>]*)"((?: data-[a-z-]+="[^"<>]*")*)>([^<]*)</a>(?:<br ?/?>)?\s*'
    r"|[^<]+|<!DOCTYPE html>|<!--[^<>]*-->|<title>[^<]*</title>"
    r"|</?(?:html|head|body|h1|p|br)>|<br ?/>"
    r'|<html lang="[a-z-]+">|<meta charset="[uU][tT][fF]-8" ?/?>'
    r'|<meta name="[a-z:-]+" content="[^"<>]*" ?/?>'
)
_HTML_LINK = re.compile(
    r"\.\./\.\./(files/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64}/)([^/?#]+)#sha256=([0-9a-f]{64})\Z"
)
_HTML_METADATA = re.compile(r' data-(?:core|dist-info)-metadata="([^"]*)"')


def parse_html(data: bytes) -> list[tuple[str, str, str]]:
    """Return the links of a page, their ``data-`` attributes as text, and the text that people
    read. Raises ``FormatError``.

    Only forms that a renderer of this program has ever written are accepted: no script, no style,
    no frame, no form, nothing that a browser or an installer could take for something else.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise FormatError("the page is not UTF-8") from exc
    found = []
    at = 0
    for token in _HTML_TOKEN.finditer(text):
        if token.start() != at:
            break
        at = token.end()
        if token.group(1) is not None:
            found.append((token.group(1), token.group(2), html.unescape(token.group(3)).strip()))
    if at != len(text) or "\0" in text:
        raise FormatError(
            f"the page has something else than links and plain text: {shown(text[at : at + 60])}"
        )
    return found


def check_html(data: bytes, listed: Sequence[Listed]) -> None:
    """Raise ``FormatError`` unless a project's HTML page names the same files as its JSON page,
    with the same digests.
    """
    expected = {file.path: file for file in listed}
    # A link that is not encoded leads nowhere else in the tree: at worst to nothing.
    plain = {f"../../{file.path}#sha256={file.sha256}": file for file in listed}
    found = set()
    for href, labels, text in parse_html(data):
        link = _HTML_LINK.match(href)
        path = link.group(1) + unquote(link.group(2), errors="replace") if link else ""
        file = plain.get(href) or expected.get(path)
        if file is None or not href.endswith(f"#sha256={file.sha256}"):
            raise FormatError(f"the HTML links to {shown(href)}, which the JSON does not list")
        if text != file.path.rpartition("/")[2]:
            raise FormatError(f"the HTML shows {shown(text)} for a link to {shown(file.path)}")
        for metadata in _HTML_METADATA.findall(labels):
            if file.sidecar is None or metadata != (
                f"sha256={file.sidecar}" if file.sidecar else "true"
            ):
                raise FormatError(
                    f"the HTML has other metadata for {shown(file.path)} than the JSON"
                )
        found.add(file.path)
    if len(found) < len(expected):
        raise FormatError(f"the HTML lists {len(found)} files, the JSON {len(expected)}")


def check_root(data: bytes, projects: Sequence[str], *, is_json: bool) -> None:
    """Raise ``FormatError`` unless the root page lists exactly the projects that are there."""
    try:
        if is_json:
            page = _read_page(data, is_new=True)
            named = [_normalised(item["name"]) for item in page["projects"]]
            _check_keys(page, page.get("meta"), page["projects"])
        else:
            links = [(_PROJECT_LINK.match(href), text) for href, _, text in parse_html(data)]
            named = [_named_by(link, text) for link, text in links]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise (
            exc
            if isinstance(exc, FormatError)
            else FormatError(f"no page of an index: {shown(str(exc))}")
        ) from exc
    if differing := sorted(set(named) ^ set(projects))[:3]:
        raise FormatError(f"lists other projects than have pages: {shown(', '.join(differing))}")


def _named_by(link: "Optional[re.Match[str]]", text: str) -> str:
    """Return the project that a link of the root page names; empty where link and text differ."""
    if link is None or link.group(1) != _normalised(text):
        return ""
    return str(link.group(1))


_PROJECT_LINK = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)/\Z")


def survey(simple: str, listing: Listing, tree: Tree, changed: set[str]) -> tuple[str, list[str]]:
    """Read every page of a state; return the list of its pages, and the faults.

    A fault: a page that can't be read or is another than its name says, each file that a page lists
    and that will not lie in the tree, and each sidecar that will have another sha256 than its page
    says. Pages that the bundle does not bring (``changed``) were judged with their own bundle; of
    them only links are read.
    """
    lines: list[str] = []
    problems: list[str] = []
    projects = sorted(name for name in os.listdir(simple) if name not in PAGE_NAMES)
    for project in ["", *projects]:
        # JSON first: the others are compared with it.
        known: dict[tuple[int, bool], str] = {}
        listed: Optional[list[Listed]] = None
        for name in reversed(PAGE_NAMES):
            path = f"{project}/{name}" if project else name
            is_json = name == PAGE_NAMES[2]
            try:
                descriptor = open_plain(f"{simple}/{path}")
                with os.fdopen(descriptor, "rb", buffering=0) as file:
                    key = (os.fstat(descriptor).st_ino, is_json)
                    if key not in known:
                        data = file.read()
                        known[key] = hashlib.sha256(data).hexdigest()
                        if not project:
                            check_root(data, projects, is_json=is_json)
                        elif is_json:
                            listing.inodes.add(key[0])
                            listed = parse_page(data, project, is_new=f"simple/{path}" in changed)
                        elif listed is not None and f"simple/{path}" in changed:
                            check_html(data, listed)
            except (OSError, FormatError) as exc:
                problems.append(f"simple/{path}: {exc}")
                continue
            if is_json and listed is not None:
                problems += _survey_files(
                    listed, listing, tree, is_changed=f"simple/{path}" in changed
                )
            lines.append(f"{known[key]}  simple/{path}\n")
    lines.sort()
    return "".join(lines), problems


def _survey_files(
    files: list[Listed], listing: Listing, tree: Tree, *, is_changed: bool
) -> Iterator[str]:
    for file in files:
        if listing.add(file.path, file.size) and not tree.has(file.path, file.size):
            yield f"{shown(file.path)}: is listed and not there"
        sidecar = file.path + METADATA_ENDING
        if file.sidecar is None:
            continue
        if listing.add(sidecar, file.sidecar) and not tree.has(sidecar, None):
            yield f"{shown(sidecar)}: is listed and not there"
        elif (
            file.sidecar
            and (is_changed or sidecar in tree.sidecars)
            and tree.sidecar(sidecar) != file.sidecar
        ):
            yield f"{shown(sidecar)}: is listed with another sha256 than the one that came"


def apply_update(
    root: Root, work: Work, record: Optional[Record], entry: Applied, manifest: Manifest
) -> Listing:
    """Put the new state in place, whole, next to the served one; return the files that it lists.

    All of it is judged before anything reaches ``public/``: a bundle that is rejected changes
    nothing there.
    """
    tree = judge_blobs(root, work, record, manifest)
    build_state(root, work, record.last if record and manifest.base is not None else None, manifest)
    listing = Listing()
    text, problems = survey(
        f"{work.state}/simple", listing, tree, {item.path for item in manifest.pages}
    )
    if problems:
        hint = [] if len(problems) <= _SHOWN else [f"… and {len(problems) - _SHOWN} more"]
        raise Rejected(
            *problems[:_SHOWN], *hint, "the tree is damaged, or the bundle incomplete: run --check"
        )
    if hashlib.sha256(text.encode()).hexdigest() != entry.state:
        raise Rejected(
            "the pages are not those that the near side has: a page here is damaged; run --check"
        )
    place_blobs(root, work, manifest)
    state = root.state(entry.name)
    if is_there(state):
        # Of a run that was killed before it was recorded.
        os.rename(state, root.temporary("dropped"))
    os.rename(work.state, state)
    root.replace(root.page_list(entry.name), text.encode())
    root.sync(state)
    return listing


def switch(root: Root, name: str) -> None:
    """Serve a state, from one moment to the next."""
    link = root.temporary("link")
    os.symlink(f"snapshots/{name}/simple", link)
    os.replace(link, root.simple)
    sync_directory(root.public)


def state_name(root: Root, manifest: Manifest, digest: str, record: Optional[Record]) -> str:
    """Return the directory's name for a bundle's state: one that no kept state has, of this chain
    or an older one.

    Without a record each state that is there is kept until the new one is served.
    """
    plain = name = f"bundle-{manifest.sequence:06d}"
    taken = {*kept_states(root, record), live_name(root)}
    while name in taken:
        name = f"{plain}-{digest[:8]}"
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return name


# --- sweeping
# --------------------------------------------------------------------------------------------------


def sweep(root: Root, record: Record, listing: Optional[Listing], talk: Talk) -> Record:
    """Remove states that are no longer kept, and blobs that no kept state lists; return the record
    without its mark.

    ``listing``: the files that the newest state lists, where they are known already. While a kept
    page can't be read no blob goes.
    """
    kept = {entry.name for entry in record.applied}
    for name in os.listdir(root.snapshots):
        if _STATE_NAME.match(name) and name not in kept:
            # Out of sight first: a state whose blobs go must not be served any more.
            dropped = root.temporary("dropped")
            os.rename(root.state(name), dropped)
            sync_directory(root.snapshots)
            remove_tree(dropped)
    for name in os.listdir(root.states):
        for ending in (".sha256", ".proof.json"):
            if name.endswith(ending) and name[: -len(ending)] not in kept:
                os.unlink(f"{root.states}/{name}")
    found = listing or Listing()
    try:
        for entry in record.applied if listing is None else record.applied[:-1]:
            _add_listed(f"{root.state(entry.name)}/simple", found)
    except (OSError, FormatError) as exc:
        talk.print_line(
            f"a kept page can't be read, so no old file was deleted: {exc}; run --check"
        )
        return record
    _sweep_files(root.files, "files", found)
    done = record._replace(sweep=False)
    save_record(root, done)
    return done


def _add_listed(simple: str, listing: Listing) -> None:
    for project in os.listdir(simple):
        path = f"{simple}/{project}/index.v1_json"
        if project in PAGE_NAMES or os.lstat(path).st_ino in listing.inodes:
            continue
        with os.fdopen(open_plain(path), "rb") as file:
            listing.inodes.add(os.fstat(file.fileno()).st_ino)
            for listed in parse_page(file.read()):
                listing.add(listed.path)
                if listed.sidecar is not None:
                    listing.add(listed.path + METADATA_ENDING)


def _sweep_files(directory: str, shown_path: str, listing: Listing) -> bool:
    """Remove unlisted blobs below a directory, and directories that become empty; return whether it
    is empty now.
    """
    left = 0
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        path = f"{shown_path}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if _sweep_files(entry.path, path, listing):
                os.rmdir(entry.path)
            else:
                left += 1
        elif (
            entry.is_file(follow_symlinks=False)
            and hash(path) not in listing.paths
            and _BLOB.match(path)
        ):
            os.unlink(entry.path)
        else:
            # Listed, or nothing that this program could have written.
            left += 1
    return not left


# --- mending
# --------------------------------------------------------------------------------------------------


def load_page_list(root: Root, entry: Applied) -> Optional[dict[str, str]]:
    """Return path -> sha256 of a state's pages; None when the list is missing or damaged."""
    try:
        data = b"".join(_blocks(root.page_list(entry.name)))
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != entry.state:
        return None
    return {
        match.group(2): match.group(1)
        for match in map(_HASH_LINE.match, data.decode().splitlines())
        if match
    }


def _blocks(path: str) -> Iterator[bytes]:
    with os.fdopen(open_plain(path), "rb") as file:
        while block := file.read(_CHUNK):
            yield block


def find_pages(root: Root, entry: Applied) -> dict[str, str]:
    """Return path -> path on disk of all that lies in a state's pages, links and foreign things
    too.
    """
    state = root.state(entry.name)
    found = {}
    for directory, directories, names in os.walk(f"{state}/simple"):
        links = [name for name in directories if os.path.islink(f"{directory}/{name}")]
        for name in [*names, *links]:
            path = f"{directory}/{name}"
            found[path[len(state) + 1 :]] = path
    return found


def hash_pages(root: Root, entry: Applied) -> dict[str, str]:
    """Return path -> sha256 of the files in a state's pages; an unreadable one is left out."""
    found = {}
    for path, place in find_pages(root, entry).items():
        with contextlib.suppress(OSError):
            found[path] = hash_file(place)[0]
    return found


def page_list_text(pages: dict[str, str]) -> bytes:
    """Return the list of pages whose sha256 is the state's digest."""
    return "".join(sorted(f"{sha256}  {path}\n" for path, sha256 in pages.items())).encode(
        "utf-8", "surrogateescape"
    )


def apply_repair(root: Root, work: Work, record: Record, manifest: Manifest) -> None:
    """Put whole blobs and pages in the place of damaged ones; pages that are not the state's own
    are refused.
    """
    entry = record.last
    expected = load_page_list(root, entry)
    if manifest.pages and expected is None:
        expected = {
            **hash_pages(root, entry),
            **{item.path: item.sha256 for item in manifest.pages},
        }
        if hashlib.sha256(page_list_text(expected)).hexdigest() != entry.state:
            raise Rejected(
                f"{root.page_list(entry.name)} is damaged, and this repair does not mend all pages"
            )
    for item in manifest.pages:
        if expected is not None and expected.get(item.path) != item.sha256:
            raise Rejected(f"{item.path}: is no page of {entry.name}")
    judge_blobs(root, work, record, manifest)
    place_blobs(root, work, manifest)
    if expected is not None:
        root.replace(root.page_list(entry.name), page_list_text(expected))
    for other in reversed(record.applied):
        own = expected if other is entry else load_page_list(root, other)
        for item in manifest.pages:
            if own is not None and own.get(item.path) == item.sha256:
                _replace_page(
                    root, f"{root.state(other.name)}/{item.path}", work.target(item), item
                )
        _mend_link(root, other)
    root.sync(*(root.state(other.name) for other in record.applied))


def _replace_page(root: Root, path: str, source: str, item: Item) -> None:
    with contextlib.suppress(OSError):
        if hash_file(path) == (item.sha256, item.size):
            return
    directory = os.path.dirname(path)
    make_directory(os.path.dirname(directory))
    make_directory(directory)
    temporary = root.temporary("page")
    link_or_copy(source, temporary)
    os.replace(temporary, path)


def _mend_link(root: Root, entry: Applied) -> None:
    path = f"{root.state(entry.name)}/files"
    if not _leads_to(path, "../../files"):
        temporary = root.temporary("link")
        os.symlink("../../files", temporary)
        os.replace(temporary, path)


def _leads_to(path: str, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


# --- checking
# --------------------------------------------------------------------------------------------------


class Damage(NamedTuple):
    """The fault of a file: ``missing``, ``size``, ``bytes``, or ``foreign`` (it was not
    received).
    """

    path: str
    problem: str


def check(root: Root, record: Record, talk: Talk) -> list[Damage]:
    """Hash every page of the kept states and every file that they list.

    Writes nothing but a lost list of pages.
    """
    damage: list[Damage] = []
    listing = Listing()
    whole: dict[int, str] = {}
    for entry in reversed(record.applied):
        prefix = "" if entry is record.last else f"snapshots/{entry.name}/"
        talk.print_line(f"checking {entry.name}")
        bad = dict(_check_pages_of(root, entry, whole))
        damage += [Damage(prefix + path, problem) for path, problem in bad.items()]
        if not _leads_to(f"{root.state(entry.name)}/files", "../../files"):
            damage.append(Damage(f"snapshots/{entry.name}/files", "missing"))
        # One item for each path, whatever several states say of it.
        named = {item.path for item in damage}
        found = _check_blobs_of(root, entry, bad, listing, prefix)
        damage += {item.path: item for item in found if item.path not in named}.values()
    if live_name(root) not in {entry.name for entry in record.applied}:
        damage.append(Damage("simple", "missing"))
    return damage


def _check_pages_of(root: Root, entry: Applied, whole: dict[int, str]) -> Iterator[tuple[str, str]]:
    expected = load_page_list(root, entry)
    found = find_pages(root, entry)
    if expected is None:
        expected = hash_pages(root, entry)
        if hashlib.sha256(page_list_text(expected)).hexdigest() != entry.state:
            # Which of them is wrong nobody knows any more.
            yield from ((path, "bytes") for path in sorted(found))
            return
        root.replace(root.page_list(entry.name), page_list_text(expected))
    for path in sorted(expected):
        problem = _page_problem(found.pop(path, None), expected[path], whole)
        if problem:
            yield path, problem
    yield from ((path, "foreign") for path in sorted(found))


def _page_problem(path: Optional[str], sha256: str, whole: dict[int, str]) -> str:
    """Return the fault of a page; ``whole`` remembers the inodes that were hashed for a newer
    state.
    """
    if path is None:
        return "missing"
    try:
        inode = os.lstat(path).st_ino
        if inode not in whole:
            actual, _ = hash_file(path)
            whole[inode] = actual
        return "" if whole[inode] == sha256 else "bytes"
    except OSError:
        return "bytes"


def _check_blobs_of(
    root: Root, entry: Applied, bad: dict[str, str], listing: Listing, prefix: str
) -> Iterator[Damage]:
    """Hash the files that the whole pages of a state list; a damaged page could name anything, and
    is not believed.
    """
    for path, place in sorted(find_pages(root, entry).items()):
        if path in bad or not path.endswith("/" + PAGE_NAMES[2]) or path.count("/") != 2:
            continue
        inode = os.lstat(place).st_ino
        if inode not in listing.inodes:
            listing.inodes.add(inode)
            try:
                listed = parse_page(b"".join(_blocks(place)))
            except FormatError:
                # As it was received, by an older program that let it through: no file of it can be
                # looked at.
                yield Damage(prefix + path, "bytes")
                continue
            for file in listed:
                yield from _check_blob_files(root, file, listing)


def _check_blob_files(root: Root, file: Listed, listing: Listing) -> Iterator[Damage]:
    """Hash a file and its sidecar, once for each thing that the pages of kept states say of it."""
    if listing.add(file.path, file.size):
        problem = _blob_problem(f"{root.public}/{file.path}", file.sha256, file.size)
        if problem:
            yield Damage(file.path, problem)
    sidecar = file.path + METADATA_ENDING
    if file.sidecar is not None and listing.add(sidecar, file.sidecar):
        problem = _blob_problem(f"{root.public}/{sidecar}", file.sidecar, None)
        if problem:
            yield Damage(sidecar, problem)


def _blob_problem(path: str, sha256: str, size: Optional[int]) -> str:
    try:
        found = os.lstat(path)
    except OSError:
        return "missing"
    if size is not None and stat.S_ISREG(found.st_mode) and found.st_size != size:
        return "size"
    try:
        actual, _ = hash_file(path)
    except OSError:
        return "bytes"
    return "" if sha256 in {"", actual} else "bytes"


# --- the receipt and the program itself
# --------------------------------------------------------------------------------------------------


def now() -> str:
    """Return the time as UTC text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_receipt(root: Root, record: Record, damage: Sequence[Damage]) -> dict[str, Any]:
    """Write ``receipt.json``, which is carried back, and return it."""
    last = record.last
    receipt = {
        "format": FORMAT,
        "site": record.site,
        "chain": record.chain,
        "sequence": last.sequence,
        "digest": last.digest,
        "state_digest": last.state,
        "applied_at": last.applied_at,
        "free_bytes": free_bytes(root.path),
        "damage": [item._asdict() for item in damage],
        "host": "",
    }
    root.replace(root.receipt, render_json(receipt))
    return receipt


def known_damage(root: Root, record: Record) -> list[Damage]:
    """Return the damage that the receipt of the newest state names."""
    try:
        receipt = parse_json(read_small(root.receipt, MAX_MANIFEST_BYTES))
        if receipt["digest"] == record.last.digest:
            return [Damage(str(item["path"]), str(item["problem"])) for item in receipt["damage"]]
    except (OSError, FormatError, KeyError, TypeError):
        pass
    return []


def install(root: Root, media: Sequence[Medium], manifest: Manifest, *, is_signed: bool) -> None:
    """Keep ``ROOT/receive.py`` equal to that of the newest verified bundle; else only see that it
    is there.
    """
    data = None
    if is_signed and manifest.kind == "update":
        shipped = [
            (f"{m.path}/{PROGRAM}", a)
            for m in media
            for a in manifest.attached
            if a.name == PROGRAM
        ]
        for path, attached in shipped:
            with contextlib.suppress(OSError):
                found = read_small(path, min(attached.size, MAX_PROGRAM_BYTES))
                if hashlib.sha256(found).hexdigest() == attached.sha256:
                    data = found
                    break
    try:
        installed = read_small(root.program, MAX_PROGRAM_BYTES)
    except FileNotFoundError:
        data = data or read_small(os.path.realpath(__file__), MAX_PROGRAM_BYTES)
        installed = b""
    if data is not None and data != installed:
        root.replace(root.program, data)


def install_server(root: Root, data: bytes) -> None:
    """Put ``ROOT/serve.py`` there, or replace one of an older format; it may be run by any user."""
    try:
        found = _SERVE_FORMAT.search(read_small(root.server, MAX_PROGRAM_BYTES))
    except OSError:
        found = None
    shipped = _SERVE_FORMAT.search(data)
    if shipped and (not found or int(found.group(1)) < int(shipped.group(1))):
        root.replace(root.server, data, 0o644)


# --- commands
# --------------------------------------------------------------------------------------------------


def receive(root: Root, arguments: argparse.Namespace, talk: Talk) -> dict[str, Any]:
    """Apply the bundle, or each of several in order; return the report.

    Raises ``ReceiveError`` and ``OSError``.
    """
    bundles = find_bundles(arguments.directories)
    if len(bundles) == 1:
        return _receive_one(root, bundles[0], arguments, talk)
    reports: list[dict[str, Any]] = []
    misfits: list[Misfit] = []
    for media in bundles:
        talk.print_line(f"{shown(media[0].path)}:")
        try:
            reports.append(_receive_one(root, media, arguments, talk))
        except Misfit as exc:
            # Older than the applied one, or in the place of it came a later one: that is known at
            # the end.
            misfits.append(exc)
            talk.print_line(f"passed over: {exc}")
    record = load_record(root)
    last = record.last.sequence if record and record.applied else 0
    left = [exc for exc in misfits if exc.sequence is not None and exc.sequence > last]
    if left or not reports:
        raise Rejected(*(str(exc) for exc in left or misfits))
    outcomes = [report["outcome"] for report in reports]
    return {**reports[-1], "outcome": next((o for o in outcomes if o != "unchanged"), "unchanged")}


def _receive_one(
    root: Root, media: Sequence[Medium], arguments: argparse.Namespace, talk: Talk
) -> dict[str, Any]:
    check_places(root, media)
    trust = None if arguments.trust is None else read_trust(root, media, arguments.trust)
    keygen = "" if trust is None else check_ssh_keygen(media)
    with contextlib.suppress(OSError):
        # Before anything is written; unreadable files are reported below.
        settle_site(arguments.site, load_record(root))
    with locked(root):
        prepare(root)
        renew_placed(root)
        record = recover(root, load_record(root), arguments.keep)
        site = settle_site(arguments.site, record)
        data, signers = read_manifest(root, media, trust, keygen, shown(arguments.trust or ""))
        digest = hashlib.sha256(data).hexdigest()
        try:
            manifest = parse_manifest(data)
        except FormatError as exc:
            raise Rejected(f"{shown(media[0].path)}/{BUNDLE_JSON}: {exc}") from exc
        del data
        signer = choose_signer(signers, manifest.site) if signers else ""
        talk.print_line(
            f"signed by {shown(signer)}"
            if signer
            else "NOT SIGNED: nobody knows who made this bundle"
        )
        is_fresh = not is_there(root.simple)
        is_new = judge(
            manifest, digest, record, site, new_chain=arguments.new_chain, is_fresh=is_fresh
        )
        if is_new:
            judge_time(manifest, talk, allow_expired=arguments.allow_expired)
        check_attached(media, manifest)
        proof = read_proof(media, manifest, talk.print_line)
        server = None
        if trust is not None:
            label = shown(arguments.trust or "")
            server = read_server(
                media,
                manifest,
                lambda data, signature: _find_signers(root, data, signature, trust, keygen, label),
            )
        if is_new:
            record = _apply(
                root, media, manifest, digest, record, signer, arguments.keep, talk, proof
            )
        assert record is not None
        if record.sweep:
            record = sweep(root, record, None, talk)
        if server is not None and manifest.kind == "update":
            install_server(root, server)
        return _finish(root, media, manifest, record, is_new=is_new, is_signed=bool(signer))


def _apply(
    root: Root,
    media: Sequence[Medium],
    manifest: Manifest,
    digest: str,
    record: Optional[Record],
    signer: str,
    keep: int,
    talk: Talk,
    proof: Optional[bytes],
) -> Record:
    work = Work(root, digest)
    unpack(root, work, media, manifest, talk)
    if manifest.kind == "repair":
        assert record is not None
        apply_repair(root, work, record, manifest)
        return record
    assert manifest.sequence is not None
    name = state_name(root, manifest, digest, record)
    entry = Applied(
        name, manifest.sequence, digest, manifest.state.digest, manifest.created_at, now()
    )
    talk.print_line("making the new state")
    listing = apply_update(root, work, record, entry, manifest)
    remove_tree(root.proof(name))
    if proof is not None:
        root.replace(root.proof(name), proof)
    old = record.applied if record else ()
    is_fresh = not is_there(root.simple)
    # Files that nothing lists: of a bundle that never became whole, or of states without a record.
    has_strays = record.sweep if record else not is_fresh
    has_strays = has_strays or len(root.staged(_STAGED)) > 1
    save_record(
        root, Record(manifest.site, manifest.chain, signer, old, next=entry, sweep=has_strays)
    )
    switch(root, name)
    record = commit(
        root, Record(manifest.site, manifest.chain, signer, old, sweep=has_strays), entry, keep
    )
    return sweep(root, record, listing, talk) if record.sweep else record


def _finish(
    root: Root,
    media: Sequence[Medium],
    manifest: Manifest,
    record: Record,
    *,
    is_new: bool,
    is_signed: bool,
) -> dict[str, Any]:
    install(root, media, manifest, is_signed=is_signed)
    damage = known_damage(root, record)
    if manifest.kind == "repair":
        mended = {item.path for item in (*manifest.blobs, *manifest.pages)}
        damage = [item for item in damage if item.path not in mended]
    receipt = write_receipt(root, record, damage)
    for path in root.staged(_STAGED, _TEMPORARY):
        remove_tree(path)
    outcome = "mended" if manifest.kind == "repair" else "applied"
    if not is_new:
        outcome = "unchanged"
    found = {**receipt, "outcome": outcome, "live": live_name(root), "signer": record.signer}
    return {**found, **wants_of(root)}


def run_check(root: Root, arguments: argparse.Namespace, talk: Talk) -> dict[str, Any]:
    """Hash the tree, write the list and the receipt. Raises ``Rejected`` when there is damage."""
    with _locked_record(root) as record:
        damage = check(root, record, talk)
        receipt = write_receipt(root, record, damage)
        if arguments.list is not None:
            keys = ("format", "site", "chain", "sequence", "digest", "damage")
            with open(arguments.list, "wb") as file:
                file.write(render_json({key: receipt[key] for key in keys}))
    if damage:
        lines = [f"{item.problem}: {shown(item.path)}" for item in damage[:_SHOWN]]
        more = [f"… and {len(damage) - _SHOWN} more"] if len(damage) > _SHOWN else []
        more += hurt_wants(root, record.last.name, damage)[:_SHOWN]
        if any("simple/" in item.path for item in damage):
            more.append(
                "what a damaged page lists was not checked: run --check again after the repair"
            )
        links = [item for item in damage if _is_own_link(item.path)]
        if links:
            more.append(
                f"the links that are missing are put back by --rollback {record.last.sequence}"
            )
        if len(links) < len(damage):
            carried = arguments.list or root.receipt
            more.append(f"carry {carried} to the near side, for `mirror bundle create --repair`")
        raise Rejected(*lines, *more)
    found = {**receipt, "outcome": "whole", "live": live_name(root), "signer": record.signer}
    return {**found, **wants_of(root)}


def _is_own_link(path: str) -> bool:
    return path == "simple" or (
        path.startswith("snapshots/") and path.endswith("/files") and path.count("/") == 2
    )


def run_rollback(root: Root, arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve another kept state until the next bundle comes."""
    with _locked_record(root) as record:
        live = live_name(root)
        names = [entry.name for entry in record.applied]
        if arguments.rollback == 0:
            place = names.index(live) - 1 if live in names else -1
            wanted = [record.applied[place]] if place >= 0 else []
        else:
            wanted = [entry for entry in record.applied if entry.sequence == arguments.rollback]
        if not wanted:
            kept = ", ".join(str(entry.sequence) for entry in record.applied)
            raise UsageError(f"there is no such state; kept are {kept}; served is {live}")
        entry = wanted[-1]
        if not os.path.isfile(f"{root.state(entry.name)}/simple/{PAGE_NAMES[0]}"):
            raise DiskError(f"{root.state(entry.name)} is damaged: run --check")
        for state in record.applied:
            _mend_link(root, state)
        switch(root, entry.name)
    return {**_summary(root, record), "outcome": "rolled back"}


def run_status(root: Root) -> dict[str, Any]:
    """Return the applied bundles and the served state; takes no lock."""
    record = load_record(root)
    if record is None or not record.applied:
        raise DiskError(f"nothing was received in {root.path} yet")
    return {**_summary(root, record), "outcome": "status"}


@contextlib.contextmanager
def _locked_record(root: Root) -> Iterator[Record]:
    if not is_there(root.record):
        raise DiskError(f"nothing was received in {root.path} yet")
    with locked(root):
        prepare(root)
        # A command like these keeps all its findings.
        record = recover(root, load_record(root), sys.maxsize)
        if record is None:
            raise DiskError(f"nothing was received in {root.path} yet")
        yield record


def _summary(root: Root, record: Record) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "site": record.site,
        "chain": record.chain,
        "signer": record.signer,
        "live": live_name(root),
        "applied": [entry._asdict() for entry in record.applied],
        "free_bytes": free_bytes(root.path),
        **wants_of(root),
    }


def _show(root: Root, report: dict[str, Any]) -> None:
    outcome, live = report["outcome"], report["live"]
    if outcome in {"applied", "mended", "unchanged", "whole"}:
        label = bundle_label(report["site"], report["sequence"])
        said = {
            "applied": f"{label} is applied and served",
            "mended": f"the damage named in the list is mended; the state is that of {label}",
            "unchanged": f"{label} was applied before; nothing changed; served is {live}",
            "whole": f"everything that {label} and the kept states list is whole",
        }
        print(said[outcome])
        _show_wants(report.get("wants", []))
        print(f"carry {root.receipt} back to the near side")
        return
    print(
        f"site {report['site']}, chain {report['chain'][:8]}…,"
        f" signed by {shown(report['signer']) or 'nobody'}"
    )
    for entry in report["applied"]:
        served = "  (served)" if entry["name"] == live else ""
        print(
            f"{entry['sequence']:8d}  made {entry['created_at']}  applied"
            f" {entry['applied_at']}{served}"
        )
    _show_wants(report.get("wants", []))


def _show_wants(wants: Sequence[dict[str, Any]]) -> None:
    """Print which wants install by the proof of the served state: first those that don't."""
    for result in sorted(wants, key=lambda one: bool(one["installable"]))[:_SHOWN]:
        print(describe_want(result))
    if len(wants) > _SHOWN:
        good = sum(bool(one["installable"]) for one in wants)
        print(f"in all {good} of {len(wants)} install; --status --json names each")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    report: dict[str, Any] = {}
    before = os.umask(0o022)
    try:
        report = _run(parser, arguments)
        code, reasons = 0, []
    except ReceiveError as exc:
        code, reasons = exc.code, list(exc.reasons)
    except OSError as exc:
        code, reasons = DiskError.code, [_disk_sentence(exc, arguments.root)]
    except KeyboardInterrupt:
        code, reasons = 130, ["stopped; run the same command again to go on"]
    finally:
        os.umask(before)
    for reason in reasons:
        print(f"receive: {reason}", file=sys.stderr)
    if arguments.json:
        print(
            json.dumps(
                {
                    "format": FORMAT,
                    "outcome": "failed",
                    **report,
                    "exit_code": code,
                    "reasons": reasons,
                }
            )
        )
    elif report:
        _show(Root(arguments.root), report)
    return code


def machine_target() -> str:
    """Return the ``[[target]]`` table of this machine.

    Raises ``ValueError`` where a mirror has no such target.
    """
    python = platform.python_implementation()
    if python != "CPython":
        raise ValueError(f"{python} is not CPython: a mirror has no targets for it")
    name = platform.system()
    system = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(name, "")
    machine = _machine(system)
    known = {
        "linux": ("x86_64", "aarch64", "riscv64"),
        "macos": ("x86_64", "arm64"),
        "windows": ("x86_64", "x86", "arm64"),
    }
    if machine not in known.get(system, ()):
        raise ValueError(f"{name} on {machine} is not known: a mirror has no targets for it")
    suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    release = ".".join(str(part) for part in sys.version_info[:3])
    lines = [
        "[[target]]",
        f'name = "{system}-{machine.replace("_", "-")}"',
        f'python = ["{release}{suffix}"]',
        f'platforms = ["{system}-{machine}"]',
    ]
    if system == "linux":
        lines.append(_libc_line())
    elif system == "macos":
        macos = ".".join(platform.mac_ver()[0].split(".")[:2])
        lines.append(f'macos = "{macos}"')
    return "\n".join(lines) + "\n"


def _machine(system: str) -> str:
    """Return the machine of this Python, which may have 32 bits on a machine of 64."""
    found = platform.machine().lower()
    found = {"amd64": "x86_64", "i386": "x86", "i686": "x86"}.get(found, found)
    if sys.maxsize < 2**32:
        return "x86" if found in {"x86", "x86_64"} else f"{found} with 32 bits"
    return "arm64" if system == "windows" and found == "aarch64" else found


def _libc_line() -> str:
    """Return the key of this machine's C library: glibc, or musl, whose loader prints its
    version.
    """
    with contextlib.suppress(ValueError, OSError):
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
        if found := re.match(r"glibc (\d+\.\d+)", version):
            return f'glibc = "{found[1]}"'
    loaders = [name for name in sorted(os.listdir("/lib")) if name.startswith("ld-musl-")]
    for loader in loaders:
        command = [f"/lib/{loader}"]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if found := re.search(r"Version (\d+\.\d+)", ran.stderr.decode("utf-8", "replace")):
            return f'musl = "{found[1]}"'
    raise ValueError("neither glibc nor musl is found here: write the table by hand")


class _PrintTarget(argparse.Action):
    """Print the table of this machine and exit, whatever else is given or missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: Any) -> None:
        try:
            print(machine_target(), end="")
        except ValueError as exc:
            parser.error(str(exc))
        parser.exit()


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Any]:
    root, talk = Root(arguments.root), Talk()
    commands = [
        arguments.check,
        arguments.status,
        arguments.rollback is not None,
        bool(arguments.directories),
    ]
    if sum(commands) != 1:
        parser.error("expected one of: directories with a bundle, --check, --rollback, --status")
    if arguments.list is not None and not arguments.check:
        parser.error("--list belongs to --check")
    if sys.getfilesystemencoding().lower() not in {"utf-8", "utf8"}:
        # Names would be written, and taken for unlisted ones, in other bytes than the pages link
        # to.
        raise UsageError(
            f"this Python names files in {sys.getfilesystemencoding()}, the pages in UTF-8:"
            " run it by python3 -X utf8 -I"
        )
    if not arguments.status:
        check_owner(root, arguments.words)
    if arguments.site is not None and not arguments.directories:
        settle_site(arguments.site, load_record(root))
    if arguments.check:
        return run_check(root, arguments, talk)
    if arguments.status:
        return run_status(root)
    if arguments.rollback is not None:
        return run_rollback(root, arguments)
    if (arguments.trust is None) != arguments.unsigned:
        parser.error(
            "expected --trust ALLOWED_SIGNERS (or --unsigned,"
            " and then nobody knows who made the bundle)"
        )
    return receive(root, arguments, talk)


def _disk_sentence(exc: OSError, root: str) -> str:
    named = exc.filename2 or exc.filename or root
    sentence = f"{shown(os.fsdecode(named))}: {exc.strerror or exc}"
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        sentence += "; make room and run the same command again: what was unpacked is remembered"
    return sentence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Check and apply a bundle on the far side of the gap."
    )
    add = parser.add_argument
    add(
        "directories",
        metavar="DIR",
        nargs="*",
        help="where the bundle lies; several when it is spread over media",
    )
    add("--root", required=True, help="the far tree; made when it is not there")
    add(
        "--trust",
        metavar="ALLOWED_SIGNERS",
        help="the keys that are trusted, as ssh-keygen knows them",
    )
    add(
        "--site",
        metavar="NAME",
        help="the name of this site: needed the first time, and remembered",
    )
    add("--unsigned", action="store_true", help="apply a bundle of which nobody knows who made it")
    add(
        "--new-chain",
        action="store_true",
        help="accept a full bundle that does not follow the applied one",
    )
    add(
        "--allow-expired",
        action="store_true",
        help="accept a bundle that should have been applied before",
    )
    add(
        "--keep",
        type=_positive,
        default=DEFAULT_KEEP,
        metavar="N",
        help="how many states stay (default %(default)s)",
    )
    add(
        "--check",
        action="store_true",
        help="hash everything that was received; exit code 7 when something is damaged",
    )
    add("--list", metavar="FILE", help="with --check: write the damage there, for a repair")
    add(
        "--rollback",
        type=_positive,
        nargs="?",
        const=0,
        metavar="SEQUENCE",
        help="serve the state before, or that one",
    )
    add("--status", action="store_true", help="print the applied bundles and the served one")
    table = "print the [[target]] table of this machine, for the mirror's configuration"
    add("--target", action=_PrintTarget, nargs=0, help=table)
    add("--json", action="store_true", help="print one report object on stdout")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or len(text) > 15 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal can't show are escaped.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
