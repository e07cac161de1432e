"""Environments: one Python release on one platform, as installers describe it to themselves.

Tags and markers of a foreign machine come from ``packaging`` and from this module's tables, never
from the machine that this runs on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms

from mirror.config.wants import DEFAULT_GLIBC, DEFAULT_MACOS, PYTHON_RELEASES, TargetConfig

__all__ = [
    "PYTHON_RELEASES",
    "Environment",
    "environments",
    "parse_environment_name",
    "tag_names",
]

_UV_PLATFORMS: Mapping[str, str] = {
    "linux-x86_64": "x86_64-unknown-linux-gnu",
    "linux-aarch64": "aarch64-unknown-linux-gnu",
    "linux-riscv64": "riscv64-unknown-linux",
    "macos-arm64": "aarch64-apple-darwin",
    "macos-x86_64": "x86_64-apple-darwin",
    "windows-x86_64": "x86_64-pc-windows-msvc",
    "windows-arm64": "aarch64-pc-windows-msvc",
    "windows-x86": "i686-pc-windows-msvc",
}

_OS_MARKERS: Mapping[str, Mapping[str, str]] = {
    "linux": {"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux"},
    "macos": {"os_name": "posix", "platform_system": "Darwin", "sys_platform": "darwin"},
    "windows": {"os_name": "nt", "platform_system": "Windows", "sys_platform": "win32"},
}

_WINDOWS_MACHINES = {"x86_64": ("AMD64", "win_amd64"), "arm64": ("ARM64", "win_arm64")}
_WINDOWS_X86 = ("x86", "win32")

_LEGACY_MANYLINUX = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One interpreter release on one platform. ``tags``: the best one first."""

    target: str
    python: str
    """As the target writes it: ``3.11``, ``3.11.2``, ``3.13t``."""
    release: str
    """The full release, such as ``3.11.2``."""
    platform: str
    implementation: str = "cpython"
    free_threaded: bool = False
    uv_python_version: str
    uv_python_platform: str
    tags: tuple[Tag, ...] = field(repr=False, compare=False)
    _order: Mapping[Tag, int] | None = field(default=None, init=False, repr=False, compare=False)
    """The place of each tag, once it was asked for."""

    _tags_digest: str = field(default="", init=False, repr=False, compare=False)

    @property
    def tags_digest(self) -> str:
        """The digest of the tags in their order."""
        if not self._tags_digest:
            names = msgspec.json.encode([str(tag) for tag in self.tags])
            object.__setattr__(self, "_tags_digest", hashlib.sha256(names).hexdigest())
        return self._tags_digest

    @property
    def name(self) -> str:
        """Target, Python and platform as reports write them; equal for all patch releases."""
        return f"{self.target}/{self.python}/{self.platform}"

    @property
    def markers(self) -> dict[str, str]:
        """The environment of ``packaging.markers``, without ``extra``."""
        system, _, machine = self.platform.partition("-")
        if system == "windows":
            machine = _WINDOWS_MACHINES.get(machine, _WINDOWS_X86)[0]
        return {
            "implementation_name": self.implementation,
            "implementation_version": self.release,
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "python_full_version": self.release,
            "python_version": ".".join(self.release.split(".")[:2]),
            **_OS_MARKERS[system],
        }

    def rank(self, tags: Iterable[Tag]) -> int | None:
        """Return the place of the best of a wheel's tags: lower is better; None: the wheel does not
        fit.
        """
        order = self._order
        if order is None:  # as the key of a cache the tags cost a hash of each of them
            order = _order_of(self.tags)
            object.__setattr__(self, "_order", order)
        return min((order[tag] for tag in tags if tag in order), default=None)

    def admits(self, requires_python: str | None) -> bool:
        """Return whether this release meets ``Requires-Python``; one that can't be read limits
        nothing.
        """
        if not requires_python:
            return True
        try:
            return SpecifierSet(requires_python).contains(self.release, prereleases=True)
        except InvalidSpecifier:
            return True


@lru_cache(maxsize=64)
def environments(target: TargetConfig) -> tuple[Environment, ...]:
    """Return the environments of a checked target, in the order in which it names them.

    Kept, since each want asks for them. A minor version stands for one environment for each of its
    patch releases, which share a name.
    """
    return tuple(
        _environment(target, python, release, platform)
        for python in dict.fromkeys(target.python)
        for platform in dict.fromkeys(target.platforms)
        for release in _releases(python)
    )


@lru_cache(maxsize=4)
def tag_names(targets: tuple[TargetConfig, ...]) -> frozenset[str]:
    """Return the tags of all environments of some targets, such as ``cp311-cp311-linux_x86_64``.

    Patch releases have the tags of their minor version. Kept, since a cycle asks for each index.
    """
    names: set[str] = set()
    for target in targets:
        for python in dict.fromkeys(target.python):
            for platform in dict.fromkeys(target.platforms):
                names.update(map(str, _tags_of_python(target, python, platform)))
    return frozenset(names)


def parse_environment_name(text: str) -> tuple[str, str | None, str | None]:
    """Return target, Python and platform of ``linux/3.11/linux-x86_64``; the last two may be
    absent.
    """
    target, _, rest = text.partition("/")
    python, _, platform = rest.partition("/")
    return target, python or None, platform or None


def _releases(python: str) -> tuple[str, ...]:
    plain = python.removesuffix("t")
    if plain.count(".") == 2:
        return (plain,)
    return tuple(f"{plain}.{patch}" for patch in range(PYTHON_RELEASES[plain] + 1))


def _environment(target: TargetConfig, python: str, release: str, platform: str) -> Environment:
    return Environment(
        target=target.name,
        python=python,
        release=release,
        platform=platform,
        free_threaded=python.endswith("t"),
        uv_python_version=release,
        uv_python_platform=_UV_PLATFORMS[platform],
        tags=_tags_of_python(target, python, platform),
    )


def _tags_of_python(target: TargetConfig, python: str, platform: str) -> tuple[Tag, ...]:
    """Return the tags of a release, or of all patch releases of a minor version."""
    major, minor = (int(part) for part in python.removesuffix("t").split(".")[:2])
    abi = f"cp{major}{minor}{'t' if python.endswith('t') else ''}"
    return _tags((major, minor), abi, _platform_tags(target, platform))


@cache
def _tags(minor: tuple[int, int], abi: str, platforms: tuple[str, ...]) -> tuple[Tag, ...]:
    """Return the tags of a CPython release in the order of ``packaging.tags.sys_tags``."""
    interpreter = f"cp{minor[0]}{minor[1]}"
    own = cpython_tags(minor, abis=[abi], platforms=platforms)
    return tuple(dict.fromkeys((*own, *compatible_tags(minor, interpreter, platforms))))


@cache
def _order_of(tags: tuple[Tag, ...]) -> dict[Tag, int]:
    return {tag: place for place, tag in enumerate(tags)}


def _platform_tags(target: TargetConfig, platform: str) -> tuple[str, ...]:
    system, _, machine = platform.partition("-")
    match system:
        case "windows":
            return (_WINDOWS_MACHINES.get(machine, _WINDOWS_X86)[1],)
        case "macos":
            major, _, minor = (target.macos or DEFAULT_MACOS).partition(".")
            return tuple(mac_platforms((int(major), int(minor or 0)), machine))
    if target.musl is not None:
        return (f"linux_{machine}", *_musllinux(target.musl, machine))
    return (f"linux_{machine}", *_manylinux(target.glibc or DEFAULT_GLIBC, machine))


def _manylinux(glibc: str, machine: str) -> Iterator[str]:
    """Yield the manylinux tags that a glibc runs, the newest first, each with its older name."""
    oldest = 5 if machine == "x86_64" else 17
    for minor in range(int(glibc.removeprefix("2.")), oldest - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY_MANYLINUX:
            yield f"{_LEGACY_MANYLINUX[minor]}_{machine}"


def _musllinux(musl: str, machine: str) -> Iterator[str]:
    for minor in range(int(musl.removeprefix("1.")), -1, -1):
        yield f"musllinux_1_{minor}_{machine}"
