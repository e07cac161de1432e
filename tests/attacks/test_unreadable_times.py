"""Labels that a client can't read are left out, since one of them makes a whole project uninstallable for pip or uv."""

from __future__ import annotations

import contextlib
import functools
import http.server
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import uv
from hypothesis import given
from hypothesis import strategies as st

from harness.in_process import Mirror, failures
from mirror.core.files.upload_time import is_readable_time
from simulator import Simulator, build_wheel

Simulators = Callable[..., Awaitable[Simulator]]

PROJECT = "tide-tables"

UNREADABLE = (
    "last week",
    "2026-02-30T25:00:00Z",
    "2026-01-02T03:04:05",
    "2026-01-02",
    "2026-01-02T03:04:05.1Z",
    "2026-01-02T03:04:05.1234567Z",
    "2026-01-02T03:04:05z",
    "20260102T030405Z",
    "2026-W01-1T00:00:00Z",
    "2026-01-02T23:59:60Z",
    "9999-12-31T23:59:59Z",
    "2026-01-02T03:04:05+26:00",
    " 2026-01-02T03:04:05Z",
    "1767323045",
)
READABLE = (
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.123Z",
    "2026-01-02 03:04:05.123456+02:00",
    "0001-01-01T00:00:00Z",
)


@pytest.mark.parametrize(("text", "is_readable"), [*((t, False) for t in UNREADABLE), *((t, True) for t in READABLE)])
def test_which_times_are_readable(text: str, is_readable: bool) -> None:
    """Kept is what pip reads under each Python since 3.10, and uv."""
    assert is_readable_time(text) == is_readable


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|\+[0-9:]{5})"))
def test_a_readable_time_is_a_time(text: str) -> None:
    """Whatever comes, nothing is raised, and what is kept names an instant."""
    if is_readable_time(text):
        assert datetime.fromisoformat(text).tzinfo is not None


class _Json(http.server.SimpleHTTPRequestHandler):
    """Serves the JSON pages of a tree."""

    def send_head(self):
        if self.path.endswith("/"):
            self.path += "index.v1_json"
        return super().send_head()

    def guess_type(self, path):
        return "application/vnd.pypi.simple.v1+json" if str(path).endswith("_json") else "application/octet-stream"

    def log_message(self, *arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def json_url(tmp_path: Path) -> Iterator[str]:
    """Serve the mirror's JSON pages."""
    handler = functools.partial(_Json, directory=str(tmp_path / "mirror/public"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
    server.shutdown()
    server.server_close()


async def test_pip_and_uv_install_beside_unreadable_labels(
    simulator: Simulators, tmp_path: Path, json_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Times that can't be read are told once and left out, a requires-python stays; both clients install the project."""
    index = await simulator()
    for number, text in enumerate(UNREADABLE):
        index.state.publish(PROJECT, *build_wheel(PROJECT, f"1.{number}"), upload_time=text)
    index.state.publish(PROJECT, *build_wheel(PROJECT, "2.0"), upload_time=READABLE[1])
    odd, data = build_wheel(PROJECT, "1.99")
    index.state.publish(PROJECT, odd, data, requires_python=">>3")
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    assert failures(await mirror.cycle()) == []
    logged = "".join(capsys.readouterr())
    assert logged.count(f"upload-time: not as specified, left out ({len(UNREADABLE)} times)") == 1
    page = mirror.page(PROJECT)
    assert [f["upload-time"] for f in page["files"] if "upload-time" in f and f["filename"] != odd] == [READABLE[1]]
    assert mirror.labels(PROJECT, odd)["requires-python"] == ">>3"

    uv_done = _call(
        [uv.find_uv_bin(), "pip", "compile", "--no-cache", "--no-config", "--quiet", "-"], json_url, tmp_path
    )
    assert f"{PROJECT}==2.0" in uv_done.stdout, uv_done.stderr
    pip = [sys.executable, "-m", "pip", "--isolated", "download", "--no-deps", "-d", str(tmp_path / "got"), PROJECT]
    pip_done = _call(pip, json_url, tmp_path)
    assert "tide_tables-2.0" in pip_done.stdout, pip_done.stderr


def _call(command: list[str], url: str, work: Path) -> subprocess.CompletedProcess[str]:
    option = "--default-index" if "compile" in command else "--index-url"
    return subprocess.run(
        [*command, option, url], input=f"{PROJECT}\n", check=False, capture_output=True, text=True, cwd=work
    )


@pytest.mark.parametrize("formats", ["html", "json"])
async def test_a_page_that_was_read_by_an_earlier_version_is_read_again(
    simulator: Simulators, tmp_path: Path, formats: str
) -> None:
    """After an upgrade a time that is held already, and a yank that was lost, are put right without a change of the page."""
    index = await simulator(formats=formats)
    index.state.publish(PROJECT, *build_wheel(PROJECT, "1.0"), upload_time=None)
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    await mirror.cycle()
    with contextlib.closing(sqlite3.connect(mirror.root / "state.db")) as state, state:
        state.execute("UPDATE project SET selection = 'that of an earlier version'")
        state.execute("UPDATE entry SET upload_time = 'last week' WHERE valid_to IS NULL")
    await mirror.cycle()
    assert "upload-time" not in mirror.labels(PROJECT, build_wheel(PROJECT, "1.0")[0])
