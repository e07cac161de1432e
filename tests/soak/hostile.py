"""Answers of one index that are made to fill memory: tried through the real program, beside an index that is honest.

Each case is a root page and a page of every project, most of them gzip of few kilobytes. ``mirror sync --once`` must stay
below 2 GiB in its largest process, end with the exit code that is expected, and have the other index's project.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path

from harness.program import clean_environment, published
from simulator import build_wheel

LIMIT_BYTES = 2 << 30
_HTML = "text/html"
_JSON = "application/vnd.pypi.simple.v1+json"
_WHEEL_NAME, _WHEEL = build_wheel("good", "1.0")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A body in gzip."""

    body: bytes
    content_type: str = _JSON


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """What one index answers."""

    root: Answer
    page: Answer | None = None
    """Of each project; None: the index asks to be left alone."""
    codes: frozenset[int]
    """The exit codes of a program that holds."""
    reason: str
    """Of all failures but those of the files, which are not there."""
    has_other: bool = True
    """Whether the project of the other index must be there: not where nobody knows what the first one owns."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a case."""

    peak_bytes: int
    cpu_s: float
    problem: str
    """Empty where the program held."""


def gzipped(before: str, items: Iterable[str], after: str, *, content_type: str = _JSON) -> Answer:
    """Return gzip of a page, without ever holding the page."""
    coder = zlib.compressobj(6, zlib.DEFLATED, 31)
    pieces = [coder.compress(before.encode())]
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == 5000:
            pieces.append(coder.compress("".join(batch).encode()))
            batch.clear()
    pieces.append(coder.compress(("".join(batch) + after).encode()))
    return Answer(body=b"".join([*pieces, coder.flush()]), content_type=content_type)


def json_root(items: Iterable[str]) -> Answer:
    return gzipped('{"meta":{"api-version":"1.0"},"projects":[', items, '{"name":"p0"}]}')


def json_page(items: Iterable[str], after: str = "") -> Answer:
    return gzipped(f'{{"meta":{{"api-version":"1.0"}}{after},"files":[', items, '{"filename":"x","url":"x"}]}')


def html(items: Iterable[str]) -> Answer:
    return gzipped("<!DOCTYPE html><html><body>", items, "</body></html>", content_type=_HTML)


def names(count: int) -> Iterator[str]:
    return (f"project-{number:x}-of-some-length" for number in range(count))


def projects(count: int) -> Answer:
    return json_root(f'{{"name":"p{number}"}},' for number in range(count))


def listed_files(count: int) -> Iterator[str]:
    """Yield files as PyPI lists them."""
    for number in range(count):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        name = f"p0-1.{number}.5-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
        file = {
            "core-metadata": {"sha256": digest},
            "data-dist-info-metadata": {"sha256": digest},
            "filename": name,
            "hashes": {"sha256": digest},
            "provenance": None,
            "requires-python": ">=3.8",
            "size": 123456,
            "upload-time": "2026-01-01T00:00:00.000000Z",
            "url": f"https://files.invalid/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}",
            "yanked": True,
        }
        yield json.dumps(file) + ","


_METADATA = b"Metadata-Version: 2.1\n" + b"x" * ((16 << 20) - 100)


def described_files(count: int) -> Iterator[str]:
    """Yield small files with large metadata of their own."""
    metadata = hashlib.sha256(_METADATA).hexdigest()
    for project in range(4):
        for number in range(count):
            name = f"p{project}-{number}.tar.gz"
            digest = hashlib.sha256(name.encode()).hexdigest()
            yield (
                f'{{"filename":"{name}","url":"/described/{name}","hashes":{{"sha256":"{digest}"}},'
                f'"core-metadata":{{"sha256":"{metadata}"}}}},'
            )


_REFUSED = {"codes": frozenset({4}), "reason": "too-large", "has_other": False}
_ROOT_IS_READ = {"codes": frozenset({4}), "reason": "unreachable"}
_HOST_FAILS = {"codes": frozenset({4}), "reason": ""}
"""The page is read; the host of its files is not there."""
_FILES_FAIL = {"codes": frozenset({5}), "reason": ""}
_PAGES_FAIL = {"codes": frozenset({4, 5}), "reason": ""}
_ROOT_FAILS = {"codes": frozenset({0, 4, 5}), "reason": "", "has_other": False}
_METADATA_COMES = {"codes": frozenset({0, 5}), "reason": ""}
_MANY = 2_000_000

HOSTILE: dict[str, Callable[[], Hostile]] = {
    "root of 2,000,000 names, JSON with serials": lambda: Hostile(
        root=json_root(f'{{"_last-serial":{10_000_000 + n},"name":"{x}"}},' for n, x in enumerate(names(_MANY))),
        **_ROOT_IS_READ,
    ),
    "root of 2,000,000 names, JSON": lambda: Hostile(
        root=json_root(f'{{"name":"{x}"}},' for x in names(_MANY)), **_ROOT_IS_READ
    ),
    "root of 2,000,000 names, HTML": lambda: Hostile(
        root=html(f'<a href="/simple/{x}/">{x}</a>\n' for x in names(_MANY)), **_ROOT_IS_READ
    ),
    "root of 3,000,000 names with addresses, HTML": lambda: Hostile(
        root=html(f'<a href="{n:x}/index.html">{n:x}</a>' for n in range(3_000_000)), **_ROOT_IS_READ
    ),
    "root of deep values, JSON": lambda: Hostile(
        root=json_root(repeat(f'{{"name":"a","x":{"[" * 500}{"]" * 500}}},', 400_000)), **_ROOT_FAILS
    ),
    "root of one deep value, JSON": lambda: Hostile(
        root=json_root([f'{{"name":"a","x":{"[" * 5_000_000}{"]" * 5_000_000}}},']), **_ROOT_FAILS
    ),
    "root of deep elements, HTML": lambda: Hostile(root=html(repeat("<div><b>", 5_000_000)), **_ROOT_FAILS),
    "16 pages of 500,000 small files": lambda: Hostile(
        root=projects(16), page=json_page(repeat('{"filename":"q-1.zip","url":"q-1.zip"},', 500_000)), **_PAGES_FAIL
    ),
    "16 pages of deep lists": lambda: Hostile(
        root=projects(16), page=json_page([f'{{"x":[{"[[[[[],[],[]]]]]," * 3_000_000}[]]}},']), **_PAGES_FAIL
    ),
    "16 pages of deep elements, HTML": lambda: Hostile(
        root=projects(16), page=html(repeat("<div><b>", 2_000_000)), **_PAGES_FAIL
    ),
    "16 pages of 90 MB in one text": lambda: Hostile(
        root=projects(16),
        page=json_page([f'{{"filename":"p0-1.zip","url":"a","x":"{"a" * 90_000_000}"}},']),
        **_PAGES_FAIL,
    ),
    "40 pages of 100,000 files": lambda: Hostile(
        root=projects(40), page=json_page(listed_files(100_000)), **_PAGES_FAIL
    ),
    "520 pages of 10,000 small files, in worker processes": lambda: Hostile(
        root=projects(520),
        page=json_page(f'{{"filename":"q{n}-1.zip","url":"q-1.zip"}},' for n in range(10_000)),
        **_PAGES_FAIL,
    ),
    "64 files with 16 MiB of metadata each": lambda: Hostile(
        root=projects(4), page=json_page(described_files(64)), **_METADATA_COMES
    ),
    "root of 4,999,999 names, JSON": lambda: Hostile(
        root=json_root(f'{{"name":"{n:x}"}},' for n in range(1, 4_999_999)), **_ROOT_IS_READ
    ),
    "root of one name, repeated": lambda: Hostile(root=json_root(repeat('{"name":"a"},', 8_000_000)), **_REFUSED),
    "page of 100,000 files, JSON": lambda: Hostile(
        root=projects(1), page=json_page(listed_files(100_000)), **_HOST_FAILS
    ),
    "40 pages of unknown keys and an expiring link": lambda: Hostile(
        root=projects(40),
        page=json_page([f'{{"filename":"x.exe","url":"x.exe?a=b","x":"{"a" * 90_000_000}"}},']),
        **_FILES_FAIL,
    ),
    "40 pages of one unknown key": lambda: Hostile(
        root=projects(40), page=json_page([], f',"x":"{"a" * 90_000_000}"'), **_FILES_FAIL
    ),
    "300 pages of 9,999 refused files": lambda: Hostile(
        root=projects(300),
        page=json_page(f'{{"filename":"x-{n}.zip","url":"//{"a" * 300}"}},' for n in range(9_999)),
        **_FILES_FAIL,
    ),
}


def try_case(case: Hostile, work: Path) -> Tried:
    """Mirror a hostile index and an honest one into ``work``; return what it took, and what did not hold."""
    with serving(case) as port:
        home = work / "home"
        home.mkdir(parents=True)
        config = work / "mirror.toml"
        indexes = "".join(
            f'[[index]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}/{path}/"\nauth = {{ kind = "none" }}\n'
            for name, path in (("hostile", "simple"), ("honest", "honest"))
        )
        config.write_text(f'[mirror]\nroot = "{work / "mirror"}"\n{indexes}')
        command = [sys.executable, "-m", "mirror", "sync", "--once", "--json", "--config", str(config)]
        with (work / "out").open("wb") as out, (work / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=out, stderr=log, env=clean_environment(home), cwd=work)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    peak_bytes = used.ru_maxrss * 1024
    problem = _problem(case, work, process.returncode, peak_bytes)
    return Tried(peak_bytes=peak_bytes, cpu_s=used.ru_utime + used.ru_stime, problem=problem)


def _problem(case: Hostile, work: Path, code: int, peak_bytes: int) -> str:
    if peak_bytes > LIMIT_BYTES:
        return f"{peak_bytes} bytes in the largest process"
    if code not in case.codes:
        return f"exit code {code}: {(work / 'log').read_text()[-500:]}"
    reasons = {failure["reason"] for failure in json.loads((work / "out").read_text())["failures"]}
    if case.reason and reasons != {case.reason}:
        return f"failed as {reasons}"
    if case.has_other and "good" not in published(work / "mirror"):
        return "the other index's project is not there"
    return ""


@contextmanager
def serving(case: Hostile) -> Iterator[int]:
    """Serve a case and an honest index on loopback; yield the port."""
    digest = hashlib.sha256(_WHEEL).hexdigest()
    honest = {
        "/honest/": Answer(body=_zipped(b'{"meta":{"api-version":"1.0"},"projects":[{"name":"good"}]}')),
        "/honest/good/": Answer(
            body=_zipped(
                f'{{"meta":{{"api-version":"1.0"}},"files":[{{"filename":"{_WHEEL_NAME}","url":"/{_WHEEL_NAME}",'
                f'"hashes":{{"sha256":"{digest}"}}}}]}}'.encode()
            )
        ),
        f"/{_WHEEL_NAME}": Answer(body=_zipped(_WHEEL), content_type="application/octet-stream"),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer one request."""
            answer = honest.get(self.path) or (case.root if self.path == "/simple/" else None)
            is_page = self.path.startswith("/simple/") and self.path.count("/") == 3 and self.path.endswith("/")
            if answer is None and is_page:
                answer = case.page
            if self.path.startswith("/described/"):
                name = self.path.rpartition("/")[2]
                self._send(_METADATA if name.endswith(".metadata") else name.encode())
                return
            if answer is None:
                self.send_response(404 if not is_page else 503)
                if is_page:
                    self.send_header("Retry-After", "3600")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            is_file = answer.content_type == "application/octet-stream"
            body = zlib.decompress(answer.body, 31) if is_file else answer.body
            self.send_response(200)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            if not is_file:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Print nothing: a program that has read enough closes its connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _zipped(body: bytes) -> bytes:
    coder = zlib.compressobj(6, zlib.DEFLATED, 31)
    return coder.compress(body) + coder.flush()
