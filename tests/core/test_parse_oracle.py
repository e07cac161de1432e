"""Both parsers against the library pypi-simple, which was written by others from the same standards.

Where the two differ on purpose:

- an HTML file's name: pypi-simple takes the anchor's text, we the URL's last segment or ``download``;
- HTML links: pypi-simple lists every anchor, we leave out folders and sortings;
- ``"yanked": ""`` in JSON: yanked for pypi-simple, not for us (PEP 691 wants a non-empty string);
- digests: pypi-simple passes any on, we only kinds and lengths that can be compared, in lower case; it reads one from
  an HTML fragment and does not percent-decode it, we read several and do;
- metadata in HTML: pypi-simple knows ``data-core-metadata``, we ``data-dist-info-metadata`` too;
- sizes and upload times in HTML, which no standard has: only we read them;
- user info and fragment of a URL in JSON, default ports, blanks: only we remove them; an empty ``requires-python``
  is None for us.
"""

from __future__ import annotations

import html
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypi_simple import DistributionPackage
from pypi_simple import IndexPage as OracleRoot
from pypi_simple import ProjectPage as OraclePage

from mirror.core.model import ListedFile
from mirror.core.names import ProjectName, normalize_project
from mirror.core.pages.parse_html import parse_project_page as parse_html_page
from mirror.core.pages.parse_html import parse_root_page as parse_html_root
from mirror.core.pages.parse_json import parse_project_page as parse_json_page
from mirror.core.pages.parse_json import parse_root_page as parse_json_root

PAGES = Path(__file__).parents[1] / "pages"
ROOT = "https://packages.example/simple/"
URL = f"{ROOT}demo/"
DEMO = ProjectName("demo")

Comparable = tuple[Any, ...]


def ours(file: ListedFile) -> Comparable:
    """Return what both parsers say of a file, from ours."""
    return (
        file.filename,
        file.url,
        dict(file.digests),
        file.size,
        file.labels.yanked,
        file.labels.requires_python,
        None if file.metadata is None else dict(file.metadata),
        None if file.labels.upload_time is None else datetime.fromisoformat(file.labels.upload_time),
        file.labels.provenance,
    )


def theirs(package: DistributionPackage) -> Comparable:
    """Return what both parsers say of a file, from pypi-simple's."""
    return (
        package.filename,
        package.url,
        package.digests,
        package.size,
        (package.yanked_reason or "") if package.is_yanked else None,
        package.requires_python,
        package.metadata_digests if package.has_metadata else None,
        package.upload_time,
        package.provenance_url,
    )


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,12}[A-Za-z0-9])?", fullmatch=True)
FILENAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.!-]{0,20}\.(whl|tar\.gz|zip|egg|tgz)", fullmatch=True)
HEX = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
DIGESTS = st.dictionaries(st.sampled_from(["sha256", "blake2s", "sha3_256"]), HEX)
FOLDERS = st.sampled_from(
    [
        "",
        "./",
        "../../packages/ab/",
        "../",
        "/files/x%2By/",
        "//cdn.example/",
        "https://files.example/a%20b/",
        "https://files.example:8443/",
        "http://files.example/~x/",
    ]
)
QUERIES = st.sampled_from(["", "?sig=a%2Fb+c%3D&x=~", "?a/b"])
# A lone surrogate can't be sent as UTF-8; NUL and carriage return are no characters of an HTML document.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)
REQUIRES = st.none() | st.sampled_from([">=3.8", ">=3, <4", "!=3.0.*"]) | TEXTS.filter(str.strip)
UPLOAD_TIMES = st.none() | st.datetimes().map(lambda moment: f"{moment.isoformat(timespec='microseconds')}Z")
PROVENANCES = st.none() | st.sampled_from(["https://h.example/p", "https://h.example/a%2Bb/c#d=e"])


@st.composite
def file_objects(draw: st.DrawFn) -> dict[str, Any]:
    """Return a file as a JSON page lists it."""
    filename = draw(FILENAMES)
    optional = {
        "size": draw(st.none() | st.integers(0, 2**63 - 1)),
        "upload-time": draw(UPLOAD_TIMES),
        "requires-python": draw(REQUIRES),
        "yanked": draw(st.booleans() | TEXTS.filter(bool)),
        "core-metadata": draw(st.none() | st.booleans() | DIGESTS),
        "provenance": draw(PROVENANCES),
        "gpg-sig": draw(st.none() | st.booleans()),
        "future": draw(st.none() | TEXTS),
    }
    url = draw(FOLDERS) + filename + draw(QUERIES)
    required = {"filename": filename, "url": url, "hashes": draw(DIGESTS)}
    return required | {key: value for key, value in optional.items() if value is not None or draw(st.booleans())}


@given(
    st.lists(file_objects(), max_size=4),
    st.none() | st.lists(TEXTS, max_size=3),
    st.none() | st.sampled_from(["active", "archived", "quarantined", "deprecated"]),
    st.none() | TEXTS.filter(str.strip),
)
def test_a_json_page_is_read_as_by_the_oracle(
    files: list[dict[str, Any]], versions: list[str] | None, status: str | None, reason: str | None
) -> None:
    """Any page by the standards gives the same files, versions and status as pypi-simple."""
    page = {
        "meta": {"api-version": "1.4", "_last-serial": len(files)},
        "name": "Demo",
        "files": files,
        "versions": versions,
        "project-status": {"status": status, "reason": reason},
    }
    read = parse_json_page(json.dumps(page).encode(), project=DEMO, url=URL)
    oracle = OraclePage.from_json_data(page, base_url=URL)
    assert [ours(file) for file in read.files] == [theirs(package) for package in oracle.packages]
    assert (read.refused, read.warnings, str(read.serial)) == ((), (), oracle.last_serial)
    assert read.meta.versions == (None if oracle.versions is None else tuple(oracle.versions))
    assert (read.meta.status, read.meta.status_reason) == (oracle.status or "active", oracle.status_reason)


@st.composite
def anchors(draw: st.DrawFn) -> str:
    """Return an anchor as an HTML page lists a file."""
    filename = draw(FILENAMES)
    digest = draw(st.sampled_from(["", "sha256"]))
    href = draw(FOLDERS) + filename + draw(QUERIES) + (f"#{digest}={draw(HEX)}" if digest else "")
    attributes = {
        "href": href,
        "data-requires-python": draw(REQUIRES),
        "data-yanked": draw(st.none() | TEXTS),
        "data-core-metadata": draw(st.none() | st.just("true") | HEX.map("sha256={}".format)),
        "data-provenance": draw(PROVENANCES),
        "data-gpg-sig": draw(st.none() | st.sampled_from(["true", "false"])),
    }
    kept = [f'{key}="{html.escape(value)}"' for key, value in attributes.items() if value is not None]
    return f"<a {' '.join(draw(st.permutations(kept)))}>{filename}</a>"


@given(st.lists(anchors(), max_size=4), st.sampled_from(["", "../other/", "/x/y", "https://base.example/z/"]))
def test_an_html_page_is_read_as_by_the_oracle(listed: list[str], base: str) -> None:
    """Any page by the standards gives the same files as pypi-simple."""
    base_tag = f'<base href="{base}">' if base else ""
    body = (
        f'<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4">{base_tag}'
        f'<meta name="pypi:project-status" content="archived"></head><body>{"<br/> ".join(listed)}</body></html>'
    )
    read = parse_html_page(body.encode(), project=DEMO, url=URL)
    oracle = OraclePage.from_html("demo", body, base_url=URL)
    assert [ours(file) for file in read.files] == [theirs(package) for package in oracle.packages]
    assert (read.refused, read.warnings, read.meta.status) == ((), (), oracle.status)


@given(st.lists(NAMES))
def test_a_root_is_read_as_by_the_oracle(names: list[str]) -> None:
    """Both forms of a root give the projects that pypi-simple lists, normalised."""
    meta = {"api-version": "1.0"}
    data = {"meta": meta, "projects": [{"name": name} for name in names]}
    anchors_of_names = "".join(f'<a href="{name}/">{name}</a>' for name in names)
    body = f'<meta name="pypi:repository-version" content="1.0">{anchors_of_names}'
    oracle = {normalize_project(name): None for name in OracleRoot.from_json_data(data).projects}
    assert parse_json_root(json.dumps(data).encode(), url=ROOT).projects == oracle
    assert {normalize_project(name): None for name in OracleRoot.from_html(body).projects} == oracle
    assert parse_html_root(body.encode(), url=ROOT).projects == oracle


CAPTURED_JSON = ["pypi-1.4", "simple-repository-server-no-hashes", "quarantined"]


@pytest.mark.parametrize("name", CAPTURED_JSON)
def test_a_captured_json_page_is_read_as_by_the_oracle(name: str) -> None:
    """Pages in the form of real servers mean the same to pypi-simple."""
    body = (PAGES / f"{name}.json").read_bytes()
    oracle = OraclePage.from_json_data(json.loads(body), base_url=URL)
    read = parse_json_page(body, project=normalize_project(oracle.project), url=URL)
    assert [ours(file) for file in read.files] == [theirs(package) for package in oracle.packages]


CAPTURED_HTML = [
    "pypi-serial-comment",
    "pypiserver-root-relative",
    "devpi-relative",
    "artifactory-relative",
    "gitlab",
    "base-href",
]
"""Without the pages that show the differences above: Chainguard, Nexus and the autoindexes."""


@pytest.mark.parametrize("name", CAPTURED_HTML)
def test_a_captured_html_page_is_read_as_by_the_oracle(name: str) -> None:
    """Pages in the form of real servers mean the same to pypi-simple."""
    body = (PAGES / f"{name}.html").read_bytes()
    oracle = OraclePage.from_html("demo", body, base_url=URL)
    read = parse_html_page(body, project=DEMO, url=URL)
    assert [ours(file) for file in read.files] == [theirs(package) for package in oracle.packages]
