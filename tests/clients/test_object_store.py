"""pip and uv install from a tree in an object store: from the bucket behind a front, and through two servers."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from harness.ceph import Ceph
from harness.program import Mirror
from harness.server import Server
from harness.storing import ObjectStore, Prefix
from harness.web_servers import started_server
from simulator import ThreadedSimulator, build_sdist, build_wheel

_PAGE = Path(__file__).parents[2] / "docs/how-to/object-store.md"
_WEBSITE = (
    b'<WebsiteConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>"
)


@dataclass
class Front:
    """What a client sees of a front."""

    url: str


class _Asking(BaseHTTPRequestHandler):
    """Asks the next backend where one is gone."""

    backends: Sequence[str]
    host: str | None

    def do_GET(self) -> None:
        names = ("Accept", "Range", "If-None-Match")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        if self.host is not None:
            headers["Host"] = self.host
        for backend in self.backends:
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{backend}{self.path}", headers=headers)) as answer:
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
def front(*backends: str, host: str | None = None) -> Iterator[str]:
    """A front before some backends; its address, without a slash at its end.

    ``host``: what it asks the backends for, where they go by the host's name.
    """
    handler = type("Front", (_Asking,), {"backends": backends, "host": host})
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
    place = object_store.prefix()
    mirror = Mirror(tmp_path_factory.mktemp("written"), variables=place.env)
    mirror.configure(f'url = "{index.url}"', mirror=f'tree = "{place.address}"')
    mirror.sync_well()
    return mirror, place


@pytest.fixture(scope="module")
def public(written: tuple[Mirror, Prefix]) -> Prefix:
    """The tree, which anybody may read: Ceph gets the policy that ``mirror probe`` prints, SeaweedFS allows it."""
    mirror, place = written
    if isinstance(place.store, Ceph):
        printed = mirror.run("probe", place.address, "--json").stdout
        found = json.loads(printed)["stores"][0]
        assert place.store.send("PUT", "policy", json.dumps(found["policies"]["anonymous"]).encode()) == 204
    return place


@pytest.fixture(scope="module")
def documented_front(written: tuple[Mirror, Prefix], public: Prefix, tmp_path_factory) -> Iterator[str]:
    """A front of nginx before the bucket as the documentation shows it, with a channel; its address without a slash at its end."""
    mirror, _ = written
    assert mirror.run("snapshot", "create", "2026-11").returncode == 0
    blocks = re.findall(r"```nginx\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    config = blocks[0].replace("    location / {", f"{blocks[1]}    location / {{", 1)
    netloc = public.store.endpoint.removeprefix("http://")
    place = public.address.removeprefix("s3://")
    for shown, own in (
        ("store.example:443", netloc),
        ("store.example", netloc),
        ("https://", "http://"),
        ("/packages/mirror", f"/{place}"),
    ):
        config = config.replace(shown, own)
    with started_server("nginx", config, tmp_path_factory.mktemp("front")) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("part", ["simple", "simple-json", "channels/stable/simple"])
def test_from_the_bucket(client, documented_front, part):
    """Behind a front that adds index.html the bucket itself is an index, as HTML and as JSON, also by a channel."""
    served = Front(f"{documented_front}/{part}/")
    installed = client.install_well(served, "demo-app")
    assert installed == {"demo_app": "1.0", "demo_lib": "1.0", "demo_local": "1.0+here.1"}
    refused = client.install(served, "demo-absent")
    assert refused.returncode == 1
    assert "403" not in refused.stderr


@pytest.fixture(scope="module")
def website(public: Prefix) -> Iterator[str]:
    """The bucket in website mode."""
    store = public.store
    if not isinstance(store, Ceph):
        pytest.skip("SeaweedFS has no website mode; make soak runs this with Ceph's radosgw")
    assert store.send("PUT", "website", _WEBSITE) == 200
    with front(f"{store.endpoint}/{public.name}", host=store.website_host) as url:
        yield url


@pytest.mark.parametrize("part", ["simple", "simple-json"])
def test_by_website_mode(client, website, part):
    """In website mode the bucket itself is an index, and a project that is not there is named as missing."""
    served = Front(f"{website}/{part}/")
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
        front(first.url.rstrip("/"), second.url.rstrip("/")) as url,
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
