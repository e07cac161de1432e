"""The ``[[target]]`` table that a machine prints of itself, read as a target."""

from __future__ import annotations

import tomllib
from pathlib import Path

from mirror.config import TargetConfig
from mirror.config.reading import read_struct


def parse_machine_target(text: str) -> TargetConfig:
    """Return the target of a ``[[target]]`` table. Raises ``ConfigError``."""
    (table,) = tomllib.loads(text)["target"]
    return read_struct(TargetConfig, table, where="target", base=Path())
