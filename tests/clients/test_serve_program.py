"""``serve.py``: the far side's server, run by a bare interpreter, for raw requests and for pip and uv."""

from __future__ import annotations

import ast
import ctypes
import gzip
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clients.conftest import PASSWORD, USERNAME, Served, fill, mirror_of

from harness.interpreters import find_interpreter
from harness.program import GUARD_S, Serving, clean_environment
from harness.web_servers import Answer, WebServer
from mirror.bundle import serve as program
from simulator import ThreadedSimulator, build_wheel

PROGRAM = Path(program.__file__)
JSON, HTML_V1, HTML = program.JSON, program.HTML_V1, program.HTML
PIP = f"{JSON}, {HTML_V1}; q=0.1, text/html; q=0.01"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root as the receiver leaves it: ``simple`` and a channel lead to a snapshot; and what must not be served."""
    with ThreadedSimulator(username=USERNAME, password=PASSWORD) as index:
        fill(index.state)
        for version in range(30):
            index.state.publish("many", *build_wheel("many", f"1.{version}"))
        mirror = mirror_of(index, tmp_path_factory.mktemp("mirrored"))
        mirror.sync_well()
    far = tmp_path_factory.mktemp("far")
    public = far / "public"
    shutil.copytree(mirror.root / "public/files", public / "files")
    shutil.copytree(mirror.root / "public/simple", public / "snapshots/bundle-000001/simple")
    (public / "simple").symlink_to("snapshots/bundle-000001/simple")
    (public / "channels").mkdir()
    (public / "channels/stable").symlink_to("../snapshots/bundle-000001")
    (public / "channels/astray").symlink_to("../../secret")
    (far / "secret/simple").mkdir(parents=True)
    (far / "secret/simple/index.html").write_text("secret")
    (public / "snapshots/linked").symlink_to("../../secret")
    (public / "snapshots/bundle-000001/simple/planted").symlink_to("../../../../secret/simple")
    digest = "ab" * 32
    (public / f"files/ab/ab/{digest}").mkdir(parents=True)
    (public / f"files/ab/ab/{digest}/link.whl").symlink_to(far / "secret/simple/index.html")
    os.mkfifo(public / f"files/ab/ab/{digest}/pipe.whl")
    (public / f"files/ab/ab/{digest}/folder.whl").mkdir()
    (public / "files/loose.whl").write_text("loose")
    shutil.copy(PROGRAM, far / "serve.py")
    return far


@contextmanager
def started(
    root: Path, work: Path, *, python: str = sys.executable, words: tuple[str, ...] = ()
) -> Iterator[WebServer]:
    """Run the program of a root on a port that the system chooses."""
    command = [python, "-I", "-S", "-W", "error", root / "serve.py", "--listen", "127.0.0.1:0", *words]
    with Serving(command, work=work, env=clean_environment(work)) as server:
        yield WebServer("serve.py", int(server.greeting.strip().rstrip("/").rpartition(":")[2]))
    assert "Traceback" not in server.log()


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The program under way."""
    with started(root, tmp_path_factory.mktemp("server")) as found:
        yield found


def raw(server: WebServer, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=GUARD_S) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def wheel(root: Path) -> tuple[str, bytes]:
    (found,) = root.glob("public/files/*/*/*/demo_lib-1.1+cgr.1-py3-none-any.whl")
    return f"/{found.relative_to(root / 'public')}".replace("+", "%2B"), found.read_bytes()


def test_it_needs_nothing_but_the_standard_library():
    """Every import is of the standard library; the syntax is that of Python 3.9."""
    tree = ast.parse(PROGRAM.read_text(), feature_version=(3, 9))
    names = {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {(node.module or "").partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names
    first = next(node for node in tree.body[1:])
    assert isinstance(first, ast.Import)
    assert [alias.name for alias in first.names] == ["sys"]
    assert not any(isinstance(node, ast.Match | ast.TryStar) for node in ast.walk(tree))


@pytest.mark.parametrize("minor", [9, 10, 12, 13])
def test_each_python(root, tmp_path, client, minor):
    """Pip and uv install from it, run by each Python that is here, warnings being errors."""
    found = find_interpreter([minor])
    if found is None:
        pytest.skip(f"Python 3.{minor} is not installed")
    with started(root, tmp_path / "server", python=found[1]) as server:
        served = Served("serve.py", server.url, None)
        installed = client.install_well(served, "demo-app", "demo-lib>=1")
        assert installed == {"demo_app": "1.0", "demo_lib": "1.2", "demo_src": "0.1"}
        assert client.install(served, "absent-project").returncode == 1


ENCODINGS = ("identity", "gzip")
FORMS = {
    "nothing": ("", None, HTML),
    "anything": ("", "*/*", HTML),
    "pip": ("", PIP, JSON),
    "browser": ("", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
    "html": ("", HTML_V1, HTML_V1),
    "latest": ("", "application/vnd.pypi.simple.latest+json", JSON),
    "refused": ("", f"{JSON};q=0, */*", HTML),
    "refused-html": ("", "text/html;q=0, application/*;q=0.5", JSON),
    "better": ("", f"{JSON};q=0.5, {HTML_V1};q=0.6", HTML_V1),
    "odd-case": ("", JSON.upper(), JSON),
    "format": (f"?format={JSON}", "text/html", JSON),
    "format-quoted": ("?format=application%2Fvnd.pypi.simple.latest%2Bhtml", PIP, HTML_V1),
    "nothing-fits": ("", "image/png", None),
    "newer": ("", "application/vnd.pypi.simple.v2+json", None),
    "odd-format": ("?format=application/json", PIP, None),
}


@pytest.mark.parametrize(
    "place", ["/simple/", "/simple/demo-lib/", "/snapshots/bundle-000001/simple/", "/channels/stable/simple/many/"]
)
@pytest.mark.parametrize(("query", "accept", "form"), FORMS.values(), ids=FORMS)
def test_forms(server, root, place, query, accept, form):
    """A page comes in the form that ``?format=`` or ``Accept`` names; a form that is not there is 406."""
    answer = server.get(place + query, **({"Accept": accept} if accept else {}))
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if form is None:
        assert answer.status == 406
        return
    data = (root / "public" / place[1:] / program.PAGE_NAMES[form]).read_bytes()
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, form, data)
    # The tag of `mirror serve`, so that each copy of a tree has the same one.
    heads = [f"{form} {word}\n".encode() for word in ENCODINGS]
    plain, zipped_tag = (f'"{hashlib.sha256(head + data).hexdigest()}"' for head in heads)
    assert answer.headers["ETag"] == plain
    assert answer.headers["Cache-Control"] == "max-age=600"
    zipped = server.get(place + query, Accept_Encoding="br, gzip;q=0.5", **({"Accept": accept} if accept else {}))
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.body) == data
    assert zipped.headers["ETag"] == zipped_tag
    assert "Content-Encoding" not in server.get(place + query, Accept_Encoding="gzip;q=0").headers


@pytest.mark.parametrize("known", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_known_pages_and_files(server, root, known):
    """What the client has is not sent again."""
    path, _ = wheel(root)
    for place in ("/simple/many/", path, f"{path}.metadata"):
        etag = server.get(place).headers["ETag"].strip('"')
        again = server.get(place, If_None_Match=known.format(etag))
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", f'"{etag}"')
        assert server.get(place, If_None_Match='"other"').status == 200
    date = server.get(path).headers["Last-Modified"]
    assert server.get(path, If_Modified_Since=date).status == 304
    assert server.get(path, If_Modified_Since="yesterday").status == 200


RANGES = {
    "part": ("bytes=10-19", (10, 20)),
    "one": ("bytes=0-0", (0, 1)),
    "rest": ("bytes=10-", (10, None)),
    "end": ("bytes=-5", (-5, None)),
    "longer-end": ("bytes=-99999999", (0, None)),
    "over-the-end": ("bytes=5-99999999", (5, None)),
    "far-over-the-end": (f"bytes=5-{'9' * 5000}", (5, None)),
    "odd-case": ("BYTES = 5-6", (5, 7)),
    "several": ("bytes=0-1,3-4", None),
    "unit": ("lines=0-1", None),
    "backwards": ("bytes=5-4", None),
    "empty": ("bytes=-", None),
    "letters": ("bytes=a-b", None),
}


@pytest.mark.parametrize(("asked", "part"), RANGES.values(), ids=RANGES)
def test_ranges(server, root, asked, part):
    """One range is 206; what is no single range of bytes gets the whole file."""
    path, data = wheel(root)
    answer = server.get(path, Range=asked)
    if part is None:
        assert (answer.status, answer.body) == (200, data)
        return
    assert (answer.status, answer.body) == (206, data[slice(*part)])
    start = data.index(answer.body) if part[0] < 0 else part[0]
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.body) - 1}/{len(data)}"


def test_conditional_ranges(server, root):
    """A range past the end is 416; ``If-Range`` with another ETag or date gets the whole file; pages have no ranges."""
    path, data = wheel(root)
    whole = server.get(path, method="HEAD")
    assert (whole.status, whole.body, whole.headers["Content-Length"]) == (200, b"", str(len(data)))
    for asked in (f"bytes={len(data)}-", "bytes=-0", f"bytes={'9' * 5000}-"):
        past = server.get(path, Range=asked)
        assert (past.status, past.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    for condition, status in (
        (whole.headers["ETag"], 206),
        (whole.headers["Last-Modified"], 206),
        ('"other"', 200),
        (f"W/{whole.headers['ETag']}", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("yesterday", 200),
    ):
        assert server.get(path, Range="bytes=0-3", If_Range=condition).status == status, condition
    assert server.get("/simple/", Range="bytes=0-3").status == 200


def test_files(server, root):
    """A file is never encoded, ignores ``Accept``, and is had below snapshots and channels, also ones that are gone."""
    path, data = wheel(root)
    for prefix in ("", "/snapshots/bundle-000001", "/channels/stable", "/snapshots/gone"):
        answer = server.get(prefix + path, Accept="image/png", Accept_Encoding="gzip")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
        assert answer.headers["Cache-Control"] == "max-age=365000000, immutable"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "Content-Encoding" not in answer.headers
    assert b"Name: demo-lib" in server.get(f"{path}.metadata").body


REDIRECTS = {
    "/simple": "simple/",
    "/simple?format=x&y=%2F": "simple/?format=x&y=%2F",
    "/simple/many": "many/",
    "/simple/Demo_Lib": "demo-lib/",
    "/simple/Demo.Lib/?a=b": "../demo-lib/?a=b",
    "/channels/stable/simple/DEMO--lib": "demo-lib/",
}


@pytest.mark.parametrize(("path", "location"), REDIRECTS.items(), ids=REDIRECTS)
def test_redirects(server, path, location):
    """A missing slash, or a name that is not normalised and exists, is one relative redirect that keeps the query."""
    answer = server.get(path, Host="elsewhere.example")
    assert (answer.status, answer.headers["Location"]) == (301, location)


AB = "ab" * 32


@pytest.mark.parametrize(
    "path",
    [
        "/simple/absent/", "/simple/Absent", "/simple/planted/", "/simple/planted/index.html", "/simple//", "//simple/", "/simple/many//",
        "/simple/many/other.html", "/simple/../serve.py", "/simple/%2e%2e/", "/simple/%2e%2e/%2e%2e/secret/simple/", "/simple/a%0ab/", "/files/",
        "/files", "/files/ab/", f"/files/ab/ab/{AB}/", f"/files/ab/ab/{AB}/link.whl", f"/files/ab/ab/{AB}/pipe.whl", f"/files/ab/ab/{AB}/folder.whl",
        f"/files/ab/ab/{AB}/..", f"/files/ab/cd/{AB}/x", "/files/loose.whl", "/snapshots/", "/snapshots/linked/simple/", "/snapshots/absent/simple/",
        "/snapshots/bundle-000001/", "/channels/astray/simple/", "/channels/absent/simple", "/state.db", "/receive.json", "/pypi/many/json", "/-/x",
        "/simple/%ff/", "/simple/" + "a" * 300 + "/", f"/files/ab/ab/{AB}/" + "a" * 300, "/favicon.ico", "/metrics",
    ],
)  # fmt: skip
def test_not_there(server, path):
    """What is not a page or a plain file at its right place is 404, and no cache keeps that."""
    for headers in ({}, {"Accept": PIP}, {"Accept": "image/png"}):
        answer = server.get(path, **headers)
        assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store"), answer
        assert b"secret" not in answer.body


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /simple/%00/ HTTP/1.1\r\n\r\n", 400), (b"GET /simple/%zz/ HTTP/1.1\r\n\r\n", 400), (b"GET /simple/%4 HTTP/1.1\r\n\r\n", 400),
        (b"GET simple HTTP/1.1\r\n\r\n", 400), (b"GET /simple/\r\n\r\n", 400), (b"\x16\x03\x01\x02\r\n\r\n", 400), (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/1.1\r\na: " + b"b" * 40_000, 431), (b"POST /simple/ HTTP/1.1\r\n\r\n", 405),
        (b"PUT /files/x HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 405), (b"DELETE /simple/many/ HTTP/1.1\r\n\r\n", 405),
        (b"GET http://any.example/simple/ HTTP/1.1\r\nConnection: close\r\n\r\n", 200), (b"GET /simple/ HTTP/1.0\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_raw_requests(server, data, status):
    """What can't be parsed gets a clear status, an upload 405, and each whole request its answer."""
    answer = raw(server, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"Connection: close" in answer
    if status == 405:
        assert b"takes no uploads" in answer
        assert b"Allow: GET, HEAD" in answer


def test_several_requests_on_a_connection(server):
    """Requests that come in one piece are answered in order."""
    three = b"GET /simple/ HTTP/1.1\r\n\r\n" * 2 + b"HEAD /simple/many/ HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert raw(server, three).count(b"HTTP/1.1 200 OK") == 3


def test_health(server, root, tmp_path):
    """Alive is who answers, ready who has a root page."""
    assert server.get("/-/health/live").body == b"alive\n"
    assert (server.get("/-/health/ready").status, server.get("/-/health/ready").body) == (200, b"ready\n")
    empty = tmp_path / "empty"
    (empty / "public").mkdir(parents=True)
    shutil.copy(PROGRAM, empty)
    with started(empty, tmp_path / "server") as bare:
        assert (bare.get("/-/health/live").status, bare.get("/-/health/ready").status) == (200, 503)
        assert {bare.get(path).status for path in ("/simple/", "/simple", "/simple/x/", "/files/")} == {404}
        assert b"0 of 0 projects" in bare.get("/").body


def test_overview(server):
    """A plain page shows what is there, narrowed by a search, without script and with nothing from outside."""
    page = server.get("/", Host="pypi.lan:8080")
    assert page.status == 200
    text = page.body.decode()
    assert '<a href="simple/demo-lib/">demo-lib</a>' in text
    assert "pip install --index-url http://pypi.lan:8080/simple/ PROJECT" in text
    assert "mirror lock rewrite FILE --to http://pypi.lan:8080/simple/" in text
    assert "Served is bundle-000001." in text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in text
    assert server.get("/", Host="pypi.lan:8080", If_None_Match=page.headers["ETag"]).status == 304
    narrowed = server.get("/?q=Demo_L").body.decode()
    assert "demo-lib" in narrowed
    assert "1 of 4 projects" in narrowed
    planted = server.get("/?q=%22%3E%3Cscript%3E", Host='x"><script>').body.decode()
    assert "<script" not in planted
    assert "0 of 4 projects" in planted


def test_replaced_page(server, root):
    """A page that was replaced is served anew, also compressed."""
    page = root / "public/snapshots/bundle-000001/simple/many/index.html"
    before = page.read_bytes()
    first = server.get("/simple/many/", Accept_Encoding="gzip")
    fresh = page.with_name("fresh")
    fresh.write_bytes(before + b"<!-- new -->")
    fresh.replace(page)
    second = server.get("/simple/many/", Accept_Encoding="gzip")
    assert gzip.decompress(first.body) == before
    assert gzip.decompress(second.body) == before + b"<!-- new -->"
    fresh.write_bytes(before)
    fresh.replace(page)


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=GUARD_S)


def test_what_it_refuses(server, root, tmp_path):
    """An address in use or a bad one is exit code 2, a root without a tree 6, a copy in a bundle 2; each one line."""
    table = [
        (("--listen", f"127.0.0.1:{server.port}"), 2, "Address already in use"),
        (("--listen", "8080"), 2, "expected HOST:PORT"),
        (("--listen", "127.0.0.1:99999"), 2, "expected HOST:PORT"),
        (("--listen", "::1:80"), 2, "expected HOST:PORT"),
        (("--listen", "192.0.2.1:8080"), 2, "choose another address"),
        (("--root", str(tmp_path)), 6, "receive a bundle first"),
    ]
    for words, code, said in table:
        done = run(root / "serve.py", *words, cwd=tmp_path)
        assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (code, True, 1), done
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "bundle.json").touch()
    done = run(tmp_path / "serve.py", "--root", root, cwd=tmp_path)
    assert (done.returncode, "lies in a bundle" in done.stderr) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_start_and_end(root, tmp_path, number, code, host):
    """It says whom it is for and, beyond loopback, what it lacks; a module beside it is not run; signals end it."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(PROGRAM, home / "serve.py")
    (home / "json.py").write_text("raise SystemExit(77)\n")
    words = [sys.executable, home / "serve.py", "--root", root, "--listen", f"{host}:0"]
    process = subprocess.Popen(
        [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home
    )
    assert process.stdout.readline().startswith(f"serving {root}/public at http://{host}:")
    process.send_signal(number)
    _, said = process.communicate(timeout=GUARD_S)
    assert process.returncode == code, said
    assert "for about ten people" in said
    assert ("no TLS and no passwords" in said) is (host == "0.0.0.0")


def test_end_by_a_signal_to_another_thread(root, tmp_path):
    """It ends where the kernel gives the signal to the thread of a connection, which interrupts no wait of the main one."""
    command = [sys.executable, "-I", "-S", root / "serve.py", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(tmp_path))
    port = int(process.stdout.readline().strip().rstrip(b"/").rpartition(b":")[2])
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=GUARD_S) as connection:
            connection.sendall(b"GET /-/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            (thread,) = {int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()} - {process.pid}
            assert ctypes.CDLL(None).tgkill(process.pid, thread, signal.SIGTERM) == 0
            assert process.wait(GUARD_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_many_at_once(server, root):
    """Connections that say nothing do not keep others from their answer; a file comes whole meanwhile."""
    path, data = wheel(root)
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for connection in idle[:30]:
        connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\n")
    answer: Answer = server.get(path)
    assert (answer.status, answer.body) == (200, data)
    for connection in idle:
        connection.close()


def test_wishes_are_kept_in_a_file_of_their_own(root: Path, tmp_path: Path) -> None:
    """The names that were asked for and are not here, once each; on the tree nothing is written, and the list is bounded."""
    path = tmp_path / "wishes.txt"
    full = ["many", *(f"n{number}" for number in range(996))]
    path.write_text("".join(f"{name}\n" for name in full))
    before = sorted(root.rglob("*"))
    with started(root, tmp_path / "work", words=("--wishes", str(path))) as server:
        for asked in ("Foo_Bar/", "foo.bar", "many/", "no%20name/", "a" * 65, "bar/index.v1_json", "foo/bar", "foo//"):
            server.get(f"/simple/{asked}")
        server.get("/channels/stable/simple/baz/")
        assert path.read_text().splitlines() == [*full[1:], "foo-bar", "bar", "baz"]
        for name in ("one", "two"):
            assert server.get(f"/simple/{name}/").status == 404
        assert path.read_text().splitlines() == [*full[1:], "foo-bar", "bar", "baz", "one"]
    assert sorted(root.rglob("*")) == before
    assert not path.stat().st_mode & 0o077


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("public/wishes.txt", "it lies below public/, which everybody reads; name another place"),
        ("public/simple/wishes.txt", "it lies below public/, which everybody reads; name another place"),
        ("serve.py", "it is no list of wishes; delete it, or name another file"),
        ("none/wishes.txt", "No such file or directory"),
        ("secret", "Is a directory"),
    ],
)
def test_a_list_that_can_not_be_used(root: Path, capsys: pytest.CaptureFixture[str], place: str, problem: str) -> None:
    """A list in what is served, or a file that is something else: exit code 2, and nothing is touched."""
    before = sorted(root.rglob("*"))
    assert program.main(["--root", str(root), "--wishes", str(root / place)]) == 2
    assert capsys.readouterr().err == f"serve: --wishes: {root / place}: {problem}\n"
    assert sorted(root.rglob("*")) == before
    assert (root / "serve.py").read_bytes() == PROGRAM.read_bytes()
