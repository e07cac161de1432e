"""Answers that are small on the way and large in memory: refused by their bytes, before any value is made of them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from harness.program import Mirror, published, report_of
from harness.worker_program import Beside, log_of
from mirror.core.model import IndexPolicy
from mirror.core.names import ProjectName
from mirror.core.pages import parse_html
from mirror.core.pages.page_cost import (
    MAX_FILE_BYTES,
    MAX_META_BYTES,
    MAX_VALUE_BYTES,
    MAX_VERSIONS_BYTES,
    PAGE_MEMORY_BYTES,
    check_json_root,
    html_page_cost,
    json_page_cost,
)
from mirror.core.pages.parse_html import parse_project_page as parse_html_page
from mirror.core.pages.parse_html import parse_root_page as parse_html_root
from mirror.core.pages.parse_json import parse_project_page, parse_root_page
from mirror.core.policy import compile_selections
from mirror.errors import BadPage, Reason, TooLarge
from mirror.upstream.limits.memory import PageMemory
from mirror.upstream.pages import Decoder
from simulator import ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]

URL = "https://index.example/simple/"
MIB = 1 << 20
JSON = "application/vnd.pypi.simple.v1+json"


def json_of(key: str, items: bytes) -> bytes:
    return b'{"meta":{"api-version":"1.0"},"%b":[%b]}' % (key.encode(), items.rstrip(b","))


HOSTILE_ROOTS = {
    "objects": (b'{"a":0},', 8_000_000),
    "numbers": (b"1,", 30_000_000),
    "nested objects": (b'{"name":"a","x":{"x":{"x":{"x":{}}}}},', 2_000_000),
}
"""An item of a root page, and how often it stands there."""


@pytest.mark.parametrize(("item", "count"), HOSTILE_ROOTS.values(), ids=HOSTILE_ROOTS)
def test_root_of_many_values(item: bytes, count: int) -> None:
    """A root page whose values would take gigabytes is refused."""
    with pytest.raises(TooLarge, match=r"memory|limits\.projects"):
        parse_root_page(json_of("projects", item * count), url=URL)


def test_root_of_many_keys() -> None:
    """Keys that nobody asked for take no memory; an item of a broken list that is too long is left out."""
    long = b'{"name":true},{"name":"b","x":[%b0]}' % (b"0," * 100_000)
    body = b'{"x":1,%b"meta":{"api-version":"1.0"},"projects":[{"name":"a"},%b]}' % (b'"k":[],' * 100_000, long)
    page = parse_root_page(body, url=URL)
    assert (list(page.projects), page.refused) == (["a"], 2)


@pytest.mark.parametrize("is_json", [True, False], ids=["JSON", "HTML"])
def test_limit_of_projects(*, is_json: bool) -> None:
    """As many names as ``limits.projects`` allows are read, one more is refused by that name."""
    names = [f"p{number}" for number in range(11)]
    for count in (10, 11):
        if is_json:
            body = json_of("projects", ",".join(f'{{"name":"{name}"}}' for name in names[:count]).encode())
        else:
            body = "".join(f'<a href="{name}/">{name}</a>' for name in names[:count]).encode()
        parse = parse_root_page if is_json else parse_html_root
        if count == 10:
            assert len(parse(body, url=URL, max_projects=10).projects) == 10
        else:
            with pytest.raises(TooLarge, match=r"more than 10 projects; raise limits\.projects"):
                parse(body, url=URL, max_projects=10)


def test_two_million_names_are_no_attack() -> None:
    """The cost of a root page of two million ordinary names is below the limit."""
    item = b'{"_last-serial":12345678,"name":"some-project-1234"},'
    check_json_root(json_of("projects", item * 2_000_000), url=URL, max_projects=5_000_000)


FILE = {
    "core-metadata": {"sha256": "0" * 64},
    "data-dist-info-metadata": {"sha256": "0" * 64},
    "filename": "some_project-1.234.5-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "hashes": {"sha256": "0" * 64},
    "provenance": None,
    "requires-python": ">=3.8",
    "size": 123456,
    "upload-time": "2026-01-01T00:00:00.000000Z",
    "url": "https://files.example/packages/aa/bb/" + "c" * 60 + "/some_project-1.234.5-cp311-cp311-manylinux_2_17.whl",
    "yanked": False,
}


def test_a_hundred_thousand_files_are_no_attack() -> None:
    """The cost of a page of 100,000 ordinary files is below the limit, in JSON and in HTML."""
    body = json_of("files", (json.dumps(FILE).encode() + b",") * 100_000)
    assert json_page_cost(body, url=URL) < PAGE_MEMORY_BYTES
    anchor = f'<a href="{FILE["url"]}#sha256={"0" * 64}" data-requires-python="&gt;=3.8">{FILE["filename"]}</a><br />\n'
    assert html_page_cost(anchor.encode() * 100_000, url=URL) < PAGE_MEMORY_BYTES


HOSTILE_PAGES = {
    "small objects": lambda: json_of("files", b'{"a":0},' * 2_000_000),
    "lists in one file": lambda: json_of(
        "files", b'{"filename":"a-1.zip","url":"a","x":[%b[]]}' % (b"[]," * 3_000_000)
    ),
    "keys of the page": lambda: b'{"meta":{},%b"files":[]}' % (b'"a":1,' * 4_000_000),
    "one wide text": lambda: json_of("x", '"😀'.encode() + b"a" * (210 * MIB) + b'"'),
}
"""Made where they are asked for: together they are 250 MB."""


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_page_of_many_values(name: str) -> None:
    """A page whose values would take more than one page may costs too much by its bytes alone."""
    assert json_page_cost(HOSTILE_PAGES[name](), url=URL) > PAGE_MEMORY_BYTES


def test_links_of_a_long_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short links that a long base makes long are counted as what they become."""
    monkeypatch.setattr(parse_html, "PAGE_MEMORY_BYTES", 8 * MIB)
    with pytest.raises(TooLarge, match="memory"):
        parse_html_page(
            b'<base href="/%b/">' % (b"b" * 16_000) + b'<a href="a.zip">' * 600, project=ProjectName("p"), url=URL
        )
    assert json_page_cost(json_of("files", b'{"filename":"a","url":"b"},' * 60_000), url=URL + "b" * 16_000) > (
        PAGE_MEMORY_BYTES
    )


@pytest.mark.parametrize("content", [b"<script>" + b"<" * 3_000_000, b"<!--" + b"- " * 3_000_000], ids=["<", "-"])
def test_text_of_an_element(content: bytes) -> None:
    """A script or comment of millions of pieces is refused, and takes no memory for each."""
    with pytest.raises(BadPage, match="can't be read from byte"):
        parse_html_root(content + b"</script>-->", url=URL)


def test_a_long_tag() -> None:
    """A tag of a megabyte never reaches the DOM parser."""
    with pytest.raises(BadPage, match="can't be read from byte"):
        parse_html_root(b'<a href="%b">' % (b"a" * MIB), url=URL)


def test_links_that_repeat_a_name() -> None:
    """A root page that lists one name over and over ends early: reading a link costs more than sending it."""
    with pytest.raises(BadPage, match="only 1 name a project"):
        parse_html_root(b'<a href="a/">' * 200_000, url=URL)


def file_with(**keys: object) -> bytes:
    return json.dumps({"filename": "p-1.tar.gz", "url": "p-1.tar.gz", **keys}).encode()


def test_a_file_with_long_unknown_keys() -> None:
    """What nobody knows and is too long is left out; the file is taken, its known keys count."""
    long = file_with(x="x" * MAX_FILE_BYTES, yanked="bad")
    page = parse_project_page(json_of("files", long), project=ProjectName("p"), url=URL)
    (file,) = page.files
    assert (file.labels.extra, file.labels.yanked) == ("{}", "bad")
    assert any("unknown keys of a file" in warning for warning in page.warnings)
    anchor = f'<a href="p-1.tar.gz" data-x="{"x" * MAX_FILE_BYTES}" data-yanked="bad">'.encode()
    page = parse_html_page(anchor, project=ProjectName("p"), url=URL)
    (file,) = page.files
    assert (file.labels.extra, file.labels.yanked) == ("{}", "bad")


@pytest.mark.parametrize("key", ["yanked", "requires-python", "hashes"])
def test_a_file_with_a_long_known_key(key: str) -> None:
    """A file of which a known key is too long is refused, and a yank of it still counts."""
    text = "x" * (MAX_FILE_BYTES + 1)
    keys: dict[str, object] = {"yanked": True, key: {"sha256": text} if key == "hashes" else text}
    page = parse_project_page(json_of("files", file_with(**keys)), project=ProjectName("p"), url=URL)
    (refused,) = page.refused
    assert (page.files, refused.name, refused.reason) == ((), "p-1.tar.gz", Reason.BAD_FILE)
    assert refused.cause == f"its {key} is longer than {MAX_VALUE_BYTES} bytes"
    assert refused.labels is not None
    assert refused.labels.yanked == ""


def test_a_page_with_long_keys_of_its_own() -> None:
    """Unknown keys and versions that are too long are left out with a warning; a status decides, and is not."""
    page = parse_project_page(
        b'{"meta":{},"files":[],"x":"%b","versions":["%b"]}' % (b"x" * MAX_META_BYTES, b"1" * MAX_VERSIONS_BYTES),
        project=ProjectName("p"),
        url=URL,
    )
    assert (page.meta.extra, page.meta.versions) == ("{}", None)
    assert len([warning for warning in page.warnings if "longer than" in warning]) == 2
    with pytest.raises(BadPage, match="project-status is longer"):
        parse_project_page(
            b'{"meta":{},"files":[],"project-status":{"reason":"%b"}}' % (b"x" * MAX_META_BYTES),
            project=ProjectName("p"),
            url=URL,
        )


def test_many_files_that_are_listed_twice() -> None:
    """However many files a page repeats, one warning says so."""
    page = parse_project_page(json_of("files", b",".join([file_with()] * 500)), project=ProjectName("p"), url=URL)
    (selection,) = compile_selections([IndexPolicy(name="a")])
    (warning,) = [found for found in selection.select(page, {}).warnings if "more than once" in found]
    assert warning == "p-1.tar.gz is listed more than once, and so are files in 498 more places"


def test_many_refused_files(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A page of which next to nothing can be taken: the first files are named, the others counted, the rest mirrored.

    What is held under one of those names stays, and a yank of it is published.
    """
    index = threaded_simulator(formats="json")
    for version in ("1.0", "2.0"):
        index.state.publish("p", *build_wheel("p", version))
    mirror = Beside(tmp_path, index.url, before="import mirror.sync.pages.file_jobs as c; c._MAX_REFUSED_OF_PAGE = 30")
    mirror.sync_well()
    names = [f"p-1.{number}-py3-none-any.whl" for number in range(10, 50)]
    for name in names:
        index.state.publish("p", name, b"", hashes={"sha256": "0"})
    index.state.change("p", "p-2.0-py3-none-any.whl", hashes={"sha256": "0"}, yanked="bad")
    index.state.publish("p", *build_wheel("p", "3.0"))
    done = mirror.sync("--json")
    failures = report_of(done)["failures"]
    assert done.returncode == 5, done.stderr
    assert [f["filename"] for f in failures] == ["(more files)", *names[:28], "p-2.0-py3-none-any.whl"]
    assert failures[0]["detail"].startswith("12 more files of this page can't be taken; the first is p-1.38-py3")
    assert {f["reason"] for f in failures} == {"bad-file"}
    assert sorted(published(mirror.root)["p"]) == [f"p-{n}.0-py3-none-any.whl" for n in (1, 2, 3)]
    page = json.loads((mirror.simple / "p" / "index.v1_json").read_bytes())
    assert {f["filename"]: f["yanked"] for f in page["files"]}["p-2.0-py3-none-any.whl"] == "bad"
    for name in names:
        index.state.remove_file("p", name)
    index.state.change("p", "p-2.0-py3-none-any.whl", hashes=None)
    mirror.sync_well()


def test_empty_members_of_gzip() -> None:
    """Each member of a gzip encoding has to bring something; those of a block-wise compressor do."""
    with pytest.raises(BadPage, match="too many members"):
        Decoder(is_gzip=True, url=URL).feed(gzip.compress(b"") * 2000, room=10**9)
    block = gzip.compress(b"a" * 65_280)
    assert len(b"".join(Decoder(is_gzip=True, url=URL).feed(block * 2000, room=10**9))) == 2000 * 65_280


async def test_bodies_wait_for_room() -> None:
    """Of many large bodies some wait, the oldest never does, and each has its turn."""
    memory = PageMemory()
    done: list[int] = []

    async def read(number: int) -> None:
        lease = memory.lease()
        with lease.body():
            for part in range(1, 11):
                await lease.hold_body(part * 10 * MIB)
            done.append(number)
            await lease.hold_values(300 * MIB)
        await wait_all_tasks_blocked() if number == 0 else None
        lease.release()
        lease.release()

    async with create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(read, number)
    assert sorted(done) == list(range(16))
    assert (memory._bodies_bytes, memory._values_bytes, memory._growing) == (0, 0, {})


def compressed(item: bytes, count: int, before: bytes, after: bytes) -> bytes:
    """Return gzip of a page without ever holding the page."""
    coder = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = item * 10_000
    pieces = [coder.compress(before), *(coder.compress(block) for _ in range(count // 10_000))]
    return b"".join([*pieces, coder.compress(after), coder.flush()])


LISTED = b'{"meta":{"api-version":"1.0"},"projects":[%b]}' % b",".join(b'{"name":"p%d"}' % n for n in range(16))
HOSTILE_ANSWERS = {
    "root": lambda: (compressed(b'{"name":"a"},', 8_000_000, b'{"meta":{},"projects":[', b'{"name":"a"}]}'), b""),
    "pages": lambda: (LISTED, compressed(b"[],", 6_000_000, b'{"meta":{},"files":[{"x":[', b"[]]}]}")),
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
def test_the_other_index_goes_on(threaded_simulator: Simulators, tmp_path: Path, name: str) -> None:
    """Two megabytes of one index fail as that index or its pages, and stay below 2 GiB; the other index is mirrored."""
    root, page = HOSTILE_ANSWERS[name]()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = root if self.path == "/simple/" else page
            self.send_response(200)
            self.send_header("Content-Type", JSON)
            self.send_header("Content-Length", str(len(body)))
            if body[:2] == b"\x1f\x8b":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as hostile:
        threading.Thread(target=hostile.serve_forever, daemon=True).start()
        try:
            check_two_indexes(threaded_simulator, tmp_path, hostile.server_port, is_root=root is not LISTED)
        finally:
            hostile.shutdown()


def check_two_indexes(threaded_simulator: Simulators, tmp_path: Path, port: int, *, is_root: bool) -> None:
    good = threaded_simulator()
    good.state.publish("good", *build_wheel("good", "1.0"))
    mirror = Measured(tmp_path)
    mirror.configure(
        f'url = "http://127.0.0.1:{port}/simple/"\nauth = {{ kind = "none" }}\n'
        f'[[index]]\nname = "good"\nurl = "{good.url}"\nauth = {{ kind = "none" }}'
    )
    done = mirror.sync("--json")
    assert done.returncode == (4 if is_root else 5), done.stderr
    assert {f["reason"] for f in report_of(done)["failures"]} == {"too-large"}
    if not is_root:  # else nobody knows what the first index owns
        assert list(published(mirror.root)) == ["good"]
    assert int((tmp_path / "peak").read_text()) < 2 << 20


@dataclass
class Measured(Beside):
    """The real program, which leaves its largest resident size in KiB behind."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.before = (
            "import atexit, os, pathlib, resource\n"
            "own = os.getpid()\n"
            "def leave():\n"
            "    if os.getpid() == own:\n"
            "        peak = max(resource.getrusage(who).ru_maxrss for who in (0, -1))\n"
            f"        pathlib.Path({str(self.work / 'peak')!r}).write_text(str(peak))\n"
            "atexit.register(leave)"
        )


def test_memory_that_runs_out_on_one_page(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where memory runs out while a page is read, that page fails, and the others are mirrored."""
    index = threaded_simulator(formats="json")
    index.state.publish("good", *build_wheel("good", "1.0"))
    index.state.publish("large", *build_wheel("large", "1.0"))
    limited = (
        "import mirror.upstream.index as index, resource\n"
        "real = index.parse_json.parse_project_page\n"
        "def parse(content, *, project, **options):\n"
        "    if project == 'large':\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (64 << 20, resource.RLIM_INFINITY))\n"
        "        try:\n"
        "            bytearray(1 << 30)\n"
        "        finally:\n"
        "            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    return real(content, project=project, **options)\n"
        "index.parse_json.parse_project_page = parse"
    )
    mirror = Beside(tmp_path, index.url, before=limited)
    done = mirror.sync("--json")
    assert done.returncode == 5, done.stderr
    (failure,) = report_of(done)["failures"]
    assert (failure["project"], failure["filename"], failure["reason"]) == ("large", None, "too-large")
    assert not log_of(done, "project.failed")
    assert list(published(mirror.root)) == ["good"]


def test_status_after_a_crash(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A last cycle that came to no end is never whole, also beside another command and before the next one ends."""
    index = threaded_simulator()
    index.state.publish("p", *build_wheel("p", "1.0"))
    mirror = Mirror(tmp_path, index.url)
    mirror.sync_well()
    assert mirror.run("status", "--root", mirror.root).returncode == 0
    crash = Beside(
        tmp_path, index.url, before="import mirror.sync.cycle as c, os; c.sweep_before = lambda _: os._exit(1)"
    )
    assert crash.sync().returncode == 1
    assert mirror.run("status", "--root", mirror.root).returncode == 5
    lock = (
        "import sys; from pathlib import Path; from mirror.tree.lock import hold\n"
        "with hold(Path(sys.argv[1]) / 'tree.lock'):\n"
        "    from mirror.cli import main\n"
        "    sys.argv = ['mirror', 'status', '--root', sys.argv[1]]\n"
        "    sys.exit(main())"
    )
    beside = subprocess.run([sys.executable, "-c", lock, mirror.root], capture_output=True, text=True, check=False)
    assert beside.returncode == 5, beside.stdout + beside.stderr
