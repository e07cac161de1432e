"""Which links of a root page are projects, where their pages are, and what is said of the others."""

from __future__ import annotations

import pytest

from mirror.core.files.origins import page_origins
from mirror.core.model import RootPage
from mirror.core.names import ProjectName
from mirror.core.pages.parse_html import parse_root_page
from mirror.core.pages.root_links import resolve_address
from mirror.errors import BadPage

GROUP = "http://127.0.0.1:80/api/v4/groups/tide/-/packages/pypi/simple/"
NUMBERED = "http://127.0.0.1/api/v4/groups/4711/-/packages/pypi/simple/"
INDEX = "https://packages.example/simple/"
VERSION = '<meta name="pypi:repository-version" content="1.0">'


def read(html: str, *, url: str = INDEX, index_url: str | None = None, hosts: tuple[str, ...] = ()) -> RootPage:
    index_url = index_url or url
    return parse_root_page(html.encode(), url=url, index_url=index_url, origins=page_origins(index_url, hosts))


def places(page: RootPage, index_url: str = INDEX) -> dict[str, str]:
    """Return project -> the URL of its page."""
    return {name: resolve_address(index_url, name, page.addresses.get(name)) for name in page.projects}


PLACES = {
    "a GitLab group": (
        GROUP,
        f'<a href="{NUMBERED}tide-tables" data-requires-python="">tide-tables</a><br>'
        f'<a href="{NUMBERED}harbour-log" data-requires-python="&gt;=3.9"> harbour-log </a><br>',
        {"tide-tables": f"{NUMBERED}tide-tables", "harbour-log": f"{NUMBERED}harbour-log"},
    ),
    "a static generator": (
        INDEX,
        '<a href="tide-tables/index.html">tide_tables</a><br><a href="./harbour-log/index.html">Harbour.Log</a>'
        '<a href="/simple/anchor-kit/index.html">anchor-kit</a>'
        '<p>see <a href="https://docs.example.invalid/index.html">the manual</a></p>',
        {name: f"{INDEX}{name}/index.html" for name in ("tide-tables", "harbour-log", "anchor-kit")},
    ),
    "queries and spellings": (
        INDEX,
        '<a href="tide-tables/?format=html&amp;page=1">tide-tables</a><a href="Harbour_Log/">Harbour_Log</a>'
        '<a href="../">Parent</a><a href="?C=N;O=D">Name</a><a href="/simple/?C=M;O=A">Date</a>',
        {"tide-tables": f"{INDEX}tide-tables/", "harbour-log": f"{INDEX}Harbour_Log/"},
    ),
    "a menu": (
        INDEX,
        '<a href="/status/">status</a><a href="/help/">Help</a><a href="/">packages</a><a href="/simple">simple</a>'
        '<a href="/old/simple/">simple</a><a href="a/">a</a><a href="/other/simple/help/">Get help</a>',
        {"a": f"{INDEX}a/"},
    ),
    "elsewhere in a folder of that name": (
        INDEX,
        '<a href="/team/simple/Foo.Bar/?x=1#y"><b>foo</b>_bar</a><a href="/team/simple/baz/index.html">baz/</a>'
        '<a href="/team/pages/no/">no</a>',
        {
            "foo-bar": "https://packages.example/team/simple/Foo.Bar/",
            "baz": "https://packages.example/team/simple/baz/index.html",
        },
    ),
    "text with character references": (
        INDEX,
        '<a href="/x/simple/a-b">a&#45;<i>b</i></a>',
        {"a-b": "https://packages.example/x/simple/a-b"},
    ),
    "text of another": (
        INDEX,
        '<a href="b/">b</a><a href="/x/simple/c/">d</a><a href="/x/simple/e/"></a>e',
        {"b": f"{INDEX}b/"},
    ),
    "the usual address wins": (
        INDEX,
        '<a href="/x/simple/a/">a</a><a href="A/">a</a><a href="a/">a</a><a href="A">a</a>',
        {"a": f"{INDEX}a/"},
    ),
    "else the first": (
        INDEX,
        '<a href="/x/simple/a/">a</a><a href="A/">a</a>',
        {"a": "https://packages.example/x/simple/a/"},
    ),
    "double slashes": (
        INDEX,
        '<a href="/simple//a/">a</a><a href="b/">b</a>',
        {"a": "https://packages.example/simple//a/", "b": f"{INDEX}b/"},
    ),
    "documents beside the pages": (
        INDEX,
        '<a href="a/">a</a><a href="about.html">about</a><a href="help.HTM">help</a>',
        {"a": f"{INDEX}a/"},
    ),
}


@pytest.mark.parametrize(("url", "html", "expected"), PLACES.values(), ids=PLACES)
def test_links_are_projects_where_they_show_it(url: str, html: str, expected: dict[str, str]) -> None:
    """The link gives the name and the address; away from the root, folder and text must agree with it."""
    assert places(read(html, url=url), url) == expected


def test_the_usual_place_needs_no_address() -> None:
    """What a large index links costs nothing beyond its names."""
    page = read("".join(f'<a href="/simple/p{n}/">P{n}</a>' for n in range(100)))
    assert (len(page.projects), page.addresses) == (100, {})


def test_a_root_that_was_redirected() -> None:
    """Links of the final page lead to their places, written relative to the configured URL."""
    html = '<a href="a/">a</a><a href="/pypi/b/">b</a>'
    page = read(html, url="https://packages.example/pypi/simple/", index_url="https://packages.example/pypi/")
    assert page.addresses == {ProjectName("a"): "simple/a/"}


def test_http_that_leads_to_https() -> None:
    """The same host's https on the usual port is the same origin."""
    page = read('<a href="a/">a</a>', url=INDEX, index_url=INDEX.replace("https", "http"))
    assert places(page) == {"a": f"{INDEX}a/"}


def test_two_addresses_make_one_warning() -> None:
    """The sentence names the project, what is asked and what is not."""
    page = read(
        '<a href="A/">a</a><a href="A/?x">a</a><a href="a/">a</a><a href="B/">b</a><a href="b.html/">b.html</a><a href="b">b</a>'
    )
    assert page.warnings == ("a has two addresses: a/ is asked, A/ is not; so for 1 more links",)


FILES = {
    "relative": '<a href="cpu/tide_tables-1.2%2Bcpu-cp311-cp311-linux_x86_64.whl">x</a><a href="harbour-log-0.3.tar.gz">y</a>',
    "with a folder above": '<a href="../">Parent</a><a href="old/">old</a><a href="a-1.zip">a</a><a href="a-1.zip.asc">s</a>',
    "elsewhere, with digests": '<a href="https://files.example/x?y#sha256=00">x</a>',
    "with a version": f'{VERSION}<a href="/files/a-1-py3-none-any.whl">a</a>',
}


@pytest.mark.parametrize("html", FILES.values(), ids=FILES)
def test_a_page_of_files_is_named_as_such(html: str) -> None:
    """A find-links page is no root; the sentence says what to configure."""
    with pytest.raises(BadPage) as caught:
        read(html)
    assert "a page of files (find-links)" in str(caught.value)
    assert 'format = "flat"' in str(caught.value)


def test_a_stray_file_beside_projects_is_left_out() -> None:
    """An archive that a root offers is no project, and does not end the index."""
    page = read('<a href="a/">a</a><a href="b/">b</a><a href="all-2026.tar.gz">all</a>')
    assert places(page) == {"a": f"{INDEX}a/", "b": f"{INDEX}b/"}
    assert page.warnings == ("1 links to files were left out: a root lists projects",)


FOREIGN = {
    "another host": '<a href="https://pypi.example:8443/simple/tide-tables/?x#y">tide-tables</a>',
    "plain http": '<a href="http://packages.example/simple/tide-tables/">tide-tables</a>',
    "another folder": '<a href="https://user:pw@cdn.example/pages/tide-tables/">Tide.Tables</a>',
    "another text": '<a href="https://cdn.example/simple/tide-tables/">Tables of the tide</a>',
    "with a version": f'{VERSION}<a href="https://cdn.example/simple/tide-tables/">tide-tables</a>',
}


@pytest.mark.parametrize("html", FOREIGN.values(), ids=FOREIGN)
def test_links_that_all_lead_to_another_origin(html: str) -> None:
    """The sentence gives an example and both ways out."""
    with pytest.raises(BadPage) as caught:
        read(html)
    said = str(caught.value)
    said_of = [part in said for part in ("/tide-tables/", "page-hosts", 'list = "config"', "pw@", "?x")]
    assert said_of == [True, True, True, False, False]


def test_a_web_page_is_no_index() -> None:
    """A page that links other hosts without naming projects is what it was: nothing."""
    with pytest.raises(BadPage, match="it lists nothing"):
        read('<p>down for maintenance, see <a href="https://status.example/">the status page</a></p>')


def test_a_large_root_with_texts_is_read_in_pieces() -> None:
    """Beyond the size where a document is read whole, each anchor keeps its own text."""
    names = [f"project-{n}" for n in range(5_000)]
    html = "".join(
        f'<p><a href="/x/simple/{n}"><span>{n}</span></a> since <a href="/x/simple/no">y</a>\n' for n in names
    )
    page = read(f"{VERSION}{html}")
    assert page.addresses == {ProjectName(n): f"/x/simple/{n}" for n in names}
