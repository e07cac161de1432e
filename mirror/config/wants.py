"""The values of ``[[target]]`` and ``[[want]]``: packages that must install, and environments.

The tables of Python releases and platforms stand here too, because a configuration is checked
against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from mirror.config.units import Unit

PYTHON_RELEASES: Mapping[str, int] = MappingProxyType(
    {
        "3.8": 20,
        "3.9": 25,
        "3.10": 22,
        "3.11": 18,
        "3.12": 16,
        "3.13": 18,
        "3.14": 10,
        "3.15": 2,
    }
)
"""The newest patch release of each minor version; the first one is 0, and none is missing."""

PLATFORMS = (
    "linux-x86_64",
    "linux-aarch64",
    "linux-riscv64",
    "macos-arm64",
    "macos-x86_64",
    "windows-x86_64",
    "windows-arm64",
    "windows-x86",
)
"""Platforms whose markers uv can set."""

MAX_NEWEST = 50
"""Maximum number of versions that ``versions = "newest N"`` asks for of each project."""

DEFAULT_GLIBC = "2.28"
"""The oldest glibc that Chainguard's wheels run on."""

DEFAULT_MACOS = "12.0"


def _read_texts(value: object, _base: Path) -> tuple[str, ...]:
    """Return a list of texts; one text alone is a list of one."""
    return (value,) if isinstance(value, str) else msgspec.convert(value, tuple[str, ...])


_TEXTS = Unit(
    expected='a list of texts such as ["3.11", "3.13"]',
    read=_read_texts,
    write=lambda texts: texts,
    schema={"type": "array", "items": {"type": "string"}},
)
Texts = Annotated[tuple[str, ...], msgspec.Meta(extra={"unit": _TEXTS})]


class TargetConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One table ``[[target]]``: each Python release on each platform is one environment."""

    name: str
    python: Texts
    """``3.11`` means every patch release, ``3.11.2`` that one, ``3.13t`` is free-threaded."""
    platforms: Texts
    glibc: str | None = None
    """The oldest glibc of the Linux platforms; None with ``musl``, else ``DEFAULT_GLIBC``."""
    musl: str | None = None
    macos: str | None = None
    """The oldest macOS release; None: ``DEFAULT_MACOS``."""


class WantConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One table ``[[want]]``."""

    name: str
    requirements: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Patterns; relative ones start at the folder of the configuration."""
    targets: tuple[str, ...] = ()
    """Names; none: all targets."""
    versions: str = "resolved"
    wheels: Literal["best", "all"] = "best"
    sdists: Literal["never", "where-no-wheel", "always"] = "where-no-wheel"
    lock_platforms: Literal["targets", "all"] = "targets"
    on_rebuilt: Literal["follow", "refuse"] = "follow"
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    accept_unproved: tuple[str, ...] = ()

    @property
    def newest(self) -> int:
        """The N of ``versions = "newest N"``; 0 for ``resolved``."""
        return int(self.versions.removeprefix("newest ")) if self.versions != "resolved" else 0
