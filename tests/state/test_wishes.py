"""Lists of wishes on the disk: bounded, whole, shared by several processes."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from mirror.core.names import ProjectName
from mirror.errors import TreeError
from mirror.holdings.wishes import MAX_WISHES, WishFile, parse_wishes

NAMES = [ProjectName(f"p{number}") for number in range(MAX_WISHES + 5)]


def test_names_are_added_once_in_their_order(tmp_path: Path) -> None:
    """A name stands once, one a line; nobody but the owner reads the file."""
    file = WishFile(tmp_path / "wishes.txt")
    assert file.load() == ()
    assert file.add([ProjectName("b"), ProjectName("a"), ProjectName("b")]) == ()
    assert file.add([ProjectName("a"), ProjectName("c")]) == ()
    assert file.path.read_bytes() == b"b\na\nc\n"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.drop(lambda name: name == "a") == ("a",)
    assert file.load() == ("b", "c")
    assert [path.name for path in tmp_path.iterdir()] == ["wishes.txt"]


def test_a_list_that_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody deletes the file while another process waits for it: there is nothing to drop, and no error."""
    file = WishFile(tmp_path / "wishes.txt")
    file.add([ProjectName("a")])

    def late(descriptor: int, kind: int) -> None:
        file.path.unlink()
        flock(descriptor, kind)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", late)
    assert file.drop(lambda _: True) == ()


def test_half_a_name_is_not_read(tmp_path: Path) -> None:
    """A reader waits for the process that writes."""
    file = WishFile(tmp_path / "wishes.txt")
    with ThreadPoolExecutor(1) as threads, file.path.open("wb", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(b"num")
        found = threads.submit(file.load)
        wait([found], timeout=0.1)
        writer.write(b"py\n")
        fcntl.flock(writer, fcntl.LOCK_UN)
        assert found.result() == ("numpy",)


def test_a_full_list_takes_no_more(tmp_path: Path) -> None:
    """The first thousand stay; the others are returned."""
    file = WishFile(tmp_path / "wishes.txt")
    assert file.add(NAMES) == tuple(NAMES[MAX_WISHES:])
    assert file.add(NAMES[-1:]) == tuple(NAMES[-1:])
    assert file.load() == tuple(NAMES[:MAX_WISHES])


def _add(path: Path, first: int) -> None:
    for name in NAMES[first : first + 60]:
        WishFile(path).add([name])
        WishFile(path).drop(lambda known, name=name: known == name and int(name[1:]) % 7 == 0)


def test_several_processes_share_a_list(tmp_path: Path) -> None:
    """Names that several processes add and drop at the same time are all there, each once."""
    path = tmp_path / "wishes.txt"
    with ProcessPoolExecutor(3) as pool:
        for done in [pool.submit(_add, path, first) for first in (0, 30, 60)]:
            done.result()
    left = WishFile(path).load()
    assert sorted(left) == sorted(name for name in NAMES[:120] if int(name[1:]) % 7)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ()),
        (b"\xef\xbb\xbfFoo_Bar\r\n\r\n foo.bar \nzz", ("foo-bar", "zz")),
        (b"a" * 64, ("a" * 64,)),
        (b"a" * 65, "line 1: expected a name of at most 64 characters"),
        (b"ok\nno name\n", "line 2: expected the name of a project, found no name"),
        (b"ok\n\x1b[31mred\n", "line 2: expected the name of a project, found \\x1b[31mred"),
        (b"\xff\n", "line 1: expected the name of a project, found \\xff"),
        (b"flask==1\n", "line 1: expected the name of a project, found flask==1"),
        ("".join(f"{name}\n" for name in NAMES).encode(), "expected at most 1,000 names, found 1,005"),
        (b"\n" * (2 << 20), "expected a list of at most 1,000 names, one a line"),
    ],
    ids=[
        "empty",
        "by-hand",
        "longest",
        "too-long",
        "no-name",
        "escapes",
        "no-text",
        "version",
        "too-many",
        "too-large",
    ],
)
def test_what_a_list_is(data: bytes, expected: tuple[str, ...] | str) -> None:
    """Names in any spelling; anything else is refused with its line."""
    if isinstance(expected, tuple):
        assert parse_wishes(data) == expected
        return
    with pytest.raises(ValueError) as caught:
        parse_wishes(data)
    assert str(caught.value) == expected


@pytest.mark.parametrize("obstacle", ["link", "folder", "pipe", "other-file", "no-folder"])
def test_a_list_that_can_not_be_used(tmp_path: Path, obstacle: str) -> None:
    """A link is not followed, another file is not changed: one error that names the path."""
    path, victim = tmp_path / "wishes.txt", tmp_path / "victim"
    victim.write_text("no list\n")
    match obstacle:
        case "link":
            path.symlink_to(victim)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "other-file":
            victim.rename(path)
        case _:
            path = tmp_path / "none" / "wishes.txt"
    with pytest.raises(TreeError, match=str(path)):
        WishFile(path).add([ProjectName("a")])
    kept = path if obstacle == "other-file" else victim
    assert kept.read_text() == "no list\n"
