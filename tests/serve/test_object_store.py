"""``mirror serve --tree s3://…`` in front of a real object store, which holds a copy of a real tree."""

from __future__ import annotations

import gzip
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ports import closed_port
from harness.server import HTML, JSON, Server, Tree
from harness.storing import ObjectStore, Prefix
from mirror.jobs.tree_copy import copy_between

PAGES = (
    "/simple/",
    "/simple/demo-app/",
    "/simple/many/",
    "/snapshots/s1/simple/many/",
    "/channels/stable/simple/demo-lib/",
)


@pytest.fixture(scope="module")
def copied(tree: Tree, object_store: ObjectStore) -> Prefix:
    """The tree with a snapshot and a channel, copied to a store."""
    root = ["--root", tree.mirror.root]
    assert tree.mirror.run("snapshot", "create", "s1", *root).returncode == 0
    assert tree.mirror.run("snapshot", "promote", "s1", "--channel", "stable", *root).returncode == 0
    place = object_store.prefix()
    assert not copy_between(str(tree.mirror.root), place.address, env=place.env).damage
    return place


@pytest.fixture(scope="module")
def front(tree: Tree, copied: Prefix) -> Iterator[Server]:
    """The copy served by two processes, which know nothing but its address."""
    with Server(tree.mirror, "--tree", copied.address, "--workers", "2", **copied.env) as server:
        yield server


@pytest.mark.parametrize("target", PAGES)
@pytest.mark.parametrize("accept", [None, HTML, JSON])
@pytest.mark.parametrize("packed", [False, True])
def test_pages_are_those_of_the_tree(server, front, target, accept, packed):
    """Each form of each page has the bytes, the tag and the headers that the tree on the disk has."""
    headers = {} if accept is None else {"Accept": accept}
    if packed:
        headers["Accept-Encoding"] = "gzip"
    expected, answer = server.get(target, headers), front.get(target, headers)
    assert answer.status == expected.status == 200
    bodies = [gzip.decompress(one.body) if packed else one.body for one in (expected, answer)]
    if target.startswith(("/snapshots", "/channels")):
        bodies[1] = bodies[1].replace(b"../../../../files/", b"../../files/")
    else:
        assert answer.headers["ETag"] == expected.headers["ETag"]
    assert bodies[0] == bodies[1]
    for name in ("Content-Type", "Vary", "Cache-Control", "X-Content-Type-Options"):
        assert answer.headers[name] == expected.headers[name]
    assert answer.headers.get("Content-Security-Policy") == expected.headers.get("Content-Security-Policy")
    again = front.get(target, {**headers, "If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_files_are_those_of_the_tree(server, front, tree):
    """A file, its metadata, a part of it, and its headers are what the tree on the disk answers."""
    for name in ("demo_app-1.0-py3-none-any.whl", "demo_app-1.0-py3-none-any.whl.metadata"):
        target, data = tree.files[name]
        for headers in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=-3"}, {"Range": "bytes=999999-"}):
            expected, answer = server.get(target, headers), front.get(target, headers)
            assert (answer.status, answer.body) == (expected.status, expected.body)
            for header in ("ETag", "Content-Range", "Content-Type", "Cache-Control", "Content-Length"):
                assert answer.headers.get(header) == expected.headers.get(header)
        whole = front.get(target)
        assert whole.body == data
        head = front.get(target, method="HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(data)))
        assert front.get(target, {"If-None-Match": whole.headers["ETag"]}).status == 304
        part = front.get(target, {"Range": "bytes=1-2", "If-Range": '"another"'})
        assert (part.status, part.body) == (200, data)


def test_large_and_empty_files(front, copied):
    """A file larger than one part is sent whole, in constant memory, and an empty one is empty."""
    digits = "ab" * 32
    data = os.urandom(9_500_000)
    for name, content in (("large-1.0.tar.gz", data), ("empty-1.0.tar.gz", b"")):
        key = f"files/ab/ab/{digits}/{name}"
        copied.write(key, content)
        assert front.get(f"/{key}").body == content
    answer = front.get(f"/files/ab/ab/{digits}/large-1.0.tar.gz", {"Range": "bytes=4194300-9000000"})
    assert (answer.status, answer.body) == (206, data[4194300:9000001])


def test_other_addresses(front):
    """What is not in the tree is 404; an address of another spelling is redirected; uploads are refused."""
    missing = (
        "/simple/nope/",
        f"/files/aa/aa/{'a' * 64}/x-1.0.tar.gz",
        "/channels/nope/simple/",
        "/.lock",
        "/projects/many/",
    )
    for target in (*missing, "/changes/", "/-/api/v1/status", "/files/", "/simple/many/nope"):
        answer = front.get(target)
        assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store"), target
    for asked, there in (
        ("/simple/Demo_App", "demo-app/"),
        ("/simple/Demo.App/", "../demo-app/"),
        ("/simple", "simple/"),
    ):
        answer = front.get(f"{asked}?x=1")
        assert (answer.status, answer.headers["Location"]) == (301, f"{there}?x=1")
    assert front.get("/simple/", {"Accept": "application/json"}).status == 406
    assert front.get("/simple/", method="POST").status == 405
    assert front.get("/simple/%zz/").status == 400
    assert (front.get("/-/health/ready").text, front.get("/-/health/live").text) == ("ready\n", "alive\n")
    assert front.get("/metrics").status == 200


def test_list_for_people(front):
    """People get one plain list, for every question, with nothing in it that a browser would run."""
    answer = front.get("/")
    for name in ("demo-app", "demo-lib", "many"):
        assert f'<a href="simple/{name}/">{name}</a>' in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert front.get("/?q=many").body == answer.body
    assert front.get("/", {"If-None-Match": answer.headers["ETag"]}).status == 304


def test_change_is_seen(front, copied):
    """A page that the writer replaces is sent by both processes, and one that it removes is gone."""
    key, target = "simple/fresh/index.html", "/simple/fresh/"
    assert front.get(target).status == 404
    for text in (b"first", b"second"):
        copied.write(key, text)
        front.wait_until(lambda text=text: all(front.get(target).body == text for _ in range(8)))
    copied.write("channels/moving", b"s1\n")
    assert front.get("/channels/moving/simple/many/").status == 200
    copied.remove(key)
    front.wait_until(lambda: all(front.get(target).status == 404 for _ in range(8)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_redirect_to_the_store(tree, copied, method, tmp_path):
    """With ``store-url`` files are redirected to an address that is signed for the request's own method."""
    config = tmp_path / "mirror.toml"
    config.write_text(
        f'[mirror]\nroot = "{tmp_path}"\n[[index]]\nname = "x"\nurl = "https://index.example/simple/"\n'
        f'[serve]\nstore-url = "{copied.store.endpoint.replace("127.0.0.1", "localhost")}"\n'
    )
    with Server(tree.mirror, "--tree", copied.address, "--config", config, **copied.env) as server:
        target, data = tree.files["demo_app-1.0-py3-none-any.whl"]
        answer = server.get(target, method=method)
        assert (answer.status, answer.headers["Cache-Control"]) == (307, "no-store")
        location = answer.headers["Location"]
        assert location.startswith("http://localhost:")
        with urllib.request.urlopen(urllib.request.Request(location, method=method)) as got:
            assert got.read() == (data if method == "GET" else b"")
        assert server.get(f"/files/aa/aa/{'a' * 64}/x-1.0.tar.gz").status == 404
        assert server.get("/simple/many/").status == 200


def test_store_that_is_away(tree, copied):
    """It starts while the store is away: it lives, and all that it would need the store for is 503."""
    with closed_port() as port:
        env = {**copied.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        with Server(tree.mirror, "--tree", copied.address, **env) as server:
            assert server.get("/-/health/live").status == 200
            target, _ = tree.files["demo_app-1.0-py3-none-any.whl"]
            for asked in ("/-/health/ready", "/simple/", "/simple/many/", target, "/"):
                answer = server.get(asked)
                assert (answer.status, answer.headers["Cache-Control"]) == (503, "no-store"), asked
            assert server.heard("store.unreachable")
            assert server.end() == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--tree", "ftp://x/y"], {}, "--tree: expected an address such as s3://bucket/prefix"),
        (["--tree", "s3://Key:Secret@bucket/y"], {}, "--tree: expected the name of a bucket"),
        (["--tree", "s3://bucket/y"], {"AWS_ALLOW_HTTP": ""}, "AWS_ENDPOINT_URL"),
    ],
)
def test_wrong_use(tree, copied, arguments, variables, said):
    """An address that is none, and plain http that was not allowed, end with 2 before anything is bound."""
    done = tree.mirror.run("serve", "--listen", "127.0.0.1:0", *arguments, **{**copied.env, **variables})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Secret" not in done.stderr
    assert not Path(tree.mirror.work, "public").exists()


def test_wishes(tree: Tree, copied: Prefix, tmp_path: Path) -> None:
    """Names that are not in the store are kept beside the root, as for a tree on a disk."""
    config = tmp_path / "mirror.toml"
    config.write_text(f"{tree.mirror.config.read_text()}\n[serve]\nwishes = true\n")
    with Server(tree.mirror, "--tree", copied.address, "--config", config, **copied.env) as server:
        for name in ("many", "Not_Here", "not-here", "channels/stable"):
            server.get(f"/simple/{name}/")
        assert server.get("/channels/stable/simple/nor-this/").status == 404
    assert (tree.mirror.root / "wishes.txt").read_text() == "not-here\nnor-this\n"
