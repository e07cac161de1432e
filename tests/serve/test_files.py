"""Files over HTTP: bytes, ranges, tags, and which blobs are served at all."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing

import pytest

from harness.server import JSON, Server
from simulator import build_wheel

WHEEL = "demo_app-1.0-py3-none-any.whl"


def test_files_as_they_lie(server, tree):
    """Each file and each metadata is served as it lies, never encoded, for ever; its tag is its digest."""
    for target, data in tree.files.values():
        answer = server.get(target, {"Accept-Encoding": "gzip", "Accept": "text/html"})
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert "immutable" in answer.headers["Cache-Control"]
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert server.get(target, {"If-None-Match": answer.headers["ETag"]}).status == 304


RANGES = {
    "part": ("bytes=10-19", 206, slice(10, 20)),
    "open": ("bytes=100-", 206, slice(100, None)),
    "last": ("bytes=-7", 206, slice(-7, None)),
    "several": ("bytes=0-1,4-5", 200, slice(None)),
    "unit": ("lines=0-1", 200, slice(None)),
    "malformed": ("bytes=x", 200, slice(None)),
}


@pytest.mark.parametrize(("asked", "status", "part"), RANGES.values(), ids=RANGES)
def test_ranges(server, tree, asked, status, part):
    """One range is 206; what is not understood is the whole file."""
    target, data = tree.files[WHEEL]
    answer = server.get(target, {"Range": asked})
    assert (answer.status, answer.body) == (status, data[part])
    first, last = part.indices(len(data))[0], part.indices(len(data))[1] - 1
    assert answer.headers.get("Content-Range") == (f"bytes {first}-{last}/{len(data)}" if status == 206 else None)


def test_range_past_the_end(server, tree):
    """A range past the end is 416 with the size."""
    target, data = tree.files[WHEEL]
    answer = server.get(target, {"Range": f"bytes={len(data)}-"})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(data)}")


def test_if_range(server, tree):
    """A range of another version is the whole file."""
    target, data = tree.files[WHEEL]
    whole = server.get(target)
    for same in (whole.headers["ETag"], whole.headers["Last-Modified"]):
        assert server.get(target, {"Range": "bytes=0-0", "If-Range": same}).status == 206
    for other in ('"other"', "Mon, 01 Jan 2001 00:00:00 GMT"):
        answer = server.get(target, {"Range": "bytes=0-0", "If-Range": other})
        assert (answer.status, answer.body) == (200, data)


def test_pages_have_no_ranges(server):
    """A range of a page is the whole page."""
    answer = server.get("/simple/", {"Range": "bytes=0-0"})
    assert answer.status == 200
    assert "Accept-Ranges" not in answer.headers


def test_file_that_left_the_pages(own):
    """A file that its index removed is served as long as it is kept; below a snapshot's name too, even one that is gone."""
    target, data = own.files[WHEEL]
    own.mirror.run("snapshot", "create", "before", "--root", own.mirror.root)
    own.index.state.publish("demo-app", *build_wheel("demo-app", "2.0"))
    own.index.state.remove_file("demo-app", WHEEL)
    own.mirror.sync_well()
    own.mirror.sync_well()
    with Server(own.mirror) as server:
        assert WHEEL.encode() not in server.get("/simple/demo-app/").body
        assert server.get(target).body == data
        assert server.get(f"/snapshots/before{target}").body == data
        assert WHEEL.encode() in server.get("/snapshots/before/simple/demo-app/").body
        assert server.get(f"/channels/none{target}").body == data


def test_channel(own):
    """A channel shows its snapshot."""
    for words in (["create", "one"], ["promote", "one", "--channel", "stable"]):
        done = own.mirror.run("snapshot", *words, "--root", own.mirror.root)
        assert done.returncode == 0, done.stderr
    with Server(own.mirror) as server:
        for scope in ("/channels/stable", "/snapshots/one"):
            page = server.get(f"{scope}/simple/demo-app/", {"Accept": JSON})
            assert page.status == 200
            assert server.get(f"{scope}/simple/Demo.App").headers["Location"] == "demo-app/"
            assert server.get(f"{scope}/simple").headers["Location"] == "simple/"


def test_withdrawn_file(own):
    """A blob of a project that its index withdrew is 404, with the reason in the log, below a snapshot too."""
    target, data = own.files[WHEEL]
    metadata = f"{target}.metadata"
    own.mirror.run("snapshot", "create", "before", "--root", own.mirror.root)
    with Server(own.mirror) as server:
        assert server.get(target).body == data
        own.index.state.status("demo-app", "quarantined", "malware")
        own.mirror.sync("--json")
        assert WHEEL.encode() not in server.get("/simple/demo-app/").body
        for refused in (target, metadata, f"/snapshots/before{target}"):
            assert _settled(server, refused) == 404
        assert "withdrawn" in server.heard("file.refused", filename=WHEEL)["reason"]


def _settled(server, target):
    """Ask until what was believed for a moment is asked anew."""
    for _ in range(10_000):
        status = server.get(target).status
        if status != 200:
            return status
    return status


def test_what_is_no_blob(own):
    """A file that the state does not know is 404, whatever lies there."""
    stranger = own.mirror.root / "public/files/aa/bb" / ("aabb" + "0" * 60) / "x-1.0.tar.gz"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"x")
    target = f"/{stranger.relative_to(own.mirror.root / 'public')}"
    with Server(own.mirror) as server:
        assert server.get(target).status == 404
    (own.mirror.root / "state.db").unlink()
    with Server(own.mirror) as server:
        assert server.get(target).status == 200


def test_planted_links(own, tmp_path):
    """No link leads out of the tree, with a state or without."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "index.html").write_text("secret")
    (outside / "x-1.0.tar.gz").write_text("secret")
    public = own.mirror.root / "public"
    (public / "simple/evil").symlink_to(outside)
    (public / "simple/half").mkdir()
    (public / "simple/half/index.html").symlink_to(outside / "index.html")
    (public / "files/aa").mkdir(exist_ok=True)
    (public / "files/aa/bb").symlink_to(tmp_path)
    shutil.move(outside, tmp_path / ("aabb" + "0" * 60))
    (public / "channels").mkdir(exist_ok=True)
    (public / "channels/far").symlink_to(tmp_path)
    (tmp_path / "simple").mkdir()
    (tmp_path / "simple/index.html").write_text("secret")
    (public / "snapshots").mkdir(exist_ok=True)
    (public / "snapshots/far").symlink_to(tmp_path)
    asked = [
        "/simple/evil/",
        "/simple/half/",
        f"/files/aa/bb/{'aabb' + '0' * 60}/x-1.0.tar.gz",
        "/channels/far/simple/",
        "/snapshots/far/simple/",
    ]
    for has_state in (True, False):
        if not has_state:
            (own.mirror.root / "state.db").unlink()
        with Server(own.mirror) as server:
            assert [server.get(target).status for target in asked] == [404] * len(asked)


def test_state_comes_and_goes(own):
    """A damaged state stops nothing: files are served, with one warning; a state that is back counts again."""
    target, data = own.files[WHEEL]
    state = own.mirror.root / "state.db"
    with Server(own.mirror) as server:
        kept = state.with_name("kept.db")
        state.rename(kept)
        state.write_bytes(b"x" * 5000)
        assert server.get(target).body == data
        assert server.get(own.files["many-1.1-py3-none-any.whl"][0]).status == 200
        assert server.get("/simple/").status == 200
        assert len(server.events("state.unreadable")) == 1
        kept.replace(state)
        with closing(sqlite3.connect(state)) as connection, connection:
            connection.execute("DELETE FROM blob WHERE filename = 'many-1.2-py3-none-any.whl'")
        assert server.get(own.files["many-1.2-py3-none-any.whl"][0]).status == 404


def test_tree_without_state(own):
    """Without a state the index works as it lies."""
    (own.mirror.root / "state.db").unlink()
    with Server(own.mirror) as server:
        for target, data in own.files.values():
            assert server.get(target).body == data
        assert server.get("/simple/demo-app/").status == 200
        assert server.events("state.unreadable") == []


def test_pages_of_the_far_side(own):
    """``simple`` may be a link to a snapshot, as the receiver makes it."""
    public = own.mirror.root / "public"
    own.mirror.run("snapshot", "create", "one", "--root", own.mirror.root)
    (own.mirror.root / "state.db").unlink()
    shutil.rmtree(public / "simple")
    (public / "simple").symlink_to("snapshots/one/simple")
    with Server(own.mirror) as server:
        assert server.get("/simple/").status == 200
        assert server.get("/simple/demo-app/").status == 200
        assert server.get("/-/health/ready").status == 200
        (public / "simple").unlink()
        (public / "simple").symlink_to("/tmp")
        assert server.get("/simple/").status == 404
        assert server.get("/-/health/ready").status == 503
