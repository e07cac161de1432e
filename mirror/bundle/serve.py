"""The far side's server with nothing installed: one file, standard library only, Python 3.9.

::

    python3 -I ROOT/serve.py [--root ROOT] [--listen HOST:PORT] [--wishes FILE]

The server reads ``ROOT/public`` for about ten people: one thread for each connection, no TLS, no
passwords. A web server does more; both serve the same addresses. The program travels in each bundle
with ``receive.py``, which puts it into the root.

Invariants: only plain files at their right places are opened, and no link is followed but
``simple`` and ``channels/<name>`` where they lead to a snapshot; a page is read whole, so it is the
old or the new one; nothing that a client sends ends in a traceback, in 403 or in 5xx; nothing is
written but the list of wishes, and that list holds names of projects alone.

Exit codes: 0 stopped by SIGTERM · 2 wrong usage, an address or a list that can't be used · 6 the
tree is not there · 130 stopped by SIGINT.
"""

# It travels to hosts with Python 3.9: nothing newer may be used, though a linter proposes it.
# ruff: noqa: S603, T201, UP007, UP041, UP045
# ruff: noqa: PTH100, PTH105, PTH108, PTH112, PTH115, PTH116, PTH118, PTH120, PTH123, PTH208

# The first statement that runs: ``sys`` is part of the interpreter and read from no file. Nothing
# else may be imported before this guard, ``__future__`` neither, since Python looks for every
# module in the script's folder first.
import sys

if __name__ == "__main__" and not sys.flags.isolated:
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[:1]
    # Only the modules of this Python: no working directory and no module of the user.
    _own = (sys.base_prefix, sys.base_exec_prefix)
    sys.path = [path for path in sys.path if path.startswith(_own)]

import argparse
import contextlib
import email.utils
import fcntl
import gzip
import hashlib
import html
import ipaddress
import json
import os
import platform
import re
import selectors
import signal
import socket
import stat
import subprocess
import sysconfig
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import quote, unquote_to_bytes

SERVE_FORMAT = 3
"""Number of this form of the program; only a higher one replaces an installed program."""

DEFAULT_LISTEN = "127.0.0.1:8080"
JSON = "application/vnd.pypi.simple.v1+json"
HTML_V1 = "application/vnd.pypi.simple.v1+html"
HTML = "text/html"
PAGE_NAMES = {HTML: "index.html", HTML_V1: "index.v1_html", JSON: "index.v1_json"}
LATEST = {
    "application/vnd.pypi.simple.latest+json": JSON,
    "application/vnd.pypi.simple.latest+html": HTML_V1,
}
METADATA_ENDING = ".metadata"

MAX_CONNECTIONS = 200
_MAX_PROOF_BYTES = 64 << 20
MAX_HEADER_BYTES = 32 * 1024
MAX_PAGE_BYTES = 1 << 30
MAX_CACHE_BYTES = 64 << 20
MAX_SHOWN = 500
MAX_WISHES = 1_000
MAX_WISH_LENGTH = 64
MAX_WISH_BYTES = 1 << 20
HEADER_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 5.0

_REQUEST_LINE = re.compile(rb"([!-~]{1,40}) ([!-~]{1,8192}) HTTP/1\.([0-9])\Z")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME = r"[a-z0-9][a-z0-9-]{0,80}"
_PLACE = re.compile(rf"/(?:(snapshots|channels)/({_NAME})/)?(simple|files)(/.*)?\Z", re.DOTALL)
_BLOB = re.compile(r"/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})/([^/]+)\Z")
_PAGE_FILE = re.compile(r"/(?:([^/]+)/)?(index\.html|index\.v1_html|index\.v1_json)\Z")
_PROJECT = re.compile(r"([^/]+)(/?)\Z")
_NORMALISED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_NAME_AS_WRITTEN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?\Z")
_TO_STATE = re.compile(rf"snapshots/({_NAME})/simple\Z")
_TO_SNAPSHOT = re.compile(rf"(?:\.\./)?snapshots/({_NAME})/?\Z")
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]*)[ \t]*-[ \t]*([0-9]*)[ \t]*\Z", re.IGNORECASE)
_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*\Z", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")

_NO_STORE = {"Cache-Control": "no-store"}
_PAGE_HEADERS = {"Cache-Control": "max-age=600", "Vary": "Accept, Accept-Encoding"}
_FILE_HEADERS = {"Cache-Control": "max-age=365000000, immutable"}
_PEOPLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PHRASES = {
    200: "OK",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Request(NamedTuple):
    """A parsed request. ``path`` is decoded; ``query`` is as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keeps_open: bool


class Answer(NamedTuple):
    """Status, headers and body of an answer.

    ``body``: bytes, or (descriptor, offset, count) of an open file, which is closed afterwards.
    """

    status: int
    headers: Mapping[str, str]
    body: Union[bytes, tuple[int, int, int]]


class Declined(Exception):
    """A request that gets no further than its answer."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = text_answer(status, sentence, named)


def text_answer(status: int, sentence: str, headers: Mapping[str, str] = {}) -> Answer:
    """Return a plain text that no cache keeps."""
    own = {"Content-Type": "text/plain; charset=utf-8", **_NO_STORE}
    return Answer(status, {**own, **headers}, f"{sentence}\n".encode())


# --- the tree -----------------------------------------------------------------------------------


class FarTree:
    """``ROOT/public``, read without following links."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.public = os.path.join(root, "public")
        self._cache: OrderedDict[tuple[int, int, int, int, str, bool], tuple[str, bytes]] = (
            OrderedDict()
        )
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def open_file(self, *parts: str) -> Optional[int]:
        """Return a descriptor of a plain file below ``public``, or None."""
        opened = []
        try:
            opened.append(os.open(self.public, os.O_RDONLY | os.O_DIRECTORY))
            for part in parts[:-1]:
                opened.append(os.open(part.encode(), _DIRECTORY, dir_fd=opened[-1]))
            descriptor = os.open(parts[-1].encode(), _PLAIN, dir_fd=opened[-1])
        except (OSError, ValueError):
            return None
        finally:
            for directory in opened:
                os.close(directory)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def state_of(self, kind: Optional[str], name: str) -> Optional[tuple[str, ...]]:
        """Return the parts of a folder of pages: the live one, a snapshot's or a channel's."""
        if kind == "snapshots":
            return ("snapshots", name, "simple")
        place = ("simple",) if kind is None else ("channels", name)
        path = os.path.join(self.public, *place)
        try:
            target = os.readlink(path)
        except OSError:
            return ("simple",) if kind is None else None
        found = (_TO_STATE if kind is None else _TO_SNAPSHOT).match(target)
        return ("snapshots", found.group(1), "simple") if found else None

    def read_page(self, parts: Sequence[str]) -> Optional[tuple[os.stat_result, bytes]]:
        """Return a whole page as it is now, after its status on the disk; or None."""
        descriptor = self.open_file(*parts)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            known = os.fstat(descriptor)
            return (known, file.read(MAX_PAGE_BYTES)) if known.st_size <= MAX_PAGE_BYTES else None

    def encoded(
        self, known: os.stat_result, data: bytes, *, form: str, zipped: bool
    ) -> tuple[str, bytes]:
        """Return ETag and bytes of a page in an encoding; both are kept, within a limit."""
        key = (known.st_dev, known.st_ino, known.st_mtime_ns, known.st_size, form, zipped)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        body = gzip.compress(data, 6, mtime=0) if zipped else data
        # As `mirror serve` computes it, so that each copy of a tree has the same tags.
        encoding = "gzip" if zipped else "identity"
        digest = hashlib.sha256(f"{form} {encoding}\n".encode() + data).hexdigest()
        found = (f'"{digest}"', body)
        with self._lock:
            if key not in self._cache and len(body) <= MAX_CACHE_BYTES:
                self._cache[key] = found
                self._cached_bytes += len(body)
            while self._cached_bytes > MAX_CACHE_BYTES:
                self._cached_bytes -= len(self._cache.popitem(last=False)[1][1])
        return found


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# --- rules of HTTP ------------------------------------------------------------------------------


def parse_request(head: bytes) -> Request:
    """Read a request line and headers. Raises ``Declined``."""
    lines = head.split(b"\r\n")
    found = _REQUEST_LINE.match(lines[0])
    if not found:
        raise Declined(400, "not a request line of HTTP/1.1", Connection="close")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise Declined(400, "a header can't be read", Connection="close")
        key, text = name.decode("latin-1").lower(), value.strip().decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    options = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    is_old = found.group(3) == b"0"
    keeps_open = not has_body and ("keep-alive" in options if is_old else "close" not in options)
    target = found.group(2).decode("ascii")
    if "://" in target.split("?", 1)[0] and not target.startswith("/"):
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    raw, _, query = target.partition("#")[0].partition("?")
    return Request(found.group(1).decode("ascii"), decode_path(raw), query, headers, keeps_open)


def decode_path(raw: str) -> str:
    """Return a path without percent signs. Raises ``Declined`` for a malformed one."""
    if not raw.startswith("/") or _BAD_PERCENT.search(raw):
        raise Declined(400, "the path can't be read")
    data = unquote_to_bytes(raw)
    if b"\0" in data:
        raise Declined(400, "the path can't be read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Declined(404, "not here") from None


def choose_form(accept: Optional[str], query: str) -> str:
    """Return the content type of a page by ``?format=``, else by ``Accept`` (PEP 691).

    Raises ``Declined`` (406).
    """
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "format":
            wanted = unquote_to_bytes(value).decode("utf-8", "replace").strip().lower()
            chosen = LATEST.get(wanted, wanted)
            if chosen in PAGE_NAMES:
                return chosen
            raise _not_acceptable()
    if accept is None or not accept.strip():
        return HTML
    ranges = dict(_accepted(accept))
    if not ranges:
        return HTML
    scored = []
    for offer in (HTML, HTML_V1, JSON):
        names = [offer, *(latest for latest, newest in LATEST.items() if newest == offer)]
        named = [ranges[name] for name in names if name in ranges]
        wide = [ranges[name] for name in (f"{offer.partition('/')[0]}/*", "*/*") if name in ranges]
        # Of equal ones a named form wins, JSON first; by an asterisk alone HTML is meant.
        if named:
            quality, rank = max(named), 1 + (HTML, HTML_V1, JSON).index(offer)
        else:
            quality, rank = (wide or [0.0])[0], 0 if offer == HTML else -1
        scored.append((quality, rank, offer))
    quality, _, best = max(scored)
    if quality <= 0:
        raise _not_acceptable()
    return best


def _not_acceptable() -> Declined:
    sentence = f"a page is here as {JSON}, {HTML_V1} or {HTML}"
    return Declined(406, sentence, Vary=_PAGE_HEADERS["Vary"])


def _accepted(accept: str) -> Iterator[tuple[str, float]]:
    """Yield media type and quality of each part that can be read."""
    for part in accept.split(","):
        words = part.split(";")
        quality = 1.0
        for word in words[1:]:
            if word.strip().lower().startswith("q"):
                found = _QUALITY.match(word)
                quality = float(found.group(1)) if found else 0.0
        if words[0].strip():
            yield words[0].strip().lower(), quality


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip."""
    found = dict(_accepted(accept_encoding))
    return found.get("gzip", found.get("x-gzip", found.get("*", 0.0))) > 0


def is_known(etag: str, request: Request, modified: Optional[float] = None) -> bool:
    """Return whether the client has the answer already: by ETag, else by date where there is
    one.
    """
    given = request.headers.get("if-none-match")
    if given is not None:
        known = [word.strip() for word in given.split(",")]
        return "*" in known or etag in known or f"W/{etag}" in known
    since = _read_date(request.headers.get("if-modified-since"))
    return modified is not None and since is not None and int(modified) <= since


def _read_date(text: Optional[str]) -> Optional[float]:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def read_range(
    request: Request, size: int, etag: str, modified: float
) -> Optional[tuple[int, int]]:
    """Return offset and count of a requested part, or None for the whole.

    Raises ``Declined`` (416).
    """
    found = _RANGE.match(request.headers.get("range", ""))
    if request.method != "GET" or not found or not (found.group(1) or found.group(2)):
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition != etag and _read_date(condition) != int(modified):
        return None
    first, last = _position(found.group(1)), _position(found.group(2))
    if not found.group(1):
        offset, end = max(0, size - last), size
    elif found.group(2) and last < first:
        return None
    else:
        offset, end = first, min(size, last + 1) if found.group(2) else size
    if offset >= end:
        raise Declined(416, "that part is past the end", Content_Range=f"bytes */{size}")
    return offset, end - offset


def _position(digits: str) -> int:
    """Return a number of bytes; one beyond any file where Python refuses numbers of that many
    digits.
    """
    bare = digits.lstrip("0")
    return int(bare or "0") if len(bare) <= 18 else 10**18


# --- answers ------------------------------------------------------------------------------------


def answer_for(tree: FarTree, request: Request) -> Answer:
    """Return the answer to a request. Raises ``Declined``."""
    if request.method not in {"GET", "HEAD"}:
        sentence = "this index takes no uploads: it is read by GET and HEAD"
        raise Declined(405, sentence, Allow="GET, HEAD", Connection="close")
    if request.path in {"/-/health/live", "/-/health/ready"}:
        return _health(tree, request.path.rpartition("/")[2])
    if request.path == "/":
        return _overview(tree, request)
    found = _PLACE.match(request.path)
    if not found:
        raise Declined(404, "not here; the index is at /simple/")
    kind, name, what, rest = found.group(1), found.group(2) or "", found.group(3), found.group(4)
    if what == "files":
        return _file(tree, rest or "", request)
    state = tree.state_of(kind, name)
    if state is None:
        raise Declined(404, "not here")
    return _page(tree, state, rest, request)


def _health(tree: FarTree, word: str) -> Answer:
    if word == "ready":
        descriptor = tree.open_file(*(tree.state_of(None, "") or ("simple",)), PAGE_NAMES[HTML])
        if descriptor is None:
            return text_answer(503, "unready")
        os.close(descriptor)
    return text_answer(200, "ready" if word == "ready" else "alive")


def _page(tree: FarTree, state: tuple[str, ...], rest: Optional[str], request: Request) -> Answer:
    """Return a page of the index, or the redirect to it."""
    if rest is None:
        _existing(tree, (*state, PAGE_NAMES[HTML]))
        return _redirect("simple/", request)
    by_name = _PAGE_FILE.match(rest)
    if by_name and (by_name.group(1) is None or _NORMALISED.match(by_name.group(1))):
        folder = (by_name.group(1),) if by_name.group(1) else ()
        form = next(form for form, name in PAGE_NAMES.items() if name == by_name.group(2))
        page = _existing(tree, (*state, *folder, by_name.group(2)))
        return _page_answer(page, form, tree, request)
    folder = ()
    if rest != "/":
        found = _PROJECT.match(rest[1:])
        if not found:
            raise Declined(404, "not here")
        project = re.sub(r"[-_.]+", "-", found.group(1)).lower()
        if not _NORMALISED.match(project):
            raise Declined(404, "not here")
        if project != found.group(1) or not found.group(2):
            _existing(tree, (*state, project, PAGE_NAMES[HTML]))
            return _redirect(f"../{project}/" if found.group(2) else f"{project}/", request)
        folder = (project,)
    form = HTML
    with contextlib.suppress(Declined):
        form = choose_form(request.headers.get("accept"), request.query)
    # A missing page is 404 in any form.
    page = _existing(tree, (*state, *folder, PAGE_NAMES[form]))
    form = choose_form(request.headers.get("accept"), request.query)
    return _page_answer(page, form, tree, request)


def _existing(tree: FarTree, parts: Sequence[str]) -> tuple[os.stat_result, bytes]:
    found = tree.read_page(parts)
    if found is None:
        raise Declined(404, "not here")
    return found


def _page_answer(
    page: tuple[os.stat_result, bytes], form: str, tree: FarTree, request: Request
) -> Answer:
    zipped = takes_gzip(request.headers.get("accept-encoding", ""))
    etag, body = tree.encoded(*page, form=form, zipped=zipped)
    headers = {**_PAGE_HEADERS, "Content-Type": form, "ETag": etag}
    if form != JSON:
        headers["Content-Security-Policy"] = "default-src 'none'; sandbox allow-downloads"
    if is_known(etag, request):
        return Answer(304, headers, b"")
    return Answer(200, {**headers, **({"Content-Encoding": "gzip"} if zipped else {})}, body)


def _redirect(location: str, request: Request) -> Answer:
    target = location + (f"?{request.query}" if request.query else "")
    return Answer(301, {"Location": target, "Content-Type": "text/plain"}, b"")


def _file(tree: FarTree, rest: str, request: Request) -> Answer:
    """Return a file or its metadata, or a part of it."""
    found = _BLOB.match(rest)
    descriptor = None
    is_place = found is not None and found.group(3).startswith(found.group(1) + found.group(2))
    if found and is_place and found.group(4) not in {".", ".."}:
        descriptor = tree.open_file("files", *found.groups())
    if found is None or descriptor is None:
        raise Declined(404, "not here")
    try:
        known = os.fstat(descriptor)
        etag = f'"{found.group(3)}"'
        if found.group(4).endswith(METADATA_ENDING):
            with os.fdopen(os.dup(descriptor), "rb") as file:
                etag = f'"{hashlib.sha256(file.read()).hexdigest()}"'
        headers = {
            **_FILE_HEADERS,
            "ETag": etag,
            "Last-Modified": email.utils.formatdate(int(known.st_mtime), usegmt=True),
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }
        if is_known(etag, request, known.st_mtime):
            os.close(descriptor)
            return Answer(304, headers, b"")
        part = read_range(request, known.st_size, etag, known.st_mtime)
    except BaseException:
        os.close(descriptor)
        raise
    if part is None:
        return Answer(200, headers, (descriptor, 0, known.st_size))
    last = part[0] + part[1] - 1
    headers["Content-Range"] = f"bytes {part[0]}-{last}/{known.st_size}"
    return Answer(206, headers, (descriptor, *part))


# --- the page for people ------------------------------------------------------------------------


def _overview(tree: FarTree, request: Request) -> Answer:
    """Return a plain page that lists the projects; ``?q=`` narrows it."""
    text = ""
    for part in request.query.split("&"):
        name, _, value = part.partition("=")
        if name == "q":
            text = unquote_to_bytes(value.replace("+", " ")).decode("utf-8", "replace").strip()
    names = _project_names(tree)
    wanted = re.sub(r"[-_. ]+", "-", text).lower()
    hits = [name for name in names if wanted in name]
    host = request.headers.get("host", "")
    index = f"http://{host}/simple/" if _HOST.match(host) else "http://HOST/simple/"
    shown = hits[:MAX_SHOWN]
    items = [f'<li><a href="simple/{quote(n)}/">{html.escape(n)}</a></li>' for n in shown]
    is_cut = len(hits) > len(shown)
    more = f"<p>The first {MAX_SHOWN} are shown; type more of the name.</p>" if is_cut else ""
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Python packages</title>',
        '<meta name="viewport" content="width=device-width">',
        '<meta name="color-scheme" content="light dark"></head><body>',
        "<main><h1>Python packages</h1>",
        *(f"<p>{html.escape(sentence)}</p>" for sentence in _what_arrived(tree)),
        f"<h2>Install</h2><p><code>pip install --index-url {html.escape(index)} PROJECT</code></p>",
        f"<p><code>uv pip install --default-index {html.escape(index)} PROJECT</code></p>",
        (
            "<p>A lock file that was made elsewhere names other addresses."
            " Rewrite it on a machine that"
        ),
        f"has the program: <code>mirror lock rewrite FILE --to {html.escape(index)}</code></p>",
        *_what_installs(tree),
        f"<h2>{len(hits)} of {len(names)} projects</h2>",
        '<form action="./"><label>Name contains',
        f'<input name="q" type="search" value="{html.escape(text)}"></label>',
        "<button>Search</button></form>",
        more,
        "<ul>",
        *items,
        "</ul></main></body></html>",
    ]
    body = "\n".join(lines).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-cache",
        "ETag": etag,
        "Content-Security-Policy": _PEOPLE_POLICY,
    }
    return Answer(304, headers, b"") if is_known(etag, request) else Answer(200, headers, body)


def _project_names(tree: FarTree) -> list[str]:
    state = tree.state_of(None, "")
    page = tree.read_page((*state, PAGE_NAMES[JSON])) if state else None
    try:
        projects = json.loads(page[1])["projects"] if page else []
        return sorted(str(project["name"]) for project in projects)
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _what_arrived(tree: FarTree) -> list[str]:
    """Return the receiver's record of the served state in words, where it can be read."""
    state = tree.state_of(None, "")
    name = state[1] if state and len(state) == 3 else ""
    try:
        with open(os.path.join(tree.root, "receive.json"), "rb") as file:
            record = json.loads(file.read(16 << 20))
        entry = next(entry for entry in record["applied"] if entry["name"] == name)
        signer = f"signed by {record['signer']}" if record["signer"] else "not signed"
        bundle = f"Bundle {entry['sequence']} for {record['site']}"
        return [f"{bundle}, made {entry['created_at']}, {signer}, applied {entry['applied_at']}."]
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return [f"Served is {name}."] if name else []


def _what_installs(tree: FarTree) -> list[str]:
    """Return the proof that came with the served state as a table, where it can be read."""
    state = tree.state_of(None, "")
    name = state[1] if state and len(state) == 3 else ""
    rows = []
    try:
        with open(os.path.join(tree.root, "states", f"{name}.proof.json"), "rb") as file:
            proof = json.loads(file.read(_MAX_PROOF_BYTES))
        for result in proof["results"]:
            about = [str(result[key]) for key in ("want", "file") if result[key] is not None]
            gaps = [
                f"{gap['requirement'] or gap['project']}: {gap['reason']}: {gap['detail']}"
                for gap in result["gaps"]
            ]
            answer = f"yes, {int(result['files'])} files" if result["installable"] else "no"
            cells = (" ".join(about), str(result["target"]), answer, "; ".join(gaps))
            rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    head = "<tr><th>Want</th><th>Target</th><th>Installs</th><th>What is missing</th></tr>"
    more = f"<p>{len(rows) - MAX_SHOWN} more are not shown.</p>" if len(rows) > MAX_SHOWN else ""
    lines = [f"<tr>{row}</tr>" for row in rows[:MAX_SHOWN]]
    return ["<h2>What installs</h2><table>", head, *lines, "</table>", more] if rows else []


# --- wishes -------------------------------------------------------------------------------------


class WishList:
    """A file of the names that clients asked for and that are not in the tree, one a line.

    Several processes may write to it. A name is added whole or not at all.
    """

    def __init__(self, path: str, tree: FarTree) -> None:
        self.path = os.path.abspath(path)
        self._tree = tree
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._is_closed = False
        self._seen: object = None

    def check(self) -> None:
        """Remove the names that are in the tree by now. Raises ``ValueError`` and ``OSError``."""
        public = os.path.realpath(self._tree.public)
        if os.path.commonpath([public, os.path.realpath(self.path)]) == public:
            raise ValueError("it lies below public/, which everybody reads; name another place")
        self._drop_those_here()

    def record(self, name: str) -> None:
        """Add a name that is not in the tree, unless it is known or there is no room."""
        root = self._page_status(PAGE_NAMES[HTML])
        if root is None or len(name) > MAX_WISH_LENGTH:
            return
        with self._lock:
            if self._seen == (self._status(), root) and (self._is_closed or name in self._known):
                return
            if self._is_here(name):
                return
            try:
                self._is_closed = not self._add(name)
                if self._is_closed and self._drop_those_here():
                    self._is_closed = not self._add(name)
            except (OSError, ValueError) as exc:
                self._is_closed = True
                _print_line(
                    f"wishes are not recorded: {self.path}: {getattr(exc, 'strerror', None) or exc}"
                )
            self._seen = (self._status(), root)

    def _add(self, name: str) -> bool:
        """Add a name; return whether it is in the list."""
        with self._opened() as file:
            there = self._read(file)
            size = os.fstat(file).st_size
            if name not in there and len(there) < MAX_WISHES:
                is_open_line = size > 0 and os.pread(file, 1, size - 1) not in (b"\n", b"\r")
                line = f"\n{name}\n" if is_open_line else f"{name}\n"
                if os.pwrite(file, line.encode(), size) < len(line):
                    os.ftruncate(file, size)
                    raise OSError("the disk is full")
                there.append(name)
            self._known = frozenset(there)
            return name in self._known

    def _drop_those_here(self) -> bool:
        """Remove the names that are in the tree by now; return whether there were any."""
        with self._opened() as file:
            there = self._read(file)
            kept = [name for name in there if not self._is_here(name)]
            if len(kept) < len(there):
                self._replace("".join(f"{name}\n" for name in kept).encode())
            return len(kept) < len(there)

    def _replace(self, data: bytes) -> None:
        new = f"{self.path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(data)
        os.replace(new, self.path)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield a descriptor of the file, which no other process changes meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        while True:
            file = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Another process may have replaced the file before this one had the lock.
                if os.fstat(file).st_nlink:
                    yield file
                    return
            finally:
                os.close(file)

    def _read(self, file: int) -> list[str]:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError("expected a plain file")
        names = os.pread(file, MAX_WISH_BYTES, 0).decode("utf-8", "replace").split()
        if len(names) > MAX_WISHES or not all(map(_NORMALISED.match, names)):
            raise ValueError("it is no list of wishes; delete it, or name another file")
        return names

    def _is_here(self, name: str) -> bool:
        return self._page_status(name, PAGE_NAMES[HTML]) is not None

    def _page_status(self, *parts: str) -> object:
        state = self._tree.state_of(None, "") or ("simple",)
        descriptor = self._tree.open_file(*state, *parts)
        if descriptor is None:
            return None
        try:
            return _signature(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _status(self) -> object:
        try:
            return _signature(os.stat(self.path))
        except OSError:
            return None


def _signature(known: os.stat_result) -> tuple[int, int, int, int]:
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns


def asked_name(request: Request) -> Optional[str]:
    """Return the normalised name of the project whose page a request asked for."""
    found = _PLACE.match(request.path)
    if not found or found.group(3) != "simple" or request.method not in {"GET", "HEAD"}:
        return None
    rest = found.group(4) or "/"
    place = _PAGE_FILE.match(rest) or _PROJECT.match(rest[1:])
    asked = place.group(1) if place else None
    if asked is None or not _NAME_AS_WRITTEN.match(asked):
        return None
    return re.sub(r"[-_.]+", "-", asked).lower()


# --- connections --------------------------------------------------------------------------------


class FarServer:
    """Listens until ``stop``; one thread for each connection."""

    def __init__(
        self, tree: FarTree, listening: socket.socket, wishes: Optional[WishList] = None
    ) -> None:
        self.tree, self._wishes = tree, wishes
        self._listening = listening
        self._condition = threading.Condition()
        self._connections = 0
        self._busy = 0
        self._stopping = False
        self._wake, self.waker = os.pipe()
        os.set_blocking(self.waker, False)

    def stop(self) -> None:
        """Take no further connection; called from a signal handler."""
        self._stopping = True
        os.write(self.waker, b".")

    def run(self) -> None:
        """Serve until ``stop``; then requests under way have a few seconds."""
        self._listening.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._stopping:
                selector.select()
                self._accept()
        self._listening.close()
        with self._condition:
            self._condition.wait_for(lambda: self._busy == 0, STOP_TIMEOUT_S)

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(0.05)  # too many open files: some will be closed
            return
        with self._condition:
            self._connections += 1
            is_full = self._connections > MAX_CONNECTIONS
            is_flood = self._connections > 2 * MAX_CONNECTIONS
            if is_flood:
                self._connections -= 1
        if is_flood:
            connection.close()
            return
        words = {"client": str(address[0]), "is_full": is_full}
        thread = threading.Thread(target=self._converse, args=(connection,), kwargs=words)
        thread.daemon = True
        thread.start()

    def _converse(self, connection: socket.socket, *, client: str, is_full: bool) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                buffer = bytearray()
                while self._one(connection, client, buffer, is_full=is_full):
                    pass
                _drain(connection)
        finally:
            with self._condition:
                self._connections -= 1

    def _one(
        self, connection: socket.socket, client: str, buffer: bytearray, *, is_full: bool
    ) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            head = _read_head(connection, buffer)
        except Declined as exc:
            _reply(connection, client, None, exc.answer, keeps_open=False)
            return False
        if head is None:
            return False
        self._count_busy(1)
        try:
            request, answer = self._answer(head, client, is_full=is_full)
            is_last = self._stopping or request is None or "Connection" in answer.headers
            keeps_open = request is not None and request.keeps_open and not is_last
            _reply(connection, client, request, answer, keeps_open=keeps_open)
            return keeps_open
        finally:
            self._count_busy(-1)

    def _answer(
        self, head: bytes, client: str, *, is_full: bool
    ) -> tuple[Optional[Request], Answer]:
        request = None
        try:
            request = parse_request(head)
            if is_full:
                sentence = "too many connections: try again"
                raise Declined(429, sentence, Retry_After="1", Connection="close")
            return request, answer_for(self.tree, request)
        except Declined as exc:
            if self._wishes is not None and request is not None and exc.answer.status == 404:
                name = asked_name(request)
                if name is not None:
                    self._wishes.record(name)
            return request, exc.answer
        except OSError as exc:
            _log(f"{client} {exc}")
            return request, text_answer(404, "not here")

    def _count_busy(self, change: int) -> None:
        with self._condition:
            self._busy += change
            self._condition.notify_all()


def _reply(
    connection: socket.socket,
    client: str,
    request: Optional[Request],
    answer: Answer,
    *,
    keeps_open: bool,
) -> None:
    is_head = request is not None and request.method == "HEAD"
    sent = 0
    try:
        sent = _send(connection, answer, is_head=is_head, keeps_open=keeps_open)
    finally:
        shown = f"{request.method} {quote(request.path)}" if request else "-"
        _log(f"{client} {shown} {answer.status} {sent}")


def _read_head(connection: socket.socket, buffer: bytearray) -> Optional[bytes]:
    """Return the next request's head, or None at the end. Raises ``Declined``."""
    deadline = time.monotonic() + (HEADER_TIMEOUT_S if buffer else IDLE_TIMEOUT_S)
    while True:
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(buffer) > MAX_HEADER_BYTES):
            raise Declined(431, "the header is too large", Connection="close")
        if end >= 0:
            head = bytes(buffer[:end])
            del buffer[: end + 4]
            return head
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(65_536)
        except socket.timeout:
            if not buffer:
                return None
            raise Declined(408, "the header did not come in time", Connection="close") from None
        if not data:
            return None
        if not buffer:
            deadline = time.monotonic() + HEADER_TIMEOUT_S
        buffer += data


def _send(connection: socket.socket, answer: Answer, *, is_head: bool, keeps_open: bool) -> int:
    """Send an answer and return how many bytes of its body went; closes its file."""
    body = answer.body
    size = len(body) if isinstance(body, bytes) else body[2]
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}"]
    now = email.utils.formatdate(usegmt=True)
    headers = {"Date": now, "X-Content-Type-Options": "nosniff", **answer.headers}
    if answer.status != 304:
        headers["Content-Length"] = str(size)
    if not keeps_open:
        headers["Connection"] = "close"
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.settimeout(STALL_TIMEOUT_S)
    try:
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        is_small = isinstance(body, bytes) and not is_head
        _send_all(connection, head + body if is_small and isinstance(body, bytes) else head)
        if isinstance(body, bytes) or is_head:
            return 0 if is_head else size
        with os.fdopen(os.dup(body[0]), "rb") as file:
            sent = connection.sendfile(file, body[1], body[2]) if body[2] else 0
        if sent != size:
            raise OSError("the file became shorter")
        return sent
    finally:
        if not isinstance(body, bytes):
            os.close(body[0])


def _send_all(connection: socket.socket, data: bytes) -> None:
    """Send bytes; only a client that takes none of them for a while is given up."""
    view = memoryview(data)
    while view:
        view = view[connection.send(view[: 1 << 18]) :]


def _drain(connection: socket.socket) -> None:
    """Let the client read its answer before the connection goes, though it still sends."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            if not connection.recv(65_536):
                return


def _log(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")
        sys.stderr.flush()


# --- the command line ---------------------------------------------------------------------------


def machine_target() -> str:
    """Return the ``[[target]]`` table of this machine.

    Raises ``ValueError`` where a mirror has no such target.
    """
    python = platform.python_implementation()
    if python != "CPython":
        raise ValueError(f"{python} is not CPython: a mirror has no targets for it")
    name = platform.system()
    system = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}.get(name, "")
    machine = _machine(system)
    known = {
        "linux": ("x86_64", "aarch64", "riscv64"),
        "macos": ("x86_64", "arm64"),
        "windows": ("x86_64", "x86", "arm64"),
    }
    if machine not in known.get(system, ()):
        raise ValueError(f"{name} on {machine} is not known: a mirror has no targets for it")
    suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    release = ".".join(str(part) for part in sys.version_info[:3])
    lines = [
        "[[target]]",
        f'name = "{system}-{machine.replace("_", "-")}"',
        f'python = ["{release}{suffix}"]',
        f'platforms = ["{system}-{machine}"]',
    ]
    if system == "linux":
        lines.append(_libc_line())
    elif system == "macos":
        macos = ".".join(platform.mac_ver()[0].split(".")[:2])
        lines.append(f'macos = "{macos}"')
    return "\n".join(lines) + "\n"


def _machine(system: str) -> str:
    """Return the machine of this Python, which may have 32 bits on a machine of 64."""
    found = platform.machine().lower()
    found = {"amd64": "x86_64", "i386": "x86", "i686": "x86"}.get(found, found)
    if sys.maxsize < 2**32:
        return "x86" if found in {"x86", "x86_64"} else f"{found} with 32 bits"
    return "arm64" if system == "windows" and found == "aarch64" else found


def _libc_line() -> str:
    """Return the key of this machine's C library: glibc, or musl, whose loader prints its
    version.
    """
    with contextlib.suppress(ValueError, OSError):
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
        if found := re.match(r"glibc (\d+\.\d+)", version):
            return f'glibc = "{found[1]}"'
    loaders = [name for name in sorted(os.listdir("/lib")) if name.startswith("ld-musl-")]
    for loader in loaders:
        command = [f"/lib/{loader}"]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if found := re.search(r"Version (\d+\.\d+)", ran.stderr.decode("utf-8", "replace")):
            return f'musl = "{found[1]}"'
    raise ValueError("neither glibc nor musl is found here: write the table by hand")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return the exit code."""
    own = os.path.dirname(os.path.abspath(__file__))
    about = "Serve a received tree to about ten people."
    parser = argparse.ArgumentParser(prog="serve.py", description=about)
    add = parser.add_argument
    add("--root", default=own, help="the far tree (default: where this program lies)")
    add("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="default: %(default)s")
    add("--wishes", metavar="FILE", help="keep the names that were asked for and are not here")
    add("--target", action="store_true", help="print the [[target]] table of this machine")
    arguments = parser.parse_args(argv)
    if arguments.target:
        return _print_target()
    if os.path.lexists(os.path.join(own, "bundle.json")):
        sentence = "run ROOT/serve.py, which receive.py checked and installed"
        return _fail(2, f"this copy of serve.py lies in a bundle: {sentence}")
    tree = FarTree(os.path.abspath(arguments.root))
    if not os.path.isdir(tree.public):
        advice = "receive a bundle first, or name another root by --root"
        return _fail(6, f"{tree.public} is not there: {advice}")
    wishes = WishList(arguments.wishes, tree) if arguments.wishes is not None else None
    if wishes is not None:
        try:
            wishes.check()
        except (OSError, ValueError) as exc:
            return _fail(2, f"--wishes: {wishes.path}: {getattr(exc, 'strerror', None) or exc}")
    try:
        listening = open_socket(arguments.listen)
    except ValueError as exc:
        return _fail(2, f"--listen: {exc}")
    except OSError as exc:
        reason = exc.strerror or exc
        return _fail(2, f"{arguments.listen}: {reason}; choose another address by --listen")
    return _serve(tree, listening, wishes)


def _print_target() -> int:
    try:
        print(machine_target(), end="")
    except ValueError as exc:
        return _fail(2, str(exc))
    return 0


def _serve(tree: FarTree, listening: socket.socket, wishes: Optional[WishList]) -> int:
    server = FarServer(tree, listening, wishes)
    ended: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        ended.append(0 if number == signal.SIGTERM else 130)
        server.stop()

    # A signal that another thread gets, or that comes just before the wait, interrupts no wait.
    signal.set_wakeup_fd(server.waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {tree.public} at http://{shown}:{port}/", flush=True)
    _print_line("for about ten people: put nginx or another web server in front of many")
    if wishes is not None:
        leaves = "read the list before it is carried out of this network"
        _print_line(f"names that are not here are kept in {wishes.path}, without clients; {leaves}")
    if not _is_loopback(host):
        what = f"whoever reaches {shown}:{port} reads everything, and can be sent something else"
        _print_line(f"no TLS and no passwords: {what}")
    server.run()
    return ended[0] if ended else 0


def open_socket(listen: str) -> socket.socket:
    """Return a listening socket for HOST:PORT. Raises ``ValueError`` and ``OSError``."""
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not colon
        or not bare
        or not port.isascii()
        or not port.isdigit()
        or int(port) > 65_535
        or (":" in bare and bare == host)
    ):
        raise ValueError('expected HOST:PORT such as "127.0.0.1:8080" or "[::1]:8080"')
    family, kind, protocol, _, address = socket.getaddrinfo(
        bare, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _print_line(sentence: str) -> None:
    print(f"serve: {sentence}", file=sys.stderr, flush=True)


def _fail(code: int, sentence: str) -> int:
    _print_line(sentence)
    return code


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
