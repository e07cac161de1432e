"""A real peer: pypiserver, with a password and real wheels."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uv

from harness.program import Mirror, Serving, call_well, clean_environment, counters, published
from simulator import build_sdist, build_wheel

USERNAME, PASSWORD = "org/reader", "sw0rdfish:%+ü"

SERVE = """\
import sys
from pathlib import Path
from wsgiref.simple_server import make_server
sys.modules["bcrypt"] = None  # passlib does not know its newest version
import pypiserver
root, htpasswd = map(Path, sys.argv[1:])
protected = ["list", "download", "update"]
app = pypiserver.app(roots=[root], password_file=htpasswd, authenticate=protected, disable_fallback=True)
server = make_server("127.0.0.1", 0, app)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
"""
"""What ``pypi-server run --server wsgiref`` does, on a port that is free."""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The directory that pypiserver serves: what we build, and the real wheels that come with the interpreter."""
    directory = tmp_path / "packages"
    directory.mkdir()
    for filename, data in (
        build_wheel("Demo.App", "1.0", requires=["demo-lib"]),
        build_wheel("demo-lib", "1.0+cgr.1"),
        build_sdist("demo-lib", "0.9"),
    ):
        (directory / filename).write_bytes(data)
    for wheel in (Path(ensurepip.__file__).parent / "_bundled").glob("*.whl"):
        (directory / wheel.name).write_bytes(wheel.read_bytes())
    return directory


@pytest.fixture
def server(tmp_path: Path, packages: Path) -> Iterator[Serving]:
    """The server in a process of its own; it asks for the password everywhere."""
    htpasswd = tmp_path / "htpasswd"
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    htpasswd.write_text(f"{USERNAME}:{{SHA}}{digest}\n")
    command = [sys.executable, "-W", "ignore", "-c", SERVE, packages, htpasswd]
    with Serving(command, work=tmp_path / "server", env=clean_environment(tmp_path)) as serving:
        yield serving


@pytest.fixture
def mirror(tmp_path: Path, server: Serving) -> Mirror:
    """A mirror of that server, its credential in the environment."""
    credential = {"MIRROR_DEFAULT_USERNAME": USERNAME, "MIRROR_DEFAULT_PASSWORD": PASSWORD}
    return Mirror(tmp_path / "mirroring", url=f"{server.greeting.strip()}simple/", variables=credential)


def held(root: Path) -> dict[str, bytes]:
    """Return file name -> bytes of all that a mirror publishes."""
    return {name: data for files in published(root).values() for name, data in files.items()}


def on_server(packages: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in packages.iterdir()}


def asked(server: Serving) -> list[str]:
    """Return the paths that were asked for, in order, with their answers' statuses."""
    lines = [line.split('"') for line in server.log().splitlines() if '"GET ' in line or '"POST ' in line]
    return [f"{parts[1].split()[1]} {parts[2].split()[0]}" for parts in lines]


def test_mirrored_byte_for_byte(mirror: Mirror, packages: Path):
    """Every wheel and sdist of the server is held with the same bytes, under its project."""
    report = mirror.sync_well()
    assert held(mirror.root) == on_server(packages)
    total = len(on_server(packages))
    size = sum(map(len, on_server(packages).values()))
    assert counters(report, "files_new", "files_failed", "files_unhashed", "bytes_downloaded") == {
        "files_new": total,
        "files_failed": 0,
        "files_unhashed": 0,
        "bytes_downloaded": size,
    }
    assert {"demo-app", "demo-lib"} <= published(mirror.root).keys()


def test_second_cycle_asks_for_pages_only(mirror: Mirror, server: Serving):
    """Where nothing changed, a cycle reads the pages and nothing else, and rewrites no page."""
    first = mirror.sync_well()
    pages = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in mirror.simple.rglob("*")}
    before = len(asked(server))
    projects = counters(first, "projects_listed")["projects_listed"]

    second = mirror.sync_well()
    assert counters(second, "projects_unchanged", "projects_changed", "files_new", "bytes_downloaded", "requests") == {
        "projects_unchanged": projects,
        "projects_changed": 0,
        "files_new": 0,
        "bytes_downloaded": 0,
        "requests": 1 + projects,
    }
    names = sorted(published(mirror.root))
    assert sorted(asked(server)[before:]) == sorted(["/simple/ 200", *(f"/simple/{name}/ 200" for name in names)])
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in mirror.simple.rglob("*")} == pages


def test_upload_arrives(mirror: Mirror, packages: Path, server: Serving, tmp_path: Path):
    """A file that is uploaded between two cycles, by a real client, arrives with the next one, and it alone."""
    mirror.sync_well()
    filename, data = build_wheel("demo-lib", "1.1")
    (tmp_path / filename).write_bytes(data)
    upload = [uv.find_uv_bin(), "publish", "--no-config", "--publish-url", server.greeting.strip()]
    upload += ["--username", USERNAME, "--password", PASSWORD, "--trusted-publishing", "never", tmp_path / filename]
    call_well(upload, env=clean_environment(tmp_path, UV_NO_CACHE="1"), cwd=tmp_path)

    report = mirror.sync_well()
    wanted: dict[str, Any] = {"files_new": 1, "projects_changed": 1, "bytes_downloaded": len(data), "files_failed": 0}
    assert counters(report, *wanted) == wanted
    assert held(mirror.root) == on_server(packages)
    assert held(mirror.root)[filename] == data


def test_wrong_password(mirror: Mirror, server: Serving):
    """A wrong password, to which pypiserver answers 403, costs one request and writes no page."""
    done = mirror.sync(MIRROR_DEFAULT_PASSWORD="wr0ng-password")
    assert done.returncode == 3
    assert asked(server) == ["/simple/ 403"]
    assert not list(mirror.simple.iterdir())
    assert "$MIRROR_DEFAULT_PASSWORD" in done.stderr
    assert "wr0ng-password" not in done.stdout + done.stderr
