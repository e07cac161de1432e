"""Unknown keys of a page and of a file: passed through to JSON pages, without the secrets in their
URLs.

The standards grow, so a key that is not known here is data (PEP 691). Its URLs lose user info and
query, which may be a password or a signature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_URL = re.compile(
    r"(?:\b[A-Za-z][A-Za-z0-9+.-]*:)?//"
    # The text before the "@" and after the "?" is cut off, regardless of its content.
    r"(?:[^\s/?#@]*@)*[^\s\"<>\\?#]*(?:\?[^\s\"<>#]*)?(?:#[^\s\"<>\\]*)?"
)
_LINK_WITH_QUERY = re.compile(r"(?:\.{0,2}/[^\s?]*\?|[^\s?]+\?[^\s=]*=)\S*\Z")


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return unknown keys as a JSON object with sorted keys, its URLs without user info and
    query.
    """
    return msgspec.json.encode(without_url_secrets(value), order="sorted").decode()


def without_url_secrets(value: Any) -> Any:
    """Return a JSON value of any shape whose URLs have neither user info nor query."""
    match value:
        case str():
            return _text_without_url_secrets(value)
        case list() | tuple():
            return [without_url_secrets(inner) for inner in value]
        case Mapping():
            return {
                _text_without_url_secrets(key): without_url_secrets(inner)
                for key, inner in value.items()
            }
    return value


def without_url_secrets_json(text: str) -> str:
    """Return a stored JSON object likewise; unreadable JSON becomes an empty object."""
    try:
        return canonical_json(msgspec.json.decode(text, type=dict[str, Any]))
    except (msgspec.DecodeError, RecursionError):
        return "{}"


def _text_without_url_secrets(text: str) -> str:
    if "//" in text:
        text = _URL.sub(_bare_url, text)
    if _LINK_WITH_QUERY.match(text):
        return text.partition("?")[0]
    return text


def _bare_url(found: re.Match[str]) -> str:
    scheme, slashes, rest = found[0].partition("//")
    address, hash_mark, fragment = rest.partition("#")
    bare = address.partition("?")[0]
    authority, slash, path = bare.partition("/")
    return f"{scheme}{slashes}{authority.rpartition('@')[2]}{slash}{path}{hash_mark}{fragment}"
