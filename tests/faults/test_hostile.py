"""An index that means harm gets nothing written outside of the tree, nothing unbounded, and spoils nobody else's files."""

from __future__ import annotations

import functools
import gzip
import html.parser
import io
import json
import os
import random
import shutil
import struct
import sys
import zipfile
import zlib

import pytest

from harness.in_process import failures, offered
from harness.program import call, clean_environment
from mirror import logs
from mirror.cli.words.cycle import Place, describe_cycle
from mirror.errors import TreeError
from mirror.sync.cycle import run_cycle
from simulator import (
    JSON_TYPE,
    Announce,
    Endless,
    Page,
    Redirect,
    Relabel,
    build_sdist,
    build_wheel,
    withheld,
)

GOOD = build_wheel("good", "1.0")
MIB = 1 << 20
NOBODY = 65534
ESCAPES = "\x1b[31mred\x1b]0;title\x07\x9b2J\r\n\u202eevil\u2028\x00"
SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


@pytest.fixture
async def hostile(simulator, mirror_of):
    """Return an index with a good project, and a mirror of it."""
    index = await simulator()
    index.state.publish("good", *GOOD)
    return index, mirror_of(index)


def page(*files, name="evil", **keys):
    """Return a project's JSON page."""
    body = {"meta": {"api-version": "1.1"}, "name": name, "files": list(files), **keys}
    return Page(body=json.dumps(body).encode(), content_type=JSON_TYPE)


def listed(filename, url, **keys):
    return {"filename": filename, "url": url, "hashes": {"sha256": "0" * 64}, "size": 1, **keys}


def outside(mirror):
    """Return what lies beside the mirror: nothing of ours."""
    return sorted(p.name for p in mirror.root.parent.iterdir())


def below(root):
    """Return the names of all that lies below a directory, links not followed."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*"))


# -- names ------------------------------------------------------------------------------------------------------------

UNSAFE = [
    "../../../escaped.whl",
    "..",
    ".",
    "/etc/escaped",
    "a/b.whl",
    "a\\b.whl",
    "..\\escaped.whl",
    "a\x00b.whl",
    "line\nbreak.whl",
    ESCAPES,
    "\u202egnp.whl",
    "\ufeff.whl",
    "x" * 241,
    "ü" * 121,
    "good-1.0-py3-none-any.whl.metadata",
    " ",
]


@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("name", UNSAFE, ids=range(len(UNSAFE)))
async def test_names_that_must_not_become_paths(hostile, form, name):
    """Such a name is refused by itself; nothing of it is on the disk, and the files beside it are published."""
    index, mirror = hostile
    index.settings.formats = form
    index.state.publish("evil", name, b"evil", html_attributes={"download": name})
    index.state.publish("evil", *build_sdist("evil", "1.0"))
    report = await mirror.cycle()
    expected = offered(index)
    data = expected["evil"].pop(name)
    if form == "html" and name == "a\x00b.whl":
        expected["evil"]["a\ufffdb.whl"] = data  # no attribute has a NUL: HTML reads it as a character that is harmless
    assert mirror.files() == expected
    assert {reason for *_, reason in failures(report)} <= {"unsafe-name"}
    assert outside(mirror) == ["mirror"]
    assert not any(
        "escaped" in path or "evil" in path.replace("evil-1.0", "") for path in below(mirror.root / "public/files")
    )


@pytest.mark.parametrize(
    "names",
    [["../../escaped", "..", ".", "", "a/b", "%2e%2e", "\x1b[31m", "é", "x" * 201, "-", None, 7, {}]],
    ids=["unsafe"],
)
async def test_project_names_that_must_not_become_paths(hostile, names, capsys):
    """Projects with such names are left out of the listing, with a warning; the others are mirrored."""
    index, mirror = hostile
    logs.configure_logging("warning", "json")
    projects = [{"name": name} for name in [*names, "good"]]
    body = json.dumps({"meta": {"api-version": "1.0"}, "projects": projects}).encode()
    index.inject(Page(body=body, content_type=JSON_TYPE), kind="root")
    report = await mirror.cycle()
    assert (failures(report), mirror.files(), outside(mirror)) == ([], offered(index), ["mirror"])
    assert index.count(kind="page") == 1
    warnings = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [w["event"] for w in warnings] == ["root.odd", "root.odd"]
    without_name = sum(not isinstance(name, str) for name in names)
    assert warnings[0]["problem"].startswith(f"it lists {without_name} projects without a name")
    assert warnings[1]["problem"].startswith(f"{len(names)} of the listed names are no names")


async def test_names_that_differ_by_case_or_form(hostile):
    """Files whose names differ by case or Unicode form are different files, projects by case or separator the same one."""
    index, mirror = hostile
    names = ["Twin-1.0.tar.gz", "twin-1.0.tar.gz", "twin-1.0.TAR.GZ", "caf\u00e9-1.0.tar.gz", "cafe\u0301-1.0.tar.gz"]
    for name in names:
        index.state.publish("twin", name, b"the same bytes")
        # A source distribution that is named after another project would be left out.
        index.state.publish("other", f"other-{name}", f"other bytes in {name!r}".encode())
    body = {
        "meta": {"api-version": "1.0"},
        "projects": [{"name": n} for n in ("Twin", "twin", "TWIN", "other", "good")],
    }
    index.inject(Page(body=json.dumps(body).encode(), content_type=JSON_TYPE), kind="root")
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))
    assert (report.indexes["main"].projects_listed, index.count(kind="page", project="twin")) == (3, 1)


async def test_a_metadata_file_that_collides_with_a_sidecar(hostile):
    """A file that calls itself the metadata of a wheel is refused; what is served as metadata is the wheel's own."""
    index, mirror = hostile
    index.settings.core_metadata = True
    index.state.publish("good", f"{GOOD[0]}.metadata", b"Name: other\n")
    index.state.change("good", GOOD[0], metadata=b"Name: other\nRequires-Dist: evil\n")
    index.state.publish("plain", "plain-1.0.tar.gz", b"x", metadata=b"Name: plain\n")
    report = await mirror.cycle()
    assert failures(report) == [("main", "good", f"{GOOD[0]}.metadata", "unsafe-name")]
    sha256 = mirror.files()["good"][GOOD[0]]
    directory = mirror.root / "public/files" / sha256[:2] / sha256[2:4] / sha256
    assert sorted(p.name for p in directory.iterdir()) == [GOOD[0], f"{GOOD[0]}.metadata"]
    with zipfile.ZipFile(io.BytesIO(GOOD[1])) as wheel:
        assert (directory / f"{GOOD[0]}.metadata").read_bytes() == wheel.read("good-1.0.dist-info/METADATA")


# -- where links and redirects lead -----------------------------------------------------------------------------------

ASTRAY = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "data:application/octet-stream;base64,eA==",
    "javascript:alert(1)",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/x",
    "http://0.0.0.0/x",
    "http://224.0.0.1/x",
    "http://2852039166/latest/",
    "http://[::ffff:169.254.169.254]/x",
    "http:///nohost",
    "http://127.0.0.1:99999/x",
    "http://[::1/x",
    "//169.254.169.254/x",
]


@pytest.mark.parametrize("url", ASTRAY)
@pytest.mark.parametrize("kind", ["page", "file"])
async def test_redirects_that_lead_astray(hostile, kind, url):
    """Other schemes, unusable URLs and link-local addresses are refused where a redirect names them."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"))
    index.inject(Redirect(url=url), kind=kind, project="evil")
    report = await mirror.cycle()
    assert [f[1::2] for f in failures(report)] == [("evil", "redirect-refused")]
    assert (set(mirror.files()), mirror.exit_code) == ({"good"}, 5)
    assert index.count(kind=kind, project="evil") == 1


@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("url", ASTRAY)
async def test_links_that_lead_astray(hostile, form, url):
    """The same holds for the links of pages; the files beside them are published."""
    index, mirror = hostile
    index.settings.formats = form
    index.state.publish("good", "good-2.0.tar.gz", b"x", url=url)
    report = await mirror.cycle()
    is_no_file = form == "html" and (url.startswith(("data:", "javascript:")) or url.endswith("/"))
    assert [f[1] for f in failures(report)] == ([] if is_no_file else ["good"])
    assert {f[3] for f in failures(report)} <= {"redirect-refused", "unsafe-name"}
    assert mirror.files()["good"] == {GOOD[0]: offered(index)["good"][GOOD[0]]}


PRIVATE = [
    "http://127.0.0.1:{port}/x",
    "http://localhost:{port}/x",
    "http://10.0.0.1/x",
    "http://[fd00::1]/x",
    "http://100.64.0.1/x",
]


@pytest.mark.parametrize("url", PRIVATE, ids=["loopback", "localhost", "private", "unique-local", "shared"])
@pytest.mark.parametrize("how", ["redirect", "link"])
async def test_a_public_index_leads_nowhere_private(simulator, mirror_of, how, url):
    """An index at a public address, here behind a proxy, must not lead into the network that the mirror is in."""
    index = await simulator(links="relative")
    inside = await simulator()
    index.state.publish("good", *GOOD)
    target = url.format(port=inside.url.split(":")[2].partition("/")[0])
    index.state.publish("evil", "evil-1.0.tar.gz", b"x", **({"url": target} if how == "link" else {}))
    if how == "redirect":
        index.inject(Redirect(url=target), filename="evil-1.0.tar.gz")
    mirror = mirror_of(index)
    proxy = index.url.removesuffix("/simple/")
    mirror.configure("main", url="http://93.184.216.34/simple/", proxy=proxy, allow_insecure=True)
    report = await mirror.cycle()
    assert failures(report) == [("main", "evil", "evil-1.0.tar.gz", "redirect-refused")]
    assert "allow-private" in report.failures[0].detail
    assert (set(mirror.files()), inside.requests) == ({"good"}, [])


@pytest.mark.parametrize("kind", ["root", "page", "file"])
async def test_redirects_without_end(hostile, kind):
    """A chain of redirects is followed five times."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"))
    where = {"root": "/simple/", "page": "/simple/evil/", "file": "/files/evil/evil-1.0-py3-none-any.whl"}[kind]
    index.inject(Redirect(url=where), kind=kind, project=None if kind == "root" else "evil")
    report = await mirror.cycle()
    assert [f[3] for f in failures(report)] == ["redirect-refused"]
    assert index.count(kind=kind, status=302) == 6
    assert mirror.exit_code == (4 if kind == "root" else 5)


async def test_a_path_in_a_redirect_changes_no_name(hostile):
    """Where a redirect leads has no say in what a file is called."""
    index, mirror = hostile
    index.inject(Redirect(url=f"/files/good/../../../../etc/{GOOD[0]}"), filename=GOOD[0], times=1)
    report = await mirror.cycle()
    assert [f[3] for f in failures(report)] == ["not-found"]
    index.inject(Redirect(url=f"/files/good/./{GOOD[0]}?name=../../escaped"), filename=GOOD[0], times=1)
    await mirror.cycle()
    assert (mirror.files(), outside(mirror)) == (offered(index), ["mirror"])


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [None, 10**18], ids=["chunks", "announced"])
@pytest.mark.parametrize("size", [None, "auto"], ids=["unlisted", "listed"])
async def test_a_file_without_end(hostile, announced, size):
    """A body ends where the listed size or limits.file-size says; nothing of it is left."""
    index, mirror = hostile
    index.state.publish("evil", *build_sdist("evil", "1.0", size_pad=MIB), size=size)
    index.inject(Endless(content_length=announced), kind="file", project="evil")
    mirror.limits["file_size"] = 2 * MIB
    report = await mirror.cycle()
    reason = "too-large" if size is None or announced else "size-mismatch"
    assert failures(report) == [("main", "evil", "evil-1.0.tar.gz", reason)]
    assert report.indexes["main"].bytes_downloaded < 8 * MIB
    assert (set(mirror.files()), list((mirror.root / "staging").iterdir())) == ({"good"}, [])


async def test_a_listed_size_that_no_disk_has(hostile):
    """A file larger than the whole disk is not asked for, in later cycles neither; the others are published."""
    index, mirror = hostile
    index.state.publish("evil", *build_sdist("evil", "1.0", size_pad=MIB), size=10**17)
    index.inject(Endless(), kind="file", project="evil")
    for _ in range(2):
        report = await mirror.cycle()
        assert failures(report) == [("main", "evil", "evil-1.0.tar.gz", "too-large")]
        assert "more than the whole disk has" in report.failures[0].detail
        assert (set(mirror.files()), mirror.exit_code) == ({"good"}, 5)
    assert index.count(kind="file", project="evil") == 0


@pytest.mark.parametrize("kind", ["root", "page"])
@pytest.mark.parametrize("announced", [None, 10**18], ids=["chunks", "announced"])
async def test_a_page_without_end(hostile, kind, announced):
    """A page ends where its limit says."""
    index, mirror = hostile
    index.state.create_project("evil", extra={"padding": "x" * 5000})
    index.inject(Endless(content_length=announced), kind=kind, project=None if kind == "root" else "evil")
    mirror.limits |= {"page_size": 100_000, "root_page_size": 100_000}
    report = await mirror.cycle()
    assert [f[3] for f in failures(report)] == ["too-large"]
    assert index.count(kind=kind, project=None if kind == "root" else "evil") == 1
    assert set(mirror.files()) == (set() if kind == "root" else {"good"})


@functools.cache
def bomb(size):
    """Return a gzip body of spaces: one piece that is compressed once, and stands there again and again."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = b" " * MIB
    piece = compress.compress(block) + compress.flush(zlib.Z_FULL_FLUSH)
    pieces = size // MIB
    checksum = 0
    for _ in range(pieces):
        checksum = zlib.crc32(block, checksum)
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return head + piece * pieces + compress.flush() + struct.pack("<II", checksum, size)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["root", "page"])
async def test_a_page_that_is_a_bomb(hostile, kind, layers):
    """A small body that decompresses to a very large page is given up at the limit."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"))
    body = bomb(300 * MIB)
    encoding = "gzip"
    if layers == 2:
        body, encoding = gzip.compress(body), "gzip, gzip"
    fault = Page(body=body, content_type=JSON_TYPE, headers={"Content-Encoding": encoding})
    index.inject(fault, kind=kind, project=None if kind == "root" else "evil")
    mirror.limits |= {"page_size": 4 * MIB, "root_page_size": 4 * MIB}
    report = await mirror.cycle()
    assert [f[3] for f in failures(report)] == ["too-large" if layers == 1 else "bad-page"]
    assert set(mirror.files()) == (set() if kind == "root" else {"good"})


@pytest.mark.parametrize("kind", ["root", "page"])
async def test_a_page_over_the_limit(hostile, kind):
    """A page that is larger than its limit is refused by name of the setting."""
    index, mirror = hostile
    index.state.create_project("evil", extra={"padding": "x" * MIB})
    mirror.limits |= {"page_size": MIB, "root_page_size": 50}
    if kind == "page":
        mirror.limits["root_page_size"] = MIB
    report = await mirror.cycle()
    (failure,) = report.failures
    assert (failure.reason.value, f"limits.{'root-' if kind == 'root' else ''}page-size" in failure.detail) == (
        "too-large",
        True,
    )
    assert set(mirror.files()) == (set() if kind == "root" else {"good"})


@pytest.mark.parametrize("form", ["json", "html"])
async def test_too_many_files_in_a_project(hostile, form):
    """A page with more files than allowed is refused as a whole; what is held of it stays."""
    index, mirror = hostile
    index.settings.formats = form
    for number in range(20):
        index.state.publish("many", f"many-1.{number}.tar.gz", b"x")
    mirror.limits["files_per_project"] = 20
    await mirror.cycle()
    before = mirror.files()
    assert len(before["many"]) == 20
    index.state.publish("many", "many-2.0.tar.gz", b"x")
    report = await mirror.cycle()
    (failure,) = report.failures
    assert ("files-per-project" in failure.detail, failure.project) == (True, "many")
    assert mirror.files() == before


@pytest.mark.parametrize("by", [-3, 3])
@pytest.mark.parametrize("size", [None, "auto"], ids=["unlisted", "listed"])
async def test_a_content_length_that_lies(hostile, by, size):
    """What a body announces never decides: a file comes out right or not at all."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"), size=size)
    index.inject(Announce(by=by), filename="evil-1.0-py3-none-any.whl")
    report = await mirror.cycle()
    if by > 0 and size is None:
        assert mirror.files() == offered(index)  # all bytes came, and they are right
    else:
        (failure,) = report.failures
        assert failure.reason.value in {"size-mismatch", "digest-mismatch"}
        assert set(mirror.files()) == {"good"}


@pytest.mark.parametrize("kind", ["file", "page", "root"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "\x7f", "gzip, gzip"])
async def test_a_content_encoding_that_lies(hostile, kind, encoding):
    """A file is what its bytes are, whatever its label; a page with a wrong label is no page."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"))
    index.inject(Relabel(headers={"Content-Encoding": encoding}), kind=kind, project=None if kind == "root" else "evil")
    report = await mirror.cycle()
    if kind == "file" and encoding != "\x7f":
        assert (failures(report), mirror.files()) == ([], offered(index))
    else:
        assert {f[3] for f in failures(report)} <= {"bad-page", "unreachable"}
        assert set(mirror.files()) == (set() if kind == "root" else {"good"})


def wheel_with(metadata, *, name="evil-1.0-py3-none-any.whl"):
    """Return a wheel with this METADATA, compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("evil-1.0.dist-info/METADATA", metadata)
    return name, made.getvalue()


async def test_a_wheel_that_is_a_bomb(hostile):
    """Metadata over the limit is not unpacked: the wheel is published without it, although the index advertises some."""
    index, mirror = hostile
    index.settings.core_metadata = True
    index.state.publish("evil", *wheel_with(b"\n" * (20 * MIB)), metadata=b"Name: evil\n")
    index.state.publish("evil", "evil-2.0-py3-none-any.whl", b"PK no zip at all", metadata=b"Name: evil\n")
    mirror.limits["metadata_size"] = MIB
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))
    assert [mirror.labels("evil", name).get("core-metadata") for name in mirror.files()["evil"]] == [None, None]


# -- texts ------------------------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Collects the tags of a page, and the attributes that could run something."""

    def __init__(self):
        super().__init__()
        self.seen = set()
        self.active = []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.active += [a for a, _ in attrs if a.startswith("on") or a == "src"]


@pytest.mark.parametrize("form", ["json", "html"])
async def test_html_and_script_in_texts(hostile, form):
    """Whatever an index says of a file or a project, our pages have no tag but their own."""
    index, mirror = hostile
    index.settings.formats = form
    labels = {
        "yanked": SCRIPT,
        "requires_python": f">=3{SCRIPT}",
        "upload_time": SCRIPT,
        "provenance": f"https://x/{SCRIPT}",
    }
    if form == "json":
        index.state.publish("evil", *build_wheel("evil", "1.0"), extra={SCRIPT: SCRIPT}, **labels)
        index.state.create_project("evil", status="archived", status_reason=SCRIPT, extra={SCRIPT: [SCRIPT]})
    else:
        index.state.publish("evil", *build_wheel("evil", "1.0"), yanked=SCRIPT)
    name = SCRIPT.replace("/", "") + ".tar.gz"
    index.state.publish("evil", name, b"x")
    report = await mirror.cycle()
    assert (failures(report), mirror.files()) == ([], offered(index))
    for path in (mirror.root / "public/simple").rglob("*.html"):
        tags = Tags()
        tags.feed(path.read_text())
        assert tags.seen <= {"html", "head", "meta", "title", "body", "h1", "a", "br", "link", "p"}
        assert tags.active == []
    assert mirror.labels("evil", "evil-1.0-py3-none-any.whl")["yanked"] == SCRIPT


def is_safe(text):
    """Tell whether a text can do nothing to a terminal but print."""
    return all(c.isprintable() or c == "\n" for c in text)


async def test_escapes_in_texts_never_reach_a_terminal(hostile, capsys):
    """Names, codes and reasons with control characters are shown escaped: in words, in status and in the console's log."""
    index, mirror = hostile
    logs.configure_logging("debug", "console")
    index.state.publish("evil", ESCAPES + ".tar.gz", b"x")
    index.state.publish("evil", *build_wheel("evil", "1.0"), yanked="\u202eevil\u2028")
    index.state.create_project("evil", status="archived", status_reason=ESCAPES, extra={ESCAPES: ESCAPES})
    index.state.publish("held", *build_wheel("held", "1.0"))
    index.inject(withheld(ESCAPES), kind="file", project="held")
    for number, fault in enumerate(
        [
            Redirect(url="http://127.0.0.1/%1b[31m\u202e"),
            Relabel(headers={"Content-Encoding": "x\u202ey"}),
            page({"filename": ESCAPES, "url": ESCAPES}, name=ESCAPES),
            page(listed("a.whl", f"file:///{ESCAPES}"), name="x3"),
            Page(body=b"{}", content_type="text/\u202eevil"),
            Page(body=f"<html><title>{ESCAPES}</title>".encode()),
        ]
    ):
        index.state.publish(f"x{number}", *build_wheel(f"x{number}", "1.0"))
        index.inject(fault, kind="page", project=f"x{number}")
    report = await mirror.cycle()
    assert {f[1] for f in failures(report)} >= {"evil", "held", "x0", "x1", "x2", "x3", "x4", "x5"}
    words = describe_cycle(report, Place(simple="/srv", options=""))
    out, err = capsys.readouterr()
    assert err.count("\n") > 20
    assert all(is_safe(text) for text in (out, err, *words))
    assert all(is_safe(f.detail) and is_safe(f.filename or "") for f in report.failures)
    work = mirror.root.parent
    for arguments in (["status"], ["status", "--json"]):
        command = [sys.executable, "-m", "mirror", *arguments, "--root", mirror.root]
        done = call(command, env=clean_environment(work), cwd=work)
        assert "held" in done.stdout
        assert is_safe(done.stdout + done.stderr)


@pytest.mark.parametrize("kind", ["root", "page"])
@pytest.mark.parametrize(
    "content_type", [JSON_TYPE, "text/html", "text/html; charset=utf-16", "text/html; charset=nonsense"]
)
async def test_invalid_utf_8(hostile, kind, content_type):
    """Bytes that are no text are a bad page or read with replacements, and never a bug."""
    index, mirror = hostile
    index.state.publish("evil", *build_wheel("evil", "1.0"))
    await mirror.cycle()
    before = mirror.files()
    draw = random.Random(3)
    for body in (
        b'{"meta": {"api-version": "1.0"}, "name": "ev\xffil", "files": [], "projects": []}',
        b'<!DOCTYPE html><html><body><a href="/files/evil/\xff\xfe.whl">\xff</a></body></html>',
        b"\xff\xfe" + "<html><body>".encode("utf-16-le"),
        draw.randbytes(2000),
    ):
        index.inject(
            Page(body=body, content_type=content_type), kind=kind, project=None if kind == "root" else "evil", times=1
        )
        report = await mirror.cycle()
        assert {f[3] for f in failures(report)} <= {"bad-page", "not-found", "unsafe-name"}
        # A page that could be read may have said that files are gone: one look removes nothing.
        assert mirror.files() == before
    index.faults.clear()
    assert failures(await mirror.cycle()) == []


async def test_lone_surrogates_in_json(hostile):
    """Text that is none in any encoding is left out or refused, and the files beside it are published."""
    index, mirror = hostile
    good = index.state["good"].files[GOOD[0]]
    url = f"{index.url.removesuffix('/simple/')}/files/good/{GOOD[0]}"
    odd = "\ud800"
    files = [
        {"filename": odd, "url": "u", "hashes": {}},
        listed(GOOD[0], url, hashes={"sha256": good.hash("sha256")}, size=len(good.data), yanked=odd, z={odd: odd}),
    ]
    status = {"status": "active", "reason": odd}
    index.inject(page(*files, name="good", versions=[odd], y={odd: odd}, **{"project-status": status}), project="good")
    index.state.publish("fine", *build_wheel("fine", "1.0"))
    report = await mirror.cycle()
    assert set(mirror.files()) >= {"fine"}
    assert {f[3] for f in failures(report)} <= {"unsafe-name", "bad-page"}


# -- links planted in the tree ----------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path):
    """Return a directory that is no part of the mirror, with something in it."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "precious").write_bytes(b"precious")
    return directory


def plant(path, target):
    """Put a link in the place of a file or directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_links_in_the_place_of_blobs(hostile, elsewhere, depth):
    """Nothing is written or published through a link on the way to a blob: the project fails, and the link is named."""
    index, mirror = hostile
    await mirror.cycle(projects=("nothing",))
    sha256 = index.state["good"].files[GOOD[0]].hash("sha256")
    parts = ["public/files", sha256[:2], sha256[2:4], sha256, GOOD[0]]
    place = mirror.root.joinpath(*parts[: depth + 1])
    plant(place, elsewhere / "precious" if depth == 4 else elsewhere)
    report = await mirror.cycle()
    assert below(elsewhere) == ["precious"]
    assert (elsewhere / "precious").read_bytes() == b"precious"
    if depth == 4:
        assert (failures(report), mirror.files()) == ([], offered(index))  # a name is simply taken over
    else:
        assert ([f[1::2] for f in failures(report)], mirror.exit_code) == ([("good", "storage")], 6)
        assert str(place) in report.failures[0].detail
        assert mirror.files() == {}


async def test_a_link_in_the_place_of_a_project(hostile, elsewhere):
    """No page is written through a link in the place of a project's directory: the project fails, and the link is named."""
    index, mirror = hostile
    await mirror.cycle()
    index.state.publish("good", *build_wheel("good", "1.1"))
    index.state.publish("fine", *build_wheel("fine", "1.0"))
    place = mirror.root / "public/simple/good"
    plant(place, elsewhere)
    async with mirror.opened() as cycle:
        report = await run_cycle(cycle)
    assert below(elsewhere) == ["precious"]
    assert [f[1::2] for f in failures(report)] == [("good", "storage")]
    assert str(place) in report.failures[0].detail
    assert (mirror.root / "public/simple/fine/index.html").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give links away")
@pytest.mark.parametrize("place", ["public/files", "public/simple", "public", "staging"])
async def test_links_in_the_place_of_directories(hostile, elsewhere, place):
    """Another user's link in the place of a directory of ours stops the cycle before anything is written behind it."""
    index, mirror = hostile
    await mirror.cycle()
    index.state.publish("good", *build_wheel("good", "1.1"))
    plant(mirror.root / place, elsewhere)
    os.lchown(mirror.root / place, NOBODY, NOBODY)
    with pytest.raises(TreeError) as caught:
        await mirror.cycle()
    assert below(elsewhere) == ["precious"]
    assert str(mirror.root / place) in str(caught.value)
