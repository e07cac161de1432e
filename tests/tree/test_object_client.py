"""Requests to a real object store: what each returns, and how each failure is named."""

import io
import os
import subprocess
import sys
import threading
import time

import pytest

from harness.storing import etag_form
from mirror.core.store_address import StoreAddress, parse_store_address
from mirror.errors import ConfigError, TreeError
from mirror.tree.objects.calls import CallHangs, Calls, ForkedUse
from mirror.tree.objects.client import Conflict, ObjectClient
from mirror.tree.objects.credentials import engine_settings

ADDRESS = StoreAddress(bucket="mirror", prefix="a/b")


@pytest.fixture
def client(prefix):
    return ObjectClient(parse_store_address(prefix.address), prefix.env)


@pytest.mark.parametrize(
    ("text", "bucket", "inner"),
    [("s3://mirror", "mirror", ""), ("s3://mirror/", "mirror", ""), ("s3://a.b-c/x/y_Z", "a.b-c", "x/y_Z")],
)
def test_addresses(text, bucket, inner):
    """An address names a bucket and a prefix; a slash at its end does not count."""
    parsed = parse_store_address(text)
    assert (parsed.bucket, parsed.prefix) == (bucket, inner)
    assert parse_store_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv",
        "gs://b/p",
        "s3://",
        "s3://UPPER",
        "s3://u:p@b/x",
        "s3://b/x//y",
        "s3://bucket/../x",
        "s3://bucket/x?y",
        "s3://bucket/x y",
        "s3://bucket//x",
        "s3://bucket/" + "x" * 500,
        "s3://ab..c/x",
        "s3://bucket:9/x",
    ],
)
def test_bad_addresses(text):
    """Other texts are refused."""
    with pytest.raises(ValueError, match=r"^(an address|the name|a prefix)"):
        parse_store_address(text)


def test_conditions(client, prefix):
    """A put returns an opaque ETag; a condition that does not hold is a conflict, also where nothing is."""
    first = client.put("k", b"one", attributes={"Content-Type": "text/x", "writer": "me"}, mode="create")
    with pytest.raises(Conflict):
        client.put("k", b"two", mode="create")
    second = client.put("k", b"three", mode={"e_tag": etag_form(first)})
    for key, etag in (("k", first), ("missing", second)):
        with pytest.raises(Conflict):
            client.put(key, b"four", mode={"e_tag": etag_form(etag)})
    assert prefix.keys() == ["k"]
    assert prefix.read("k") == b"three"


def test_reading(client, prefix):
    """Objects are read whole, in part or in blocks, with their headers; a missing one is None."""
    prefix.write("k", b"0123456789", **{"Content-Type": "text/x", "Cache-Control": "max-age=600"})
    data, found = client.get("k")
    assert (data, found.size, found.etag) == (b"0123456789", 10, prefix.etags()["k"])
    assert found.attributes["Content-Type"].startswith("text/x")
    assert client.head("k").attributes["Cache-Control"] == "max-age=600"
    assert client.get("k", start=2, end=5)[0] == b"234"
    assert client.get("k", start=8)[0] == b"89"
    with client.reading("k", start=1) as (_, blocks):
        assert b"".join(blocks) == b"123456789"
    with client.reading("missing") as nothing:
        assert nothing is None
    assert (client.get("missing"), client.head("missing")) == (None, None)
    assert client.get_if_changed("k", found.etag) is None
    assert client.get_if_changed("k", '"other"')[0] == data


def test_listing_and_removal(client, prefix):
    """Listings are relative to the prefix; a missing object may be removed; a copy is made on the server's side."""
    for key in ("simple/a/index.html", "simple/b/index.html", "x"):
        prefix.write(key, b"x")
    assert [o.key for o in client.list_objects("simple")] == ["simple/a/index.html", "simple/b/index.html"]
    assert [o.key for o in client.list_objects(limit=1)] == ["simple/a/index.html"]
    names, objects = client.list_names("")
    assert (names, [o.key for o in objects]) == (["simple"], ["x"])
    client.copy("x", "y/x")
    client.delete(["x", "missing"])
    assert prefix.keys() == ["simple/a/index.html", "simple/b/index.html", "y/x"]
    with pytest.raises(TreeError, match="it is missing"):
        client.copy("x", "z")


def test_large_objects(client, prefix):
    """A large file goes in parts; one that can't be read leaves nothing visible."""
    data = os.urandom(20 << 20)
    client.put_file("files/large", io.BytesIO(data), len(data), attributes={"Content-Type": "application/octet-stream"})
    assert prefix.read("files/large") == data

    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 10 << 20:
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises((TreeError, OSError)):
        client.put_file("files/broken", Broken(data), len(data))
    assert prefix.keys() == ["files/large"]


@pytest.mark.parametrize(
    ("env", "address", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "s3://mirror/x", "the store denies access (SignatureDoesNotMatch"),
        ({}, "s3://no-such-bucket/x", "there is no such bucket; check `tree`"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://mirror/x", "the store can't be reached"),
    ],
    ids=["secret", "bucket", "endpoint"],
)
def test_failures(prefix, env, address, words):
    """Each failure is an error of the tree that names the object and the cause, and no secret."""
    client = ObjectClient(parse_store_address(address), prefix.env | env)
    for call in (
        lambda: client.put("k", b"x"),
        lambda: client.get("k"),
        lambda: list(client.list_objects()),
        lambda: client.delete(["k"]),
    ):
        with pytest.raises(TreeError) as caught:
            call()
        assert words.rpartition("(")[2] in str(caught.value)
        assert str(caught.value).startswith(address.removesuffix("/x"))
        assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "where"),
    [
        ({"AWS_ENDPOINT_URL": "http://store.example"}, "AWS_ALLOW_HTTP"),
        ({"AWS_ENDPOINT_URL": "store.example"}, "expected the URL"),
        ({"AWS_ENDPOINT_URL": "https://u:hunter2@store.example"}, "without user"),
    ],
)
def test_bad_endpoints(env, where):
    """An endpoint that can't be meant is wrong usage; its password is not shown."""
    with pytest.raises(ConfigError, match=where) as caught:
        ObjectClient(ADDRESS, env)
    assert "hunter2" not in str(caught.value)


def test_sources_of_credentials(tmp_path):
    """Variables count first, then systemd's credentials, then the profile in the files of the AWS tools."""
    files = tmp_path / ".aws"
    files.mkdir()
    (files / "credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = secret-of-file\n")
    (files / "config").write_text("[default]\nregion = eu-north-1\nendpoint_url = https://files.example\n")
    systemd = tmp_path / "systemd"
    systemd.mkdir()
    (systemd / "AWS_ACCESS_KEY_ID").write_text("B\n")
    (systemd / "AWS_SECRET_ACCESS_KEY").write_text("secret-of-systemd\n")
    env = {"HOME": str(tmp_path)}
    found = engine_settings(ADDRESS, env)
    assert (found["access_key_id"], found["region"], found["endpoint"]) == ("A", "eu-north-1", "https://files.example")
    env["CREDENTIALS_DIRECTORY"] = str(systemd)
    assert engine_settings(ADDRESS, env)["secret_access_key"] == "secret-of-systemd"
    env |= {"AWS_ACCESS_KEY_ID": "C", "AWS_SECRET_ACCESS_KEY": "secret-of-env", "AWS_REGION": "r"}
    found = engine_settings(ADDRESS, env)
    assert (found["access_key_id"], found["secret_access_key"], found["region"]) == ("C", "secret-of-env", "r")


def test_hanging_calls():
    """A call that does not return is given up at its deadline, which progress moves; its thread is used no more."""
    calls, release = Calls(), threading.Event()
    with pytest.raises(CallHangs):
        calls.run(release.wait, deadline_s=0.01)
    moments = iter([time.monotonic() + 0.05])  # progress once, and then none
    with pytest.raises(CallHangs):
        calls.run(release.wait, deadline_s=0.01, progressed_at=lambda: next(moments, 0.0))
    assert next(moments, None) is None
    assert calls.run(lambda: 1, deadline_s=60) == 1
    release.set()
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 / 0, deadline_s=60)


def test_work_after_a_call_that_hung():
    """A piece of work does nothing more after a call that hung, though it returns at last; its error has been taken."""
    calls, release, done, threads = Calls(), threading.Event(), [], []

    def work() -> None:
        threads.append(threading.current_thread())
        done.append(calls.run(lambda: 1, deadline_s=60))
        try:
            calls.run(release.wait, deadline_s=0.01, late=lambda: TreeError(path="x", problem="late"))
        finally:
            done.append(calls.run(lambda: 2, deadline_s=60))

    assert str(calls.start(work).exception()) == "x: late"
    release.set()
    threads[0].join()
    assert done == [1]
    assert calls._threads.abandoned == 0


def test_call_that_returns_at_its_deadline():
    """A call that returns between its deadline and the end of its wait counts, and the next call of the same thread is
    waited for until it has returned itself.
    """
    calls, release, again = Calls(), threading.Event(), threading.Event()

    def end_late() -> float:
        (thread,) = calls._threads._busy
        watch = thread._watched
        release.set()
        while thread._watched is watch:  # the thread may have the next call already
            os.sched_yield()
        return 0.0

    def go_on() -> float:
        again.set()
        return time.monotonic()

    assert calls.run(release.wait, deadline_s=0.01, progressed_at=end_late) is True
    assert len(calls._threads._idle) == 1
    assert calls.run(again.wait, deadline_s=0.01, progressed_at=go_on) is True


def test_use_after_a_fork(client):
    """A forked process does not hang in its parent's client: it is a bug that is named."""
    client.put("k", b"x")
    program = "import sys; sys.exit(7)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
    client._calls._pid += 1
    with pytest.raises(ForkedUse):
        client.get("k")
