"""pip and uv install from a tree in an object store: from the bucket behind a front, and through two servers."""

from __future__ import annotations

import contextlib
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from harness.program import Mirror
from harness.server import Server
from simulator import ThreadedSimulator, build_sdist, build_wheel
from storing import ObjectStore, Prefix


@dataclass
class Front:
    """What a client sees of a front."""

    url: str


class _Rewriting(BaseHTTPRequestHandler):
    """Sends index.html for an address that ends in a slash, and asks the next backend where one is gone."""

    backends: Sequence[str]
    is_static: bool

    def do_GET(self) -> None:
        path = f"{self.path}index.html" if self.is_static and self.path.endswith("/") else self.path
        names = ("Accept", "Range", "If-None-Match")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        for backend in self.backends:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{backend}{path}", headers=headers)) as answer:
                    return self._send(answer.status, answer.headers, answer.read())
            except urllib.error.HTTPError as exc:
                with exc:
                    return self._send(exc.code, exc.headers, exc.read())
            except OSError:
                continue
        return self._send(502, {}, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, status: int, headers, body: bytes) -> None:
        self.send_response(status)
        for name in ("Content-Type", "ETag", "Cache-Control", "Content-Range", "Accept-Ranges"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def front(*backends: str, is_static: bool) -> Iterator[str]:
    """A front before some backends; its address, without a slash at its end."""
    handler = type("Front", (_Rewriting,), {"backends": backends, "is_static": is_static})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def index() -> Iterator[ThreadedSimulator]:
    """An index with a program and its libraries, one of them a source distribution."""
    with ThreadedSimulator() as index:
        index.state.publish("demo-app", *build_wheel("demo-app", "1.0", requires=["demo-lib", "demo-local"]))
        index.state.publish("demo-lib", *build_wheel("demo-lib", "1.0"))
        index.state.publish("demo-lib", *build_sdist("demo-lib", "0.9"))
        index.state.publish("demo-local", *build_wheel("demo-local", "1.0+here.1"))
        yield index


@pytest.fixture(scope="module")
def written(index: ThreadedSimulator, object_store: ObjectStore, tmp_path_factory) -> tuple[Mirror, Prefix]:
    """A mirror of it, which the real program has written to a store."""
    place = object_store.prefix("clients")
    mirror = Mirror(tmp_path_factory.mktemp("written"), variables=place.env)
    mirror.configure(f'url = "{index.url}"', mirror=f'tree = "{place.address}"')
    mirror.sync_well()
    return mirror, place


@pytest.mark.parametrize("part", ["simple", "simple-json"])
def test_from_the_bucket(client, written, part):
    """Behind a front that adds index.html the bucket itself is an index, as HTML and as JSON."""
    _, place = written
    bucket = place.address.removeprefix("s3://")
    with front(f"{place.store.endpoint}/{bucket}", is_static=True) as url:
        served = Front(f"{url}/{part}/")
        installed = client.install_well(served, "demo-app")
        assert installed == {"demo_app": "1.0", "demo_lib": "1.0", "demo_local": "1.0+here.1"}
        refused = client.install(served, "demo-absent")
        assert refused.returncode == 1
        assert "403" not in refused.stderr


def test_through_two_servers(client, index, written):
    """Two servers without a root answer the same; a new release is seen by both, and one of them may be killed."""
    mirror, place = written
    version = f"{sum(1 for _ in index.state['demo-lib'].files)}.0"
    with (
        Server(mirror, "--tree", place.address, **place.env) as first,
        Server(mirror, "--tree", place.address, **place.env) as second,
        front(first.url.rstrip("/"), second.url.rstrip("/"), is_static=False) as url,
    ):
        served = Front(f"{url}/simple/")
        assert client.install_well(served, "demo-app")["demo_app"] == "1.0"
        index.state.publish("demo-lib", *build_wheel("demo-lib", version))
        mirror.sync_well()
        for server in (first, second):
            server.wait_until(lambda server=server: f"demo_lib-{version}-" in server.get("/simple/demo-lib/").text)
        first.end(signal.SIGKILL)
        assert client.install_well(served, "demo-app")["demo_lib"] == version


def test_by_the_root_alone(written):
    """A server that knows the root alone serves the store that the root's state remembers."""
    mirror, place = written
    with Server(mirror, **place.env) as server:
        assert place.address in server.greeting
        assert server.get("/simple/demo-lib/").status == 200
    assert not Path(mirror.root, "public").exists()
