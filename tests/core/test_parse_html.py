"""The HTML form of pages: whole values for captured pages, one table for each rule, and any bytes at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.core.model import Labels, ListedFile, ProjectMeta, ProjectPage, RefusedFile, RootPage
from mirror.core.names import ProjectName
from mirror.core.pages.parse_html import parse_project_page, parse_root_page
from mirror.errors import BadPage, Reason

PAGES = Path(__file__).parents[1] / "pages"
DEMO = ProjectName("demo")
HOST = "https://packages.example"
ROOT = f"{HOST}/simple/"
URL = f"{ROOT}demo/"
A, B, C = "a" * 64, "b" * 64, "c" * 64
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
VERSION = '<meta name="pypi:repository-version" content="1.0">'


def page(*files: ListedFile, **more: Any) -> ProjectPage:
    """Return a page of the project ``demo`` as it is read from HTML."""
    keys: dict[str, Any] = {"name": DEMO, "files": files, "is_html": True}
    return ProjectPage(**(keys | more))


CAPTURED = {
    "pypi-serial-comment": page(
        ListedFile(
            filename="sampleproject-4.0.0-py3-none-any.whl",
            url="https://files.example/packages/d7/b7/af0c/sampleproject-4.0.0-py3-none-any.whl",
            digests=(("sha256", A),),
            labels=Labels(
                requires_python=">=3.9",
                provenance="https://index.example/integrity/sampleproject/v4.0.0"
                "/sampleproject-4.0.0-py3-none-any.whl/provenance",
            ),
            metadata=(("sha256", C),),
        ),
        ListedFile(
            filename="sampleproject-3.0.0.tar.gz",
            url="https://files.example/packages/67/2a/9f05/sampleproject-3.0.0.tar.gz",
            digests=(("sha256", B),),
            labels=Labels(yanked="wrong metadata"),
        ),
        meta=ProjectMeta(status="archived", status_reason='moved to "other"'),
        serial=25950124,
    ),
    "chainguard-download-signature": page(
        ListedFile(
            filename="flask-3.1.1+cgr.1-py3-none-any.whl",
            url=f"{HOST}/python/files/9f/3c/flask-3.1.1%2Bcgr.1-py3-none-any.whl",
            digests=(("sha256", A),),
            labels=Labels(
                requires_python=">=3.9",
                provenance="https://libraries.example/python/integrity/flask/3.1.1"
                "/flask-3.1.1-py3-none-any.whl/provenance",
                extra='{"signature":"https://libraries.example/python/integrity/flask/3.1.1/bundle.json"}',
            ),
        ),
        ListedFile(
            filename="flask-3.0.0.tar.gz",
            url="https://libraries.example/python-upstream/files/flask-3.0.0.tar.gz?pin=1",
            digests=(("sha256", B),),
        ),
    ),
    "pypiserver-root-relative": page(
        ListedFile(
            filename="simplejson-3.19.2-py3-none-any.whl",
            url=f"{HOST}/packages/simplejson-3.19.2-py3-none-any.whl",
            digests=(("sha256", A),),
        ),
        ListedFile(
            filename="simplejson-3.19.2.tar.gz",
            url=f"{HOST}/packages/simplejson-3.19.2.tar.gz",
            digests=(("sha256", B),),
        ),
    ),
    "nginx-autoindex": page(
        ListedFile(filename="demo-1.0+local.1-py3-none-any.whl", url=f"{URL}demo-1.0%2Blocal.1-py3-none-any.whl"),
        ListedFile(filename="demo-1.0.tar.gz", url=f"{URL}demo-1.0.tar.gz"),
    ),
    "apache-autoindex-sorting": page(ListedFile(filename="demo-1.0.tar.gz", url=f"{URL}demo-1.0.tar.gz")),
    "devpi-relative": page(
        ListedFile(
            filename="demo-2.0-py3-none-any.whl",
            url=f"{HOST}/+f/aaa/aaaaaaaaaaaaa/demo-2.0-py3-none-any.whl",
            digests=(("sha256", A),),
            labels=Labels(requires_python=">=3.8"),
            metadata=(("sha256", C),),
        ),
        ListedFile(
            filename="demo-1.0.zip",
            url=f"{HOST}/+e/https_files.example_packages/demo-1.0.zip",
            digests=(("md5", MD5),),
            labels=Labels(yanked=""),
        ),
    ),
    "artifactory-relative": page(
        ListedFile(
            filename="demo-1.0-py3-none-any.whl",
            url=f"{HOST}/demo/1.0/demo-1.0-py3-none-any.whl",
            digests=(("sha256", A),),
            labels=Labels(requires_python=">=3.6"),
        ),
        ListedFile(
            filename="demo-0.9.tar.gz",
            url=f"{HOST}/packages/packages/ab/cd/demo-0.9.tar.gz",
            digests=(("sha256", B),),
        ),
    ),
    "nexus-percent-hash": page(
        ListedFile(
            filename="demo-1.0-py2.py3-none-any.whl",
            url=f"{HOST}/packages/demo/1.0/demo-1.0-py2.py3-none-any.whl",
            digests=(("sha256", A),),
        ),
        ListedFile(
            filename="demo-1.0.tar.gz",
            url=f"{HOST}/packages/demo/1.0/demo-1.0.tar.gz",
            digests=(("md5", MD5), ("sha256", B)),
        ),
    ),
    "gitlab": page(
        ListedFile(
            filename="demo-1.0.tar.gz",
            url=f"https://gitlab.example/api/v4/projects/42/packages/pypi/files/{A}/demo-1.0.tar.gz",
            digests=(("sha256", A),),
            labels=Labels(requires_python=">=3.8"),
        )
    ),
    "base-href": page(
        ListedFile(filename="demo-1.0.tar.gz", url=f"{HOST}/mirror/files/demo-1.0.tar.gz", digests=(("sha256", A),)),
        ListedFile(filename="demo-1.1.tar.gz", url="https://cdn.example/demo-1.1.tar.gz", digests=(("sha256", B),)),
    ),
}


@pytest.mark.parametrize(("name", "expected"), CAPTURED.items(), ids=CAPTURED.keys())
def test_a_captured_page_is_read_whole(name: str, expected: ProjectPage) -> None:
    """Pages in the form of real servers give exactly these values."""
    assert parse_project_page((PAGES / f"{name}.html").read_bytes(), project=DEMO, url=URL) == expected


CAPTURED_ROOTS = {
    "root-pypi-serial-comment": RootPage(
        projects={ProjectName("0"): None, ProjectName("0-0"): None, ProjectName("django"): None}, serial=31000000
    ),
    "root-unnormalised": RootPage(
        projects={ProjectName("django"): None, ProjectName("zope-interface"): None, ProjectName("ruamel-yaml"): None},
        addresses={
            ProjectName("django"): "Django",
            ProjectName("zope-interface"): "zope.interface/",
            ProjectName("ruamel-yaml"): "ruamel%2Eyaml/",
        },
        refused=1,
        warnings=("zope-interface has two addresses: zope.interface/ is asked, zope_interface/ is not",),
    ),
}


@pytest.mark.parametrize(("name", "expected"), CAPTURED_ROOTS.items(), ids=CAPTURED_ROOTS.keys())
def test_a_captured_root_is_read_whole(name: str, expected: RootPage) -> None:
    """Roots in the form of real servers give exactly these values; only direct children count."""
    assert parse_root_page((PAGES / f"{name}.html").read_bytes(), url=ROOT) == expected


PASSWORD = "it asks for a password: the index wants to be logged in to"
NOTHING = "it lists nothing and has no repository version"
MAJOR = "it has the API version 2.0, and only 1.x can be read"
ODD = "its HTML can't be read from byte 0 on"
BAD = {
    "login page": ((PAGES / "login-page.html").read_bytes(), PASSWORD),
    "error page": ((PAGES / "error-page.html").read_bytes(), NOTHING),
    "empty": (b"", NOTHING),
    "JSON": (b'{"meta": {"api-version": "1.0"}, "files": []}', NOTHING),
    "only folders": (b'<a href="../">up</a><a href="old/">old</a>', NOTHING),
    "refused link of a web page": (b'<a href="ftp://h.example/help.html">help</a>', NOTHING),
    "other major version": (b'<meta name="pypi:repository-version" content="2.0"><a href="a-1.zip">', MAJOR),
    "too many files": (
        b'<a href="a-1.zip"></a><a href="a-2.zip"></a><a href="ftp://h/a-3.zip"></a>',
        "it lists more than 2 files; raise limits.files-per-project to allow it",
    ),
    "large and odd": (b"<a href='" + b" " * 300_000, ODD),
    "large and odd, with a base": (b"<a href='<base >" + b" " * 300_000, ODD),
}


@pytest.mark.parametrize(("body", "cause"), BAD.values(), ids=BAD.keys())
def test_what_is_no_page_is_refused(body: bytes, cause: str) -> None:
    """A web page that is no page of an index is a BadPage that says why."""
    with pytest.raises(BadPage) as caught:
        parse_project_page(body, project=DEMO, url=URL, max_files=2)
    assert (caught.value.url, caught.value.cause) == (URL, cause)


BAD_ROOTS = {
    "login page": ((PAGES / "login-page.html").read_bytes(), PASSWORD),
    "empty": (b"", NOTHING),
    "only its parent": (b'<a href="../">up</a><a href="">here</a><a href="/simple/">here</a>', NOTHING),
    "other major version": (b'<meta name="pypi:repository-version" content="2.0"><a href="a/">', MAJOR),
    "large and odd": (b"<a href='" + b" " * 300_000, ODD),
}


@pytest.mark.parametrize(("body", "cause"), BAD_ROOTS.values(), ids=BAD_ROOTS.keys())
def test_what_is_no_root_page_is_refused(body: bytes, cause: str) -> None:
    """A web page that is no root of an index is a BadPage that says why, not an empty index."""
    with pytest.raises(BadPage) as caught:
        parse_root_page(body, url=ROOT)
    assert (caught.value.url, caught.value.cause) == (ROOT, cause)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: parse_project_page(b"", project=DEMO, url="about:blank"), id="project"),
        pytest.param(lambda: parse_root_page(b"", url="about:blank"), id="root"),
    ],
)
def test_a_page_from_nowhere_is_refused(read: Any) -> None:
    """A URL that can't be a base of links is a BadPage too."""
    with pytest.raises(BadPage) as caught:
        read()
    assert caught.value.cause == "its own URL can't be used: it is not an http or https URL"


def listed(**more: Any) -> ListedFile:
    """Return the file that the anchors of the table list."""
    return ListedFile(**({"filename": "d-1.zip", "url": f"{URL}d-1.zip"} | more))


FILES: dict[str, tuple[str, ListedFile]] = {
    "minimal": ('href="d-1.zip"', listed()),
    "blanks around": ('href=" d-1.zip\n"', listed()),
    "epoch and local version": (
        'href="d-1!2%2B3.zip"',
        listed(filename="d-1!2+3.zip", url=f"{URL}d-1!2%2B3.zip"),
    ),
    "not ASCII": ('href="dé-1.zip"', listed(filename="dé-1.zip", url=f"{URL}d%C3%A9-1.zip")),
    "space": ('href="d 1.zip"', listed(filename="d 1.zip", url=f"{URL}d%201.zip")),
    "query": ('href="d-1.zip?a=b/c.d&amp;e=%2F"', listed(url=f"{URL}d-1.zip?a=b/c.d&e=%2F")),
    "download": ('href="x.zip" download="d-1.zip"', listed(url=f"{URL}x.zip")),
    "download of a name without a dot in the URL": ('href="x" download="d-1.zip"', listed(url=f"{URL}x")),
    "download empty": ('href="d-1.zip" download', listed()),
    "user info": ('href="https://u:p@h.example/d-1.zip"', listed(url="https://h.example/d-1.zip")),
    "digest": (f'href="d-1.zip#sha256={A.upper()}"', listed(digests=(("sha256", A),))),
    "digest, percent-encoded": (f'href="d-1.zip#sha256%3D{A}"', listed(digests=(("sha256", A),))),
    "digest, percent-encoded twice": (f'href="d-1.zip#sha256%253D{A}"', listed()),
    "several digests": (
        f'href="d-1.zip#egg=d&amp;sha256={A}&amp;md5={MD5}"',
        listed(digests=(("md5", MD5), ("sha256", A))),
    ),
    "fragment that is no digest": ('href="d-1.zip#top"', listed()),
    "digest empty": ('href="d-1.zip#sha256="', listed()),
    "fragment of an egg": ('href="d-1.zip#egg=d-1"', listed()),
    "bare hexadecimal digits": (f'href="d-1.zip#{A}"', listed()),
    "malformed weak digest beside a strong one": (
        f'href="d-1.zip#md5=x&amp;sha256={A}"',
        listed(digests=(("sha256", A),)),
    ),
    "requires-python": (
        'href="d-1.zip" data-requires-python="&gt;=3,&lt;4"',
        listed(labels=Labels(requires_python=">=3,<4")),
    ),
    "requires-python empty": ('href="d-1.zip" data-requires-python=" "', listed()),
    "yanked": ('href="d-1.zip" data-yanked', listed(labels=Labels(yanked=""))),
    "yanked with a reason": (
        'href="d-1.zip" data-yanked="&lt;b&gt; &amp;amp;"',
        listed(labels=Labels(yanked="<b> &amp;")),
    ),
    "yanked in words": ('href="d-1.zip" data-yanked="false"', listed(labels=Labels(yanked="false"))),
    "metadata": ('href="d-1.zip" data-core-metadata="true"', listed(metadata=())),
    "no metadata": ('href="d-1.zip" data-core-metadata="false"', listed()),
    "metadata with digest": (
        f'href="d-1.zip" data-core-metadata="sha256={C}"',
        listed(metadata=(("sha256", C),)),
    ),
    "metadata with an unknown digest": ('href="d-1.zip" data-core-metadata="crc=1"', listed(metadata=())),
    "metadata under the older name": (
        f'href="d-1.zip" data-core-metadata="false" data-dist-info-metadata="sha256={C}"',
        listed(metadata=(("sha256", C),)),
    ),
    "size and upload time": (
        'href="d-1.zip" data-size="12" data-upload-time="2026-01-02T03:04:05Z"',
        listed(size=12, labels=Labels(upload_time="2026-01-02T03:04:05Z")),
    ),
    "largest size": ('href="d-1.zip" data-size="9223372036854775807"', listed(size=2**63 - 1)),
    "provenance": (
        'href="d-1.zip" data-provenance="https://h.example/p"',
        listed(labels=Labels(provenance="https://h.example/p")),
    ),
    "gpg-sig is dropped": ('href="d-1.zip" data-gpg-sig="true"', listed()),
    "unknown attributes": (
        'href="d-1.zip" class="x" data-signature="s" data-b data- data-url="x" data-data-dist-info-metadata="y"',
        listed(labels=Labels(extra='{"b":"","signature":"s"}')),
    ),
}


@pytest.mark.parametrize(("attributes", "expected"), FILES.values(), ids=FILES.keys())
def test_an_anchor_is_read(attributes: str, expected: ListedFile) -> None:
    """Each attribute of an anchor has its place, and nothing of it needs a warning."""
    html = f"{VERSION}<A {attributes}>the text does not count</A>".encode()
    assert parse_project_page(html, project=DEMO, url=URL) == page(expected)


WRONG = {
    "size": ('data-size="12 kB"', "data-size"),
    "size empty": ("data-size", "data-size"),
    "size too large": ('data-size="9223372036854775808"', "data-size"),
    "size with other digits": ('data-size="١٢"', "data-size"),
    "upload time": ('data-upload-time="last week"', "data-upload-time"),
    "metadata": ('data-core-metadata="yes"', "data-core-metadata"),
    "older metadata": ("data-dist-info-metadata", "data-dist-info-metadata"),
    "provenance": ('data-provenance="/p"', "data-provenance"),
}


@pytest.mark.parametrize(("attributes", "kind"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_absent_and_told_once(attributes: str, kind: str) -> None:
    """A wrong value does not cost the file; two files with it make one warning."""
    html = f'<a href="d-1.zip" {attributes}></a>'.encode() * 2
    assert parse_project_page(html, project=DEMO, url=URL) == page(
        listed(), listed(), warnings=(f"{kind}: not as specified, left out (2 times)",)
    )


ELSEWHERE = {
    "no href": "<a name=x>",
    "empty": '<a href="">',
    "fragment": '<a href="#d-1.zip">',
    "sorting": '<a href="?C=N;O=D">',
    "folder": '<a href="d-1.0/">',
    "folder above": '<a href="..">',
    "folder with a download": '<a href="d-1.0/" download="d-1.0.zip">',
    "folder with a digest": f'<a href="d-1.0/#sha256={A}">',
    "no dot": '<a href="README">',
    "page": '<a href="about.html">',
    "notes": '<a href="../../README.md#install">',
    "document": '<a href="guide.pdf">',
    "homepage": '<a href="https://code.example.invalid/tide/tables.git" rel="homepage">',
    "home page of a project with a dot": '<a href="https://example.org/demo-1.0">',
    "version control": '<a href="git+https://code.example.invalid/d@v1.1#egg=d-1.1">',
    "version control, archive": '<a href="Git+https://code.example.invalid/d-1.1.zip">',
    "checksums": '<a href="SHA256SUMS.txt">',
    "signature of no distribution": '<a href="README.asc">',
    "only an ending": '<a href=".whl">',
    "sidecar": '<a href="d-1.0-py3-none-any.whl.metadata">',
    "digest empty": '<a href="about.html#sha256=">',
    "no digest": '<a href="about.html#sha256">',
    "host": '<a href="https://www.example.org">',
    "mailbox": '<a href="mailto:me@example.org">',
    "script": '<a href=" JavaScript:void(0.1)">',
    "other scheme without a dot": '<a href="ftp://h/pub">',
}


@pytest.mark.parametrize("anchor", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_an_anchor_that_leads_elsewhere_is_no_file(anchor: str) -> None:
    """Folders, sortings and mailboxes are silently ignored."""
    read = parse_project_page(f"{VERSION}{anchor}</a>".encode(), project=DEMO, url=URL)
    assert msgspec.structs.replace(read, others=frozenset()) == page()


DISTRIBUTIONS = (
    *("whl", "egg", "zip", "tar", "tgz", "tbz", "txz", "tar.gz", "tar.bz2", "tar.xz", "tar.Z", "tar.zst"),
    *("exe", "msi", "rpm", "deb", "dmg", "WHL", "Tar.Gz"),
)
BELONGINGS = ("whl.asc", "tar.gz.sig", "zip.sigstore", "whl.provenance", "egg.attestation")
ENDINGS = (*(f".{ending}" for ending in (*DISTRIBUTIONS, *BELONGINGS)), "-variants.json")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_name_with_this_ending_is_a_file(ending: str) -> None:
    """A distribution, and what belongs to one, needs neither a digest nor ``download``; behind a query neither."""
    html = f'{VERSION}<a href="d-1.0{ending}?x=.html"></a><a href="about.html"></a>'
    read = parse_project_page(html.encode(), project=DEMO, url=URL)
    assert [file.filename for file in read.files] == [f"d-1.0{ending}"]
    assert read.others == {"about.html"}


NAMED = {
    "digest": f'href="about.html#sha256={A}"',
    "weak digest": f'href="about.html#md5={MD5}"',
    "download": 'href="x" download="about.html"',
    "download without a name": 'href="about.html" download',
}


@pytest.mark.parametrize("attributes", NAMED.values(), ids=NAMED.keys())
def test_a_digest_or_download_makes_a_file(attributes: str) -> None:
    """Whoever says so means a file, whatever its name."""
    read = parse_project_page(f"{VERSION}<a {attributes}></a>".encode(), project=DEMO, url=URL)
    assert [file.filename for file in read.files] == ["about.html"]
    assert not read.others


@pytest.mark.parametrize("href", ["", "#top", "?C=N;O=D", " ?C=N"])
def test_a_link_to_the_page_itself_is_no_file(href: str) -> None:
    """A page that is itself a file, such as ``index.html``, does not list itself."""
    html = f'{VERSION}<a href="{href}"></a>'.encode()
    assert parse_project_page(html, project=DEMO, url=f"{URL}index.html") == page()


def test_as_many_files_as_allowed_are_read() -> None:
    """The limit itself is no error."""
    html = b'<a href="d-1.zip"></a><a href="d-1.zip"></a>'
    assert parse_project_page(html, project=DEMO, url=URL, max_files=2) == page(listed(), listed())


SLASH = "it contains a path separator"


def refused(**more: Any) -> RefusedFile:
    """Return a refused file without labels."""
    return RefusedFile(**({"labels": Labels()} | more))


REFUSED = {
    "traversal": ('href="..%2f..%2fetc.zip"', refused(name="../../etc.zip", cause=SLASH)),
    "traversal by download": ('href="x.zip" download="../x.zip"', refused(name="../x.zip", cause=SLASH)),
    "backslash": ('href="a\\b.zip"', refused(name="a\\b.zip", cause=SLASH)),
    "NUL": (
        'href="a%00.zip"',
        refused(name="a\\x00.zip", cause="it contains control or unprintable characters"),
    ),
    "too long": (f'href="{"x" * 240}.zip"', refused(name="x" * 200 + "…", cause="longer than 240 bytes")),
    "sidecar": (
        f'href="a.whl.metadata#sha256={A}"',
        refused(name="a.whl.metadata", cause="the ending .metadata is reserved for metadata sidecars"),
    ),
    "not UTF-8": (
        'href="a%ff.zip"',
        refused(
            name="a\\ufffd.zip" if not "\ufffd".isprintable() else "a\ufffd.zip",
            cause="'utf-8' codec can't decode byte 0xff in position 1: invalid start byte",
        ),
    ),
    "other scheme": (
        'href="file:///etc/a.zip#sha256=1"',
        refused(name="a.zip", cause="it is not an http or https URL"),
    ),
    "malformed digest": (
        'href="d-1.zip#sha256=abc" data-yanked="x"',
        refused(
            name="d-1.zip",
            cause="its listed sha256 is 'abc' instead of 64 hexadecimal digits",
            reason=Reason.BAD_FILE,
            labels=Labels(yanked="x"),
        ),
    ),
    "malformed weak digest": (
        f'href="d-1.zip#md5={A}"',
        refused(
            name="d-1.zip",
            cause=f"its listed md5 is '{A[:39]}… instead of 32 hexadecimal digits",
            reason=Reason.BAD_FILE,
        ),
    ),
    "two values of a digest": (
        f'href="d-1.zip#sha256={A}&amp;sha256={B}"',
        refused(name="d-1.zip", cause="it is listed with two different sha256 digests", reason=Reason.BAD_FILE),
    ),
    "no host": ('href="https:/a.zip"', refused(name="a.zip", cause="it is a URL without a host")),
}


@pytest.mark.parametrize(("attributes", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_an_unsafe_file_is_refused_and_the_page_goes_on(attributes: str, expected: RefusedFile) -> None:
    """One file that must not be touched does not cost the others."""
    html = f'<a {attributes}></a><a href="d-1.zip"></a>'.encode()
    assert parse_project_page(html, project=DEMO, url=URL) == page(listed(), refused=(expected,))


EVIDENCE = {
    "digest": f'<a href="help.html#sha256={A}">',
    "refused archive": '<a href="ftp://h/a-1.whl">',
    "archive in capitals": '<a href="A-1.ZIP">',
    "repository version": f'{VERSION}<a href="d-1.0.zip.asc">',
}


@pytest.mark.parametrize("html", EVIDENCE.values(), ids=EVIDENCE.keys())
def test_a_page_needs_one_sign_of_being_an_index(html: str) -> None:
    """A digest, an archive or a repository version tells a page from a web page with a link to its help."""
    read = parse_project_page(html.encode(), project=DEMO, url=URL)
    assert len(read.files) + len(read.refused) == 1


METAS: dict[str, tuple[str, dict[str, Any]]] = {
    "empty with a version": (VERSION, {}),
    "password with a version": (f'{VERSION}<input type="password">', {}),
    "first version counts": (f'{VERSION}<meta name="pypi:repository-version" content="2.0">', {}),
    "capitals": ('<META NAME="PyPI:Repository-Version" CONTENT="1.1">', {}),
    "higher minor version": (
        '<meta name="pypi:repository-version" content="1.9">',
        {"warnings": ("the page has the API version 1.9, newer than 1.4: what is new in it may be left out",)},
    ),
    "status": (
        f'{VERSION}<meta name="pypi:project-status" content=" quarantined ">',
        {"meta": ProjectMeta(status="quarantined")},
    ),
    "status in capitals": (
        f'{VERSION}<meta name="pypi:project-status" content="Quarantined">',
        {"meta": ProjectMeta(status="quarantined")},
    ),
    "status and reason empty": (
        f'{VERSION}<meta name="pypi:project-status"><meta name="pypi:project-status-reason" content="">',
        {},
    ),
    "reason": (
        f'{VERSION}<meta name="pypi:project-status-reason" content="&lt;old&gt;">',
        {"meta": ProjectMeta(status_reason="<old>")},
    ),
    "serial": (f"{VERSION}<!--SERIAL 7-->\n", {"serial": 7}),
    "serial that is not at the end": (f"{VERSION}<!--SERIAL 7--><p>", {}),
    "serial too large": (f"{VERSION}<!--SERIAL 9999999999999999999-->", {}),
}


@pytest.mark.parametrize(("html", "expected"), METAS.values(), ids=METAS.keys())
def test_what_a_page_says_of_the_project_is_read(html: str, expected: dict[str, Any]) -> None:
    """Version, status and serial are read; with a version an empty page is a page."""
    assert parse_project_page(html.encode(), project=DEMO, url=URL) == page(**expected)


BASES = {
    "none": ("", f"{URL}d-1.zip"),
    "absolute": ('<base href="https://h.example/x/y">', "https://h.example/x/d-1.zip"),
    "relative": ('<base href="files/">', f"{URL}files/d-1.zip"),
    "behind the anchors": ('<p><BASE HREF="/f/">', f"{HOST}/f/d-1.zip"),
    "without href": ('<base target="x"><base href="/g/">', f"{HOST}/g/d-1.zip"),
    "no href at all": ("<base>", f"{URL}d-1.zip"),
    "unusable": ('<base href="ftp://h/">', f"{URL}d-1.zip"),
    "in a comment": ('<!--<base href="/f/">-->', f"{URL}d-1.zip"),
}


@pytest.mark.parametrize(("html", "expected"), BASES.values(), ids=BASES.keys())
def test_links_are_relative_to_the_first_base(html: str, expected: str) -> None:
    """The first ``<base href>``, wherever it stands, is what links are relative to."""
    read = parse_project_page(f'<a href="d-1.zip"></a>{html}'.encode(), project=DEMO, url=URL)
    assert read == page(listed(url=expected))


ENDS = {
    "end": ("<a href='d-1.zip'></a></html>", True),
    "in capitals, blanks behind": ("<a href='d-1.zip'></a></HTML >\r\n", True),
    "comments behind": ("<a href='d-1.zip'></a></html>\n<!--SERIAL 5--> <!-- - -- a -->", True),
    "no end": ("<a href='d-1.zip'></a></body>", False),
    "end that is cut": ("<a href='d-1.zip'></a></html", False),
    "comment that is cut": ("<a href='d-1.zip'></a></html><!--SERIAL", False),
    "end within a comment that is cut": ("<a href='d-1.zip'></a><!-- </html>", False),
    "anchors behind": ("<html></html><a href='d-1.zip'></a>", False),
}


@pytest.mark.parametrize(("html", "is_whole"), ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("charset", [None, "utf-16"])
def test_a_page_without_a_length_is_whole_with_its_end(html: str, is_whole: bool, charset: str | None) -> None:
    """Where no length tells a cut, only </html> does; a comment may follow. With a length no end is asked for."""
    body = html.encode(charset or "utf-8")
    read = parse_project_page(body, project=DEMO, url=URL, charset=charset, has_known_end=False)
    assert (read.is_whole, len(read.files), len(read.warnings)) == (is_whole, 1, 0 if is_whole else 1)
    assert parse_project_page(body, project=DEMO, url=URL, charset=charset).is_whole
    root = parse_root_page(html.replace("d-1.zip", "d/").encode(), url=ROOT, has_known_end=False)
    assert (root.is_whole, root.is_cut, len(root.projects)) == (is_whole, not is_whole, 1)


CHARSETS = {
    "utf-8": ("é".encode(), None, "é"),
    "utf-8, named": ("é".encode(), "UTF-8", "é"),
    "latin-1": ("é".encode("latin-1"), " ISO-8859-1 ", "é"),
    "latin-1, not named": ("é".encode("latin-1"), None, "\ufffd"),
    "cyrillic": ("ж".encode("windows-1251"), "windows-1251", "ж"),
    "unknown": ("é".encode(), "no-such-charset", "é"),
    "no charset": ("é".encode(), "rot13", "é"),
    "NUL": ("é".encode(), "a\0b", "é"),
}


@pytest.mark.parametrize(("text", "charset", "expected"), CHARSETS.values(), ids=CHARSETS.keys())
def test_the_charset_of_the_answer_counts(text: bytes, charset: str | None, expected: str) -> None:
    """The header's charset is used where it is one, else UTF-8; what can't be decoded is replaced."""
    html = b"\xef\xbb\xbf" * (charset is None) + b'<a href="d-1.zip" data-yanked="' + text + b'">'
    assert parse_project_page(html, project=DEMO, url=URL, charset=charset) == page(
        listed(labels=Labels(yanked=expected))
    )


def test_a_page_in_utf_16_is_read() -> None:
    """Two bytes for each character are no obstacle."""
    body = '<a href="d-1.zip">é</a>'.encode("utf-16")
    assert parse_project_page(body, project=DEMO, url=URL, charset="utf-16") == page(listed())


ROOTS: dict[str, tuple[str, str, dict[str, str | None]]] = {
    "relative": (ROOT, '<a href="a/">', {"a": None}),
    "without slashes": (ROOT, '<a href="a">', {"a": "a"}),
    "root-relative": (ROOT, '<a href="/simple/A.b/">', {"a-b": "A.b/"}),
    "absolute, in capitals": (ROOT, '<a href="HTTPS://PACKAGES.example:443/simple/a/#x">', {"a": None}),
    "percent-encoded": (ROOT, '<a href="zope%2Einterface/">', {"zope-interface": "zope%2Einterface/"}),
    "url without its slash": (
        ROOT[:-1],
        '<a href="simple/a/"><a href="/simple/b/"><a href="c/">',
        {"a": None, "b": None},
    ),
    "url with a query": (f"{ROOT}?format=html", '<a href="a/">', {"a": None}),
    "url of a file": (
        f"{ROOT}index.html",
        '<a href="a/"><a href="b/index.html"><a href="about.html"><a href="index.html">',
        {"a": None, "b": "b/index.html"},
    ),
    "root of the host": ("https://h.example", '<a href="a/"><a href="/b/">', {"a": None, "b": None}),
    "base": (ROOT, '<base href="/simple/x/"><a href="../a/"><a href="b/">', {"a": None}),
    "the text does not count": (ROOT, '<a href="a/">b</a>', {"a": None}),
    "a query does not count": (ROOT, '<a href="a/?page=1"><a href="b?x"><a href="?C=N;O=D">', {"a": None, "b": "b"}),
    "other places": (
        ROOT,
        '<a href="../"><a href="./"><a href="../b/"><a href="c/d/"><a href="http://packages.example/simple/e/">'
        '<a href="//h.example/simple/f/"><a href="?g"><a href="mailto:j"><a href="#k"><a href="l/">',
        {"l": None},
    ),
}


@pytest.mark.parametrize(("url", "html", "expected"), ROOTS.values(), ids=ROOTS.keys())
def test_direct_children_of_the_root_are_projects(url: str, html: str, expected: dict[str, str | None]) -> None:
    """A link counts where it leads one step below the root; its address is kept where it is not ``NAME/``."""
    assert parse_root_page(html.encode(), url=url) == RootPage(
        projects={ProjectName(name): None for name in expected},
        addresses={ProjectName(n): address for n, address in expected.items() if address is not None},
    )


def test_an_empty_root_with_a_version_is_a_page() -> None:
    """Whether an empty index can be is for the cycle to say."""
    assert parse_root_page(VERSION.encode(), url=ROOT) == RootPage(projects={})


def test_a_large_root_is_read_like_a_small_one() -> None:
    """Beyond the size where a document is read in pieces, nothing is lost."""
    names = [f"project-{n}" for n in range(20_000)]
    anchors = "".join(f'    <a href="/simple/{name}/">{name}</a><br/>\n' for name in names)
    html = f"<!DOCTYPE html><html><head>{VERSION}</head><body>\n{anchors}</body></html>\n<!--SERIAL 5-->"
    assert parse_root_page(html.encode(), url=ROOT) == RootPage(
        projects={ProjectName(name): None for name in names}, serial=5
    )


PIECES = st.sampled_from(
    [
        VERSION,
        "<a href='a/'>",
        '<a href="x-1.zip#sha256=',
        A,
        '" data-yanked>',
        "</a>",
        "<base href='//h/'>",
        "<!--",
        "<input type=password>",
        "&#xD800;",
        "&#0;",
        "%ff",
        "%00",
        "\0",
        "<a href=//[>",
        " data-x=",
        "<svg>",
        "<script>",
    ]
).map(str.encode)


@given(
    st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join), st.sampled_from([None, "utf-16", "gb18030"])
)
@example(b"<div>" * 20_000 + b'<a href="a-1.zip">', None)
@example(b'<a href="a-1.zip" download="&#xD800;.zip">', None)
def test_any_bytes_are_a_page_or_a_bad_page(body: bytes, charset: str | None) -> None:
    """Whatever comes is read or a BadPage; every text of the result can be written as UTF-8."""
    for read in (
        lambda: parse_project_page(body, project=DEMO, url=URL, charset=charset),
        lambda: parse_root_page(body, url=ROOT, charset=charset),
    ):
        try:
            result: object = read()
        except BadPage as exc:
            result = str(exc)
        assert msgspec.json.encode(result)
        assert repr(result).encode()
