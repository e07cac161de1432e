"""Pages on a real disk: replaced whole, linked, removed, made durable."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.names import ProjectName
from mirror.core.pages.render_pages import RenderedPage, iter_root_html, iter_root_json
from mirror.errors import TreeError
from mirror.tree.layout import Layout, create_tree
from mirror.tree.pages import PAGE_NAMES, PageStore

NAME = ProjectName("demo")
PAGE = RenderedPage(html=b"<html>", json=b"{}")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "root")
    create_tree(made)
    return made


@pytest.fixture
def pages(layout: Layout) -> PageStore:
    return PageStore(layout)


def tree(layout: Layout) -> dict[str, bytes]:
    """Return all files below the root with their bytes."""
    return {str(p.relative_to(layout.root)): p.read_bytes() for p in sorted(layout.root.rglob("*")) if p.is_file()}


def project_files(page: RenderedPage, place: str = "demo/") -> dict[str, bytes]:
    """Return the three files of a page."""
    forms = (page.html, page.html, page.json)
    return {f"public/simple/{place}{name}": data for name, data in zip(PAGE_NAMES, forms, strict=True)}


def test_project_is_written_and_replaced(layout: Layout, pages: PageStore) -> None:
    """A page is three files, readable by all, two of them one; nothing else is left anywhere."""
    assert not pages.has_project(NAME)
    for page in (PAGE, RenderedPage(html=b"<html>2", json=b"{2}")):
        pages.write_project(NAME, page)
        assert tree(layout) == project_files(page)
    assert pages.has_project(NAME)
    found = [(layout.simple / NAME / name).stat() for name in PAGE_NAMES]
    assert [stat.S_IMODE(item.st_mode) for item in found] == [0o644] * 3
    assert found[0].st_ino == found[1].st_ino != found[2].st_ino


def test_reader_of_the_old_page_keeps_it(layout: Layout, pages: PageStore) -> None:
    """Who has a page open while it is replaced reads the old one to its end."""
    pages.write_project(NAME, PAGE)
    with (layout.simple / NAME / "index.html").open("rb") as reader:
        pages.write_project(NAME, RenderedPage(html=b"other", json=b"other"))
        assert reader.read() == PAGE.html


@pytest.mark.parametrize("mask", [0o077, 0o000], ids=oct)
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    """A strict umask does not hide what is public, a lax one does not open what is private."""
    old = os.umask(mask)
    try:
        layout = Layout(tmp_path / "root")
        create_tree(layout)
        PageStore(layout).write_project(NAME, PAGE)
    finally:
        os.umask(old)
    modes = {
        path: stat.S_IMODE((layout.root / path).stat().st_mode) for path in ("staging", "public", "public/simple/demo")
    }
    assert modes == {"staging": 0o700, "public": 0o755, "public/simple/demo": 0o755}
    assert stat.S_IMODE((layout.simple / "demo" / "index.html").stat().st_mode) == 0o644


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK], ids=errno.errorcode.get)
def test_file_system_without_links(
    layout: Layout, pages: PageStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where the system refuses hard links the second name is a copy."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    pages.write_project(NAME, PAGE)
    assert tree(layout) == project_files(PAGE)


def test_failure_in_between_leaves_the_old_pages(
    layout: Layout, pages: PageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk while a page is staged leaves the old one, whole, and no leftovers."""
    pages.write_project(NAME, PAGE)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(TreeError, match="input/output error"):
        pages.write_project(NAME, RenderedPage(html=b"new", json=b"new"))
    assert tree(layout) == project_files(PAGE)


def test_project_is_removed(layout: Layout, pages: PageStore) -> None:
    """A removed project leaves nothing; removing it again is no error; what is not ours stays."""
    pages.write_project(NAME, PAGE)
    pages.remove_project(NAME)
    assert list(layout.simple.iterdir()) == []
    pages.remove_project(NAME)
    pages.write_project(NAME, PAGE)
    (layout.simple / NAME / "notes.txt").write_bytes(b"mine")
    pages.remove_project(NAME)
    assert tree(layout) == {"public/simple/demo/notes.txt": b"mine"}


@pytest.mark.parametrize("missing", PAGE_NAMES)
def test_project_with_a_page_missing(layout: Layout, pages: PageStore, missing: str) -> None:
    """A project that lacks one of its pages counts as not there."""
    pages.write_project(NAME, PAGE)
    (layout.simple / NAME / missing).unlink()
    assert not pages.has_project(NAME)


def test_root_is_written_in_pieces(layout: Layout, pages: PageStore) -> None:
    """Root pages are taken piece by piece, and replaced whole."""
    pages.write_root([b"old"], [b"old"])
    pages.write_root((b"<%d>" % n for n in range(3)), iter([b"[", b"]"]))
    assert tree(layout) == project_files(RenderedPage(html=b"<0><1><2>", json=b"[]"), "")


def test_serial_of_the_root(layout: Layout, pages: PageStore) -> None:
    """The serial that the root page on the disk carries can be read; a missing or foreign page has none."""
    assert pages.root_serial() is None
    pages.write_root(iter_root_html([], 42), iter_root_json([(NAME, 7)], 42))
    assert pages.root_serial() == 42
    (layout.simple / "index.v1_json").write_bytes(b"[]")
    assert pages.root_serial() is None


def test_root_whose_source_fails(layout: Layout, pages: PageStore) -> None:
    """When the pieces stop by an error, the old root stays and nothing is left in staging."""
    pages.write_root([b"old"], [b"old"])

    def broken() -> Iterator[bytes]:
        yield b"["
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        pages.write_root([b"new"], broken())
    assert tree(layout) == project_files(RenderedPage(html=b"old", json=b"old"), "")


@pytest.mark.parametrize("count", [0, 1, 8, 9, 30])
def test_sync(layout: Layout, pages: PageStore, count: int) -> None:
    """Few or many, written or removed: all can be made durable."""
    names = [ProjectName(f"p{n}") for n in range(count)]
    for name in names:
        pages.write_project(name, PAGE)
    pages.write_root([b""], [b""])
    before = tree(layout)
    pages.sync([*names, ProjectName("gone")])
    pages.sync(names, root=False)
    assert tree(layout) == before


def test_sync_touches_what_it_is_told(layout: Layout, pages: PageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small batch is synced by its own files and directories, from the deepest to the one above all."""
    pages.write_project(NAME, PAGE)
    pages.write_root([b""], [b""])
    synced: list[str] = []

    def watch(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(layout.public)))

    monkeypatch.setattr(os, "fsync", watch)
    pages.sync([NAME, ProjectName("gone")], root=True)
    assert synced == [
        *(f"simple/demo/{name}" for name in PAGE_NAMES),
        "simple/demo",
        *(f"simple/{name}" for name in PAGE_NAMES),
        "simple",
    ]


def test_planted_links_are_not_followed(layout: Layout, pages: PageStore, tmp_path: Path) -> None:
    """A link in place of a project's directory is refused; a link in place of a page is replaced."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (layout.simple / NAME).symlink_to(outside)
    for act in (lambda: pages.write_project(NAME, PAGE), lambda: pages.remove_project(NAME)):
        with pytest.raises(TreeError, match="a symbolic link stands"):
            act()
    assert list(outside.iterdir()) == []
    (layout.simple / NAME).unlink()
    (layout.simple / NAME).mkdir()
    (layout.simple / NAME / "index.html").symlink_to(outside / "victim")
    assert not pages.has_project(NAME)
    pages.write_project(NAME, PAGE)
    assert tree(layout) == project_files(PAGE)
    assert list(outside.iterdir()) == []


def test_file_in_place_of_a_directory(layout: Layout, pages: PageStore) -> None:
    """Something that is no directory where a project's should be is an error that names it."""
    (layout.simple / NAME).write_bytes(b"")
    assert not pages.has_project(NAME)
    with pytest.raises(TreeError) as caught:
        pages.write_project(NAME, PAGE)
    assert str(caught.value) == f"{layout.simple / NAME}: something that is no directory stands in the way; remove it"
