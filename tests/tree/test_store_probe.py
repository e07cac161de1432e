"""``mirror probe s3://…``: judged by what a real engine does, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from harness.ports import closed_port
from harness.storing import IS_CEPH, Prefix
from mirror.cli import main
from mirror.core.store_address import StoreAddress, parse_store_address
from mirror.core.store_policies import anonymous_policy, lifecycle_rules, writer_policy
from mirror.exit_codes import ExitCode
from mirror.tree.objects.credentials import engine_settings
from mirror.tree.probing.questions import probe_store
from mirror.tree.probing.requests import RawRequests


@pytest.fixture
def probed(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run the command in this process: (exit code, output)."""

    def run(env: dict[str, str], *words: str) -> tuple[int, str]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        code = main(["probe", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


_ON_CEPH = {"checksum-header": "no", "signed-payload": "yes", "anonymous-read": "no", "missing-anonymous": "403"}
"""The bucket is private, and its engine reads the other digest."""


def test_a_real_engine(prefix: Prefix, probed):
    """Each answer is the engine's own: SeaweedFS keeps conditions, checks checksums, and is no website."""
    prefix.write("kept", b"x")
    code, said = probed(prefix.env, prefix.address, "--json")
    assert code == ExitCode.OK, said
    (store,) = json.loads(said)["stores"]
    answers = {finding["name"]: finding["answer"].partition(" (")[0] for finding in store["findings"]}
    assert answers == {
        "access": "yes, something is there",
        "create-race": "1",
        "conditions": "yes",
        "checksum-header": "yes",
        "signed-payload": "no",
        "content-md5": "yes",
        "versions": "no",
        "headers": "yes",
        "anonymous-read": "yes",
        "missing-anonymous": "404",
        "missing-signed": "404",
        "anonymous-list": "no",
        "anonymous-write": "no",
        "website": "no",
        "lifecycle": "there are none",
        **(_ON_CEPH if IS_CEPH else {}),
    }
    assert store["error"] is None
    assert prefix.keys() == ["kept"]


def test_what_to_paste(prefix: Prefix, probed):
    """People get the same answers as a table, then what to set; the engine takes the lifecycle rule as it is printed."""
    code, said = probed(prefix.env, prefix.address)
    assert code == ExitCode.OK
    assert re.search(r"^conditions +yes +one writer", said, re.MULTILINE)
    address = parse_store_address(prefix.address)
    for value in (lifecycle_rules(address, is_versioned=False), anonymous_policy(address), writer_policy(address)):
        assert json.dumps(value, indent=2) in said
    raw = RawRequests(address, engine_settings(address, prefix.env), None)
    rule = (
        f"<LifecycleConfiguration><Rule><ID>mirror</ID><Status>Enabled</Status><Filter><Prefix>{address.prefix}/</Prefix>"
        "</Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>"
        "</AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
    )
    assert raw.send("PUT", query="lifecycle", body=rule.encode(), signs=True).is_success
    try:
        found = {f.name: f for f in probe_store(address, prefix.env).findings}
        assert found["lifecycle"].answer == "yes"
    finally:
        assert raw.send("DELETE", query="lifecycle", signs=True).is_success


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "SignatureDoesNotMatch"),
        ({"bucket": "s3://no-such-bucket/x"}, "there is no such bucket"),
        ({"AWS_ENDPOINT_URL": "closed"}, "can't be reached"),
    ],
)
def test_store_that_cannot_be_asked(prefix: Prefix, probed, change, said):
    """A store that denies, lacks the bucket or can't be reached ends the probe with 6, named."""
    address = change.pop("bucket", prefix.address)
    with closed_port() as port:
        if "AWS_ENDPOINT_URL" in change:
            change["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        code, shown = probed({**prefix.env, **change}, address)
    assert code == ExitCode.STORAGE
    assert said in shown
    assert prefix.keys() == []


class _Liar(BaseHTTPRequestHandler):
    """An engine that ignores conditions and checksums, lets anybody write, and keeps versions."""

    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.objects[self.path.partition("?")[0]] = data
        self._answer(200, b"", ETag=f'"{hashlib.md5(data).hexdigest()}"', **{"x-amz-version-id": "v1"})

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if query == "lifecycle":
            rule = b"<Rule><Status>Enabled</Status><Prefix></Prefix><Expiration><Days>30</Days></Expiration></Rule>"
            self._answer(200, b"<LifecycleConfiguration>" + rule + b"</LifecycleConfiguration>")
        elif query:
            self._answer(
                200, b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            )
        elif path.endswith("/") and f"{path}index.html" in self.objects:
            self._answer(200, self.objects[f"{path}index.html"])
        elif path in self.objects:
            self._answer(200, self.objects[path], ETag='"1"')
        else:
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for key in re.findall("<Key>([^<]*)</Key>", body):
            self.objects.pop(f"/bucket/{key}", None)
        self._answer(200, b"<DeleteResult></DeleteResult>")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 12:00:00 GMT")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A lying engine: its address and its objects."""
    handler = type("Liar", (_Liar,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler.objects
        server.shutdown()
        thread.join()


def test_a_lying_engine(liar, prefix: Prefix):
    """An engine that lies is found out, with what it means for a mirror."""
    endpoint, objects = liar
    found = probe_store(StoreAddress(bucket="bucket"), {**prefix.env, "AWS_ENDPOINT_URL": endpoint})
    answers = {finding.name: finding.answer for finding in found.findings}
    meanings = {finding.name: finding.meaning for finding in found.findings}
    assert answers["create-race"] == "8"
    assert answers["conditions"].startswith("no: a second creator of a key is not refused, a put over another ETag")
    assert "single-writer = true" in meanings["conditions"]
    assert answers["end-to-end"] == "no"
    assert answers["headers"] == "no: Content-Type, Cache-Control is lost"
    assert answers["anonymous-write"] == "yes (200)"
    assert answers["website"] == "yes (200)"
    assert answers["missing-anonymous"] == "403"
    assert "s3:ListBucket" in meanings["missing-anonymous"]
    assert answers["lifecycle"] == "NO: one expires objects"
    assert "mirror-old-versions" in json.dumps(found.lifecycle())
    assert objects == {}
