"""What a page may cost: its keys, its links and the memory of its values, each with the sentence that names the limit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirror.core.model import Labels, ListedFile, ProjectMeta, RefusedFile
from mirror.core.names import ProjectName
from mirror.core.pages import parse_html, parse_json
from mirror.core.pages.page_cost import (
    MAX_FILE_BYTES,
    MAX_META_BYTES,
    MAX_VALUE_BYTES,
    MAX_VERSIONS_BYTES,
    ROOT_MEMORY_BYTES,
    check_json_items,
    check_json_root,
    html_page_cost,
    json_page_cost,
)
from mirror.errors import BadPage, Reason, TooLarge

DEMO = ProjectName("demo")
URL = "https://packages.example/simple/demo/"
ROOT = "https://packages.example/simple/"
VERSION = b'<meta name="pypi:repository-version" content="1.0">'
FILE = {"filename": "demo-1.0.tar.gz", "url": "demo-1.0.tar.gz", "hashes": {}}


def json_page(**keys: Any) -> Any:
    """Read a JSON page of the project ``demo`` with these keys (``_`` for ``-``)."""
    page = {"meta": {"api-version": "1.1"}, "files": []} | {k.replace("_", "-"): v for k, v in keys.items()}
    return parse_json.parse_project_page(json.dumps(page).encode(), project=DEMO, url=URL)


def too_large(read: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """Return what a reader of a page says of it, and the setting that it names."""
    with pytest.raises(TooLarge) as caught:
        read(*arguments, **options)
    return caught.value.what, caught.value.setting


COSTS = {
    "JSON": (json_page_cost, b'{"a": [1, 2]}', URL, 13 + 500 + 150 + 250),
    "JSON in another script": (json_page_cost, '"é"'.encode(), URL, 4 * 4),
    "JSON with references": (json_page_cost, b'"\\ud83d"', URL, 8 * 4),
    "JSON from a long address": (json_page_cost, b"{}", "x" * 300, 2 + 500 + 200),
    "HTML": (html_page_cost, b"<a>", URL, 3 + 600),
    "HTML with references": (html_page_cost, b"<a>&amp;", URL, 8 * 4 + 600),
}


@pytest.mark.parametrize(("cost", "body", "url", "expected"), COSTS.values(), ids=COSTS)
def test_cost_of_a_page(cost: Any, body: bytes, url: str, expected: int) -> None:
    """Characters, objects, lists, items and tags count, and so does an address that each link repeats."""
    assert cost(body, url=url) == expected


def test_cost_of_a_page_with_a_base() -> None:
    """A base may lengthen each link, up to what one page may cost at all."""
    assert html_page_cost(b"<a><BASE/>", url=URL) > html_page_cost(b"<a><bass/>", url=URL)
    assert html_page_cost(b"<a>" * 200_000 + b"<base>", url=URL) == 800 << 20


def test_root_with_too_many_objects() -> None:
    """A root page is not even read where it must list more projects than allowed, or take too much memory."""
    check_json_root(b"{" * 4, url=ROOT, max_projects=1)
    what = "lists more than 1 projects; raise limits.projects to allow it"
    assert too_large(check_json_root, b"{" * 5, url=ROOT, max_projects=1) == (what, "limits.projects")
    body = b"{" * (ROOT_MEMORY_BYTES // 200)
    found = f"{len(body)} objects in {len(body)} bytes"
    what = f"would take more than {ROOT_MEMORY_BYTES} bytes of memory to read ({found}); no key of [limits] raises this limit"
    assert too_large(check_json_root, body, url=ROOT, max_projects=10**8) == (what, "")


def test_root_with_too_many_values() -> None:
    """The list is not read item by item where its items alone would take too much memory."""
    check_json_items(b"[,]", url=ROOT)
    body = b"," * (ROOT_MEMORY_BYTES // 82 + 1)
    what, setting = too_large(check_json_items, body, url=ROOT)
    assert (f"{len(body)} values in {len(body)} bytes" in what, setting) == (True, "")


def test_root_in_json_with_too_many_projects() -> None:
    """The number of projects is limited where there are no more objects than allowed, too."""
    body = b'{"meta": {"api-version": "1.1"}, "projects": [{"name": "a"}, {"name": "b"}]}'
    what = "lists more than 1 projects; raise limits.projects to allow it"
    assert too_large(parse_json.parse_root_page, body, url=ROOT, max_projects=1) == (what, "limits.projects")


LONG_FILES = {
    "unknown keys": (
        FILE | {"x": "y" * MAX_FILE_BYTES},
        {"filename": "demo-1.0.tar.gz", "labels": Labels()},
        ("the unknown keys of a file, longer than 65536 bytes: not as specified, left out (1 times)",),
    ),
    "known keys alone": (
        FILE | dict.fromkeys(("requires-python", "yanked", "upload-time", "size"), "x" * (MAX_VALUE_BYTES - 2)),
        {
            "filename": "demo-1.0.tar.gz",
            "labels": Labels(requires_python="x" * (MAX_VALUE_BYTES - 2), yanked="x" * (MAX_VALUE_BYTES - 2)),
        },
        tuple(f"{key}: not as specified, left out (1 times)" for key in ("size", "upload-time")),
    ),
}


@pytest.mark.parametrize(("given_file", "expected", "warnings"), LONG_FILES.values(), ids=LONG_FILES)
def test_long_file(given_file: Any, expected: dict[str, Any], warnings: tuple[str, ...]) -> None:
    """A file of which a page says too much keeps its known keys."""
    page = json_page(files=[given_file])
    assert page.files == (ListedFile(url=f"{URL}demo-1.0.tar.gz", **expected),)
    assert page.warnings == warnings


LONG_KEYS = {
    "of a yanked file": (FILE | {"yanked": "x" * MAX_FILE_BYTES, "x": 1}, "yanked", Labels(yanked="")),
    "of another": (FILE | {"upload-time": "x" * MAX_FILE_BYTES, "x": 1}, "upload-time", Labels()),
}


@pytest.mark.parametrize(("given_file", "key", "labels"), LONG_KEYS.values(), ids=LONG_KEYS)
def test_long_key(given_file: Any, key: str, labels: Labels) -> None:
    """A known key that is too long costs the file; that it was withdrawn stays known."""
    cause = f"its {key} is longer than {MAX_VALUE_BYTES} bytes"
    refused = RefusedFile(name="demo-1.0.tar.gz", cause=cause, reason=Reason.BAD_FILE, labels=labels)
    page = json_page(files=[given_file, FILE])
    assert (page.refused, len(page.files)) == ((refused,), 1)


LONG_PAGES = {
    "meta": ({"meta": {"api-version": "1.1", "x": "y" * MAX_META_BYTES}}, "its 'meta' is longer than 65536 bytes"),
    "status": ({"project_status": {"status": "x" * MAX_META_BYTES}}, "its project-status is longer than 65536 bytes"),
}


@pytest.mark.parametrize(("keys", "cause"), LONG_PAGES.values(), ids=LONG_PAGES)
def test_long_part_that_a_page_needs(keys: dict[str, Any], cause: str) -> None:
    """What decides on the whole page is not skipped: such a page is not read."""
    with pytest.raises(BadPage) as caught:
        json_page(**keys)
    assert caught.value.cause == cause


LEFT_OUT = {
    "unknown keys": ({"x": "y" * MAX_META_BYTES, "z": 1}, "the unknown keys of the page, longer than 65536 bytes"),
    "versions": ({"versions": ["1" * MAX_VERSIONS_BYTES]}, "versions, longer than 262144 bytes"),
}


@pytest.mark.parametrize(("keys", "kind"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_long_part_that_a_page_can_miss(keys: dict[str, Any], kind: str) -> None:
    """What nothing depends on is left out, and a warning says so."""
    page = json_page(**keys)
    assert (page.meta, page.warnings) == (ProjectMeta(), (f"{kind}: not as specified, left out (1 times)",))


def html_page(html: bytes, **options: Any) -> Any:
    """Read an HTML page of the project ``demo``."""
    return parse_html.parse_project_page(html, project=DEMO, url=URL, **options)


def html_root(html: bytes, **options: Any) -> Any:
    """Read an HTML root page."""
    return parse_html.parse_root_page(html, url=ROOT, **options)


def test_two_statuses() -> None:
    """Two different values of the status are no answer to whether the project may be used."""
    status = b'<meta name="pypi:project-status" content="%s">'
    assert html_page(VERSION + status % b"archived" * 2).meta.status == "archived"
    with pytest.raises(BadPage) as caught:
        html_page(VERSION + status % b"archived" + status % b"quarantined")
    assert caught.value.cause == "it has two different values of pypi:project-status"


def test_unknown_attributes_that_are_too_long() -> None:
    """They are left out, and a warning says so."""
    page = html_page(b'<a href="demo-1.0.tar.gz" data-x="%s">x</a>' % (b"y" * MAX_FILE_BYTES))
    assert [file.labels for file in page.files] == [Labels()]
    kind = "the unknown attributes of a file, longer than 65536 bytes"
    assert page.warnings == (f"{kind}: not as specified, left out (1 times)",)


def test_page_with_links_that_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The links as they are kept count, whatever the body's length."""
    monkeypatch.setattr(parse_html, "PAGE_MEMORY_BYTES", 1000)
    html = b'<a href="demo-1.0.tar.gz">x</a>'
    assert len(html_page(html).files) == 1
    what, setting = too_large(html_page, html * 2)
    assert ("1000 bytes of memory to read (2 files)" in what, setting) == (True, "")


def test_root_with_more_links_than_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A root whose links repeat names is read up to a share of them, whether texts are needed or not."""
    monkeypatch.setattr(parse_html, "_FREE_LINKS", 4)
    plain = b'<a href="a/">a</a>'
    assert list(html_root(plain * 9).projects) == ["a"]
    for html in (plain * 10, b'<a href="/x/simple/a/">a</a>' * 10):
        with pytest.raises(BadPage) as caught:
            html_root(html)
        assert caught.value.cause == "of its first 9 links only 1 name a project anew"


def test_large_root_with_anchors_without_a_link() -> None:
    """Where texts are needed, an anchor that links nothing is passed over, as elsewhere."""
    html = b'<a name="top">top</a><a href="/x/simple/a/">a</a><a>b</a>'
    assert list(html_root(html).projects) == ["a"]


def test_root_with_too_many_projects() -> None:
    """The number of projects is limited in HTML as in JSON."""
    what = "lists more than 1 projects; raise limits.projects to allow it"
    html = b'<a href="a/">a</a><a href="b/">b</a>'
    assert too_large(html_root, html, max_projects=1) == (what, "limits.projects")


def test_root_that_takes_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and body together are limited."""
    monkeypatch.setattr(parse_html, "ROOT_MEMORY_BYTES", 100)
    what, setting = too_large(html_root, b'<a href="a/">a</a>')
    assert ("(1 names in 18 bytes)" in what, setting) == (True, "")


def test_large_page_in_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that must be encoded again takes its length several times, and is read up to a lower limit."""
    html = (VERSION + b'<a href="demo-1.0.tar.gz">x</a>').decode().encode("utf-16")
    monkeypatch.setattr(parse_html, "_LARGEST_ENCODED_BYTES", len(html))
    assert len(html_page(html, charset="UTF-16").files) == 1
    what, setting = too_large(html_page, html + b" \0", charset="UTF-16")
    assert (f"{len(html) + 2} bytes in utf-16, which is read below {len(html)} bytes only" in what, setting) == (
        True,
        "",
    )
