"""The JSON form of the simple repository API (PEP 691, 700, 740, 792): bytes in, frozen values out.

Only ``BadPage`` and ``TooLarge`` are raised, for any bytes. A page must have ``meta`` and its list,
of API version 1.x; one file that is broken or unsafe is refused by itself, a key of the wrong type
counts as absent, and both become warnings. Information that would be lost by this is never taken
for absent: a digest, a yank, a project's status, the names of files and projects. Unknown keys are
kept, so that the additions of a later standard reach the clients.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from mirror.core.files.labels import FILE_KEYS, TEXT_LABELS
from mirror.core.files.links import (
    MAX_INTEGER,
    Base,
    Doubts,
    cause_of,
    check_api_version,
    known_status,
    parse_base,
    resolve_link,
    shown_filename,
    too_many_files,
)
from mirror.core.model import (
    Digests,
    Labels,
    ListedFile,
    ProjectMeta,
    ProjectPage,
    RefusedFile,
    RootPage,
)
from mirror.core.names import (
    MalformedDigestError,
    ProjectName,
    check_filename,
    known_digests,
    normalize_project,
    read_digests,
)
from mirror.core.pages.flat import ANY
from mirror.core.pages.page_cost import (
    MAX_FILE_BYTES,
    MAX_META_BYTES,
    MAX_VALUE_BYTES,
    MAX_VERSIONS_BYTES,
    Body,
    check_json_items,
    check_json_root,
    too_many_projects,
)
from mirror.core.pages.root_links import FLAT_CAUSE
from mirror.core.pages.unknown_keys import canonical_json
from mirror.errors import BadPage, Reason, UnsafeName, shown_text

MAX_DEPTH = 32
"""Maximum nesting of an unknown value: every reader of the mirror's pages must be able to read
it.
"""

_PAGE_KEYS = frozenset({"meta", "name", "files", "versions", "project-status"})
_META_KEYS = frozenset({"api-version", "_last-serial"})
_METADATA_KEYS = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")
_LONGEST_ITEM = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NORMALIZED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z", re.ASCII)
_NO_LABELS = Labels()
_UNREADABLE = (
    ValueError,
    RecursionError,
)  # msgspec's errors and UnicodeDecodeError are ValueErrors

_T = TypeVar("_T")
_object_of_any = msgspec.json.Decoder(dict[str, Any]).decode


class _TooLongError(ValueError):
    """The entry of one file on a page is too long."""


class _Item(msgspec.Struct, gc=False):
    """One project of a root page."""

    name: str
    serial: int | None = msgspec.field(default=None, name="_last-serial")


class _RootParts(msgspec.Struct, gc=False):
    """The used parts of a root page; all others are skipped, and take no memory."""

    meta: msgspec.Raw = msgspec.Raw(b"")
    projects: msgspec.Raw = msgspec.Raw(b"")
    name: msgspec.Raw = msgspec.Raw(b"")
    files: msgspec.Raw = msgspec.Raw(b"")


def parse_project_page(
    body: Body, *, project: ProjectName | None, url: str, max_files: int = 1_000_000
) -> ProjectPage:
    """Read a project's page; ``project``: None for a flat page, which has files of many.

    ``url`` is the page's final one, for relative links. Raises ``BadPage``.
    """
    page, meta, doubts = _open_page(body, url)
    if project is None:
        project = ANY
    else:
        _check_name(page.get("name"), project=project, url=url)
    listed = _part(page, "files", list[msgspec.Raw], url=url)
    if len(listed) > max_files:
        raise too_many_files(url, max_files)
    files, refused = _read_files(listed, _base_of(url), doubts)
    is_whole = all(file.name for file in refused)
    if not is_whole:
        doubts.add(
            "it lists files without a name that can be read:"
            " nothing is removed because of this page"
        )
    return ProjectPage(
        name=project,
        files=files,
        meta=_read_project_meta(page, meta, doubts, url=url),
        serial=_serial(meta.get("_last-serial")),
        refused=refused,
        is_whole=is_whole,
        warnings=doubts.warnings(),
    )


def parse_root_page(body: Body, *, url: str, max_projects: int = 5_000_000) -> RootPage:
    """Read an index's root page. Raises ``BadPage``, ``TooLarge``."""
    check_json_root(body, url=url, max_projects=max_projects)
    page, meta, doubts = _open_page(body, url, only=_RootParts)
    if "files" in page and page.keys().isdisjoint({"projects", "name"}):
        raise BadPage(url=url, cause=FLAT_CAUSE)
    try:
        items = _decode(page.get("projects", b"null"), list[_Item])
        unreadable = 0
    except _UNREADABLE:
        check_json_items(page.get("projects", b""), url=url)
        items, unreadable = _readable_items(_part(page, "projects", list[msgspec.Raw], url=url))
    if len(items) > max_projects:
        raise too_many_projects(url, max_projects)
    broken = unreadable
    if unreadable:
        doubts.add(
            f"it lists {unreadable} projects without a name that can be read:"
            " nothing is removed because of it"
        )
    projects: dict[ProjectName, int | None] = {}
    items.reverse()
    # emptied on the way: of a large index, the list and the mapping together would be the peak of
    # memory
    while items:
        item = items.pop()
        try:
            name = (
                ProjectName(item.name)
                if _is_normalized(item.name)
                else normalize_project(item.name)
            )
        except UnsafeName:
            broken += 1
            continue
        serial = _serial(item.serial)
        known = projects.setdefault(name, serial)
        if serial is not None and (known is None or known < serial):
            projects[name] = serial
    return RootPage(
        projects=projects,
        serial=_serial(meta.get("_last-serial")),
        refused=broken,
        unreadable=unreadable,
        warnings=doubts.warnings(),
    )


def _open_page(
    body: Body, url: str, *, only: type[_RootParts] | None = None
) -> tuple[dict[str, msgspec.Raw], dict[str, Any], Doubts]:
    """Return the page's top-level keys, still undecoded, and its ``meta``.

    Raises ``BadPage`` unless it is of API 1.x.
    """
    # A view: to cut the mark off a large page would take the memory of another one.
    text = memoryview(body)[len(_BYTE_ORDER_MARK) :] if body.startswith(_BYTE_ORDER_MARK) else body
    try:
        if only is None:
            page = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        else:
            parts = msgspec.structs.asdict(msgspec.json.decode(text, type=only))
            page = {key: raw for key, raw in parts.items() if bytes(raw)[:1]}
    except _UNREADABLE as exc:
        raise BadPage(url=url, cause=str(exc)) from exc
    if _length(page.get("meta", b"")) > MAX_META_BYTES:
        raise BadPage(url=url, cause=f"its 'meta' is longer than {MAX_META_BYTES} bytes")
    meta = _part(page, "meta", dict[str, Any], url=url)
    doubts = Doubts()
    version = meta.get("api-version")
    if version is None:
        doubts.add("the page does not say its API version; it was read as 1.0")
    elif isinstance(version, str):
        doubts.add(check_api_version(version, url=url))
    else:
        raise BadPage(url=url, cause="its API version is not a text such as '1.0'")
    return page, meta, doubts


def _decode(raw: msgspec.Raw | bytes, kind: Any) -> Any:
    return msgspec.json.decode(raw, type=kind)


def _part(page: Mapping[str, msgspec.Raw], key: str, kind: type[_T], *, url: str) -> _T:
    """Return a part that a page can't do without."""
    if key not in page:
        raise BadPage(url=url, cause=f"it has no {key!r}")
    try:
        part: _T = _decode(page[key], kind)
    except _UNREADABLE as exc:
        raise BadPage(url=url, cause=f"its {key!r} can't be read: {exc}") from exc
    return part


def _base_of(url: str) -> Base:
    try:
        return parse_base(url)
    except ValueError as exc:
        raise BadPage(url=url, cause=f"its own URL can't be used: {exc}") from exc


def _check_name(raw: msgspec.Raw | None, *, project: ProjectName, url: str) -> None:
    """Refuse the page of another project: an answer that was mixed up on the way."""
    try:
        name: str | None = _decode(b"null" if raw is None else raw, str | None)
        other = project if name is None else normalize_project(name)
    except (*_UNREADABLE, UnsafeName) as exc:
        raise BadPage(url=url, cause=f"its name can't be read: {exc}") from exc
    if other != project:
        raise BadPage(
            url=url, cause=f"it is the page of {shown_text(name or '')!r}, not of {project!r}"
        )


def _serial(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_INTEGER else None


def _is_normalized(name: str) -> bool:
    return len(name) <= 200 and _NORMALIZED.match(name) is not None


def _readable_items(listed: list[msgspec.Raw]) -> tuple[list[_Item], int]:
    """Return the projects that can be read, one by one, and how many can't."""
    items: list[_Item] = []
    for raw in listed:
        try:
            item = _object_of_any(raw) if _length(raw) <= _LONGEST_ITEM else {}
        except _UNREADABLE:
            continue
        name = item.get("name")
        if isinstance(name, str):
            items.append(_Item(name=name, serial=_serial(item.get("_last-serial"))))
    return items, len(listed) - len(items)


def _read_files(
    listed: list[msgspec.Raw], base: Base, doubts: Doubts
) -> tuple[tuple[ListedFile, ...], tuple[RefusedFile, ...]]:
    files: list[ListedFile] = []
    refused: list[RefusedFile] = []
    for raw in listed:
        item: dict[str, Any] = {}
        try:
            item = _read_item(raw, doubts)
            files.append(_read_file(item, check_filename(_text(item, "filename")), base, doubts))
        except (*_UNREADABLE, UnsafeName) as exc:
            is_bad = isinstance(exc, MalformedDigestError | _TooLongError)
            reason = Reason.BAD_FILE if is_bad else Reason.UNSAFE_NAME
            item = item or _readable_keys(raw)
            name = shown_filename(item.get("filename"))
            labels = _read_labels(item, doubts) if item else None
            refused.append(
                RefusedFile(name=name, cause=cause_of(exc), reason=reason, labels=labels)
            )
    return tuple(files), tuple(refused)


def _read_item(raw: msgspec.Raw, doubts: Doubts) -> dict[str, Any]:
    """Return the keys of a file; of one that is too long the known ones. Raises ``ValueError``."""
    if _length(raw) <= MAX_FILE_BYTES:
        return _object_of_any(raw)
    parts = _decode(raw, dict[str, msgspec.Raw])
    long = next(
        (key for key in FILE_KEYS & parts.keys() if _length(parts[key]) > MAX_VALUE_BYTES), None
    )
    if long is not None:
        raise _TooLongError(f"its {long} is longer than {MAX_VALUE_BYTES} bytes")
    if not parts.keys() <= FILE_KEYS:
        doubts.count(f"the unknown keys of a file, longer than {MAX_FILE_BYTES} bytes")
    return {key: _decode(value, Any) for key, value in parts.items() if key in FILE_KEYS}


def _readable_keys(raw: msgspec.Raw) -> dict[str, Any]:
    """Return the keys of an object that can't be read as a whole, such as one with a number that is
    too large.
    """
    found: dict[str, Any] = {}
    is_long = _length(raw) > MAX_FILE_BYTES
    with contextlib.suppress(*_UNREADABLE):
        for key, value in _decode(raw, dict[str, msgspec.Raw]).items():
            if is_long and (key not in FILE_KEYS or _length(value) > MAX_VALUE_BYTES):
                if key == "yanked":
                    found[key] = True  # a reason that is too long is still a warning
                continue
            with contextlib.suppress(*_UNREADABLE):
                found[key] = _decode(value, Any)
    return found


def _length(raw: msgspec.Raw | bytes) -> int:
    return len(memoryview(raw))


def _read_file(item: dict[str, Any], filename: str, base: Base, doubts: Doubts) -> ListedFile:
    hashes = _optional(item, "hashes", _object, doubts)
    return ListedFile(
        filename=filename,
        url=resolve_link(base, _text(item, "url")),
        digests=read_digests(hashes.items()) if hashes else (),
        size=_optional(item, "size", _size, doubts),
        labels=_read_labels(item, doubts),
        metadata=_read_metadata(item, doubts),
    )


def _text(item: Mapping[str, object], key: str) -> str:
    """Return a text that a file can't do without."""
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"it is listed without a {key}")
    return value


def _read_labels(item: dict[str, Any], doubts: Doubts) -> Labels:
    texts = {
        name: _optional(item, label.key, label.read, doubts) for name, label in TEXT_LABELS.items()
    }
    labels = Labels(
        **texts,
        yanked=_read_yanked(item.get("yanked"), doubts),
        extra="{}" if item.keys() <= FILE_KEYS else _unknown_keys(item, FILE_KEYS, doubts),
    )
    return _NO_LABELS if labels == _NO_LABELS else labels


def _read_metadata(item: dict[str, Any], doubts: Doubts) -> Digests | None:
    """Return the core metadata from the key of PEP 714, else from the older ones of PEP 658 and
    691.
    """
    for key in _METADATA_KEYS:
        value = item.get(key)
        if value is True:
            return ()
        if isinstance(value, dict):
            return known_digests(value.items())
        if value is not None and value is not False:
            doubts.count(key)
    return None


def _read_project_meta(
    page: Mapping[str, msgspec.Raw], meta: dict[str, Any], doubts: Doubts, *, url: str
) -> ProjectMeta:
    status = _read_status(page.get("project-status"), url=url)
    unknown: dict[str, Any] = {}
    keys = page.keys() - _PAGE_KEYS
    if sum(len(key) + _length(page[key]) for key in keys) > MAX_META_BYTES:
        doubts.count(f"the unknown keys of the page, longer than {MAX_META_BYTES} bytes")
        keys = set()
    for key in keys:
        try:
            unknown[key] = _decode(page[key], Any)
        except _UNREADABLE:
            doubts.count("an unknown key of the page")
    return ProjectMeta(
        status=known_status(status.get("status") or "active"),
        status_reason=_optional(status, "reason", _string, doubts),
        versions=_optional_part(page, "versions", tuple[str, ...], doubts),
        extra=_unknown_keys(unknown, frozenset(), doubts),
        extra_meta=_unknown_keys(meta, _META_KEYS, doubts),
    )


def _read_status(raw: msgspec.Raw | None, *, url: str) -> dict[str, Any]:
    """Return the project's status (PEP 792): an unreadable one may mean that nobody must use the
    project.
    """
    if raw is not None and _length(raw) > MAX_META_BYTES:
        raise BadPage(url=url, cause=f"its project-status is longer than {MAX_META_BYTES} bytes")
    try:
        status: dict[str, Any] = (
            _decode(b"null" if raw is None else raw, dict[str, Any] | None) or {}
        )
    except _UNREADABLE as exc:
        raise BadPage(url=url, cause=f"its project-status can't be read: {exc}") from exc
    if not isinstance(status.get("status"), str | None):
        raise BadPage(url=url, cause="the status in its project-status is not a text")
    return status


def _optional_part(page: Mapping[str, msgspec.Raw], key: str, kind: Any, doubts: Doubts) -> Any:
    raw = page.get(key, b"null")
    if _length(raw) > MAX_VERSIONS_BYTES:
        doubts.count(f"{key}, longer than {MAX_VERSIONS_BYTES} bytes")
        return None
    try:
        return _decode(raw, kind | None)
    except _UNREADABLE:
        doubts.count(key)
        return None


def _optional(
    item: Mapping[str, Any], key: str, read: Callable[[Any], _T | None], doubts: Doubts
) -> _T | None:
    """Return the result of ``read`` for a key that may be absent or null; None, counted, where its
    type is wrong.
    """
    value = item.get(key)
    if value is None:
        return None
    try:
        return read(value)
    except TypeError:
        doubts.count(key)
        return None


def _string(value: object) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value if value.strip() else None


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise TypeError
    return value


def _read_yanked(value: object, doubts: Doubts) -> str | None:
    """PEP 691: a boolean, or a non-empty text with the reason.

    Any other value may still be a warning: it counts as true.
    """
    if value is None or value is False or value == "":
        return None
    if isinstance(value, str):
        return value
    if value is not True:
        doubts.count("yanked", taken_as="taken for yanked")
    return ""


def _unknown_keys(item: Mapping[str, Any], known: frozenset[str], doubts: Doubts) -> str:
    """Return the keys that are not ``known`` as canonical JSON."""
    unknown = {key: value for key, value in item.items() if key not in known}
    if not unknown:
        return "{}"
    kept = {key: value for key, value in unknown.items() if not _is_deeper(value, MAX_DEPTH)}
    if len(kept) < len(unknown):
        doubts.count(f"an unknown key nested deeper than {MAX_DEPTH} levels")
    return canonical_json(kept)


def _is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper(v, levels - 1) for v in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper(v, levels - 1) for v in value)
    return False
