"""The common parts of the JSON and the HTML form of a page: links, the API version, doubts that
become warnings.

Each link that this module returns is absolute, http or https, has a usable host, and neither user
info nor fragment. Its path and query are the index's own, byte for byte (a pre-signed URL breaks
otherwise); only characters that no URL may contain, such as a space, are percent-encoded, as
browsers do.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from functools import lru_cache
from urllib.parse import quote

import msgspec

from mirror.core.names import check_filename
from mirror.errors import BadPage, UnsafeName, shown_text

MAX_INTEGER = 2**63 - 1
"""The largest size or serial that the state can hold; a larger one is taken for none."""

MAX_LINK_LENGTH = 16_384
MAX_PORT = 65535
MAX_AUTHORITY_LENGTH = 253

KNOWN_MINOR = 4
"""The minor version of the simple repository API (1.x) that is known here."""

_STATUSES = frozenset({"active", "archived", "quarantined", "deprecated"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BLANKS = "".join(map(chr, range(33)))
_PLAIN = re.compile(r"[!#-;=?-\[\]_a-z|~]*\Z")
_KEPT_IN_PATH = "!#$%&'()*+,/:;=?@[]|~"
_KEPT_IN_QUERY = _KEPT_IN_PATH + "\\^`{}"
_LINE_BREAKS = re.compile(r"[\t\n\r]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE | re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(?::([0-9]{{0,5}}))?\Z", re.ASCII)
_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?\Z", re.ASCII)


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The URL that the links of a page are relative to, taken apart.

    Made by ``parse_base`` only.
    """

    scheme: str
    authority: str
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"{self.scheme}://{self.authority}"

    @property
    def folder(self) -> str:
        """The path up to its last slash."""
        return self.path[: self.path.rindex("/") + 1]


def parse_base(url: str) -> Base:
    """Return the parts of an absolute http(s) URL. Raises ``ValueError`` for anything else."""
    scheme, authority, tail = _split_absolute(_cleaned(url))
    path, mark, query = tail.partition("?")
    return Base(scheme=scheme, authority=authority, path=path, query=mark + query)


def resolve_link(base: Base, href: str) -> str:
    """Return the absolute target of ``href`` (RFC 3986, section 5.2).

    Raises ``ValueError`` with the reason if it has none.
    """
    link = _cleaned(href)
    if link.startswith("https://") or _SCHEME.match(link):
        scheme, authority, tail = _split_absolute(link)
        return f"{scheme}://{authority}{tail}"
    if link.startswith("//"):
        scheme, authority, tail = _split_absolute(f"{base.scheme}:{link}")
        return f"{scheme}://{authority}{tail}"
    path, mark, query = link.partition("?")
    if not path:
        return (
            f"{base.origin}{base.path}{mark}{query}"
            if mark
            else f"{base.origin}{base.path}{base.query}"
        )
    whole = path if path.startswith("/") else base.folder + path
    return f"{base.origin}{_without_dot_segments(whole)}{mark}{query}"


def last_segment(url: str) -> str:
    """Return the part after the last slash of a resolved link's path, still percent-encoded."""
    return url.partition("?")[0].rpartition("/")[2]


def is_https(url: str) -> bool:
    """Return whether ``url`` is an absolute https URL without user info and query, byte for
    byte.
    """
    if not url.startswith("https://") or "?" in url or not _PLAIN.match(url):
        return False
    try:
        _split_absolute(url)
    except ValueError:
        return False
    return "@" not in re.split(r"[/?#]", url[len("https://") :], maxsplit=1)[0]


def check_api_version(version: str, *, url: str) -> str | None:
    """Return a warning for a minor version that is not known here (PEP 629).

    Raises ``BadPage`` unless it is 1.x.
    """
    numbers = _VERSION.match(version.strip())
    if numbers is None or int(numbers[1]) != 1:
        raise BadPage(
            url=url,
            cause=f"it has the API version {shown_text(version, 40)}, and only 1.x can be read",
        )
    if int(numbers[2] or 0) <= KNOWN_MINOR:
        return None
    return (
        f"the page has the API version {numbers[0]}, newer than 1.{KNOWN_MINOR}:"
        " what is new in it may be left out"
    )


def shown_filename(listed: object) -> str:
    """Return the name of a refused file: as it is listed where it is safe, else fit to be shown;
    empty for none.
    """
    if not isinstance(listed, str) or not listed.strip():
        return ""
    try:
        return check_filename(listed)
    except UnsafeName:
        return shown_text(listed)


def known_status(status: str) -> str:
    """Return a project's status (PEP 792); a known word counts however it is written, another one
    stays as it is.
    """
    word = status.strip()
    return word.lower() if word.lower() in _STATUSES else word or "active"


def too_many_files(url: str, max_files: int) -> BadPage:
    """Return the error for a page that lists more files than the configuration allows."""
    return BadPage(
        url=url,
        cause=f"it lists more than {max_files} files; raise limits.files-per-project to allow it",
    )


def cause_of(error: Exception) -> str:
    """Return the bare cause of an error that refuses one file."""
    return shown_text(error.cause if isinstance(error, UnsafeName) else str(error))


class Doubts:
    """Counts the parts of a page that were left out, so that each kind becomes one warning however
    often it occurs.
    """

    __slots__ = ("_counts", "_sentences")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._sentences: list[str] = []

    def add(self, sentence: str | None) -> None:
        """Add a whole sentence; None is ignored."""
        if sentence is not None:
            self._sentences.append(sentence)

    def count(self, kind: str, *, taken_as: str = "left out") -> None:
        """Count one key of this ``kind`` that breaks the standards; ``taken_as``: how it was read
        instead.
        """
        self._counts[f"{kind}: not as specified, {taken_as}"] += 1

    def warnings(self) -> tuple[str, ...]:
        """Return the sentences for the log."""
        counted = (f"{sentence} ({n} times)" for sentence, n in self._counts.items())
        return (*self._sentences, *counted)


def _cleaned(href: str) -> str:
    """Return ``href`` without blanks around it and without its fragment, percent-encoded where it
    has to be.
    """
    link = href.strip(_BLANKS).partition("#")[0]
    if len(link) > MAX_LINK_LENGTH:
        raise ValueError(f"its URL is longer than {MAX_LINK_LENGTH} characters")
    if _PLAIN.match(link):
        return link
    path, mark, query = _LINE_BREAKS.sub("", link).partition("?")
    return _encoded(path, _KEPT_IN_PATH) + mark + _encoded(query, _KEPT_IN_QUERY)


def _encoded(text: str, kept: str) -> str:
    return quote(text, safe=kept, errors="surrogatepass")


def _split_absolute(link: str) -> tuple[str, str, str]:
    """Return scheme, authority and the rest, which begins with a slash."""
    scheme, _, rest = link.partition(":")
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise ValueError("it is not an http or https URL")
    if not rest.startswith("//"):
        raise ValueError("it is a URL without a host")
    authority, slash, tail = rest[2:].partition("/")
    authority, mark, query = authority.partition("?")
    if mark:
        return scheme, _checked_authority(scheme, authority), f"/?{query}{slash}{tail}"
    return scheme, _checked_authority(scheme, authority), f"/{tail}"


@lru_cache(maxsize=256)
def _checked_authority(scheme: str, authority: str) -> str:
    """Return host and port, lower-cased, without user info and default port.

    Raises ``ValueError`` for an unusable host.
    """
    bare = authority.rpartition("@")[2].lower()
    parts = _HOST.match(bare) if len(bare) <= MAX_AUTHORITY_LENGTH else None
    if parts is None or not _is_address(parts[1]):
        raise ValueError("it is a URL without a usable host")
    host, port = parts[1], int(parts[2] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= MAX_PORT:
        raise ValueError("it is a URL without a usable host")
    return host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _is_address(host: str) -> bool:
    """Return whether a bracketed host is an IPv6 address; a host without brackets is a name or
    IPv4.
    """
    if not host.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


def _without_dot_segments(path: str) -> str:
    """Return an absolute path without ``.`` and ``..`` (RFC 3986, section 5.2.4); empty segments
    stay.
    """
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)
