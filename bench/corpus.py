"""Corpora: an index as plain files that a web server can serve, the same bytes for the same seed.

``simple/`` holds the root page (``root-serials.json``, ``root-plain.json``) and the projects' pages, ``packages/`` the
files, ``pypi/`` what bandersnatch asks for. Run as a program it writes one corpus, so that the memory which that takes
is not the benchmark's own: a child's peak is counted from what its parent had.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EPOCH = (2020, 2, 2, 0, 0, 0)
_MTIME = 1_700_000_000
_TEXT = "a mirror keeps every page and file of an index on disk, verified, whole or not at all, for closed networks"
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a corpus consists of. Pages list ``files`` files each; ``file_bytes`` 0: they are listed, not there."""

    projects: int
    files: int
    file_bytes: int
    seed: int = 4

    @property
    def file_count(self) -> int:
        return self.projects * self.files

    @property
    def label(self) -> str:
        return f"{self.projects}x{self.files}x{self.file_bytes}-{self.seed}"


@dataclass(frozen=True, slots=True)
class File:
    """A listed file."""

    name: str
    version: str
    sha256: str
    size: int


def write_corpus(root: Path, shape: Shape) -> None:
    """Write a whole corpus below ``root``."""
    for folder in ("simple", "packages", "pypi"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    serials = {}
    for number in range(shape.projects):
        project = name_of(number)
        serials[project] = 1000 + number
        files = [_write_file(root, shape, project, f"1.{minor}") for minor in range(shape.files)]
        _write_pages(root, shape, project, files, serials[project])
    _write_roots(root, serials)


def release(root: Path, shape: Shape, share: float, generation: int) -> int:
    """Publish one more version of a share of the projects; return of how many."""
    serials = {
        p["name"]: p["_last-serial"] for p in json.loads((root / "simple/root-serials.json").read_bytes())["projects"]
    }
    serial = max(serials.values())
    chosen = random.Random(shape.seed + generation).sample(sorted(serials), max(1, round(len(serials) * share)))
    for project in chosen:
        serial += 1
        serials[project] = serial
        page = json.loads((root / f"simple/{project}.json").read_bytes())
        files = [
            File(f["filename"], f["filename"].split("-")[1], f["hashes"]["sha256"], f["size"]) for f in page["files"]
        ]
        files.append(_write_file(root, shape, project, f"2.{generation}"))
        _write_pages(root, shape, project, files, serial)
    _write_roots(root, serials)
    return len(chosen)


def name_of(number: int) -> str:
    return f"project-{number:06}"


def iter_files(root: Path) -> Iterator[Path]:
    """Yield the files of a corpus, in order."""
    yield from sorted((root / "packages").glob("*"))


def build_wheel(project: str, version: str, size: int, seed: int) -> tuple[str, bytes]:
    """Return (name, bytes) of a wheel of about ``size`` bytes: incompressible content, deflated metadata."""
    rng = random.Random(f"{seed} {project} {version}")
    module = project.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    text = " ".join(rng.choices(_WORDS, k=400))
    metadata = f"Metadata-Version: 2.2\nName: {project}\nVersion: {version}\nSummary: {text[:60]}\n\n{text}\n".encode()
    content = rng.randbytes(max(1, size - 1600))
    files = {
        f"{module}/data.bin": content,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_record_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".bin") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _write_file(root: Path, shape: Shape, project: str, version: str) -> File:
    if shape.file_bytes == 0:
        name = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        return File(name, version, hashlib.sha256(f"{shape.seed} {name}".encode()).hexdigest(), 20_000)
    name, data = build_wheel(project, version, shape.file_bytes, shape.seed)
    (root / "packages" / name).write_bytes(data)
    return File(name, version, hashlib.sha256(data).hexdigest(), len(data))


def _write_pages(root: Path, shape: Shape, project: str, files: list[File], serial: int) -> None:
    page = {
        "meta": {"api-version": "1.1", "_last-serial": serial},
        "name": project,
        "versions": [f.version for f in files],
        "files": [_listed(f) for f in files],
    }
    _write_json(root / f"simple/{project}.json", page, serial)
    if shape.file_bytes:
        releases: dict[str, list[dict[str, Any]]] = {}
        for file in files:
            releases.setdefault(file.version, []).append(_listed_for_pypi(file))
        info = {"name": project, "version": files[-1].version}
        whole = {"info": info, "last_serial": serial, "releases": releases, "urls": releases[files[-1].version]}
        _write_json(root / f"pypi/{project}.json", whole, serial)


def _listed(file: File) -> dict[str, Any]:
    return {
        "filename": file.name,
        "url": f"../../packages/{file.name}",
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": "2024-05-06T07:08:09.123456Z",
        "requires-python": ">=3.9",
        "yanked": False,
    }


def _listed_for_pypi(file: File) -> dict[str, Any]:
    return {
        "filename": file.name,
        "url": f"https://files.invalid/packages/{file.name}",  # replaced by the option download-mirror
        "digests": {"sha256": file.sha256},
        "size": file.size,
        "upload_time_iso_8601": "2024-05-06T07:08:09.123456Z",
        "requires_python": ">=3.9",
        "yanked": False,
        "packagetype": "bdist_wheel",
    }


def _write_roots(root: Path, serials: dict[str, int]) -> None:
    last = max(serials.values())
    with_serials = [{"name": name, "_last-serial": serial} for name, serial in serials.items()]
    meta = {"api-version": "1.1"}
    _write_json(
        root / "simple/root-serials.json", {"meta": meta | {"_last-serial": last}, "projects": with_serials}, last
    )
    _write_json(root / "simple/root-plain.json", {"meta": meta, "projects": [{"name": name} for name in serials]}, last)


def _write_json(path: Path, value: Any, serial: int) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(json.dumps(value, separators=(",", ":")).encode())
    os.utime(temporary, (_MTIME + serial, _MTIME + serial))  # nginx makes ETag and Last-Modified of it
    temporary.replace(path)


def main() -> None:
    """Write one corpus, or one more release in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    for name in ("projects", "files", "file-bytes", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--release", type=float, help="the share of projects that get one more version")
    parser.add_argument("--generation", type=int, default=0)
    options = parser.parse_args()
    shape = Shape(projects=options.projects, files=options.files, file_bytes=options.file_bytes, seed=options.seed)
    if options.release is None:
        write_corpus(options.root, shape)
    else:
        print(release(options.root, shape, options.release, options.generation))


if __name__ == "__main__":
    main()
