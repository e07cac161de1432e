"""``mirror status`` beside a damaged state: it never says whole, and the advice fits."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mirror.cli import main
from mirror.exit_codes import ExitCode
from simulator import build_wheel


@pytest.fixture
def root(threaded_simulator, tmp_path, monkeypatch, capsys):
    """The root of a mirror whose last cycle was complete."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    index = threaded_simulator()
    for number in range(20):
        name = f"p{number:02}"
        for release in range(4):
            index.state.publish(name, *build_wheel(name, f"{release}.0"))
    assert main(["sync", "--once", "--index-url", index.url, "--root", "m"]) == ExitCode.OK
    assert main(["status", "--root", "m"]) == ExitCode.OK
    capsys.readouterr()
    return tmp_path / "m"


def refused(capsys) -> str:
    """Return what status says where it can't read the state."""
    assert main(["status", "--root", "m"]) == ExitCode.STORAGE
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_every_damaged_page_is_found(root: Path, capsys) -> None:
    """Each page of the database in turn holds other bytes: status ends with 6 and names the repair, or all is readable.

    A page that holds nothing of use, such as a free one, may be damaged without harm.
    """
    state = root / "state.db"
    with closing(sqlite3.connect(state)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    whole = state.read_bytes()
    pages = len(whole) // size
    assert pages > 40
    unharmed = 0
    for number in range(pages):
        damaged = bytearray(whole)
        damaged[number * size : (number + 1) * size] = b"\xa5" * size
        state.write_bytes(damaged)
        code = main(["status", "--root", "m"])
        out, err = capsys.readouterr()
        if code == ExitCode.OK:
            unharmed += 1
        else:
            assert (code, out) == (ExitCode.STORAGE, ""), number
            assert "`mirror verify --repair`" in err, number
    assert unharmed <= free


@pytest.mark.parametrize("left", [0.95, 0.5, 0.05], ids=["nearly-all", "half", "start"])
def test_a_state_that_was_cut(root: Path, capsys, left: float) -> None:
    """A file that lost its end is damaged."""
    with closing(sqlite3.connect(root / "state.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(root / "state.db", int((root / "state.db").stat().st_size * left))
    assert "`mirror verify --repair`" in refused(capsys)


def test_a_directory_in_its_place(root: Path, capsys) -> None:
    """It says that it is a directory, not that permissions are missing; verify --repair rebuilds the state."""
    for path in root.glob("state.db*"):
        path.unlink()
    (root / "state.db").mkdir()
    line = refused(capsys)
    assert "it is a directory, not a database; run `mirror verify --repair`" in line
    assert "permission" not in line
    assert main(["verify", "--repair", "--root", "m"]) == ExitCode.OK
    capsys.readouterr()
    assert main(["status", "--root", "m"]) in {ExitCode.OK, ExitCode.PARTIAL}
    out = capsys.readouterr().out
    assert "left the configuration" not in out
    assert "80 files rebuilt from the tree, which no index has claimed yet" in out
