"""``mirror web-config``: each real server does the same with the tree."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from clients.conftest import PASSWORD, USERNAME, Served, fill, mirror_of

from harness.program import GUARD_S
from harness.web_servers import SERVERS, WebServer, web_server
from mirror.cli import main
from simulator import ThreadedSimulator, build_wheel

JSON = "application/vnd.pypi.simple.v1+json"
HTML_V1 = "application/vnd.pypi.simple.v1+html"
PIP = f"{JSON}, {HTML_V1}; q=0.1, text/html; q=0.01"
FORMS = {
    "nothing": ("", {}, "text/html"),
    "anything": ("", {"Accept": "*/*"}, "text/html"),
    "browser": ("", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, "text/html"),
    "pip": ("", {"Accept": PIP}, JSON),
    "html": ("", {"Accept": HTML_V1}, HTML_V1),
    "latest": ("", {"Accept": "application/vnd.pypi.simple.latest+json"}, JSON),
    "json-refused": ("", {"Accept": f"{JSON};q=0, {HTML_V1}"}, HTML_V1),
    "json-refused-precisely": ("", {"Accept": f"{JSON}; q=0.000, text/html"}, "text/html"),
    "json-last": ("", {"Accept": f"text/html;q=0.9,{JSON};q=1.0"}, JSON),
    "format": (f"?format={JSON}", {"Accept": "text/html"}, JSON),
    "format-quoted": (f"?format={JSON.replace('+', '%2B').replace('/', '%2F')}", {"Accept": "text/html"}, JSON),
    "format-latest": ("?format=application/vnd.pypi.simple.latest+html", {"Accept": PIP}, HTML_V1),
    "format-html": ("?format=text/html", {"Accept": PIP}, "text/html"),
}
NAMES = {"text/html": "index.html", JSON: "index.v1_json", HTML_V1: "index.v1_html"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror's root with a snapshot that a channel shows."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD) as index:
        fill(index.state)
        for version in range(30):
            index.state.publish("many", *build_wheel("many", f"1.{version}"))
        mirror = mirror_of(index, tmp_path_factory.mktemp("mirrored"))
        mirror.sync_well()
    assert mirror.run("snapshot", "create", "frozen", "--root", mirror.root).returncode == 0
    assert mirror.run("snapshot", "promote", "frozen", "--channel", "stable", "--root", mirror.root).returncode == 0
    return mirror.root


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Each server in turn, with the printed configuration."""
    with web_server(request.param, root, tmp_path_factory.mktemp(request.param) / "server") as started:
        yield started


def wheel_path(root: Path) -> tuple[str, bytes]:
    """Return the path of a file whose name needs ``%2B``, and its bytes."""
    (wheel,) = root.glob("public/files/*/*/*/demo_lib-1.1+cgr.1-py3-none-any.whl")
    return f"/{wheel.relative_to(root / 'public')}".replace("+", "%2B"), wheel.read_bytes()


@pytest.mark.parametrize(
    "place", ["/simple/", "/simple/demo-lib/", "/snapshots/frozen/simple/", "/channels/stable/simple/many/"]
)
@pytest.mark.parametrize(("query", "headers", "content_type"), FORMS.values(), ids=FORMS)
def test_forms(server, root, place, query, headers, content_type):
    """A page comes in the form that ``?format=`` or ``Accept`` names, and caches know on what it depends."""
    answer = server.get(place + query, **headers)
    assert answer.status == 200
    assert answer.headers["Content-Type"].partition(";")[0] == content_type
    assert answer.body == (root / "public" / place[1:] / NAMES[content_type]).read_bytes()
    assert sorted(re.split(", *", answer.headers["Vary"])) == ["Accept", "Accept-Encoding"]
    assert answer.headers["Cache-Control"] == "max-age=600"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("accept", ["text/html", JSON, HTML_V1])
def test_gzip(server, root, accept):
    """Each form of a page is compressed for a client that takes that; its validator works all the same."""
    answer = server.get("/simple/many/", Accept=accept, Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == (root / "public/simple/many" / NAMES[accept]).read_bytes()
    again = server.get("/simple/many/", Accept=accept, Accept_Encoding="gzip", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    plain = server.get("/simple/many/", Accept=accept)
    assert server.get("/simple/many/", Accept=accept, If_None_Match=plain.headers["ETag"]).status == 304


def test_files(server, root):
    """A file comes as it is, never encoded, and may be kept for ever; so does its metadata."""
    path, data = wheel_path(root)
    for asked in (path, path.replace("%2B", "+"), f"/snapshots/frozen{path}", f"/channels/stable{path}"):
        answer = server.get(asked, Accept=JSON, Accept_Encoding="gzip")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"] == "max-age=365000000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Encoding" not in answer.headers
    metadata = server.get(f"{path}.metadata", Accept_Encoding="gzip")
    assert metadata.status == 200
    assert b"Name: demo-lib" in metadata.body
    (sdist,) = root.glob("public/files/*/*/*/demo_src-0.1.tar.gz")
    answer = server.get(f"/{sdist.relative_to(root / 'public')}", Accept_Encoding="gzip")
    assert answer.body == sdist.read_bytes()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Encoding" not in answer.headers


def test_ranges(server, root):
    """A part of a file is had by asking for it, also on the condition that the file is still the same."""
    path, data = wheel_path(root)
    until_s = time.monotonic() + GUARD_S
    while (whole := server.get(path, method="HEAD")).headers["ETag"].startswith("W/"):
        assert time.monotonic() < until_s
        time.sleep(0.1)  # Apache's tag of a file is weak while the file is younger than a second
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = server.get(path, Range="bytes=10-19", If_Range=whole.headers["ETag"])
    assert (part.status, part.body) == (206, data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
    assert server.get(path, Range="bytes=-5").body == data[-5:]
    other = server.get(path, Range="bytes=10-19", If_Range='"other"')
    assert (other.status, other.body) == (200, data)
    assert server.get(path, Range=f"bytes={len(data)}-").status == 416


@pytest.mark.parametrize(
    "path",
    [
        "/", "/files/", "/files/aa/", "/files/aa/bb/", "/simple/absent/", "/simple/absent", "/simple/Foo/", "/snapshots/",
        "/snapshots/frozen/", "/snapshots/absent/simple/", "/channels/", "/channels/stable/files/", "/state.db",
        "/.htaccess", "/files/.htpasswd", "/simple/../state.db", "/simple/%2e%2e/%2e%2e/state.db", "/simple/demo-lib/x.html",
        "/simple/demo-lib/index.html/", "/simple/demo-lib/index.html/more",
    ],
)  # fmt: skip
def test_not_there(server, path):
    """What is not there is 404, a directory too: at 401 and 403 uv stops. (400 for a path that leads out.)"""
    for headers in ({}, {"Accept": PIP}):
        answer = server.get(path, **headers)
        assert answer.status == 404 or (".." in path.replace("%2e", ".") and answer.status == 400), answer
        assert answer.headers.get("Cache-Control") == "no-store" or answer.status == 400
        assert not {"Content-Security-Policy", "Location"} & set(answer.headers.keys())
    if path.startswith("/files/a"):
        assert server.get(path.rstrip("/")).status in {301, 404}


def test_missing_index(root, tmp_path):
    """A mirror before its first cycle, and a page that only its owner may read, are 404 too."""
    empty = tmp_path / "empty"
    (empty / "public/simple/secret").mkdir(parents=True)
    for kind in SERVERS:
        with web_server(kind, empty, tmp_path / kind) as started:
            assert {started.get(p).status for p in ("/simple/", "/files/", "/simple/secret/", "/simple/secret/")} == {
                404
            }


REDIRECTED = {
    "/simple": "simple/",
    "/simple/many": "many/",
    "/simple/many?format=text/html&x=%2F": "many/?format=text/html&x=%2F",
    "/snapshots/frozen/simple": "simple/",
    "/channels/stable/simple/many": "many/",
}


@pytest.mark.parametrize(("path", "location"), REDIRECTED.items(), ids=REDIRECTED)
def test_redirects_are_relative(server, path, location):
    """A missing slash is one redirect that keeps the query and fits any host and scheme; where possible any prefix."""
    answer = server.get(path, Host="elsewhere.example")
    if server.kind == "apache":
        location = urljoin(path, location)  # it knows no other
    assert (answer.status, answer.headers["Location"]) == (301, location)


def test_no_upload(server):
    """Other methods are refused."""
    assert server.get("/simple/", method="POST", Content_Length="0").status in {404, 405}


def test_clients_install(server, client):
    """Pip and uv install from it and resolve by metadata."""
    served = Served(server.kind, server.url, None)
    assert client.install_well(served, "demo-app", "demo-lib>=1") == {
        "demo_app": "1.0",
        "demo_lib": "1.2",
        "demo_src": "0.1",
    }
    refused = client.install(served, "absent-project")
    assert refused.returncode == 1
    assert "403 Forbidden" not in refused.stderr


def test_root_of_the_configuration(tmp_path, capsys, monkeypatch):
    """The root is --root, else that of the configuration, else that of the units; an odd one is refused."""
    monkeypatch.chdir(tmp_path)
    for name in ("MIRROR_CONFIG", "MIRROR_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert main(["web-config", "nginx"]) == 0
    assert "root   /var/lib/mirror/public;" in capsys.readouterr().out
    (tmp_path / "mirror.toml").write_text(
        '[mirror]\nroot = "here"\n[[index]]\nname = "default"\nurl = "https://index.example/simple/"\n'
    )
    for kind in SERVERS:
        assert main(["web-config", kind]) == 0
        out = capsys.readouterr().out
        assert f"{tmp_path}/here/public" in out
        assert "/var/lib/mirror" not in out
    assert main(["web-config", "nginx", "--root", "/srv/x"]) == 0
    assert "root   /srv/x/public;" in capsys.readouterr().out
    assert main(["web-config", "nginx", "--root", "/srv/a;b"]) == 2
    assert "expected an absolute path" in capsys.readouterr().err
    assert main(["web-config", "iis"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mirror.toml"]
