"""Prints the result of a command as one JSON object."""

from __future__ import annotations

from typing import Any

import msgspec

from mirror.cli.outcome import write_out


def write_json(value: Any) -> None:
    """Print one JSON object on a line of its own. Raises ``TreeError`` as ``write_out`` does."""
    write_out(msgspec.json.encode(value).decode())
