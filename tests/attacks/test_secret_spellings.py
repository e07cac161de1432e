"""Secrets and URLs in what an index says are found however they are spelled."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from harness.in_process import Mirror
from mirror.config import AuthConfig
from mirror.core.pages.unknown_keys import canonical_json
from mirror.logs import redact
from simulator import build_wheel

WHEEL = build_wheel("demo", "1.0")

LINKS = {
    "a key": ({"https://u:pw@h.example/x?sig=SECRET": 1}, {"https://h.example/x": 1}),
    "a quote in the query": ("https://h.example/x?sig='SECRET'", "https://h.example/x"),
    "a quote in the user info": ("https://u:p'SECRET@h.example/x", "https://h.example/x"),
    "a double quote in the user info": ('https://u:p"SECRET@h.example/x', "https://h.example/x"),
    "two at signs": ("https://u:p@SECRET@h.example/x", "https://h.example/x"),
    "a backslash in the query": ("https://h.example/x?a\\SECRET", "https://h.example/x"),
    "without a scheme": ("//u:SECRET@h.example/x?SECRET", "//h.example/x"),
    "a relative link": ("x.whl?sig=SECRET", "x.whl"),
    "a relative link in a folder": ("../a/x.whl?SECRET", "../a/x.whl"),
    "a query alone behind the host": ("https://h.example?sig=SECRET", "https://h.example"),
    "in a sentence": ("see https://h.example/x?sig=SECRET, and more", "see https://h.example/x and more"),
    "in markup": ('<a href="https://h.example/x?SECRET">x</a>', '<a href="https://h.example/x">x</a>'),
    "a question": ("why? because", "why? because"),
    "an equation": ("a=b", "a=b"),
    "a fragment": ("https://h.example/x#part", "https://h.example/x#part"),
}


@pytest.mark.parametrize(("value", "expected"), LINKS.values(), ids=LINKS)
def test_a_url_in_an_unknown_key(value: Any, expected: Any) -> None:
    """Query and user info go with all that is in them, the rest stays."""
    assert json.loads(canonical_json({"x": value, "deep": [{"y": [value]}]})) == {
        "x": expected,
        "deep": [{"y": [expected]}],
    }


def test_user_info_in_a_message() -> None:
    """A quote in a password does not end the URL that it stands in."""
    assert redact("asked 'https://u:p'SECRET@h.example/x?y'") == "asked 'https://h.example/x'"


PASSWORD = 'pä"s\\s wörd/7+'
SPELLINGS = {
    "as it is": PASSWORD,
    "escaped in a text": json.dumps(PASSWORD),
    "percent-encoded": quote(PASSWORD, safe=""),
    "percent-encoded in lower case": quote(PASSWORD, safe="").lower(),
    "of a form": quote_plus(PASSWORD),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("shape", ["value", "key", "deep"])
async def test_a_password_that_the_index_repeats(simulator: Any, tmp_path: Any, spelling: str, shape: str) -> None:
    """Whatever must be escaped in it, and however it is encoded: neither pages nor state keep it."""
    told = {"value": {"x-echo": spelling}, "key": {f"x-{spelling}": 1}, "deep": {"x-echo": [{"a": [spelling]}]}}[shape]
    index = await simulator(username="robot", password=PASSWORD)
    index.state.publish("demo", *WHEEL, extra={**told, "x-fine": "stays"})
    mirror = Mirror(tmp_path / "mirror", {"main": index})
    mirror.env["SECRET"] = PASSWORD
    mirror.configure("main", auth=AuthConfig(kind="basic", username="robot", password_env="SECRET"))
    await mirror.cycle()
    assert mirror.labels("demo", WHEEL[0])["x-fine"] == "stays"
    encoded = [spelling, json.dumps(spelling)[1:-1], msgspec.json.encode(spelling).decode()[1:-1]]
    for path, data in mirror.bytes_on_disk().items():
        for form in encoded:
            assert form.encode() not in data, path
