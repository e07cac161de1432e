"""Pages for people over HTTP: headers, links, escaping, and what they show with and without a state."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree as ET

import pytest

from harness.people_tree import QUOTES, SCRIPT
from harness.server import Server
from mirror.state.schema import SCHEMA_VERSION
from simulator import build_wheel

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
PAGES = [
    "/",
    "/?q=demo",
    "/?q=%3Cscript%3Eplanted()%3C/script%3E",
    "/projects/demo-app/",
    "/projects/planted/",
    "/projects/broken/",
    "/changes/",
    "/snapshots/",
    "/snapshots/?from=first&to=now",
    "/failures/",
    "/wants/",
    "/setup/",
]


class Links(HTMLParser):
    """The links, elements and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.elements, self.attributes = [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [(tag, value, dict(attrs)) for name, value in attrs if name in {"href", "src", "action"}]


def page(server, address, headers=None):
    answer = server.get(address, headers)
    assert answer.status == 200, answer.text
    return answer


@pytest.mark.parametrize("address", PAGES)
def test_a_page_is_safe_whatever_an_index_says(people, people_mirror, address):
    """No text of an index becomes markup, no style or script stands in the page, and no path of the host is shown."""
    answer = page(people, address)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    found = Links(answer.text)
    assert not found.elements & {"img", "iframe", "object", "style", "base"}
    assert not [name for name in found.attributes if name.startswith("on") or name == "style"]
    assert SCRIPT not in answer.text
    assert QUOTES not in answer.text
    assert answer.text.count("<script") == 1
    assert str(people_mirror.mirror.root) not in answer.text
    assert "\0" not in answer.text


@pytest.mark.parametrize("address", PAGES)
def test_links_are_relative_and_lead_somewhere(people, address):
    """Any prefix works: each link is relative, and every one within the server is answered."""
    for tag, link, attributes in Links(page(people, address).text).links:
        if urlsplit(link).scheme:
            assert urlsplit(link).scheme in {"http", "https"}
            assert "noreferrer" in attributes["rel"].split()
            continue
        assert not link.startswith("/"), (tag, link)
        target = urljoin(f"http://x{address}", link)
        assert people.get(target.removeprefix("http://x").partition("#")[0]).status in {
            200,
            404 if "other-2" in link else 200,
        }


@pytest.mark.parametrize("address", PAGES)
def test_a_page_that_the_browser_has_is_not_sent_again(people, address):
    """The tag stays while nothing changes, in each encoding."""
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        first = page(people, address, headers)
        again = people.get(address, {**headers, "If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("address", "texts"),
    [
        ("/", ["fresh", "partly", "10 projects", "Size and growth", "Cycle 2", "1 yanked"]),
        ("/?q=framework", ["No project here matches"]),
        ("/?q=demo", ["demo-app", "1.10", "The project demo-app", "2 projects"]),
        (
            "/projects/demo-app/",
            [
                "Linux x86-64, CPython 3.12, glibc ≥ 2.28",
                "&gt;=3.8",
                "any system, Python 3",
                'href="../../projects/demo-lib/"',
            ],
        ),
        ("/projects/planted/", ["not here", "yanked", "Licence", "Requires Python"]),
        ("/projects/demo-lib/", ["pre-release", "source distribution"]),
        ("/projects/broken/", ["digest-mismatch", "What to do"]),
        ("/changes/", ["2 new", "1 replaced", "1 yanked", "1 removed"]),
        ("/snapshots/?from=first&to=now", ["stable", "+ 1.9", "− 1.0", "1 replaced"]),
        ("/snapshots/?from=nope&to=now", ["There is no snapshot nope."]),
        ("/failures/", ["digest-mismatch", "What to do", "broken-1.0.tar.gz"]),
        ("/setup/", ["index-url = http://mirror.test/simple/", "trusted-host = mirror.test", "[[tool.uv.index]]"]),
    ],
)
def test_what_a_page_shows(people, address, texts):
    """Each page has its facts."""
    text = page(people, address).text
    for one in texts:
        assert one in text, one


def test_versions_stand_in_the_order_of_pep_440(people):
    """1.10 is newer than 1.9."""
    found = re.findall(r'<summary><span class="version">([^<]+)', page(people, "/projects/demo-app/").text)
    assert found == ["1.10", "1.9", "1.0"]


def test_one_version_can_be_asked_for(people):
    """The address of a version shows its files; an unknown one shows them all."""
    text = page(people, "/projects/demo-app/?version=1.9").text
    assert re.findall(r'<summary><span class="version">([^<]+)', text) == ["1.9"]
    assert "?version=1.10" in text
    assert page(people, "/projects/demo-app/?version=x").text.count("<summary>") == 3


@pytest.mark.parametrize(
    ("host", "shown"),
    [("localhost:8", "http://localhost:8/simple/"), ("pypi.example", "http://pypi.example/simple/"), ('a"><b', None)],
)
def test_the_address_is_that_of_the_request(people, host, shown):
    """Clients are configured for the address by which the page was opened; one that is no address is never repeated."""
    for address in ("/setup/", "/projects/demo-app/"):
        lines = [f"GET {address} HTTP/1.1", f"Host: {host}", "Connection: close", "", ""]
        text = people.send("\r\n".join(lines).encode()).text
        assert (shown or f"http://{people.address[0]}:{people.address[1]}/simple/") in text
        assert "<b" not in text.replace("<body", "").replace("<button", "").replace("<br>", "")
        is_exposed = host == "pypi.example"
        assert ("trusted-host" in text) == is_exposed


@pytest.mark.parametrize(
    ("address", "status", "location"),
    [
        ("/projects/Demo_App/", 301, "../demo-app/"),
        ("/projects/demo-app", 301, "demo-app/"),
        ("/changes?before=3", 301, "changes/?before=3"),
        ("/projects/nope/", 404, None),
        ("/projects/No_Pe/", 404, None),
        ("/projects/", 404, None),
        ("/-/static/0000000000000000/style.css", 404, None),
        ("/-/static/x", 404, None),
        ("/-/changes.atom/", 404, None),
        ("/favicon.ico", 200, None),
        ("/?q=%00%ff", 200, None),
        ("/?q=" + "x" * 3000, 200, None),
        ("/changes/?before=x", 200, None),
    ],
)
def test_other_addresses(people, address, status, location):
    """A spelling that is not normalised is redirected where the project exists; nothing that a client sends is an error."""
    answer = people.get(address)
    assert (answer.status, answer.headers.get("Location")) == (status, location)
    if status == 404:
        assert answer.headers["Cache-Control"] == "no-store"


def test_static_files_are_kept_for_ever(people):
    """Their address has their digest."""
    text = page(people, "/").text
    for link in re.findall(r'(?:href|src)="\./(-/static/[^"]+)"', text):
        answer = people.get(f"/{link}")
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "max-age=31536000, immutable")
        assert people.get(f"/{link}", {"If-None-Match": answer.headers["ETag"]}).status == 304


def test_the_feed_is_atom(people):
    """Each cycle with changes is an entry with an address of its own, and its text is text."""
    answer = people.get("/-/changes.atom")
    assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
    atom = "{http://www.w3.org/2005/Atom}"
    feed = ET.fromstring(answer.body)
    entries = feed.findall(f"{atom}entry")
    assert [entry.findtext(f"{atom}title") for entry in entries] == [
        "Cycle 3: 1 removed",
        "Cycle 2: 2 new, 1 replaced, 1 yanked",
        "Cycle 1: 14 new",
    ]
    assert len({entry.findtext(f"{atom}id") for entry in entries}) == 3
    assert f"planted 1.0 (Reason {SCRIPT})" in entries[1].findtext(f"{atom}content")
    assert all(not link.get("href").startswith("/") for link in feed.iter(f"{atom}link"))


def test_without_a_state_the_tree_is_shown(people_mirror, tmp_path):
    """Beyond a gap there is no state: projects come from the pages, arrivals from the receiver's record."""
    root = tmp_path / "far"
    shutil.copytree(people_mirror.mirror.root / "public", root / "public", symlinks=True)
    applied = {"applied_at": "2026-01-02T03:04:05Z", "created_at": "2026-01-01T00:00:00Z", "digest": "d" * 64}
    applied |= {"name": "bundle-000007", "sequence": 7, "state": "s" * 64}
    (root / "receive.json").write_text(
        json.dumps(
            {
                "format": 1,
                "site": "north",
                "chain": "c",
                "signer": f"ops {SCRIPT}",
                "applied": [applied],
                "next": None,
                "sweep": False,
            }
        )
    )
    mirror = type(people_mirror.mirror)(tmp_path / "work")
    with Server(mirror, "--root", root) as server:
        text = page(server, "/").text
        assert "bundle 7" in text
        assert "2026-01-02 03:04 UTC" in text
        assert "ops &lt;script&gt;" in text
        text = page(server, "/?q=demo").text
        assert re.findall(r'class="name">([^<]+)', text) == ["demo-app", "demo-lib"]
        assert re.findall(r'class="name">([^<]+)', page(server, "/?q=de").text) == ["demo-app", "demo-lib"]
        text = page(server, "/projects/demo-app/").text
        assert "glibc" in text
        assert 'href="../../projects/demo-lib/"' in text
        for address in (
            "/changes/",
            "/failures/",
            "/snapshots/",
            "/setup/",
            "/-/changes.atom",
            "/-/api/v1/projects/demo-app",
        ):
            assert server.get(address).status == 200
        assert server.get("/-/api/v1/status").status == 404
        assert "first" in page(server, "/snapshots/").text
        assert not server.events("state.unreadable")


def test_a_state_that_cannot_be_read(own):
    """The index goes on, the pages say so, and the log has one warning."""
    state = own.mirror.root / "state.db"
    state.write_bytes(b"no database" * 1000)
    for name in ("state.db-wal", "state.db-shm"):
        (own.mirror.root / name).unlink(missing_ok=True)
    with Server(own.mirror) as server:
        assert server.get("/simple/demo-app/").status == 200
        for address in ("/", "/?q=demo", "/projects/demo-app/", "/changes/", "/failures/", "/snapshots/"):
            text = page(server, address).text
            assert "can’t be read at the moment" in text
            assert str(own.mirror.root) not in text
        assert server.get("/-/api/v1/status").status == 503
        assert server.get("/metrics").status == 200
        assert len(server.events("state.unreadable")) == 1


def test_a_state_of_an_earlier_version(own):
    """The index goes on; the pages, the API and the log say that the next cycle brings it up to date."""
    with closing(sqlite3.connect(own.mirror.root / "state.db")) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    with Server(own.mirror) as server:
        for address in ("/", "/wants/", "/failures/"):
            text = page(server, address).text
            assert "earlier version of the program wrote the state" in text
            assert "can’t be read" not in text
        answer = server.get("/-/api/v1/status")
        assert (answer.status, "the next cycle brings it up" in answer.text) == (503, True)
        [event] = server.events("state.unreadable")
        assert "made by an earlier version of this program" in event["problem"]


def test_a_cycle_is_seen_without_a_restart(own):
    """What a cycle brings is found, shown and counted by a server that runs."""
    with Server(own.mirror) as server:
        assert server.get("/projects/new-one/").status == 404
        assert "No project here" in page(server, "/?q=new-one").text
        name, data = build_wheel("new-one", "1.0")
        own.index.state.publish("new-one", name, data)
        own.mirror.sync_well()
        # Pages are trusted for a second at least, longer where they cost more.
        server.wait_until(lambda: "The project new-one" in server.get("/?q=new-one").text)
        assert "new-one" in page(server, "/projects/new-one/").text
        assert server.get("/-/api/v1/projects/new-one").status == 200
