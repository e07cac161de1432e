"""The HTML form of the simple repository API (PEP 503, 592, 629, 658, 714, 740, 792), and pages
that resemble it.

Only ``BadPage`` and ``TooLarge`` are raised, for any bytes. Since any web page is HTML, a page has
to prove that it is one of an index: by its repository version, or by listing at least one link that
differs from those of ordinary pages, without asking for a password. Files' names come from URLs or
from ``download``, never from the text of an anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, unquote_to_bytes

from mirror.core.files.labels import FILE_KEYS, TEXT_LABELS, TextLabel
from mirror.core.files.links import (
    MAX_INTEGER,
    Base,
    Doubts,
    cause_of,
    check_api_version,
    known_status,
    last_segment,
    parse_base,
    resolve_link,
    shown_filename,
    too_many_files,
)
from mirror.core.files.origins import PageOrigins, page_origins
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
    read_digests,
)
from mirror.core.pages.html_tags import OddDocumentError, Tag, iter_anchors, iter_tags
from mirror.core.pages.page_cost import (
    MAX_FILE_BYTES,
    PAGE_MEMORY_BYTES,
    ROOT_MEMORY_BYTES,
    Body,
    too_costly,
    too_many_projects,
)
from mirror.core.pages.root_links import DISTRIBUTION, FILE, RootLinks
from mirror.core.pages.unknown_keys import canonical_json
from mirror.errors import BadPage, Reason, UnsafeName

_FREE_LINKS = 100_000
_LINKS_PER_NAME = 4
"""How many links a root page may have for each name: to read a link costs more than to send it."""
_FILE_BYTES = 500
"""Memory of one file, in addition to its URL."""
_LARGEST_ENCODED_BYTES = 128 << 20
"""Maximum length of a page that is not in UTF-8: while it is recoded it takes several times its
length.
"""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BASE = re.compile(rb"<base[\s/>]", re.IGNORECASE)
_SERIAL = re.compile(rb"<!--\s*SERIAL\s+([0-9]{1,19})\s*-->\s*\Z", re.IGNORECASE)
_SCHEME_WITHOUT_HOST = re.compile(
    r"\s*(?!https?:)[a-z][a-z0-9+.-]*:(?!//)", re.IGNORECASE | re.ASCII
)
_VERSION_CONTROL = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_END = re.compile(rb"</html\s*>", re.IGNORECASE)
_COMMENTS = re.compile(rb"\s*(?:<!--(?:[^-]|-(?!->))*-->\s*)*\Z")
_MAX_OTHERS = 10_000
_END_BYTES = 64 * 1024
"""A comment behind ``</html>`` may be as long as this."""
_CUT = (
    "it may have been cut: it came without a length and has no </html>,"
    " so that nothing is removed because of it"
)
_VERSION_META = "pypi:repository-version"
_STATUS_META = "pypi:project-status"
_REASON_META = "pypi:project-status-reason"
_METAS = frozenset({_VERSION_META, _STATUS_META, _REASON_META})

# A charset is an unchecked header; some of Python's codecs are slow, or no charsets at all.
_CHARSETS = frozenset(
    {
        "us-ascii",
        "ascii",
        "iso-8859-1",
        "latin-1",
        "iso-8859-2",
        "iso-8859-15",
        "utf-16",
        "utf-16le",
        "utf-16be",
    }
    | {f"windows-{n}" for n in range(1250, 1259)}
    | {
        "koi8-r",
        "koi8-u",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "euc-jp",
        "euc-kr",
        "shift_jis",
        "iso-2022-jp",
    }
)


class _Head:
    """The attributes of the whole page, collected from its tags as they pass."""

    __slots__ = ("asks_password", "metas", "statuses")

    def __init__(self) -> None:
        self.metas: dict[str, str] = {}
        self.statuses: set[str] = set()
        self.asks_password = False

    def anchors(self, tags: Iterator[Tag]) -> Iterator[Mapping[str, str]]:
        """Yield the attributes of each anchor that has an ``href``; keep the other tags for
        ``check``.
        """
        for name, attributes in tags:
            if name == "a":
                if "href" in attributes:
                    yield attributes
            elif name == "meta":
                key = attributes.get("name", "").strip().lower()
                if key in _METAS:
                    self.metas.setdefault(key, attributes.get("content", ""))
                    if key == _STATUS_META and len(self.statuses) < 2:
                        self.statuses.add(known_status(attributes.get("content", "")))
            elif name == "input" and attributes.get("type", "").strip().lower() == "password":
                self.asks_password = True

    def check(self, *, url: str, lists_something: bool) -> str | None:
        """Return the version's warning.

        Raises ``BadPage`` for a page that is not one of an index.
        """
        if len(self.statuses) > 1:
            # One of them may withdraw the project.
            raise BadPage(url=url, cause="it has two different values of pypi:project-status")
        version = self.metas.get(_VERSION_META)
        if version is not None:
            return check_api_version(version, url=url)
        if self.asks_password:
            raise BadPage(
                url=url, cause="it asks for a password: the index wants to be logged in to"
            )
        if not lists_something:
            raise BadPage(url=url, cause="it lists nothing and has no repository version")
        return None


def parse_project_page(
    body: Body,
    *,
    project: ProjectName,
    url: str,
    charset: str | None = None,
    max_files: int = 1_000_000,
    has_known_end: bool = True,
) -> ProjectPage:
    """Read a project's page. ``url`` is the page's final one, for relative links. Raises
    ``BadPage``.

    ``has_known_end``: a cut would have been noticed by the length that was announced; else the page
    must end like one.
    """
    html = _as_utf8(body, charset, url=url)
    head, doubts = _Head(), Doubts()
    files: list[ListedFile] = []
    refused: list[RefusedFile] = []
    others: set[str] = set()
    kept_bytes = 0
    try:
        base = _base_of(html, url)
        for anchor in head.anchors(iter_tags(html)):
            match _read_anchor(anchor, base, doubts):
                case ListedFile() as file:
                    files.append(file)
                    kept_bytes += _FILE_BYTES + len(file.url)
                case RefusedFile() as file:
                    refused.append(file)
                case str() as name if "." in name and len(others) < _MAX_OTHERS:
                    others.add(name)
            if len(files) + len(refused) > max_files:
                raise too_many_files(url, max_files)
            if kept_bytes > PAGE_MEMORY_BYTES:
                raise too_costly(url, PAGE_MEMORY_BYTES, f"{len(files)} files")
    except OddDocumentError as exc:
        raise BadPage(url=url, cause=str(exc)) from exc
    lists_something = any(map(_is_of_index, files)) or any(
        DISTRIBUTION.search(file.name) for file in refused
    )
    doubts.add(head.check(url=url, lists_something=lists_something))
    is_cut = not has_known_end and not _has_end(html)
    doubts.add(_CUT if is_cut else None)
    return ProjectPage(
        name=project,
        files=tuple(files),
        meta=_project_meta(head.metas),
        serial=_serial(html),
        refused=tuple(refused),
        warnings=doubts.warnings(),
        is_whole=not is_cut,
        is_html=True,
        others=frozenset(others),
    )


def parse_root_page(
    body: Body,
    *,
    url: str,
    charset: str | None = None,
    index_url: str | None = None,
    origins: PageOrigins | None = None,
    has_known_end: bool = True,
    max_projects: int = 5_000_000,
) -> RootPage:
    """Read an index's root page. Raises ``BadPage``, ``TooLarge``.

    ``url`` is the page's final one, ``index_url`` the configured one, ``origins`` the allowed
    origins of the index's pages; without them the page's own are used. ``has_known_end``: as for a
    project's page.
    """
    html = _as_utf8(body, charset, url=url)
    head, doubts = _Head(), Doubts()
    base = _base_of(html, url)
    index_url = index_url or url
    origins = origins or page_origins(index_url)

    def new_links() -> RootLinks:
        return RootLinks(url=url, base=base, index_url=index_url, origins=origins)

    links = new_links()
    try:
        for number, anchor in enumerate(head.anchors(iter_tags(html))):
            if links.needs_text and number > _FREE_LINKS:
                break  # the second pass reads all of them
            _check_links(links, number, url=url, body_bytes=len(html), max_projects=max_projects)
            links.add(anchor["href"])
        if links.needs_text:
            links = new_links()
            for number, (anchor, text) in enumerate(iter_anchors(html)):
                _check_links(
                    links, number, url=url, body_bytes=len(html), max_projects=max_projects
                )
                if "href" in anchor:
                    links.add(anchor["href"], text)
        _check_links(links, 0, url=url, body_bytes=len(html), max_projects=max_projects)
    except OddDocumentError as exc:
        raise BadPage(url=url, cause=str(exc)) from exc
    doubts.add(head.check(url=url, lists_something=links.lists_something))
    links.check(url)
    is_cut = not has_known_end and not _has_end(html)
    doubts.add(_CUT if is_cut else None)
    for sentence in links.warnings():
        doubts.add(sentence)
    return RootPage(
        projects=links.projects,
        addresses=links.addresses,
        serial=_serial(html),
        refused=links.refused,
        is_cut=is_cut,
        warnings=doubts.warnings(),
    )


def _check_links(
    links: RootLinks, count: int, *, url: str, body_bytes: int, max_projects: int
) -> None:
    """Raise ``TooLarge``, ``BadPage`` where a root page takes too much memory or work to be read to
    its end.
    """
    if count > _FREE_LINKS + _LINKS_PER_NAME * len(links.projects):
        cause = f"of its first {count} links only {len(links.projects)} name a project anew"
        raise BadPage(url=url, cause=cause)
    if len(links.projects) > max_projects:
        raise too_many_projects(url, max_projects)
    if body_bytes + links.kept_bytes > ROOT_MEMORY_BYTES:
        raise too_costly(
            url, ROOT_MEMORY_BYTES, f"{len(links.projects)} names in {body_bytes} bytes"
        )


def _has_end(html: Body) -> bool:
    """Return whether a document ends as a whole one does: with ``</html>``, behind it nothing but
    comments.
    """
    ends = [found.span() for found in _END.finditer(html, max(0, len(html) - _END_BYTES))]
    if not ends:
        return False
    start, end = ends[-1]
    is_in_comment = html.rfind(b"<!--", 0, start) > html.rfind(b"-->", 0, start)
    return not is_in_comment and _COMMENTS.match(html, end) is not None


def _as_utf8(body: Body, charset: str | None, *, url: str) -> Body:
    """Return the body in UTF-8, as lexbor reads it; undecodable bytes are replaced, here or by
    lexbor.
    """
    label = (charset or "").strip().lower()
    if label in _CHARSETS:
        if len(body) > _LARGEST_ENCODED_BYTES:
            found = (
                f"{len(body)} bytes in {label}, which is read below"
                f" {_LARGEST_ENCODED_BYTES} bytes only"
            )
            raise too_costly(url, ROOT_MEMORY_BYTES, found)
        return body.decode(label, "replace").encode("utf-8")
    return body.removeprefix(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else body


def _base_of(html: Body, url: str) -> Base:
    """Return the base of relative links: the first ``<base href>`` of the document, else the page's
    own URL.
    """
    try:
        base = parse_base(url)
    except ValueError as exc:
        raise BadPage(url=url, cause=f"its own URL can't be used: {exc}") from exc
    if not _BASE.search(html):
        return base
    href = next(
        (tag["href"] for name, tag in iter_tags(html) if name == "base" and "href" in tag), None
    )
    if href is None:
        return base
    try:
        return parse_base(resolve_link(base, href))
    except ValueError:
        return base


def _read_anchor(
    anchor: Mapping[str, str], base: Base, doubts: Doubts
) -> ListedFile | RefusedFile | str:
    """Return the file that an anchor lists, else the name of the link's target: a folder, a sort
    order, a page, a homepage.

    A link is a file if it has a digest or ``download``, or the name of a distribution or of a file
    that accompanies one.
    """
    href = anchor["href"].strip()
    if (
        not href
        or href[0] in "#?"
        or _SCHEME_WITHOUT_HOST.match(href)
        or _VERSION_CONTROL.match(href)
    ):
        return ""
    link, _, fragment = href.partition("#")
    digests: Digests = ()
    malformed = problem = None
    try:
        digests = _fragment_digests(fragment)
    except MalformedDigestError as exc:
        malformed = exc
    try:
        url = resolve_link(base, href)
        segment = last_segment(url)
    except ValueError as exc:
        problem, segment = exc, last_segment(link)
    name = anchor.get("download") or unquote(segment)
    is_file = "download" in anchor or digests or malformed or FILE.search(name)
    if not segment or not is_file:
        return name
    try:
        if error := problem or malformed:
            raise error
        if not anchor.get("download"):
            unquote_to_bytes(segment).decode("utf-8")
        check_filename(name)
    except (ValueError, UnsafeName) as exc:
        return _refused(name, exc, anchor, doubts)
    return ListedFile(
        filename=name,
        url=url,
        digests=digests,
        size=_size(anchor.get("data-size"), doubts),
        labels=_read_labels(anchor, doubts),
        metadata=_read_metadata(anchor, doubts),
    )


def _refused(name: str, error: Exception, anchor: Mapping[str, str], doubts: Doubts) -> RefusedFile:
    reason = Reason.BAD_FILE if isinstance(error, MalformedDigestError) else Reason.UNSAFE_NAME
    labels = _read_labels(anchor, doubts)
    return RefusedFile(
        name=shown_filename(name), cause=cause_of(error), reason=reason, labels=labels
    )


def _is_of_index(file: ListedFile) -> bool:
    """Return whether a link differs from those of an ordinary web page, such as ``help.html``."""
    return bool(file.digests) or DISTRIBUTION.search(file.filename) is not None


def _fragment_digests(fragment: str) -> Digests:
    """Return the digests of a fragment such as ``sha256=…&egg=…``; ``%3D`` and the like are decoded
    once.
    """
    return read_digests(_pairs(unquote(fragment))) if fragment else ()


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in re.split(r"[#&]", text):  # as pip reads a fragment
        algorithm, equals, digits = pair.partition("=")
        if equals:
            yield algorithm.strip(), digits.strip()


def _size(value: str | None, doubts: Doubts) -> int | None:
    """Return a file's size from ``data-size``, which is not a standard, but written by some servers
    and read by uv.
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= MAX_INTEGER:
        return int(value)
    doubts.count("data-size")
    return None


def _read_labels(anchor: Mapping[str, str], doubts: Doubts) -> Labels:
    texts = {name: _read_text(anchor, label, doubts) for name, label in TEXT_LABELS.items()}
    extra = {key: anchor[f"data-{key}"] for key in _unknown_keys(anchor)}
    kept = canonical_json(extra) if extra else "{}"
    if len(kept) > MAX_FILE_BYTES:
        doubts.count(f"the unknown attributes of a file, longer than {MAX_FILE_BYTES} bytes")
        kept = "{}"
    return Labels(**texts, yanked=anchor.get("data-yanked"), extra=kept)


def _read_text(anchor: Mapping[str, str], label: TextLabel, doubts: Doubts) -> str | None:
    text = anchor.get(label.attribute)
    if not text:
        return None
    try:
        return label.read(text)
    except TypeError:
        doubts.count(label.attribute)
        return None


def _unknown_keys(anchor: Mapping[str, str]) -> Iterator[str]:
    """Yield the names after ``data-`` of attributes that have no field of their own in the
    model.
    """
    for attribute in anchor:
        key = attribute.removeprefix("data-")
        if key and key != attribute and key not in FILE_KEYS:
            yield key


def _read_metadata(anchor: Mapping[str, str], doubts: Doubts) -> Digests | None:
    """Return the core metadata from the attribute of PEP 714, else from the older one of PEP
    658.
    """
    for attribute in ("data-core-metadata", "data-dist-info-metadata"):
        value = anchor.get(attribute, "false").strip()
        if value.lower() == "true":
            return ()
        if "=" in value:
            return known_digests(_pairs(value))
        if value.lower() != "false":
            doubts.count(attribute)
    return None


def _project_meta(metas: Mapping[str, str]) -> ProjectMeta:
    return ProjectMeta(
        status=known_status(metas.get(_STATUS_META, "")),
        status_reason=metas.get(_REASON_META) or None,
    )


def _serial(html: Body) -> int | None:
    """Return the serial that PyPI writes in a comment behind the page."""
    found = _SERIAL.search(html, max(0, len(html) - 200))
    return int(found[1]) if found and int(found[1]) <= MAX_INTEGER else None
