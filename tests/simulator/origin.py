"""What a simulated index answers to a request, as a function of its content, its settings and the request.

No sockets here: the server delivers the answers, and faults change them on the way.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Literal
from urllib.parse import quote, unquote

from packaging.utils import canonicalize_name

from simulator.pages import HTML_TYPE, HTML_V1_TYPE, JSON_TYPE, render_flat, render_project, render_root
from simulator.settings import Settings
from simulator.state import IndexState, SimulatedFile, SimulatedProject

Kind = Literal["root", "page", "file", "metadata", "store", "other"]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request asks for. A ``store`` request is one to the second origin."""

    kind: Kind
    project: str | None = None
    filename: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer, before faults."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class SignedUrls:
    """The pre-signed URLs of the second origin: valid byte for byte as they were given out, until they expire."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._valid: dict[str, tuple[str, str]] = {}
        self._issued = self._answered = 0
        self._ends: dict[str, int] = {}

    def issue(self, project: str, filename: str) -> str:
        """Return a new path and query for a file; ``%2B``, ``%2F`` and ``%7E`` in it must not be re-encoded."""
        self._issued += 1
        path = f"/bucket/{project}/{quote(filename, safe='')}"
        digest = hmac.digest(b"simulator", f"{self._issued} {path}".encode(), "sha256")
        signature = quote(base64.b64encode(digest).decode(), safe="")
        signed = f"{path}?X-Amz-Credential=key%2Fauto%2Bs3%7E1&X-Amz-Expires=900&X-Amz-Signature={signature}"
        self._valid[signed] = (project, filename)
        self._ends[signed] = self._answered + self._settings.signed_links
        return signed

    def find(self, raw_path: str) -> tuple[str, str] | None:
        """Return (project, filename) for a path and query that were given out."""
        if not self._settings.exact_signatures:
            raw_path = raw_path.replace("~", "%7E")
        if self._settings.signed_links and self._ends.get(raw_path, 0) <= self._answered:
            return None
        return self._valid.get(raw_path)

    def use(self, raw_path: str) -> None:
        """Count a file that was answered, and let its URL expire where the settings say so."""
        self._answered += 1
        if self._settings.single_use_urls:
            self._valid.pop(raw_path, None)

    def expire(self) -> None:
        """Make all URLs given out so far invalid."""
        self._valid.clear()


class IndexOrigin:
    """The origin that pages name; ``base`` and ``store_base`` are scheme, host and port of the two servers."""

    def __init__(self, state: IndexState, settings: Settings, signed: SignedUrls) -> None:
        self.state, self.settings, self.signed = state, settings, signed
        self.base = self.store_base = ""
        self.frozen: dict[str, SimulatedProject] = {}

    def classify(self, raw_path: str) -> Target:
        """Return what a path asks for, whether it is there or not."""
        path = self._as_usual(raw_path.partition("?")[0]).removeprefix(self.settings.prefix)
        match [unquote(part) for part in path.split("/")]:
            case ["", "simple"] | ["", "simple", ""]:
                return Target(kind="root")
            case ["", "simple", "index.html"] if self.settings.documents:
                return Target(kind="root")
            case ["", "simple", project, "index.html"] if self.settings.documents:
                return Target(kind="page", project=canonicalize_name(project))
            case ["", "simple", project] | ["", "simple", project, ""]:
                return Target(kind="page", project=canonicalize_name(project))
            case ["", _, project, filename]:
                return self._classify_file(canonicalize_name(project), filename)
        return Target(kind="other")

    def answer(self, target: Target, raw_path: str, headers: Mapping[str, str]) -> Answer:
        """Answer a GET; ``headers`` have lower-case names."""
        is_known = self._is_allowed(headers.get("authorization"))
        refusal = self._refusal(target, is_known=is_known)
        if refusal is not None:
            return refusal
        path = self._as_usual(raw_path.partition("?")[0])
        if not path.startswith(self.settings.prefix + "/"):
            return _text(404, "not under the prefix")
        match target.kind:
            case "root" | "page":
                return self._answer_page(target, path, headers, is_known=is_known)
            case "file" | "metadata":
                return self._answer_file(target, path, headers)
        return _text(404, "nothing here")

    def link(self, project: SimulatedProject, file: SimulatedFile) -> str:
        """Return a file's URL as pages write it."""
        if file.url is not None:
            return file.url
        if self.settings.signed_links:
            return f"{self.store_base}{self.signed.issue(project.name, file.filename)}"
        path = f"{file.directory}/{project.name}/{quote(file.filename, safe='')}"
        match self.settings.links:
            case "relative":
                return f"../../{path}"
            case "root-relative":
                return f"{self.settings.prefix}/{path}"
            case "absolute":
                return f"{self.base}{self.settings.prefix}/{path}"

    def page_path(self, project: SimulatedProject) -> str:
        """Return the path of a project's page."""
        settings = self.settings
        name = project.display_name if settings.spelled else project.name
        end = "/index.html" if settings.documents else "/"
        return f"{settings.prefix}/simple/{name}{end}"

    def page_link(self, project: SimulatedProject) -> str:
        """Return the URL of a project's page as the root writes it."""
        settings = self.settings
        if settings.linked_prefix is not None:
            return f"{self.base}{settings.linked_prefix}/simple/{project.name}"
        query = "?format=html&page=1" if settings.spelled else ""
        return self.page_path(project) + query

    def _as_usual(self, path: str) -> str:
        """Return a path as it is without another name of the prefix."""
        linked = self.settings.linked_prefix
        if linked is None or not path.startswith(f"{linked}/simple/"):
            return path
        return f"{self.settings.prefix}{path.removeprefix(linked)}/"

    def _classify_file(self, project: str, filename: str) -> Target:
        known = self.state.projects.get(project)
        base = filename.removesuffix(".metadata")
        if base != filename and (known is None or filename not in known.files):
            return Target(kind="metadata", project=project, filename=base)
        return Target(kind="file", project=project, filename=filename)

    def _is_allowed(self, authorization: str | None) -> bool:
        settings = self.settings
        if not settings.wants_credential:
            return True
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            return settings.token is not None and value == settings.token
        if scheme.lower() != "basic" or settings.username is None:
            return False
        try:
            return base64.b64decode(value, validate=True).decode() == f"{settings.username}:{settings.password}"
        except (binascii.Error, UnicodeDecodeError):
            return False

    def _refusal(self, target: Target, *, is_known: bool) -> Answer | None:
        """Return the answer to who is not let in, or to what a policy stops; None where nothing is in the way."""
        settings = self.settings
        is_open = target.kind == "root" and settings.open_root
        is_for_all = settings.anonymous is not None and (target.project is None or target.project in settings.anonymous)
        if not (is_known or is_open or is_for_all):
            scheme = "Bearer" if settings.username is None else "Basic"
            return _text(401, "a credential is needed", {"WWW-Authenticate": f'{scheme} realm="simulator"'})
        if settings.allow_list is not None and target.project not in {None, *settings.allow_list}:
            return _text(401, f"{target.project} is not on the allow list", {"WWW-Authenticate": "Basic"})
        stopped = {target.project, target.filename} & set(settings.blocked)
        if stopped:
            message = f"Download of {stopped.pop()} was stopped by policy no-unscanned, ticket SEC-12"
            body = json.dumps({"errors": [{"status": 403, "message": message}]}).encode()
            return Answer(status=403, headers={"Content-Type": "application/json"}, body=body)
        return None

    def _missing(self, text: str) -> Answer:
        if not self.settings.is_bucket:
            return _text(404, text)
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            "<Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>0A1B2C3D4E5F</RequestId></Error>"
        )
        return Answer(status=403, headers={"Content-Type": "application/xml"}, body=body.encode())

    def _answer_page(self, target: Target, path: str, headers: Mapping[str, str], *, is_known: bool = True) -> Answer:
        known = self.state.projects.get(target.project or "")
        document = "index.html" if self.settings.documents and path.endswith("/index.html") else ""
        canonical = f"{self.settings.prefix}/simple/{document}"
        if target.project is not None:
            canonical = self.page_path(known) if known else f"{canonical}{target.project}/"
        if path != canonical and (self.settings.spelled or self.settings.documents):
            return _text(404, "not at this place")
        if path != canonical:
            return Answer(status=301, headers={"Location": canonical})
        content_type = _negotiate(self.settings, headers.get("accept", "*/*"))
        if content_type is None:
            return _text(406, "only JSON here")
        if target.project is None:
            only = None if is_known else self.settings.anonymous
            body = render_root(self.state, self.settings, self.page_link, content_type, only)
            if self.settings.flat:
                body = render_flat(self.state, self.settings, self.link, content_type)
            modified = self.state.modified
            serial = self.state.serial
        else:
            project = self.frozen.get(target.project) or self.state.projects.get(target.project)
            if project is None and self.settings.forward_to is not None:
                location = f"{self.settings.forward_to}{target.project}/"
                return Answer(status=302, headers={"Location": location})
            if project is None:
                return self._missing("no such project")
            body, modified = render_project(project, self.settings, self.link, content_type), project.modified
            serial = project.serial
        fields = {"Content-Type": content_type, "Cache-Control": "max-age=600, public", "Vary": "Accept"}
        if self.settings.serials:
            fields["X-PyPI-Last-Serial"] = str(serial)
        fields |= self._validators(body, format_datetime(modified, usegmt=True))
        if _is_unchanged(fields, headers):
            return Answer(status=304, headers={k: v for k, v in fields.items() if k != "Content-Type"})
        if self.settings.gzip_pages and "gzip" in headers.get("accept-encoding", ""):
            return Answer(
                status=200, headers={**fields, "Content-Encoding": "gzip"}, body=gzip.compress(body, 1, mtime=0)
            )
        return Answer(status=200, headers=fields, body=body)

    def _answer_file(self, target: Target, path: str, headers: Mapping[str, str]) -> Answer:
        project = self.state.projects.get(target.project or "")
        file = project.files.get(target.filename or "") if project else None
        directory = path.removeprefix(self.settings.prefix).split("/")[1]
        if project is None or file is None or file.directory != directory:
            return self._missing("no such file")
        if target.kind == "metadata":
            if file.metadata is None:
                return _text(404, "no metadata")
            return _answer_bytes(file.metadata, "text/plain; charset=utf-8", self.settings, headers, "etag")
        if self.settings.second_origin:
            location = self.store_base + self.signed.issue(project.name, file.filename)
            page = f'<html><body>See <a href="{location}">the file</a>.</body></html>'
            return Answer(status=302, headers={"Location": location, "Content-Type": HTML_TYPE}, body=page.encode())
        return answer_file_body(file, self.settings, headers)

    def _validators(self, body: bytes, modified: str) -> dict[str, str]:
        match self.settings.validators:
            case "etag":
                return {"ETag": _etag(body)}
            case "last-modified":
                return {"Last-Modified": modified}
            case "none":
                return {}


def answer_store(
    state: IndexState, settings: Settings, signed: SignedUrls
) -> Callable[[str, Mapping[str, str]], Answer]:
    """Return the function that answers for the second origin: (raw path, headers) to an answer."""

    def answer(raw_path: str, headers: Mapping[str, str]) -> Answer:
        if "authorization" in headers:
            return _text(400, "only one auth mechanism allowed: the query's signature, or the Authorization header")
        found = signed.find(raw_path)
        if found is None:
            return _text(403, "the signature does not match, or has expired")
        signed.use(raw_path)
        project = state.projects.get(found[0])
        file = project.files.get(found[1]) if project else None
        return _text(404, "no such key") if file is None else answer_file_body(file, settings, headers)

    return answer


def answer_file_body(file: SimulatedFile, settings: Settings, headers: Mapping[str, str]) -> Answer:
    """Answer with a file's bytes, or the part that a ``Range`` asks for."""
    answer = _answer_bytes(file.data, "application/octet-stream", settings, headers, settings.validators)
    if settings.gzip_label and file.filename.endswith(".tar.gz"):
        return Answer(status=answer.status, headers={**answer.headers, "Content-Encoding": "gzip"}, body=answer.body)
    return answer


def _answer_bytes(
    data: bytes, content_type: str, settings: Settings, headers: Mapping[str, str], validators: str
) -> Answer:
    fields = {"Content-Type": content_type}
    if validators == "etag":
        fields["ETag"] = _etag(data)
    if not settings.ranges:
        return Answer(status=200, headers=fields, body=data)
    fields["Accept-Ranges"] = "bytes"
    wanted = _RANGE.match(headers.get("range", ""))
    if wanted is None or headers.get("if-range", fields.get("ETag")) != fields.get("ETag"):
        return Answer(status=200, headers=fields, body=data)
    first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
    if first > last:
        return Answer(status=416, headers={**fields, "Content-Range": f"bytes */{len(data)}"})
    part = {**fields, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return Answer(status=206, headers=part, body=data[first : last + 1])


def _negotiate(settings: Settings, accept: str) -> str | None:
    if settings.formats == "html":
        return HTML_TYPE
    offered = [JSON_TYPE] if settings.formats == "json" else [HTML_TYPE, JSON_TYPE, HTML_V1_TYPE]
    quality = _parse_accept(accept)
    best = max(offered, key=lambda t: quality.get(t, quality.get("*/*", 0.0)))
    return best if quality.get(best, quality.get("*/*", 0.0)) > 0 else None


def _parse_accept(accept: str) -> dict[str, float]:
    quality: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights = [p[2:] for p in parameters if p.startswith("q=")]
        quality[name.lower()] = float(weights[0]) if weights else 1.0
    return quality


def _is_unchanged(fields: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    if "ETag" in fields:
        known = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
        return fields["ETag"] in known
    return "Last-Modified" in fields and headers.get("if-modified-since") == fields["Last-Modified"]


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    fields = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return Answer(status=status, headers=fields, body=f"{text}\n".encode())
