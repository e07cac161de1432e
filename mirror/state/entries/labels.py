"""How labels and digests of a file are kept in columns.

A label has a column of its name: ``mirror.core.model.Labels`` is the list of them.
"""

from __future__ import annotations

import msgspec

from mirror.core.model import Digests, Labels
from mirror.state.store import Row


def label_columns(table: str = "entry") -> str:
    """Return the columns of the labels, to be followed by others in a statement."""
    return ", ".join(f"{table}.{name}" for name in Labels.__struct_fields__)


LABELS = ", ".join(Labels.__struct_fields__)
"""The columns of the labels in an ``INSERT``."""

LABEL_MARKS = ", ".join("?" * len(Labels.__struct_fields__))


def label_values(labels: Labels) -> Row:
    """Return the values of the columns of ``LABELS``, in their order."""
    return msgspec.structs.astuple(labels)


def encode_digests(digests: Digests) -> str:
    """Return digests as the text of a column."""
    return " ".join(f"{a}={d}" for a, d in digests)


def decode_digests(text: str) -> Digests:
    """Return the digests that ``encode_digests`` wrote."""
    return tuple((a, d) for a, _, d in (pair.partition("=") for pair in text.split()))
