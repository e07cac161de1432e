"""The labels of a file in one list: the key of each on a page, and how its text is read.

The next label of a file is a field of ``model.Labels``, a ``TextLabel`` here, and a column of its
name in the table ``entry``: pages are read and written, stored and compared by this list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from mirror.core.files.links import is_https
from mirror.core.files.upload_time import is_readable_time
from mirror.core.model import Labels


class TextLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label that is a text."""

    key: str
    """Its key in JSON; in HTML it is an attribute, ``data-`` before the key."""
    read: Callable[[object], str | None]
    """Returns the text as it is kept; None for a blank one. Raises ``TypeError`` where it is not as
    specified.
    """
    is_html: bool = False
    """Whether each HTML page has it. Else a file keeps the label from its last JSON page."""

    @property
    def attribute(self) -> str:
        """Its name in HTML."""
        return f"data-{self.key}"

    def kept(self, new: str | None, old: str | None) -> str | None:
        """Return the label of a file that an HTML page lists and that is held."""
        if new is not None or old is None or self.is_html:
            return new
        try:
            return self.read(old)  # an earlier version took some that clients can't read
        except TypeError:
            return None


def _read_text(value: object) -> str | None:
    if not isinstance(value, str):
        raise TypeError
    return value if value.strip() else None


def _read_time(value: object) -> str | None:
    """Return an upload time exactly as it is listed; pip and uv must be able to read it."""
    text = _read_text(value)
    if text is not None and not is_readable_time(text):
        raise TypeError
    return text


def _read_https(value: object) -> str:
    if not isinstance(value, str) or not is_https(value):
        raise TypeError
    return value


TEXT_LABELS: Final[Mapping[str, TextLabel]] = MappingProxyType(
    {
        "upload_time": TextLabel(key="upload-time", read=_read_time),
        "requires_python": TextLabel(key="requires-python", read=_read_text, is_html=True),
        "provenance": TextLabel(key="provenance", read=_read_https),
    }
)
"""By the field of ``Labels``, in the order in which pages have them: the next one is the last. A
yank and unknown keys are no texts.
"""

FILE_KEYS: Final = frozenset(
    {
        "filename",
        "url",
        "hashes",
        "size",
        "yanked",
        "core-metadata",
        "dist-info-metadata",
        "data-dist-info-metadata",
        "gpg-sig",
        *(label.key for label in TEXT_LABELS.values()),
    }
)
"""The keys of a file that have a place of their own in the model, or none at all."""


def merged_labels(new: Labels, old: Labels) -> Labels:
    """Return the labels of a held file that an HTML page lists: those that HTML can't express keep
    their value from the last JSON for the same bytes.
    """
    texts = {
        name: label.kept(getattr(new, name), getattr(old, name))
        for name, label in TEXT_LABELS.items()
    }
    extra = new.extra if new.extra != "{}" else old.extra
    return Labels(**texts, yanked=new.yanked, extra=extra)
