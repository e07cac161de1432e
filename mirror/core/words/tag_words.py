"""File names of distributions in words: where a wheel runs; pure.

The words stand in the order system, interpreter, C library: «Linux x86-64, CPython 3.12, glibc ≥
2.28».
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from mirror.core.files.distributions import WHEEL_ENDING

MAX_TAGS: Final = 200
"""Maximum number of tags that a compressed set of them is expanded to."""

_ARCHITECTURES: Final = {
    "x86_64": "x86-64",
    "amd64": "x86-64",
    "aarch64": "ARM64",
    "arm64": "ARM64",
    "i686": "x86",
    "i386": "x86",
    "win32": "x86",
    "armv7l": "ARMv7",
    "universal2": "x86-64 and ARM64",
    "intel": "Intel",
}
_INTERPRETERS: Final = {
    "cp": "CPython",
    "pp": "PyPy",
    "py": "Python",
    "gp": "GraalPy",
    "jy": "Jython",
}
_OLD_MANYLINUX: Final = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
_LINUX: Final = re.compile(r"(manylinux|musllinux)_([0-9]+)_([0-9]+)_(\w+)")
_MANYLINUX: Final = re.compile(r"(manylinux1|manylinux2010|manylinux2014)_(\w+)")
_MACOS: Final = re.compile(r"macosx_([0-9]+)_([0-9]+)_(\w+)")
_INTERPRETER: Final = re.compile(r"([a-z]{2})([0-9])([0-9]*)")


def expand_tags(filename: str) -> list[str]:
    """Return the tags in a wheel's name, in its order; empty for other files."""
    parts = _tag_parts(filename)
    if parts is None:
        return []
    pythons, abis, platforms = (part.split(".") for part in parts)
    if len(pythons) * len(abis) * len(platforms) > MAX_TAGS:
        return ["-".join(parts)]
    return [f"{p}-{a}-{s}" for p in pythons for a in abis for s in platforms]


def describe_file(filename: str) -> str:
    """Return in words which kind of file this is, or where a wheel runs."""
    parts = _tag_parts(filename)
    if parts is None:
        return "source distribution" if _is_sdist(filename) else "other file"
    pythons, abis, platforms = (part.split(".") for part in parts)
    systems, libraries = _platforms(platforms[:MAX_TAGS])
    words = [*systems, *_interpreters(pythons[:MAX_TAGS], abis[:MAX_TAGS]), *libraries]
    return ", ".join(dict.fromkeys(words))


def _tag_parts(filename: str) -> list[str] | None:
    if not filename.endswith(WHEEL_ENDING):
        return None
    parts = filename[: -len(WHEEL_ENDING)].split("-")
    return parts[-3:] if len(parts) >= 5 else None


def _is_sdist(filename: str) -> bool:
    return filename.endswith((".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz", ".tar.Z", ".tar"))


def _interpreters(pythons: Sequence[str], abis: Sequence[str]) -> list[str]:
    if "none" in abis and all(python.startswith("py") for python in pythons):
        majors = {python[2:3] for python in pythons}
        exact = sorted({f"Python {p[2]}.{p[3:]}" for p in pythons if len(p) > 3})
        if not exact:
            return (
                ["any Python"] if majors >= {"2", "3"} else [f"Python {m}" for m in sorted(majors)]
            )
        return exact
    return [_interpreter(python, abis) for python in pythons]


def _interpreter(python: str, abis: Sequence[str]) -> str:
    found = _INTERPRETER.fullmatch(python)
    if found is None:
        return python
    name = _INTERPRETERS.get(found[1], found[1])
    version = f"{found[2]}.{found[3]}" if found[3] else found[2]
    at_least = "≥ " if "abi3" in abis else ""
    free = " free-threaded" if any(re.fullmatch(r"cp[0-9]+t", abi) for abi in abis) else ""
    return f"{name} {at_least}{version}{free}"


def _platforms(platforms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the systems, and the C libraries that they need: of several the oldest."""
    if "any" in platforms:
        return ["any system"], []
    systems: list[str] = []
    oldest: dict[str, tuple[int, ...]] = {}
    for platform in platforms:
        system, library, version = _platform(platform)
        systems.append(system)
        if library and (library not in oldest or version < oldest[library]):
            oldest[library] = version
    words = [f"{library} ≥ {'.'.join(map(str, version))}" for library, version in oldest.items()]
    return _merged(systems), words


def _platform(platform: str) -> tuple[str, str, tuple[int, ...]]:
    if found := _LINUX.fullmatch(platform):
        library = "glibc" if found[1] == "manylinux" else "musl"
        return f"Linux {_architecture(found[4])}", library, (int(found[2]), int(found[3]))
    if found := _MANYLINUX.fullmatch(platform):
        major, minor = _OLD_MANYLINUX[found[1]].split(".")
        return f"Linux {_architecture(found[2])}", "glibc", (int(major), int(minor))
    if found := _MACOS.fullmatch(platform):
        return f"macOS {_architecture(found[3])}", "macOS", (int(found[1]), int(found[2]))
    if platform.startswith("linux_"):
        return f"Linux {_architecture(platform[6:])}", "", ()
    if platform.startswith("win"):
        return f"Windows {_architecture(platform.removeprefix('win_'))}", "", ()
    return platform, "", ()


def _architecture(name: str) -> str:
    return _ARCHITECTURES.get(name, name)


def _merged(systems: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(systems))
