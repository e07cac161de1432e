"""Pages of a bundle that clients would read in different ways are refused, in whatever encoding or spelling they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.handmade_bundles import Far, File, Site, State, sha256, some_file

AA, BB = some_file("aa", "1.0"), some_file("aa", "2.0")
BASE = State({"aa": [some_file("aa", "0.1")]}, 1)
NEXT = {"aa": [AA, BB]}
PAGE, ROOT = "simple/aa/index.v1_json", "simple/index.v1_json"
HTML, ROOT_HTML = ("simple/aa/index.html", "simple/aa/index.v1_html"), ("simple/index.html", "simple/index.v1_html")

Change = Callable[[str], str | bytes]


def twice(key: str, value: Any) -> Change:
    """Return what writes a key twice; Python takes the last one, others the first, or none."""

    def change(text: str) -> str:
        at = text.index(f'"{key}": ')
        return f'{text[:at]}"{key}": {json.dumps(value)}, {text[at:]}'

    return change


def instead(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text, text
        return text.replace(old, new)

    return change


CASES = [
    pytest.param((PAGE,), lambda text: text.encode("utf-16"), id="json-utf-16"),
    pytest.param((PAGE,), lambda text: text.encode("utf-16-be"), id="json-utf-16-without-mark"),
    pytest.param((PAGE,), lambda text: text.encode("utf-32-le"), id="json-utf-32"),
    pytest.param((PAGE,), lambda text: text.encode("utf-8-sig"), id="json-with-mark"),
    pytest.param(
        (PAGE,), lambda text: text.replace("meta", "m\udcff").encode("utf-8", "surrogateescape"), id="json-latin"
    ),
    pytest.param((PAGE,), twice("files", []), id="files-twice"),
    pytest.param((PAGE,), twice("name", "bb"), id="name-twice"),
    pytest.param((PAGE,), twice("url", "https://evil.example/x"), id="url-twice"),
    pytest.param((PAGE,), twice("sha256", "0" * 64), id="digest-twice"),
    pytest.param((PAGE,), twice("hashes", {}), id="hashes-twice"),
    pytest.param((PAGE,), twice("core-metadata", False), id="metadata-twice"),
    pytest.param((PAGE,), twice("api-version", "9.0"), id="api-version-twice"),
    pytest.param((PAGE,), instead('"versions": []', '"versions": [NaN]'), id="no-number"),
    pytest.param((PAGE,), instead('.whl", "url', '.whl", "\\u0075rl": "x", "url'), id="escaped-key-twice"),
    pytest.param((ROOT,), lambda text: text.encode("utf-16"), id="root-utf-16"),
    pytest.param((ROOT,), twice("projects", [{"name": "evil"}]), id="root-projects-twice"),
    pytest.param((ROOT,), instead('{"name": "aa"}', '{"name": "evil", "name": "aa"}'), id="root-name-twice"),
    pytest.param(HTML, lambda text: text.encode("utf-16"), id="html-utf-16"),
    pytest.param(HTML, lambda text: text.encode("utf-7").replace(b"<", b"+ADw-"), id="html-utf-7"),
    pytest.param(HTML, instead("<body>", '<head><meta charset="utf-7"></head><body>'), id="html-says-utf-7"),
    pytest.param(HTML, instead("<body>", '<head><meta charset="iso-2022-jp"></head><body>'), id="html-says-iso-2022"),
    pytest.param(HTML, instead("<body>", "<body><title>"), id="html-links-in-a-title"),
    pytest.param(HTML, instead("#sha256=", "%23sha256="), id="html-hidden-digest"),
    pytest.param(HTML, instead("../../files", "%2e%2e/../files"), id="html-encoded-dots"),
    pytest.param(HTML, instead("../../files", "..%2F../files"), id="html-encoded-slash"),
    pytest.param(HTML, instead("-1.0-py3-none-any.whl</a>", "-9.0-py3-none-any.whl</a>"), id="html-shows-another-name"),
    pytest.param(HTML, instead("<body>", "<body>\0"), id="html-nul"),
    pytest.param(ROOT_HTML, instead(">aa<", ">bb<"), id="root-shows-another-name"),
]


@pytest.mark.parametrize(("paths", "change"), CASES)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "next"])
def test_a_page_that_clients_read_differently(
    site: Site, far: Far, paths: tuple[str, ...], change: Change, is_first: bool
) -> None:
    """The bundle is refused as a whole, and what was served stays."""

    class Spoiled(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            changed = change(found[paths[0]].decode())
            data = changed if isinstance(changed, bytes) else changed.encode()
            assert data != found[paths[0]]
            return {**found, **dict.fromkeys(paths, data)}

    if not is_first:
        far.receive_well(site.make(BASE))
    done = far.receive(site.make(Spoiled(NEXT, 2)))
    assert (done.code, "Traceback" in done.err) == (7, False), done.err
    if is_first:
        assert not (far.public / "simple").exists()
    else:
        far.check_serves(BASE)


def test_a_link_that_is_no_text_is_refused(site: Site, far: Far) -> None:
    """A percent-encoded byte that is no UTF-8 leads nowhere: the file lies under other bytes."""

    class Spoiled(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            name = AA.name.replace("aa", "a\ufffd")
            for path in (PAGE, *HTML):
                found[path] = (
                    found[path]
                    .replace(f"/{AA.name}".encode(), b"/" + name.encode())
                    .replace(name.encode(), name.replace("\ufffd", "%FF").encode())
                )
            return found

    assert far.receive(site.make(Spoiled(NEXT, 1))).code == 7


@pytest.mark.parametrize(
    "name", ["aa-1.0+local.whl", "aa-1.0#1.zip", "aa-1.0?x.zip", "aa 1.0&copy.zip", "aä-1.0%41.zip"]
)
def test_odd_names_pass_as_the_renderer_writes_them(site: Site, far: Far, name: str) -> None:
    """What stands in a name is percent-encoded in links and escaped in text: such pages are no attack."""
    import html
    from urllib.parse import quote

    file = File(name, name.encode() * 9, b"Name: aa\n")
    digest = sha256(file.data)
    link = f"../../files/{digest[:2]}/{digest[2:4]}/{digest}/{quote(name, safe='')}"

    class Odd(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            page = json.loads(found[PAGE])
            page["files"][0]["url"] = link
            found[PAGE] = json.dumps(page).encode()
            label = f' data-core-metadata="sha256={sha256(file.metadata or b"")}"'
            anchor = f'<a href="{link}#sha256={digest}"{label}>{html.escape(name)}</a><br>'
            return {
                **found,
                **dict.fromkeys(HTML, f"<!DOCTYPE html>\n<html>\n<body>\n{anchor}\n</body></html>".encode()),
            }

    assert far.receive(site.make(Odd({"aa": [file]}, 1))).code == 0
    assert far.run("--check").code == 0


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "listed-without-digest"])
def test_metadata_that_a_kept_state_offers_gets_no_other_bytes(site: Site, far: Far, lost: bool) -> None:
    """Neither metadata that was lost from the disk, nor what is listed without a digest, is exchanged by a bundle."""
    sdist = File("aa-1.0.tar.gz", b"an sdist" * 100, metadata=b"Name: aa\nVersion: 1.0\n")
    planted = replace(sdist, metadata=b"Name: aa\nVersion: 1.0\nRequires-Dist: evil\n")

    class Bare(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            digest = sha256(sdist.metadata or b"")
            for path in (PAGE, *HTML):
                data = found[path].replace(f'{{"sha256": "{digest}"}}'.encode(), b"true")
                found[path] = data.replace(f'"sha256={digest}"'.encode(), b'"true"')
            return found

    first = (State if lost else Bare)({"aa": [sdist]}, 1)
    assert far.receive(site.make(first)).code == 0
    sidecar = far.public / f"{sdist.path}.metadata"
    if lost:
        sidecar.unlink()
    done = far.receive(site.make(State({"aa": [planted, BB]}, 2)))
    assert (done.code, "lists other metadata for this file" in done.err) == (7, True), done.err
    assert not sidecar.exists() if lost else sidecar.read_bytes() == sdist.metadata
    whole = site.make(State({"aa": [sdist, BB]}, 2), full=True)
    assert far.receive(whole).code == 0
    assert far.run("--check").code == 0


def test_a_kept_page_that_an_older_program_let_through(site: Site, far: Far) -> None:
    """--check names such a page instead of ending in a traceback, and goes on with the others."""
    from attacks.test_far_metadata import rewrite_page

    far.receive_well(site.make(BASE))
    page = json.loads((far.public / PAGE).read_bytes())
    far.receive_well(site.make(State(NEXT, 2)))
    page["files"][0]["dist-info-metadata"] = {"sha256": "0" * 64}
    rewrite_page(far, json.dumps(page).encode())
    done = far.run("--check")
    assert (done.code, "bytes: snapshots/bundle-000001/simple/aa/index.v1_json" in done.err) == (7, True), done.err
    assert far.receive(site.make(State({"aa": [BB]}, 3))).code == 0
