"""The questions to a store, each answered by doing it in a scratch key.

Anonymous readers are judged below ``files/`` and ``simple/``, since a policy opens just these; the
rest below ``.probe-…/``. All of them are removed, also after an error.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from mirror.core.store_address import StoreAddress
from mirror.errors import MirrorError, TreeError
from mirror.logs import get_logger
from mirror.tree.objects.client import Conflict, ObjectClient
from mirror.tree.objects.conditions import judge_conditions
from mirror.tree.objects.credentials import engine_settings
from mirror.tree.probing.findings import StoreProbe
from mirror.tree.probing.requests import RawAnswer, RawRequests

_CREATORS: Final = 8
_PAGE: Final = b"<!DOCTYPE html><title>probe</title>\n"
_JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
_CACHING: Final = "max-age=600"
_RULE: Final = re.compile(rb"<Rule>(.*?)</Rule>", re.DOTALL)
_UNSEEN: Final = "can't be seen from here"
_NO_KEYS: Final = (
    f"{_UNSEEN}: the credentials of an instance's role are not visible to single requests"
)
_log = get_logger(__name__)


def probe_store(address: StoreAddress, env: Mapping[str, str]) -> StoreProbe:
    """Ask a store every question. Blocking. Raises ``ConfigError``.

    The first error ends the questions; earlier findings are in the result.
    """
    client = ObjectClient(address, env)
    raw = RawRequests(address, engine_settings(address, env), env.get("AWS_CA_BUNDLE"))
    found = StoreProbe(address=address)
    scratch = _Scratch(client, raw, f"probe-{secrets.token_hex(8)}")
    try:
        _ask_access(found, client)
        _ask_conditions(found, client, scratch)
        _ask_checksums(found, raw, scratch)
        _ask_versions(found, raw, scratch)
        _ask_attributes(found, client, scratch)
        _ask_anonymous(found, client, raw, scratch)
        _ask_website(found, client, raw, scratch)
        _ask_lifecycle(found, raw)
    except MirrorError as exc:
        found.error = exc
    finally:
        scratch.remove(found)
    return found


class _Scratch:
    """The keys of one probe."""

    def __init__(self, client: ObjectClient, raw: RawRequests, name: str) -> None:
        self._client, self._raw, self._name = client, raw, name
        self._keys: list[str] = []

    def key(self, part: str, *, below: str = "") -> str:
        """Return a key, which is removed in the end."""
        folder = f"{below}/.{self._name}" if below else f".{self._name}"
        key = f"{folder}/{part}"
        self._keys.append(key)
        return key

    def remove(self, found: StoreProbe) -> None:
        """Remove all scratch keys; log those that can't be removed."""
        if not self._keys:
            return
        keys = list(dict.fromkeys(self._keys))
        try:
            if self._raw.can_sign:  # one by one: some engines can't delete several at once
                for key in keys:
                    self._raw.send("DELETE", key, signs=True)
            else:
                self._client.delete(keys)
            left = [key for key in keys if self._client.head(key) is not None]
        except TreeError as exc:
            left = keys
            found.error = found.error or exc
        if left:
            shown = ", ".join(found.address.shown(key) for key in left[:3])
            _log.warning("probe.left", keys=shown, advice="remove them by hand")


def _ask_access(found: StoreProbe, client: ObjectClient) -> None:
    is_empty = next(iter(client.list_objects(limit=1)), None) is None
    answer = "yes, nothing is there" if is_empty else "yes, something is there"
    found.add(
        "access",
        "Can these credentials list the prefix?",
        answer,
        "a root writes there once it has claimed it"
        if is_empty
        else "a root that did not fill it needs `mirror tree adopt`",
    )


def _ask_conditions(found: StoreProbe, client: ObjectClient, scratch: _Scratch) -> None:
    judged = judge_conditions(client, scratch.key("conditions"))
    winners = _count_creators(client, scratch.key("race"))
    question = f"Of {_CREATORS} creators of one key at once, how many succeed?"
    meaning = "one: the lock of the writer holds" if winners == 1 else "the lock can't hold"
    found.add("create-race", question, str(winners), meaning)
    is_safe = judged.is_safe and winners == 1
    found.add(
        "conditions",
        "Is a put refused whose condition does not hold, and done where it holds?",
        "yes" if is_safe else f"no: {judged.describe()}",
        "one writer is kept by a lock object"
        if is_safe
        else "refused, unless mirror.single-writer = true: you guarantee one writer",
    )


def _count_creators(client: ObjectClient, key: str) -> int:
    results: list[bool | MirrorError] = []
    gate = threading.Barrier(_CREATORS)

    def create(number: int) -> None:
        gate.wait()
        try:
            client.put(key, str(number).encode(), mode="create")
            results.append(True)
        except Conflict:
            results.append(False)
        except MirrorError as exc:
            results.append(exc)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(_CREATORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(result is True for result in results)


def _ask_checksums(found: StoreProbe, raw: RawRequests, scratch: _Scratch) -> None:
    right, wrong = b"the right bytes", b"other bytes"
    sha256 = base64.b64encode(hashlib.sha256(wrong).digest()).decode()
    md5 = base64.b64encode(hashlib.md5(wrong, usedforsecurity=False).digest()).decode()
    tries: Sequence[tuple[str, str, Mapping[str, str], bytes | None, str]] = (
        (
            "checksum-header",
            "Is a put refused whose x-amz-checksum-sha256 does not fit its bytes?",
            {"x-amz-checksum-sha256": sha256},
            None,
            "each put carries it",
        ),
        (
            "signed-payload",
            "Is a put refused whose signed digest does not fit its bytes?",
            {},
            wrong,
            "each put is signed so",
        ),
        (
            "content-md5",
            "Is a put refused whose Content-MD5 does not fit its bytes?",
            {"Content-MD5": md5},
            None,
            "not used",
        ),
    )
    refused = []
    for name, question, headers, hash_of, meaning in tries:
        if not raw.can_sign:
            found.add(name, question, _NO_KEYS, meaning)
            continue
        key = scratch.key(name)
        answer = raw.send("PUT", key, body=right, headers=headers, signs=True, hash_of=hash_of)
        refused.append(answer.is_refusal)
        found.add(name, question, _yes(answer.is_refusal, answer), meaning)
    if raw.can_sign and not any(refused[:2]):
        found.add(
            "end-to-end",
            "Does the store find bytes that were changed on the way?",
            "no",
            "only TLS protects a put: use https, and `mirror verify` after the first fill",
        )


def _ask_versions(found: StoreProbe, raw: RawRequests, scratch: _Scratch) -> None:
    question = "Does the bucket keep old versions of objects?"
    if not raw.can_sign:
        found.add("versions", question, _NO_KEYS, "a versioned bucket needs a rule for old ones")
        return
    answer = raw.send("PUT", scratch.key("version"), body=b"x", signs=True)
    version = answer.headers.get("x-amz-version-id")
    found.is_versioned = version not in {None, "", "null"}
    found.add(
        "versions",
        question,
        "yes" if found.is_versioned else "no",
        "each page that changes leaves an old one: set the rule below"
        if found.is_versioned
        else "only published files are kept",
    )


def _ask_attributes(found: StoreProbe, client: ObjectClient, scratch: _Scratch) -> None:
    key = scratch.key("attributes")
    sent = {"Content-Type": _JSON_TYPE, "Cache-Control": _CACHING}
    client.put(key, b"{}", attributes=sent)
    stored = client.head(key)
    kept = {} if stored is None else stored.attributes
    lost = [name for name, value in sent.items() if kept.get(name) != value]
    found.add(
        "headers",
        "Does an object keep its Content-Type and Cache-Control?",
        f"no: {', '.join(lost)} is lost" if lost else "yes",
        "clients can't read pages from the bucket itself: use `mirror serve --tree`"
        if lost
        else "JSON pages are read by pip and uv from the bucket itself",
    )


def _ask_anonymous(
    found: StoreProbe, client: ObjectClient, raw: RawRequests, scratch: _Scratch
) -> None:
    key = scratch.key("file", below="files")
    client.put(key, b"x")
    read = raw.send("GET", key)
    found.add(
        "anonymous-read",
        "May anybody read a file, without credentials?",
        _yes(read.is_success, read),
        "clients can use the bucket itself"
        if read.is_success
        else "clients need `mirror serve --tree` in front of it, or the policy below",
    )
    missing = scratch.key("missing", below="files")
    for name, who, signs in (
        ("missing-anonymous", "without credentials", False),
        ("missing-signed", "with these credentials", True),
    ):
        question = f"What is answered for a missing key, {who}?"
        if signs and not raw.can_sign:
            found.add(name, question, _NO_KEYS, "404 is needed")
            continue
        answer = raw.send("GET", missing, signs=signs)
        found.add(name, question, str(answer.status), _meaning_of_missing(answer.status, read))
    _ask_dangers(found, raw, scratch)


def _meaning_of_missing(status: int, read: RawAnswer) -> str:
    if status == 404:
        return "installers say that a project is not there"
    if status == 403 and read.is_success:
        return (
            "installers ask for credentials where a project is not there: allow s3:ListBucket,"
            " as below"
        )
    return "the policy below makes it 404"


def _ask_dangers(found: StoreProbe, raw: RawRequests, scratch: _Scratch) -> None:
    below = quote(raw.prefix, safe="")
    listing = raw.send("GET", query=f"list-type=2&max-keys=1&prefix={below}")
    found.add(
        "anonymous-list",
        "May anybody list the bucket?",
        _yes(listing.is_success, listing),
        "keep nothing else in this bucket" if listing.is_success else "nobody sees its keys",
    )
    write = raw.send("PUT", scratch.key("written", below="files"), body=b"x")
    found.add(
        "anonymous-write",
        "May anybody write, without credentials?",
        _yes(write.is_success, write),
        "DANGER: anybody can publish what your machines install; close it"
        if write.is_success
        else "as it must be",
    )


def _ask_website(
    found: StoreProbe, client: ObjectClient, raw: RawRequests, scratch: _Scratch
) -> None:
    key = scratch.key("index.html", below="simple")
    attributes = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": _CACHING}
    client.put(key, _PAGE, attributes=attributes)
    answer = raw.send("GET", key.removesuffix("index.html"))
    is_page = answer.is_success and answer.body == _PAGE
    found.add(
        "website",
        "Is index.html sent for an address that ends in a slash, at this endpoint?",
        _yes(is_page, answer),
        "pip and uv install from this endpoint"
        if is_page
        else "not here; a website endpoint has another address, which can't be seen from here:"
        " use that, a front that adds index.html, or `mirror serve --tree`",
    )


def _ask_lifecycle(found: StoreProbe, raw: RawRequests) -> None:
    question = "Do lifecycle rules fit a tree?"
    advice = "set the rule below, and never one that expires objects of the tree"
    if not raw.can_sign:
        found.add("lifecycle", question, _NO_KEYS, advice)
        return
    answer = raw.send("GET", query="lifecycle", signs=True)
    if answer.status == 404:
        found.add("lifecycle", question, "there are none", advice)
    elif not answer.is_success:
        found.add("lifecycle", question, f"{_UNSEEN} ({answer.status})", advice)
    else:
        found.add("lifecycle", question, *_judge_rules(answer.body, raw.prefix))


def _judge_rules(body: bytes, prefix: str) -> tuple[str, str]:
    """Return answer and meaning for the rules of a bucket."""
    rules = [
        rule
        for rule in _RULE.findall(body)
        if b"<Status>Enabled</Status>" in rule and _touches(rule, prefix)
    ]
    if any(
        re.search(rb"<Expiration>(?:(?!</Expiration>).)*<(?:Days|Date)>", r, re.DOTALL)
        for r in rules
    ):
        return "NO: one expires objects", "DANGER: it destroys the mirror: remove it"
    if any(b"<AbortIncompleteMultipartUpload>" in rule for rule in rules):
        return "yes", "abandoned uploads end"
    return "abandoned uploads stay for ever", "set the rule below"


def _touches(rule: bytes, prefix: str) -> bool:
    named = re.search(rb"<Prefix>([^<]*)</Prefix>", rule)
    other = named[1].decode("utf-8", "replace") if named else ""
    return prefix.startswith(other) or other.startswith(prefix)


def _yes(is_so: bool, answer: RawAnswer) -> str:  # noqa: FBT001 - it is the answer itself
    return f"yes ({answer.status})" if is_so else f"no ({answer.status})"
