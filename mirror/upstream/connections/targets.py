"""URLs from an index, before they are followed: byte for byte, and only to allowed targets.

Invariants: a path or query is never re-encoded (a pre-signed URL's signature covers its bytes);
user info is cut off (an index can't make the mirror log in elsewhere); https is never downgraded.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from mirror.errors import RedirectRefused

Origin = tuple[str, str, int]
"""Scheme, lower-case host, port."""

_NOT_IN_URLS = re.compile(r"[^\x21-\x7e]+")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?\Z")


_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._~/+-]*\Z")


def origin_of(url: URL) -> Origin:
    """Return the origin, which decides whether a URL gets the credential."""
    return url.scheme, (url.raw_host or "").lower(), url.port or 0


def parse_target(text: str, *, source: str) -> URL:
    """Return an absolute http(s) URL, byte for byte.

    Raises ``RedirectRefused``, which names ``source``.
    """
    escaped = _escape(text)
    try:
        parts = urlsplit(escaped)
        if parts.scheme not in {"http", "https"}:
            raise RedirectRefused(url=source, target=text, cause="only http and https are followed")
        authority = parts.netloc.rpartition("@")[2]
        if not _AUTHORITY.match(authority):
            raise RedirectRefused(url=source, target=text, cause="it names no usable host")
        # The part after the authority is cut out of the text: joining the parsed parts again would
        # change bytes.
        path_and_query = escaped[len(parts.scheme) + len("://") + len(parts.netloc) :].partition(
            "#"
        )[0]
        target = URL(f"{parts.scheme}://{authority}{path_and_query}", encoded=True)
        origin_of(target)
    except ValueError:
        raise RedirectRefused(url=source, target=text, cause="it is not a usable URL") from None
    return target


class OwnUrls:
    """A short way for most URLs: those of one origin, without special characters in their path."""

    def __init__(self, root: URL) -> None:
        self._root = root
        self._before_path = f"{root.scheme}://{root.raw_authority}"

    def parse(self, text: str) -> URL | None:
        """Return the result of ``parse_target``, or None where the short way does not apply."""
        if not text.startswith(self._before_path):
            return None
        path = text[len(self._before_path) :]
        if not _PLAIN_PATH.match(path):
            return None
        return self._root.with_path(path, encoded=True)


def next_target(current: URL, location: str | None) -> URL:
    """Return where a redirect of ``current`` leads. Raises ``RedirectRefused``."""
    source = str(current)
    if not location:
        raise RedirectRefused(url=source, target="", cause="a redirect without a Location")
    try:
        absolute = location if urlsplit(location).scheme else urljoin(source, _escape(location))
    except ValueError:
        raise RedirectRefused(url=source, target=location, cause="it is not a usable URL") from None
    target = parse_target(absolute, source=source)
    refuse_downgrade(target, before=current)
    return target


def refuse_downgrade(target: URL, *, before: URL) -> None:
    """Raise ``RedirectRefused`` where https would lead to http."""
    if before.scheme == "https" and target.scheme != "https":
        raise RedirectRefused(url=str(before), target=str(target), cause="from https to plain http")


def _escape(text: str) -> str:
    """Return ``text`` with characters that no URL may contain percent-encoded, as browsers do;
    others are untouched.
    """
    return _NOT_IN_URLS.sub(
        lambda found: quote(found[0].encode("utf-8", "surrogateescape"), safe=""), text.strip()
    )
