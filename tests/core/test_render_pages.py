"""Our pages, read back by independent parsers: pypi-simple, msgspec and the standard library's HTML parser."""

from __future__ import annotations

import html
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypi_simple import ProjectPage

from mirror.core.model import Entry, Labels, ProjectMeta, ProjectView
from mirror.core.names import ProjectName, Sha256
from mirror.core.pages.render_pages import blob_url, iter_root_html, iter_root_json, render_project
from mirror.core.pages.unknown_keys import canonical_json

A = Sha256("a" * 64)
B = Sha256("b" * 64)
NAME = ProjectName("demo-pkg")

HOSTILE = [
    pytest.param('"><script>alert(1)</script>', id="script"),
    pytest.param("' onmouseover='x", id="single quote"),
    pytest.param("a & b &amp; &#x3c; &lt", id="ampersands"),
    pytest.param("</a></body></html><!-- ]]>", id="closing tags"),
    pytest.param("ünïcödé 包 🐍", id="unicode"),
    pytest.param("tab\tline\nreturn\r\nend", id="line breaks"),
]


def entry(filename: str = "demo_pkg-1.0-py3-none-any.whl", sha256: Sha256 = A, **more: Any) -> Entry:
    """Return an entry with what a test does not care about filled in."""
    return Entry(filename=filename, sha256=sha256, size=more.pop("size", 10), **more)


def view(*entries: Entry, serial: int = 7, **meta: Any) -> ProjectView:
    """Return a view of the demo project."""
    return ProjectView(name=NAME, meta=ProjectMeta(**meta), entries=entries, serial=serial)


def read_json(of: ProjectView) -> Any:
    """Return the JSON form, read back."""
    return msgspec.json.decode(render_project(of).json)


class Reader(HTMLParser):
    """All start tags of a page with their attributes, and the text that a human sees."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_full_page_in_json() -> None:
    """Every label of a file and of the project stands in the JSON page under its standard key."""
    labels = Labels(
        requires_python=">=3.8",
        yanked="broken",
        upload_time="2024-01-02T03:04:05.678901Z",
        provenance="https://example.org/p",
        extra='{"x-note":[1,2]}',
    )
    full = view(
        entry(labels=labels, metadata_sha256=B),
        status="archived",
        status_reason="gone fishing",
        versions=("1.0", "0.9"),
        extra='{"x-page":true}',
        extra_meta='{"x-meta":null}',
    )
    assert read_json(full) == {
        "meta": {"api-version": "1.4", "_last-serial": 7, "x-meta": None},
        "name": "demo-pkg",
        "project-status": {"status": "archived", "reason": "gone fishing"},
        "versions": ["1.0", "0.9"],
        "files": [
            {
                "filename": "demo_pkg-1.0-py3-none-any.whl",
                "url": f"../../files/aa/aa/{A}/demo_pkg-1.0-py3-none-any.whl",
                "hashes": {"sha256": A},
                "size": 10,
                "upload-time": "2024-01-02T03:04:05.678901Z",
                "requires-python": ">=3.8",
                "yanked": "broken",
                "core-metadata": {"sha256": B},
                "provenance": "https://example.org/p",
                "x-note": [1, 2],
            }
        ],
        "x-page": True,
    }


def test_bare_page_in_json() -> None:
    """What an index did not say is left out, never invented."""
    assert read_json(view(entry("odd.egg"))) == {
        "meta": {"api-version": "1.4", "_last-serial": 7},
        "name": "demo-pkg",
        "versions": [],
        "files": [
            {
                "filename": "odd.egg",
                "url": f"../../files/aa/aa/{A}/odd.egg",
                "hashes": {"sha256": A},
                "size": 10,
                "yanked": False,
            }
        ],
    }


def test_html_page() -> None:
    """The HTML page carries the same labels as attributes, one anchor on one line."""
    labels = Labels(requires_python=">=3.8,<4", yanked="", upload_time="2024-01-02", provenance="https://example.org/p")
    page = render_project(view(entry(labels=labels, metadata_sha256=B), entry("demo_pkg-2+x.tar.gz", B))).html.decode()
    assert page == (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.4">\n'
        "<title>Links for demo-pkg</title>\n</head>\n<body>\n<h1>Links for demo-pkg</h1>\n"
        f'<a href="../../files/aa/aa/{A}/demo_pkg-1.0-py3-none-any.whl#sha256={A}" data-size="10" '
        'data-upload-time="2024-01-02" data-requires-python="&gt;=3.8,&lt;4" data-yanked="" '
        f'data-core-metadata="sha256={B}" '
        'data-provenance="https://example.org/p">demo_pkg-1.0-py3-none-any.whl</a><br>\n'
        f'<a href="../../files/bb/bb/{B}/demo_pkg-2%2Bx.tar.gz#sha256={B}" data-size="10">demo_pkg-2+x.tar.gz</a><br>\n'
        "</body>\n</html>\n<!--SERIAL 7-->\n"
    )


@pytest.mark.parametrize(
    ("yanked", "in_json", "in_html"),
    [
        pytest.param(None, False, None, id="not yanked"),
        pytest.param("", True, "", id="without a reason"),
        pytest.param("bad", "bad", "bad", id="with a reason"),
    ],
)
def test_yanked(yanked: str | None, in_json: bool | str, in_html: str | None) -> None:
    """A yanked file has the mark in both forms, also when no reason was given."""
    page = render_project(view(entry(labels=Labels(yanked=yanked))))
    assert msgspec.json.decode(page.json)["files"][0]["yanked"] == in_json
    assert Reader(page.html).attributes("a")[0].get("data-yanked") == in_html


@pytest.mark.parametrize(
    ("meta", "status"),
    [
        pytest.param({}, None, id="active"),
        pytest.param({"status_reason": ""}, None, id="active, empty reason"),
        pytest.param(
            {"status_reason": "maintained"}, {"status": "active", "reason": "maintained"}, id="active, reason"
        ),
        pytest.param({"status": "quarantined"}, {"status": "quarantined"}, id="no reason"),
        pytest.param(
            {"status": "sleeping", "status_reason": "z"}, {"status": "sleeping", "reason": "z"}, id="new word"
        ),
    ],
)
def test_project_status(meta: dict[str, str], status: dict[str, str] | None) -> None:
    """The status stands in both forms as PEP 792 writes it, only where it says something, and a human can read it."""
    page = render_project(view(**meta))
    assert msgspec.json.decode(page.json).get("project-status") == status
    reader = Reader(page.html)
    metas = {attrs.get("name"): attrs["content"] for attrs in reader.attributes("meta") if "name" in attrs}
    expected = {"pypi:repository-version": "1.4"}
    if status:
        expected["pypi:project-status"] = status["status"]
        assert f"Status: {': '.join(status.values())}" in reader.text
    if status and "reason" in status:
        expected["pypi:project-status-reason"] = status["reason"]
    assert metas == expected


@pytest.mark.parametrize(
    ("listed", "filenames", "versions"),
    [
        pytest.param(None, [], [], id="nothing"),
        pytest.param(("2.0", "odd one", "1.0"), [], ["2.0", "odd one", "1.0"], id="listed ones verbatim"),
        pytest.param(
            None,
            ["demo_pkg-1.10.tar.gz", "demo_pkg-1.9-py3-none-any.whl", "demo_pkg-1.9.zip", "demo-pkg-1.9rc1.tar.gz"],
            ["1.9rc1", "1.9", "1.10"],
            id="from names, sorted by version",
        ),
        pytest.param(
            ("3",), ["demo_pkg-1.0.tar.gz", "demo_pkg-3-py3-none-any.whl"], ["3", "1.0"], id="the missing ones"
        ),
        pytest.param(("1.0", "?"), ["demo_pkg-1.0.0.tar.gz"], ["1.0", "?"], id="equal versions in other words"),
        pytest.param(None, ["demo_pkg-1.0+cgr.1-py3-none-any.whl"], ["1.0+cgr.1"], id="local version"),
        pytest.param(
            None,
            [
                "other-1.0.tar.gz",
                "demo_pkg.whl",
                "demo_pkg-x-y.whl",
                "demo_pkg-1.0-py3.7.egg",
                "demo_pkg-one.zip",
                "x.zip",
            ],
            [],
            id="names that tell nothing",
        ),
    ],
)
def test_versions(listed: tuple[str, ...] | None, filenames: list[str], versions: list[str]) -> None:
    """Versions are those listed, in order, then those that only the held files have."""
    page = read_json(view(*(entry(name) for name in sorted(filenames)), versions=listed))
    assert page["versions"] == versions


@pytest.mark.parametrize(
    ("filename", "quoted"),
    [
        pytest.param("a-1.0.tar.gz", "a-1.0.tar.gz", id="plain"),
        pytest.param("a-1+x~y_z.whl", "a-1%2Bx~y_z.whl", id="plus"),
        pytest.param("a b#?%&;:@.zip", "a%20b%23%3F%25%26%3B%3A%40.zip", id="reserved"),
        pytest.param("ä.zip", "%C3%A4.zip", id="unicode"),
    ],
)
def test_blob_url(filename: str, quoted: str) -> None:
    """All but unreserved characters of a file's name are percent-encoded in links."""
    assert blob_url(A, filename) == f"../../files/aa/aa/{A}/{quoted}"


def test_unknown_keys_never_replace_ours() -> None:
    """Unknown keys are passed on as they were written; a key of ours, of an alias of it, or a signature is not."""
    evil = canonical_json(
        {
            "url": "https://evil.example/",
            "hashes": {},
            "data-dist-info-metadata": True,
            "gpg-sig": True,
            "keep": 1.50,
        }
    ).replace("1.5", "1.50")
    page = render_project(
        view(
            entry(labels=Labels(extra=evil)),
            entry("z.zip", labels=Labels(extra='{"gpg-sig":true}')),
            extra='{"files":[],"name":"evil"}',
            extra_meta='{"_last-serial":1,"api-version":"9.9"}',
        )
    )
    assert b'"keep":1.50' in page.json
    read = msgspec.json.decode(page.json)
    assert (read["name"], read["meta"]) == ("demo-pkg", {"api-version": "1.4", "_last-serial": 7})
    assert [sorted(file) for file in read["files"]] == [
        ["filename", "hashes", "keep", "size", "url", "yanked"],
        ["filename", "hashes", "size", "url", "yanked"],
    ]
    assert read["files"][0]["hashes"] == {"sha256": A}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(text: str) -> None:
    """Markup in a reason or requirement comes back as the same text, and adds no tag and no line."""
    labels = Labels(yanked=text, requires_python=text, upload_time=text, provenance=text)
    page = render_project(view(entry(labels=labels), status=text, status_reason=text))
    reader = Reader(page.html)
    metas = ["meta"] * 4
    assert [tag for tag, _ in reader.tags] == ["html", "head", *metas, "title", "body", "h1", "p", "a", "br"]
    anchor = reader.attributes("a")[0]
    attributes = ("data-yanked", "data-requires-python", "data-upload-time", "data-provenance")
    assert [anchor[key] for key in attributes] == [text] * 4
    assert page.html.count(b"\n") == render_project(view(entry(), status="x")).html.count(b"\n") + 1
    read = msgspec.json.decode(page.json)
    assert (read["files"][0]["yanked"], read["project-status"]) == (text, {"status": text, "reason": text})


@pytest.mark.parametrize("code", [0, 1, 7, 8, 0x1B, 0x7F, 0x80, 0x9F], ids=hex)
def test_control_characters(code: int) -> None:
    """A control character never reaches the HTML page; JSON escapes those that it must."""
    page = render_project(view(entry(labels=Labels(yanked=f"a{chr(code)}b"))))
    assert chr(code) not in page.html.decode()
    assert Reader(page.html).attributes("a")[0]["data-yanked"] == "a\ufffdb"
    assert msgspec.json.decode(page.json)["files"][0]["yanked"] == f"a{chr(code)}b"


def test_lone_surrogates() -> None:
    """A lone surrogate, which is no text, becomes a question mark instead of a failure."""
    bad = "\ud800!"
    odd = entry(labels=Labels(yanked=bad, extra='{"k":[1]}'))
    page = render_project(view(odd, entry("z.zip", labels=Labels(yanked=bad)), status_reason=bad, versions=(bad,)))
    read = msgspec.json.decode(page.json)
    assert [file["yanked"] for file in read["files"]] == ["?!", "?!"]
    assert (read["files"][0]["k"], read["versions"], read["project-status"]["reason"]) == ([1], ["?!", "1.0"], "?!")
    assert Reader(page.html).attributes("a")[0]["data-yanked"] == "?!"


TEXTS = st.text(max_size=20) | st.text(alphabet="<>&\"' ;#x\n\r\t\0", max_size=12)
VIEWS = st.builds(
    lambda files, status, reason, extra: view(
        *(
            entry(f"demo_pkg-{n}.tar.gz", Sha256(f"{n:064x}"), size=n, labels=labels, metadata_sha256=digest)
            for n, (labels, digest) in enumerate(files)
        ),
        status=status,
        status_reason=reason,
        extra=canonical_json({f"x-{key}": value for key, value in extra.items()}),
    ),
    st.lists(
        st.tuples(
            st.builds(
                lambda requires, yanked, extra: Labels(
                    requires_python=requires,
                    yanked=yanked,
                    upload_time="2024-01-01T00:00:00Z",
                    provenance="https://example.org/x",
                    extra=canonical_json({f"x-{key}": value for key, value in extra.items()}),
                ),
                st.none() | TEXTS,
                st.none() | TEXTS,
                st.dictionaries(TEXTS, TEXTS, max_size=2),
            ),
            st.sampled_from([None, A]),
        ),
        max_size=4,
    ),
    st.sampled_from(["active", "archived", "quarantined", "deprecated"]),
    st.none() | TEXTS,
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@given(VIEWS)
def test_pypi_simple_reads_both_forms(shown: ProjectView) -> None:
    """An independent parser finds the same files and labels in HTML and in JSON as in the view, whatever the texts."""
    page = render_project(shown)
    base = "https://host.example/simple/demo-pkg/"
    as_json = ProjectPage.from_json_data(msgspec.json.decode(page.json), base)
    as_html = ProjectPage.from_html("demo-pkg", page.html, base)
    for read in (as_json, as_html):
        assert (read.project, read.repository_version) == ("demo-pkg", "1.4")
        assert [(f.filename, f.url.partition("#")[0], dict(f.digests)) for f in read.packages] == [
            (
                e.filename,
                f"https://host.example/files/{e.sha256[:2]}/{e.sha256[2:4]}/{e.sha256}/{e.filename}",
                {"sha256": e.sha256},
            )
            for e in shown.entries
        ]
        assert [f.is_yanked for f in read.packages] == [e.labels.yanked is not None for e in shown.entries]
        assert [f.metadata_digests for f in read.packages] == [
            {"sha256": e.metadata_sha256} if e.metadata_sha256 else None for e in shown.entries
        ]
        assert [f.provenance_url for f in read.packages] == ["https://example.org/x"] * len(shown.entries)
    assert [f.size for f in as_json.packages] == [e.size for e in shown.entries]
    assert [f.requires_python for f in as_json.packages] == [e.labels.requires_python for e in shown.entries]
    kept = [None if e.labels.requires_python is None else in_html(e.labels.requires_python) for e in shown.entries]
    assert [f.requires_python for f in as_html.packages] == kept


def in_html(text: str) -> str:
    """Return a text as it is in HTML: control characters but tab and line breaks can't be told there."""
    return "".join(c if c in "\t\r\n" or not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0) else "\ufffd" for c in text)


@given(VIEWS)
def test_equal_views_give_equal_bytes(shown: ProjectView) -> None:
    """Rendering depends on the view alone."""
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(shown), type=ProjectView)
    assert again == shown
    assert render_project(again) == render_project(shown)


def test_root_pages() -> None:
    """The root lists the projects with the revision of their last change, and ours as a whole."""
    projects = [(ProjectName("a-b"), 3), (ProjectName("c"), 9)]
    assert msgspec.json.decode(b"".join(iter_root_json(projects, 9))) == {
        "meta": {"api-version": "1.4", "_last-serial": 9},
        "projects": [{"name": "a-b", "_last-serial": 3}, {"name": "c", "_last-serial": 9}],
    }
    page = b"".join(iter_root_html(projects, 9)).decode()
    assert page == (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.4">\n'
        "<title>Simple index</title>\n</head>\n<body>\n<h1>Simple index</h1>\n"
        '<a href="a-b/">a-b</a><br>\n<a href="c/">c</a><br>\n</body>\n</html>\n<!--SERIAL 9-->\n'
    )


@pytest.mark.parametrize("count", [0, 1, 1999, 2000, 2001, 5000])
def test_large_root_pages_come_in_chunks(count: int) -> None:
    """Whatever the number of projects, all are there once, and no chunk holds more than a small part of them."""
    projects = [(ProjectName(f"p{n}"), n) for n in range(count)]
    chunks = list(iter_root_json(iter(projects), 1))
    assert [item["name"] for item in msgspec.json.decode(b"".join(chunks))["projects"]] == [
        name for name, _ in projects
    ]
    html_chunks = list(iter_root_html(iter(projects), 1))
    assert [attrs["href"] for attrs in Reader(b"".join(html_chunks)).attributes("a")] == [f"{n}/" for n, _ in projects]
    assert all(len(chunk) < 200_000 for chunk in (*chunks, *html_chunks))
    assert all(first or second for first, second in pairwise(html_chunks))


def test_text_of_anchor_is_the_filename() -> None:
    """Clients that read the text of an anchor get the file's name."""
    page = render_project(view(entry("a & b.zip"))).html.decode()
    assert html.unescape(page.partition("</a>")[0].rpartition(">")[2]) == "a & b.zip"
