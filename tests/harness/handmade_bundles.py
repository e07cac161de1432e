"""Bundles made by hand, as the format's description tells it, and a far side to receive them.

Nothing here shares code with the near side, nor with ``receive.py`` but the call of it. ``Site`` is a site's chain of bundles::

    site = Site(tmp_path, signer)
    state = State({"demo": [wheel("demo", "1.0")]})
    bundle = site.make(state)
    assert Far(tmp_path / "far", signer.trust).receive(bundle).code == 0
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirror.bundle import receive as program

PROGRAM = Path(program.__file__)
NAMESPACE = "bundle@offline-mirror"
PAGES = ("index.html", "index.v1_html", "index.v1_json")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


@dataclass(frozen=True)
class File:
    """A file of a project; ``metadata`` becomes its sidecar."""

    name: str
    data: bytes
    metadata: bytes | None = None
    yanked: bool = False

    @property
    def path(self) -> str:
        digest = sha256(self.data)
        return f"files/{digest[:2]}/{digest[2:4]}/{digest}/{self.name}"


def some_file(project: str, version: str, size: int = 700, **labels: Any) -> File:
    """Return a file with bytes of its own that no client could install."""
    data = hashlib.shake_256(f"{project} {version}".encode()).digest(size)
    return File(f"{project}-{version}-py3-none-any.whl", data, metadata=f"Name: {project}\n".encode(), **labels)


@dataclass(frozen=True)
class State:
    """What the near side publishes: project -> files."""

    projects: Mapping[str, Sequence[File]]
    revision: int = 1

    @property
    def blobs(self) -> dict[str, bytes]:
        """Path -> bytes, sidecars too."""
        found = {}
        for files in self.projects.values():
            for file in files:
                found[file.path] = file.data
                if file.metadata is not None:
                    found[file.path + ".metadata"] = file.metadata
        return dict(sorted(found.items()))

    @property
    def pages(self) -> dict[str, bytes]:
        """Path -> bytes."""
        root_html = "".join(f'<a href="{name}/">{name}</a>\n' for name in sorted(self.projects))
        root_json = {
            "meta": {"api-version": "1.4", "_last-serial": self.revision},
            "projects": [{"name": name} for name in sorted(self.projects)],
        }
        found = _three("simple/", root_html, root_json)
        for name, files in self.projects.items():
            found |= _three(f"simple/{name}/", "".join(map(_anchor, files)), _json_page(name, files))
        return dict(sorted(found.items()))

    @property
    def digest(self) -> str:
        lines = sorted(f"{sha256(data)}  {path}\n" for path, data in self.pages.items())
        return sha256("".join(lines).encode())

    def described(self) -> dict[str, Any]:
        """Return the manifest's ``state``."""
        blobs = {path: data for path, data in self.blobs.items() if not path.endswith(".metadata")}
        return {
            "revision": self.revision,
            "digest": self.digest,
            "projects": len(self.projects),
            "files": len(blobs),
            "bytes": sum(map(len, blobs.values())),
            "pages": len(self.pages),
        }


def _three(prefix: str, text: str, value: Any) -> dict[str, bytes]:
    page = f"<!DOCTYPE html><html><body>\n{text}</body></html>\n".encode()
    return {prefix + PAGES[0]: page, prefix + PAGES[1]: page, prefix + PAGES[2]: json.dumps(value).encode()}


def _anchor(file: File) -> str:
    metadata = f' data-core-metadata="sha256={sha256(file.metadata)}"' if file.metadata is not None else ""
    yanked = ' data-yanked=""' if file.yanked else ""
    return f'<a href="../../{file.path}#sha256={sha256(file.data)}"{metadata}{yanked}>{html.escape(file.name)}</a>\n'


def _json_page(name: str, files: Iterable[File]) -> dict[str, Any]:
    shown = []
    for file in files:
        labels: dict[str, Any] = {"yanked": file.yanked, "hashes": {"sha256": sha256(file.data)}}
        if file.metadata is not None:
            labels["core-metadata"] = {"sha256": sha256(file.metadata)}
        shown.append({"filename": file.name, "url": f"../../{file.path}", "size": len(file.data), **labels})
    return {"meta": {"api-version": "1.4"}, "name": name, "versions": [], "files": shown}


@dataclass(frozen=True)
class Signer:
    """A key, and the file of those that the far side trusts."""

    key: Path
    trust: Path

    @classmethod
    def make(cls, directory: Path, principal: str = "near@example.org") -> Signer:
        directory.mkdir(parents=True, exist_ok=True)
        key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", key], check=True)
        trust = directory / "allowed_signers"
        trust.write_text(f'{principal} namespaces="{NAMESPACE}" {key.with_suffix(".pub").read_text()}')
        return cls(key, trust)

    def sign(self, path: Path, namespace: str = NAMESPACE) -> None:
        path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self.key, path]
        subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class Made:
    """A bundle that was made: where, its digest, and the state that it leads to."""

    path: Path
    sequence: int
    digest: str
    state: State

    @property
    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / "bundle.json").read_bytes())
        return value

    @property
    def reference(self) -> dict[str, Any]:
        return {"sequence": self.sequence, "digest": self.digest}


EMPTY = State({}, 0)


@dataclass
class Site:
    """The near side's chain for one site."""

    work: Path
    signer: Signer | None
    name: str = "lab"
    chain: str = "c0ffee" + "0" * 26
    made: list[Made] = field(default_factory=list)

    def make(self, state: State, *, since: int | None = None, full: bool = False, **options: Any) -> Made:
        """Make the next bundle; on the last one, on an older one by ``since``, or on nothing by ``full``."""
        base = None if full or not self.made else self.made[-1]
        supersedes = []
        if since is not None:
            (base,) = (made for made in self.made if made.sequence == since)
            supersedes = [made.reference for made in self.made if made.sequence > since]
        sequence = self.made[-1].sequence + 1 if self.made else 1
        old = base.state if base else EMPTY
        pages = {p: d for p, d in state.pages.items() if base is None or sha256_of(old.pages, p) != sha256(d)}
        # All three names of each changed page.
        whole = {path.rpartition("/")[0] for path in pages}
        value = {
            "kind": "update",
            "sequence": sequence,
            "base": base.reference if base else None,
            "supersedes": supersedes,
            "removed": sorted(set(old.projects) - set(state.projects)),
        }
        made = self.write(
            self.work / f"{self.name}-{sequence:06d}",
            value,
            state,
            blobs={p: d for p, d in state.blobs.items() if old.blobs.get(p) != d},
            pages={p: d for p, d in state.pages.items() if p.rpartition("/")[0] in whole},
            **options,
        )
        self.made.append(made)
        return made

    def repair(self, paths: Iterable[str], **options: Any) -> Made:
        """Make a repair of the last state's blobs and pages with these paths."""
        last, wanted = self.made[-1], set(paths)
        value = {"kind": "repair", "sequence": None, "base": last.reference, "supersedes": [], "removed": []}
        return self.write(
            self.work / f"{self.name}-repair-20260102T030405Z",
            value,
            last.state,
            blobs={p: d for p, d in last.state.blobs.items() if p in wanted},
            pages={p: d for p, d in last.state.pages.items() if p in wanted},
            **options,
        )

    def write(
        self,
        path: Path,
        value: dict[str, Any],
        state: State,
        *,
        blobs: Mapping[str, bytes],
        pages: Mapping[str, bytes],
        volume_bytes: int = 1 << 30,
        receiver: bytes | None = None,
        server: bytes | None = None,
        lists_server: bool = False,
        change: Callable[[dict[str, Any]], None] = lambda value: None,
        tarballs: Callable[[int, list[tuple[tarfile.TarInfo, bytes]]], bytes] | None = None,
    ) -> Made:
        """Write a bundle's directory. ``change`` may spoil the manifest, and ``tarballs`` a volume, before it is signed."""
        path.mkdir(parents=True)
        packed = Packed(volume_bytes)
        listed_blobs = [packed.add(p, p, data) for p, data in blobs.items()]
        listed_pages = [packed.add(p, f"pages/{sha256(data)}", data) for p, data in pages.items()]
        for number, members in enumerate(packed.volumes, 1):
            (path / f"volume-{number:04d}.tar").write_bytes((tarballs or tar_of)(number, members))
        (path / "README.txt").write_text("Read me.\n")
        (path / "CONTENTS.json").write_bytes(canonical(sorted([*blobs, *pages])))
        (path / "receive.py").write_bytes(PROGRAM.read_bytes() if receiver is None else receiver)
        if self.signer:
            self.signer.sign(path / "receive.py")
        if server is not None and lists_server:
            (path / "serve.py").write_bytes(server)
        files = sorted(p for p in path.iterdir())
        if server is not None and not lists_server:
            (path / "serve.py").write_bytes(server)
            if self.signer:
                self.signer.sign(path / "serve.py")
        manifest = {
            "format": 1,
            "tool": "a hand",
            "created_at": "2026-01-02T03:04:05Z",
            "site": self.name,
            "chain": self.chain,
            "state": state.described(),
            "attached": [described(p) for p in files if not p.name.startswith("volume-")],
            "volumes": [described(p) for p in files if p.name.startswith("volume-")],
            "blobs": listed_blobs,
            "pages": listed_pages,
            **value,
        }
        change(manifest)
        (path / "bundle.json").write_bytes(canonical(manifest))
        self.seal(path)
        return Made(path, value["sequence"] or 0, sha256((path / "bundle.json").read_bytes()), state)

    def seal(self, path: Path) -> None:
        """Sign a bundle anew, and write its sums."""
        if self.signer:
            self.signer.sign(path / "bundle.json")
        sums = [f"{sha256(p.read_bytes())}  {p.name}\n" for p in sorted(path.iterdir()) if p.name != "bundle.json.sig"]
        (path / "SHA256SUMS").write_text("".join(sums))


def sha256_of(pages: Mapping[str, bytes], path: str) -> str | None:
    return sha256(pages[path]) if path in pages else None


def described(path: Path) -> dict[str, Any]:
    """Return a file as the manifest lists it."""
    data = path.read_bytes()
    return {"name": path.name, "size": len(data), "sha256": sha256(data)}


class Packed:
    """Members laid out in volumes of bounded size."""

    HEADERS = 4 * 512

    def __init__(self, volume_bytes: int) -> None:
        self._limit = volume_bytes - 2 * 512
        self._used = self._limit
        self.volumes: list[list[tuple[tarfile.TarInfo, bytes]]] = []
        self._shared: dict[tuple[str, str], list[list[Any]]] = {}

    def add(self, path: str, member: str, data: bytes) -> dict[str, Any]:
        """Lay an item out, split where it must be, and return it as the manifest lists it."""
        digest = sha256(data)
        is_split = len(data) > self._limit - self.HEADERS
        key = ("" if is_split else member, digest)
        if key not in self._shared:
            self._shared[key] = self._place(member, digest, data)
        return {"path": path, "size": len(data), "sha256": digest, "parts": self._shared[key]}

    def _place(self, member: str, digest: str, data: bytes) -> list[list[Any]]:
        room = self._limit - self.HEADERS
        if len(data) <= room:
            if self._used + self.HEADERS + len(data) + 511 > self._limit:
                self._open()
            return [self._put(member, data)]
        parts = []
        step = room // 512 * 512
        for number, start in enumerate(range(0, len(data), step), 1):
            self._open()
            parts.append(self._put(f"parts/{digest}/{number:04d}", data[start : start + step]))
        return parts

    def _open(self) -> None:
        self.volumes.append([])
        self._used = 0

    def _put(self, member: str, data: bytes) -> list[Any]:
        if not self.volumes:
            self._open()
        info = tarfile.TarInfo(member)
        info.size, info.mode = len(data), 0o644
        self.volumes[-1].append((info, data))
        self._used += self.HEADERS + len(data) + 511
        return [len(self.volumes), member, len(data)]


def tar_of(_: int, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a volume's bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass(frozen=True)
class Outcome:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value


def run(*arguments: object) -> Outcome:
    """Run the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = program.main([str(argument) for argument in arguments])
        except SystemExit as exc:
            code = int(exc.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


@dataclass
class Far:
    """A far side: its root, and whom it trusts."""

    root: Path
    trust: Path
    site: str = "lab"

    def receive(self, *bundles: Made | Path, options: Sequence[object] = ()) -> Outcome:
        """Receive a bundle from one or several media."""
        places = [bundle.path if isinstance(bundle, Made) else bundle for bundle in bundles]
        return run(*places, "--root", self.root, "--site", self.site, "--trust", self.trust, *options)

    def receive_well(self, *bundles: Made | Path, options: Sequence[object] = ()) -> None:
        """Receive a bundle that must be applied; the tree is checked."""
        done = self.receive(*bundles, options=options)
        assert done.code == 0, done.err
        self.check_invariants()

    def run(self, *arguments: object) -> Outcome:
        """Run another command on the root."""
        return run("--root", self.root, *arguments)

    @property
    def public(self) -> Path:
        return self.root / "public"

    @property
    def record(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / "receive.json").read_bytes())
        return value

    @property
    def receipt(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / "receipt.json").read_bytes())
        return value

    @property
    def kept(self) -> list[int]:
        """The sequences of the kept states."""
        return [entry["sequence"] for entry in self.record["applied"]]

    def pages(self) -> dict[str, bytes]:
        """Return what is served: path -> bytes."""
        return read_tree(self.public / "simple", "simple/")

    def blobs(self) -> dict[str, bytes]:
        """Return what lies below ``files``."""
        return read_tree(self.public / "files", "files/")

    def check_serves(self, state: State) -> None:
        """The live pages are those of a state, and each of its blobs is there."""
        assert self.pages() == state.pages
        assert {path: data for path, data in self.blobs().items() if path in state.blobs} == state.blobs

    def check_holds(self, *states: State) -> None:
        """Exactly the blobs of these states are there."""
        assert self.blobs() == {path: data for state in states for path, data in state.blobs.items()}

    def check_invariants(self) -> None:
        """What each page of the live state lists exists, whole; nothing half made lies in public."""
        check_public(self.public)


def check_public(public: Path) -> None:
    """Check what a tree that is served must always be, whatever was killed: what its pages list exists, whole."""
    if not (public / "simple").exists():
        assert not os.path.lexists(public / "simple")
        return
    root = json.loads((public / "simple" / PAGES[2]).read_bytes())
    names = sorted(project["name"] for project in root["projects"])
    assert names == sorted(p.name for p in (public / "simple").iterdir() if p.is_dir())
    for name in names:
        directory = public / "simple" / name
        assert sorted(p.name for p in directory.iterdir()) == sorted(PAGES)
        for file in json.loads((directory / PAGES[2]).read_bytes())["files"]:
            path = Path(os.path.normpath(public / "simple" / name / file["url"]))
            assert sha256(path.read_bytes()) == file["hashes"]["sha256"]
            if "core-metadata" in file:
                sidecar = path.with_name(f"{path.name}.metadata")
                assert sha256(sidecar.read_bytes()) == file["core-metadata"]["sha256"]


def read_tree(directory: Path, prefix: str = "") -> dict[str, bytes]:
    """Return path -> bytes of all files below a directory."""
    return dict(_walk(directory, prefix))


def _walk(directory: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(directory.rglob("*")):
        if not path.is_dir():
            assert path.is_file(), path
            assert not path.is_symlink(), path
            yield prefix + path.relative_to(directory).as_posix(), path.read_bytes()


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.make(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def site(tmp_path: Path, signer: Signer) -> Site:
    return Site(tmp_path / "near", signer)


@pytest.fixture
def far(tmp_path: Path, signer: Signer) -> Far:
    return Far(tmp_path / "far", signer.trust)
