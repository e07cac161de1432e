"""The arrivals beyond a gap, from the receiver's record: when, and signed by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

RECORD_NAME: Final = "receive.json"
_MAX_BYTES: Final = 16 << 20


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was applied and whose state is kept."""

    name: str
    sequence: int
    digest: str
    created_at: str
    applied_at: str


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """The receiver's record; the newest arrival last."""

    site: str
    signer: str
    applied: tuple[Arrival, ...] = ()


def load_arrivals(root: Path) -> Arrivals | None:
    """Return the receiver's record; None where nothing was received, or it can't be read."""
    try:
        with (root / RECORD_NAME).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=Arrivals)
    except (OSError, msgspec.MsgspecError):
        return None
