"""Real wheels and source distributions, made in memory: equal arguments give equal bytes.

Wheels are stored, not compressed, so that their bytes do not depend on the zlib at hand; pip installs them, so RECORD
is right. The source distributions build without any other package: their backend lies within.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache

_EPOCH = (1980, 1, 1, 0, 0, 0)

_SMALL_BYTES = 1 << 16
"""Wheels below this size are kept: most tests ask for the same ones."""

_BACKEND = '''\
"""A build backend that needs nothing: the wheel is copied from this source tree."""

import pathlib
import shutil


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    (wheel,) = pathlib.Path(__file__).parent.glob("*.whl")
    shutil.copy(wheel, wheel_directory)
    return wheel.name


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError
'''

_PYPROJECT = """\
[build-system]
requires = {requires}
build-backend = "copying_backend"
backend-path = ["."]

[project]
name = "{name}"
version = "{version}"
"""


def build_wheel(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
    scripts: Mapping[str, str] | None = None,
    tag: str = "py3-none-any",
    size_pad: int = 0,
    metadata: str | bytes | None = None,
) -> tuple[str, bytes]:
    """Return (filename, bytes) of a wheel with one package that knows its version.

    ``metadata`` replaces its METADATA. ``extra_files`` adds or replaces files by their path in the wheel, ``scripts`` are console scripts
    (name: ``module:function``), ``size_pad`` adds a file of so many bytes.
    """
    if not (extra_files or scripts or size_pad):
        return _small_wheel(name, version, tuple(requires), requires_python, tag, metadata)
    return _wheel(name, version, requires, requires_python, tag, metadata, extra_files, scripts, size_pad)


@lru_cache(maxsize=1_000)
def _small_wheel(
    name: str,
    version: str,
    requires: tuple[str, ...],
    requires_python: str | None,
    tag: str,
    metadata: str | bytes | None,
) -> tuple[str, bytes]:
    """Make a wheel that many tests ask for once for all of them."""
    return _wheel(name, version, requires, requires_python, tag, metadata)


def _wheel(
    name: str,
    version: str,
    requires: Sequence[str],
    requires_python: str | None,
    tag: str,
    metadata: str | bytes | None,
    extra_files: Mapping[str, str | bytes] | None = None,
    scripts: Mapping[str, str] | None = None,
    size_pad: int = 0,
) -> tuple[str, bytes]:
    module = _escape(name)
    info = f"{module}-{version}.dist-info"
    files: dict[str, bytes] = {f"{module}/__init__.py": f'__version__ = "{version}"\n'.encode()}
    if size_pad:
        files[f"{module}/padding.bin"] = _padding(name, version, size_pad)
    for path, content in (extra_files or {}).items():
        files[path] = content.encode() if isinstance(content, str) else content
    own = metadata.encode() if isinstance(metadata, str) else metadata
    files[f"{info}/METADATA"] = own or core_metadata(name, version, requires=requires, requires_python=requires_python)
    files[f"{info}/WHEEL"] = _wheel_file(tag)
    if scripts:
        lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}".encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return f"{module}-{version}-{tag}.whl", _zip(files)


def build_sdist(
    name: str,
    version: str,
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    build_requires: Sequence[str] = (),
    metadata: bytes | None = None,
    size_pad: int = 0,
    ending: str = ".tar.gz",
    extra_files: Mapping[str, bytes] | None = None,
) -> tuple[str, bytes]:
    """Return (filename, bytes) of a source distribution that pip can build without a network.

    ``ending``: ``.tar.gz`` or ``.zip``.
    """
    module = _escape(name)
    top = f"{module}-{version}"
    wheel_name, wheel = build_wheel(name, version, requires=requires, requires_python=requires_python)
    files = {
        "PKG-INFO": metadata or core_metadata(name, version, requires=requires, requires_python=requires_python),
        "copying_backend.py": _BACKEND.encode(),
        "pyproject.toml": _PYPROJECT.format(
            name=name, version=version, requires=json.dumps(list(build_requires))
        ).encode(),
        wheel_name: wheel,
    }
    if size_pad:
        files["padding.bin"] = _padding(name, version, size_pad)
    members = {f"{top}/{path}": data for path, data in (files | dict(extra_files or {})).items()}
    return f"{top}{ending}", _zip(members) if ending == ".zip" else _tar_gz(members)


def core_metadata(
    name: str, version: str, *, requires: Sequence[str] = (), requires_python: str | None = None
) -> bytes:
    """Return the METADATA (or PKG-INFO) file of a distribution."""
    lines = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}", f"Summary: The project {name}"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    extras = re.findall(r"""extra == ["']([^"']+)["']""", "\n".join(requires))
    lines += [f"Provides-Extra: {extra}" for extra in dict.fromkeys(extras)]
    return ("\n".join(lines) + "\n\nMade for a test.\n").encode()


def wheel_metadata(wheel: bytes) -> bytes:
    """Return the METADATA file of a wheel."""
    return _small_wheel_metadata(wheel) if len(wheel) < _SMALL_BYTES else _read_metadata(wheel)


@lru_cache(maxsize=1_000)
def _small_wheel_metadata(wheel: bytes) -> bytes:
    return _read_metadata(wheel)


def _read_metadata(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        (path,) = (n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
        return archive.read(path)


def _escape(name: str) -> str:
    return name.replace("-", "_").replace(".", "_").lower()


def _wheel_file(tag: str) -> bytes:
    pure = "true" if tag.endswith("-none-any") else "false"
    return f"Wheel-Version: 1.0\nGenerator: simulator\nRoot-Is-Purelib: {pure}\nTag: {tag}\n".encode()


def _padding(name: str, version: str, size: int) -> bytes:
    return hashlib.shake_256(f"{name} {version}".encode()).digest(size)


def _record(files: Mapping[str, bytes], record_path: str) -> bytes:
    lines = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}\n")
    return ("".join(lines) + f"{record_path},,\n").encode()


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _tar_gz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
