"""Looking at what lies in the tree: each oddity by its kind, no link followed, and our own trouble is no damage."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.core.names import ProjectName, Sha256
from mirror.errors import TreeError
from mirror.tree.checking.aside import move_aside
from mirror.tree.checking.blobs import BlobCheck, DamageKind, check_blob, sidecar_digest, wheel_metadata
from mirror.tree.checking.page_places import clear_page_place, foreign_in_project, iter_projects
from mirror.tree.checking.single_files import has_bytes, size_of
from mirror.tree.checking.unknown import Leftover, iter_outer, remove_leftover, scan_blobs, sort_unknown
from mirror.tree.layout import Layout, create_tree
from simulator import build_wheel

DATA = b"some bytes"
SHA256 = Sha256(hashlib.sha256(DATA).hexdigest())
NAME = "demo-1.0.zip"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "root")
    create_tree(made)
    return made


@pytest.fixture
def path(layout: Layout) -> Path:
    made = Path(layout.blob_path(SHA256, NAME))
    made.parent.mkdir(parents=True)
    made.write_bytes(DATA)
    return made


def check(layout: Layout, metadata: bytes | None = None, limit: int = 100) -> BlobCheck:
    digest = None if metadata is None else hashlib.sha256(metadata).hexdigest()
    return check_blob(layout, SHA256, NAME, len(DATA), digest, limit)


def test_whole_blob(layout: Layout, path: Path) -> None:
    """A whole blob has no damage, with and without a sidecar."""
    whole = BlobCheck(damage=None, bytes_read=len(DATA))
    assert check(layout) == whole
    Path(f"{path}.metadata").write_bytes(b"meta")
    assert check(layout, b"meta") == whole
    assert sidecar_digest(layout, SHA256, NAME, 100) == hashlib.sha256(b"meta").hexdigest()


def test_sidecar_over_the_limit(layout: Layout, path: Path) -> None:
    """A sidecar larger than the limit is not read whole, and is no sidecar to be served."""
    Path(f"{path}.metadata").write_bytes(b"m" * 200)
    assert check(layout, b"m" * 200).damage is DamageKind.SIDECAR
    assert sidecar_digest(layout, SHA256, NAME, 100) is None
    assert sidecar_digest(layout, SHA256, "other", 100) is None


def test_wheel_that_cannot_be_compared(layout: Layout) -> None:
    """A wheel whose metadata can't be read vouches for no sidecar."""
    data = b"no zip"
    sha256 = Sha256(hashlib.sha256(data).hexdigest())
    path = Path(layout.blob_path(sha256, "demo-1.0-py3-none-any.whl"))
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    Path(f"{path}.metadata").write_bytes(b"m")
    digest = hashlib.sha256(b"m").hexdigest()
    found = check_blob(layout, sha256, path.name, len(data), digest, 100)
    assert found.damage is DamageKind.SIDECAR
    assert "can't be compared with the wheel" in found.detail
    assert wheel_metadata(layout, sha256, path.name, 100) is None


def test_wheel_metadata(layout: Layout) -> None:
    """The metadata of a held wheel is taken out of it."""
    name, data = build_wheel("demo", "1.0")
    sha256 = Sha256(hashlib.sha256(data).hexdigest())
    path = Path(layout.blob_path(sha256, name))
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    metadata = wheel_metadata(layout, sha256, name, 10_000)
    assert metadata is not None
    assert metadata.startswith(b"Metadata-Version")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Allow no further open file."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_own_trouble_is_no_damage(layout: Layout, path: Path) -> None:
    """Too many open files are an error of their own: nothing is called damaged, and so nothing is moved aside."""
    with no_descriptors():
        errors = [caught(lambda: check(layout)), caught(lambda: has_bytes(str(path), [DATA]))]
    assert errors == [f"{path}: too many open files; raise `ulimit -n`, or LimitNOFILE= of the systemd unit"] * 2


def caught(act: Callable[[], object]) -> str:
    try:
        return str(act())
    except TreeError as exc:
        return str(exc)


def test_scan(layout: Layout, path: Path, tmp_path: Path) -> None:
    """Foreign things are named once; leftovers are what we could have written; what is known is left out."""
    outer = SHA256[:2]
    top = layout.files / outer
    (path.parent / "left-1.0.zip").write_bytes(b"12345")
    (path.parent / f"{NAME}.metadata").write_bytes(b"m")
    (path.parent / "directory").mkdir()
    (top / "file").write_bytes(b"")
    (top / "ab" / ("00" * 32)).mkdir(parents=True)
    (top / "cd").symlink_to(tmp_path)
    found = scan_blobs(layout, outer)
    foreign = sorted(
        [str(path.parent / "directory"), str(top / "file"), str(top / "ab" / ("00" * 32)), str(top / "cd")]
    )
    left = Leftover(path=str(path.parent / "left-1.0.zip"), size=5)
    for known, leftovers in (
        ({(SHA256, NAME): "digest"}, [left]),
        ({(SHA256, NAME): None}, [Leftover(path=f"{path}.metadata", size=1), left]),
    ):
        told_foreign, told = sort_unknown(found, known)
        assert (sorted(told_foreign), sorted(told, key=lambda x: x.path)) == (foreign, leftovers)
    assert scan_blobs(layout, "ff") == []


def test_scan_of_empty_directories(layout: Layout) -> None:
    """A directory for blobs that is empty, as a kill may leave it, is a leftover, whatever its depth."""
    for place in ("aa", "ab/00", f"ac/00/{'ac00' * 16}"):
        (layout.files / place).mkdir(parents=True)
        (found,) = sort_unknown(scan_blobs(layout, place[:2]), {})[1]
        assert found == Leftover(path=str(layout.files / place), size=0)
        remove_leftover(layout, found)
        assert not (layout.files / place[:2]).exists()


def test_outer_and_projects(layout: Layout) -> None:
    """Directly below files only two digits are ours; below simple everything but the root pages is a project."""
    for name in ("0a", "0A", "zz", "000"):
        (layout.files / name).mkdir()
    (layout.files / "1f").write_bytes(b"")
    assert list(iter_outer(layout)) == [("000", False), ("0A", False), ("0a", True), ("1f", False), ("zz", False)]
    for name in ("index.html", "demo", "index.v1_json"):
        (layout.simple / name).mkdir()
    assert list(iter_projects(layout)) == ["demo"]
    layout.simple.joinpath("demo/odd").mkdir()
    assert foreign_in_project(layout, ProjectName("demo")) == [str(layout.simple / "demo/odd")]
    assert foreign_in_project(layout, ProjectName("none")) == []


def test_missing_tree(tmp_path: Path) -> None:
    """Where nothing is, nothing is found."""
    layout = Layout(tmp_path / "nowhere")
    assert (list(iter_outer(layout)), list(iter_projects(layout))) == ([], [])
    assert size_of(layout.project_dir(ProjectName("demo"))) == 0


def test_has_bytes(path: Path, tmp_path: Path) -> None:
    """Bytes are compared piece by piece, whole, and not through a link."""
    assert has_bytes(str(path), [DATA[:3], DATA[3:]])
    assert not has_bytes(str(path), [DATA[:3]])
    assert not has_bytes(str(path), [DATA, b"x"])
    (tmp_path / "link").symlink_to(path)
    assert not has_bytes(str(tmp_path / "link"), [DATA])
    assert not has_bytes(str(tmp_path), [DATA])


def test_remove_leftover(layout: Layout, path: Path) -> None:
    """A leftover goes with the directories that become empty, and no others."""
    other = path.with_name("other.zip")
    other.write_bytes(b"")
    remove_leftover(layout, Leftover(path=str(other), size=0))
    assert path.exists()
    remove_leftover(layout, Leftover(path=str(path), size=0))
    assert list(layout.files.iterdir()) == []


def test_move_aside(layout: Layout, path: Path) -> None:
    """What is moved aside keeps where it came from in its name, and never takes the place of something else."""
    first = move_aside(layout, str(path), keep=True)
    assert (first.read_bytes(), path.read_bytes()) == (DATA, DATA)
    second = move_aside(layout, str(path))
    assert (second.name, path.exists()) == (f"{first.name}.1", False)
    long = layout.simple / ("é" * 120)
    long.mkdir()
    assert move_aside(layout, str(long)).is_dir()
    assert layout.root.joinpath("quarantine").stat().st_mode & 0o777 == 0o700


def test_clear_page_place(layout: Layout, tmp_path: Path) -> None:
    """Only what is no plain page is moved out of the way."""
    project = layout.simple / "demo"
    project.mkdir()
    (project / "index.html").write_bytes(b"")
    (project / "index.v1_html").mkdir()
    (layout.simple / "index.html").symlink_to(tmp_path)
    assert len(clear_page_place(layout, ProjectName("demo"))) == 1
    assert [item.name for item in project.iterdir()] == ["index.html"]
    assert len(clear_page_place(layout, None)) == 1
    assert [item.name for item in layout.simple.iterdir()] == ["demo"]
