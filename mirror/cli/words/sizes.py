"""What takes the room, as tables for ``mirror status``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirror.cli.text import size, table

if TYPE_CHECKING:
    from mirror.state.readers.sizes import Sizes

_SHOWN_LARGEST: Final = 5


def size_tables(sizes: Sizes) -> list[str]:
    """Return what each want takes, and the largest projects."""
    lines: list[str] = []
    if sizes.wants:
        head = ("WANT", "FILES", "SIZE", "FOR IT ALONE")
        rows = [(w.want, f"{w.files:,}", size(w.size), size(w.own_size)) for w in sizes.wants]
        lines += ["", *table([head, *rows], right=frozenset({1, 2, 3}))]
    if len(sizes.projects) > 1:
        largest = sizes.projects[:_SHOWN_LARGEST]
        rows = [(one.project, f"{one.files:,}", size(one.size), one.index) for one in largest]
        head = ("LARGEST PROJECTS", "FILES", "SIZE", "INDEX")
        lines += ["", *table([head, *rows], right=frozenset({1, 2}))]
    return lines
