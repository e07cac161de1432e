"""How labels and digests of a file are kept in columns."""

from __future__ import annotations

from mirror.core.model import Digests, Labels
from mirror.state.rows import Columns


class LabelColumns(Columns, frozen=True):
    """The columns that hold a file's labels."""

    requires_python: str | None
    yanked: str | None
    upload_time: str | None
    provenance: str | None
    extra: str


def labels_of(row: LabelColumns) -> Labels:
    """Build the labels from their columns."""
    return Labels(
        requires_python=row.requires_python,
        yanked=row.yanked,
        upload_time=row.upload_time,
        provenance=row.provenance,
        extra=row.extra,
    )


def encode_digests(digests: Digests) -> str:
    """Return digests as the text of a column."""
    return " ".join(f"{a}={d}" for a, d in digests)


def decode_digests(text: str) -> Digests:
    """Return the digests that ``encode_digests`` wrote."""
    return tuple((a, d) for a, _, d in (pair.partition("=") for pair in text.split()))
