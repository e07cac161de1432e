"""Links of a page to its files, changed to another depth of the page. Pure.

On a disk a snapshot has a link ``files``, so that its pages link as the live ones do. In an object
store there are no links: pages of a snapshot lie two levels deeper, and their links start there.
"""

from __future__ import annotations

from typing import Final

LIVE: Final = b"../../files/"
SNAPSHOT: Final = b"../../../../files/"

# The bytes before a link that the renderer wrote. No text of an index can contain it: a quotation
# mark is written as a reference in HTML, and with a backslash in JSON.
_BEFORE: Final = (b'<a href="', b'"url":"')


def deepened(page: bytes) -> bytes:
    """Return a page of a snapshot as it lies in an object store, from its form on a disk."""
    return _relinked(page, LIVE, SNAPSHOT)


def raised(page: bytes) -> bytes:
    """Return a page of a snapshot as it lies on a disk, from its form in an object store."""
    return _relinked(page, SNAPSHOT, LIVE)


def _relinked(page: bytes, old: bytes, new: bytes) -> bytes:
    for before in _BEFORE:
        page = page.replace(before + old, before + new)
    return page
