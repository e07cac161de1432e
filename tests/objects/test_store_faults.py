"""Faults of a store between it and the program: each is named, nothing is lost, and the next cycle completes."""

import io
import json
import re

import pytest

from harness.in_process import offered
from mirror.core.store_address import parse_store_address
from mirror.errors import TreeError
from mirror.tree.objects import client as client_module
from mirror.tree.objects.client import ObjectClient
from simulator import build_wheel


@pytest.fixture
async def mirror(simulator, mirror_of, front, monkeypatch):
    """A mirror with a first cycle behind it, which reaches its store by the front from then on."""
    index = await simulator()
    index.state.publish("alpha", *build_wheel("alpha", "1.0"))
    made = mirror_of(index)
    made.index = index
    await made.cycle()
    monkeypatch.setattr(client_module, "_RETRIES", 1)
    made.env["AWS_ENDPOINT_URL"] = front.url
    made.prefix.env["AWS_ENDPOINT_URL"] = front.url
    index.state.publish("alpha", *build_wheel("alpha", "2.0"))
    return made


BLOB, PAGE, LOCK = r"/files/.*\.whl$", r"/simple/alpha/", r"/\.lock"

FAULTS = {
    "full": ("PUT", BLOB, (507, "InsufficientStorage"), "the store is full"),
    "quota": ("PUT", BLOB, (403, "QuotaExceeded"), "the store is full"),
    "denied": ("PUT", BLOB, (403, "AccessDenied"), "the store denies access (AccessDenied"),
    "denied-page": ("PUT", PAGE, (403, "AccessDenied"), "the store denies access (AccessDenied"),
    "bucket": ("PUT", BLOB, (404, "NoSuchBucket"), "there is no such bucket; check `tree`"),
    "slow": ("PUT", BLOB, (503, "SlowDown"), "(503) and was asked several times; let it recover"),
    "slow-lock": ("GET", LOCK, (503, "SlowDown"), "the store is overloaded (503)"),
    "error": ("PUT", PAGE, (500, "InternalError"), "InternalError"),
    "cut": ("GET", r"/simple-json/index.html", "cut", "simple-json/index.html"),
    "hang": ("PUT", PAGE, "hang", "gave no answer in time; see whether it is well, and run it again"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_faults(mirror, front, monkeypatch, name):
    """A fault ends the cycle with exit code 6 and its cause; held files stay published, and the next cycle completes."""
    verb, pattern, fault, words = FAULTS[name]
    front.rule = lambda method, path: fault if method == verb and re.search(pattern, path) else None
    with monkeypatch.context() as impatient:
        if name == "hang":  # only then: a busy machine may take longer for an ordinary answer
            impatient.setattr(client_module, "_ANSWER_S", 0.5)
        report = await mirror.unchecked_cycle()
    assert mirror.exit_code == 6
    assert words in str(report.aborted)
    page = json.loads(mirror.prefix.read("simple-json/alpha/index.html"))
    assert len(page["files"]) >= 1
    assert mirror.prefix.env["AWS_SECRET_ACCESS_KEY"] not in str(report.aborted)
    front.rule = lambda method, path: None
    await mirror.cycle()
    assert mirror.exit_code == 0
    assert mirror.files() == offered(mirror.index)


MESSAGES = {
    "full": ((507, "InsufficientStorage"), "the store is full; free some space there or raise its quota"),
    "denied": ((403, "AccessDenied"), "the store denies access .*; check its credentials and its policy"),
    "expired": ((400, "ExpiredToken"), "the store denies access .*; check its credentials and its policy"),
    "clock": ((403, "RequestTimeTooSkewed"), "the store denies access .*; set this machine's clock right"),
    "slow": ((503, "SlowDown"), r"the store is overloaded \(503\) .*; let it recover, and run it again"),
    "error": ((500, "InternalError"), "answers with an error: InternalError.*; see its own log, and run it again"),
    "bucket": ((404, "NoSuchBucket"), "there is no such bucket; check `tree`"),
    "busy": ((409, "OperationAborted"), "OperationAborted.* run it again"),
    "refused": ((412, "PreconditionFailed"), "PreconditionFailed.* run it again"),
    "region": ((301, "PermanentRedirect"), "redirects to another address.*AWS_ENDPOINT_URL and AWS_REGION"),
    "circle": ("elsewhere", "redirects to another address: set AWS_ENDPOINT_URL"),
    "cut": ("cut", "the connection to the store broke; see whether it is well, and run it again"),
}
ODD = "simple/async-timeout/no-space-503-refused-certificate-quotaexceeded.html"
"""A key whose words are no words of the fault."""


def read_all(client, key):
    with client.reading(key) as (_, blocks):
        return b"".join(blocks)


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(prefix, front, monkeypatch, name):
    """Whatever request meets a fault, the message names it and what to do, whatever words the key has."""
    monkeypatch.setattr(client_module, "_RETRIES", 0)
    client = ObjectClient(parse_store_address(prefix.address), prefix.env | {"AWS_ENDPOINT_URL": front.url})
    client.put(ODD, b"x" * 100)
    fault, words = MESSAGES[name]
    front.rule = lambda method, path: fault
    calls = [lambda: client.get(ODD), lambda: list(client.list_objects()), lambda: read_all(client, ODD)]
    if name != "cut":  # what was put has been put
        calls += [lambda: client.put(ODD, b"y"), lambda: client.delete([ODD])]
    for call in calls:
        with pytest.raises(TreeError, match=words) as caught:
            call()
        assert str(caught.value).startswith(prefix.address)


def test_ranges_are_ignored(prefix, front):
    """A store, or a front, that answers a range with the whole object is named, not taken for a broken connection."""
    client = ObjectClient(parse_store_address(prefix.address), prefix.env | {"AWS_ENDPOINT_URL": front.url})
    client.put("x", b"abcdef")
    front.rule = lambda method, path: "whole"
    with pytest.raises(TreeError, match="the store ignores ranges of an object"):
        client.get("x", end=3)


UNREMOVED = "<DeleteResult><Error><Key>{}</Key><Code>{}</Code><Message>a: b</Message></Error></DeleteResult>"
FOREIGN = "the store sent an answer that does not follow S3"
ODD_ANSWERS = {
    "nothing-removed": ("delete", "<DeleteResult/>", f"{FOREIGN} .*DeleteObjects.*AWS_ENDPOINT_URL"),
    "removal-refused": (
        "delete",
        UNREMOVED.format("{}", "AccessDenied"),
        r"the store denies access \(AccessDenied\); check its credentials",
    ),
    "removal-slow": ("delete", UNREMOVED.format("{}", "SlowDown"), "the store is overloaded"),
    "another-removed": ("delete", UNREMOVED.format("another", "AccessDenied"), FOREIGN),
    "no-listing": ("list", "<html><br></html>", f"{FOREIGN} .*list response"),
    "no-etag": ("put", "", f"{FOREIGN} .*ETag Header missing"),
    "no-upload": ("put-file", "<html></html>", f"{FOREIGN} .*UploadId"),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_answers_that_do_not_follow_s3(prefix, front, name):
    """An answer of another service, or of an engine of its own kind, is named as such; its own code counts."""
    client = ObjectClient(parse_store_address(prefix.address), prefix.env | {"AWS_ENDPOINT_URL": front.url})
    call, answer, words = ODD_ANSWERS[name]
    front.rule = lambda method, path: answer.format(f"{prefix.name}/{ODD}").encode()
    calls = {
        "delete": lambda: client.delete([ODD]),
        "list": lambda: list(client.list_objects()),
        "put": lambda: client.put(ODD, b"x"),
        "put-file": lambda: client.put_file(ODD, io.BytesIO(bytes(9 << 20)), 9 << 20),
    }
    with pytest.raises(TreeError, match=words) as caught:
        calls[call]()
    assert str(caught.value).startswith(prefix.address)
    assert "broke" not in str(caught.value)


@pytest.mark.parametrize("pattern", [BLOB, PAGE, LOCK, r"/simple/index.html"], ids=["blob", "page", "lock", "root"])
async def test_lost_answers(mirror, front, pattern):
    """A put that was done although its answer was lost is repeated by the library, and recognised as the own one."""
    lost = []

    def lose_once(method, path):
        if method == "PUT" and re.search(pattern, path) and not lost:
            lost.append(path)
            return "lose"
        return None

    front.rule = lose_once
    await mirror.cycle()
    assert lost
    assert mirror.exit_code == 0
    assert mirror.files() == offered(mirror.index)


async def test_slow_down_is_waited_for(mirror, front):
    """A store that asks for patience once gets it."""
    seen = []

    def once(method, path):
        if method == "PUT" and path not in seen:
            seen.append(path)
            return (503, "SlowDown")
        return None

    front.rule = once
    await mirror.cycle()
    assert mirror.exit_code == 0


async def test_order_of_puts(mirror, front):
    """Blob, metadata, project page, root page: each is put after the answers of those before it."""
    await mirror.cycle()
    puts = [path.partition(f"{mirror.prefix.name}/")[2] for method, path in front.requests if method == "PUT"]
    kinds = [re.sub(r"files/.*?(\.metadata)?$", r"file\1", p) for p in puts]
    assert kinds == [
        ".lock",
        "file",
        "file.metadata",
        "simple/alpha/index.html",
        "simple-json/alpha/index.html",
        "simple/index.html",
        "simple-json/index.html",
        ".lock",
    ]
    assert not any("list-type" in path for _, path in front.requests)
