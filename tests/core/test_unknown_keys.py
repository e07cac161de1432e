"""Unknown keys lose what opens a door: user info and queries of the URLs in them, wherever they stand."""

from __future__ import annotations

import pytest

from mirror.core.pages.unknown_keys import canonical_json, without_url_secrets_json

TEXTS = {
    "no URL": ("a?b", "a?b"),
    "URL": ("see https://u:p@h.example/x?sig=1#top, thanks", "see https://h.example/x#top, thanks"),
    "URL without a scheme": ("//u@h.example/x?y", "//h.example/x"),
    "link with a query": ("../files/a.whl?sig=1", "../files/a.whl"),
    "name with a query": ("a.whl?sig=1", "a.whl"),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS)
def test_texts(text: str, expected: str) -> None:
    """A URL keeps its place, without user info and query."""
    assert canonical_json({"a": text}) == f'{{"a":"{expected}"}}'


def test_values_of_all_shapes() -> None:
    """Lists, objects and their keys are searched too; other values stay, and keys are sorted."""
    url, bare = "https://h.example/x?y=1", "https://h.example/x"
    value = {"z": [url, 1, None, {url: True}], "a": {"b": (url,)}}
    assert canonical_json(value) == f'{{"a":{{"b":["{bare}"]}},"z":["{bare}",1,null,{{"{bare}":true}}]}}'


STORED = {
    "object": ('{"b": "https://h.example/x?y=1", "a": 1}', '{"a":1,"b":"https://h.example/x"}'),
    "no object": ("[1]", "{}"),
    "no JSON": ("{", "{}"),
    "nested too deep": ('{"a":' + "[" * 100_000, "{}"),
}


@pytest.mark.parametrize(("text", "expected"), STORED.values(), ids=STORED)
def test_stored_objects(text: str, expected: str) -> None:
    """What was stored before is cleaned likewise; unreadable JSON becomes an empty object."""
    assert without_url_secrets_json(text) == expected
