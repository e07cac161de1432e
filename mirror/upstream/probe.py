"""A few named questions to an index about its undocumented behaviour, and the consequences of each
answer for a mirror.

Asks politely: a root page and one project's page, each a few times, and one byte of one file. Only
for names that the index lists, since asking for others may start a build; never for a file that
``skip-url-patterns`` leaves out.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mirror.config import IndexConfig, Limits
from mirror.core.files.origins import page_origins
from mirror.core.model import ListedFile, ProjectPage, RootPage
from mirror.core.names import ProjectName, normalize_project, strongest_digest
from mirror.core.pages import parse_html, parse_json
from mirror.core.pages.flat import ANY, group_files
from mirror.core.pages.root_links import resolve_address
from mirror.core.policy import Selection
from mirror.errors import BadPage, MirrorError, Unavailable, shown_text
from mirror.logs import redact
from mirror.upstream.exchange import RequestKind
from mirror.upstream.index import ACCEPT, ROOT_EXTRA_S, is_json
from mirror.upstream.limits.rate import Budget
from mirror.upstream.pages import Body, PageLimit, read_page
from mirror.upstream.response import media_type
from mirror.upstream.session import IndexSession

HTML_ONLY = "application/vnd.pypi.simple.v1+html, text/html;q=0.5"

_BUDGET_S = 60.0
_VERSION = re.compile(
    rb'"api-version"\s*:\s*"([0-9.]{1,9})"|repository-version"\s+content="([0-9.]{1,9})"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFinding:
    """One question, its answer, and the meaning of the answer for the mirror."""

    name: str
    question: str
    answer: str
    meaning: str

    def as_json(self) -> dict[str, str]:
        """Return the object of the report."""
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(slots=True, kw_only=True)
class Probe:
    """The findings about one index."""

    index: str
    findings: list[ProbeFinding] = field(default_factory=list)
    error: MirrorError | None = None
    """The error that ended the questions early."""

    def as_json(self) -> dict[str, Any]:
        """Return the object of the report."""
        error = redact(str(self.error)) if self.error is not None else None
        return {
            "index": self.index,
            "findings": [f.as_json() for f in self.findings],
            "error": error,
        }

    def add(self, name: str, question: str, answer: str, meaning: str) -> None:
        """Add a finding; an index's text is untrusted."""
        self.findings.append(
            ProbeFinding(
                name=name, question=question, answer=shown_text(redact(answer)), meaning=meaning
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """One answer with its body read."""

    status: int
    headers: Mapping[str, str]
    content: Body
    url: str
    seconds: float

    @property
    def content_type(self) -> str:
        return media_type(self.headers)[0]


async def probe(
    session: IndexSession, config: IndexConfig, limits: Limits, selection: Selection
) -> Probe:
    """Ask an index every question.

    The first unanswered one ends the probe; earlier findings are in the result.
    """
    found = Probe(index=config.name)
    try:
        await session.prepare()
        _describe_credential(found, session)
        project = await _ask_root(found, session, config, limits, selection)
        if project is not None:
            await _ask_project(found, session, *project, limits, selection)
    except MirrorError as exc:
        found.error = exc
    return found


def _describe_credential(found: Probe, session: IndexSession) -> None:
    kept = session.credentials.kept
    if kept is None:
        answer, meaning = "none", "it is asked without a credential"
    elif kept.expires_at is None:
        answer, meaning = f"from {kept.source}", "its end is not known: watch for exit code 3"
    else:
        days = (kept.expires_at - time.time()) / 86_400
        answer = (
            f"from {kept.source}, ends in {days:.1f} days"
            if days > 0
            else f"from {kept.source}, EXPIRED"
        )
        meaning = "`mirror status` and the daemon warn 14, 7, 3 and 1 days before"
    found.add("credential", "Which credential is sent?", answer, meaning)


async def _ask_root(
    found: Probe, session: IndexSession, config: IndexConfig, limits: Limits, selection: Selection
) -> tuple[ProjectName, str] | None:
    """Ask about the root page; return a project to go on with and the URL of its page."""
    if config.list == "config":
        found.add(
            "root",
            "Is there a root page?",
            "not asked",
            'list = "config" names the projects itself',
        )
        project = normalize_project(config.projects[0])
        return project, resolve_address(config.url, project, None)
    limit = PageLimit(limit_bytes=limits.root_page_size, setting="limits.root-page-size")
    answer = await _get(session, config.url, RequestKind.ROOT, ACCEPT, limit)
    if config.format == "flat":
        await _describe_flat(found, session, config, answer, limit, selection)
        return None
    from_html = partial(
        parse_html.parse_root_page,
        index_url=config.url,
        origins=page_origins(config.url, config.page_hosts),
    )
    page = _parse(answer, parse_json.parse_root_page, from_html)
    count, size = len(page.projects), len(answer.content)
    found.add(
        "root",
        "Is there a root page, how large, how fast?",
        f"{count:,} projects, {size:,} bytes in {answer.seconds:.1f} s",
        "read once for each cycle unless it is unchanged",
    )
    await _ask_formats(found, "root-formats", session, config.url, RequestKind.ROOT, answer, limit)
    await _ask_validators(
        found, "root-validators", session, config.url, RequestKind.ROOT, answer, limit
    )
    with_serial = sum(serial is not None for serial in page.projects.values())
    found.add(
        "serials",
        "Does the root carry serials?",
        f"of the whole: {'no' if page.serial is None else page.serial};"
        f" for {with_serial:,} of {count:,} projects",
        "a cycle in which nothing changed is one request"
        if with_serial and with_serial == count
        else "each project's page is asked for in each cycle (conditionally,"
        " where it has validators)",
    )
    _describe_addresses(found, page)
    wanted = [name for name in page.projects if selection.wants_project(name)]
    if not wanted:
        found.add(
            "project",
            "Which project is looked at?",
            "none",
            "the root lists nothing that is wanted",
        )
        return None
    project = min(wanted)
    return project, resolve_address(config.url, project, page.addresses.get(project))


async def _describe_flat(
    found: Probe,
    session: IndexSession,
    config: IndexConfig,
    answer: _Answer,
    limit: PageLimit,
    selection: Selection,
) -> None:
    """Add the findings about a flat page, and request one byte of one of its files."""
    page = _parse(
        answer,
        partial(parse_json.parse_project_page, project=None),
        partial(parse_html.parse_project_page, project=ANY),
    )
    flat = group_files(page)
    count, size = len(flat.projects), len(answer.content)
    found.add(
        "root",
        "What does the flat page list, how large, how fast?",
        f"{len(page.files):,} files of {count:,} projects,"
        f" {size:,} bytes in {answer.seconds:.1f} s",
        "one page is the root and all projects, read once for each cycle unless it is unchanged",
    )
    names = ", ".join(flat.root.unread_names[:3])
    found.add(
        "names",
        "Do all file names tell their projects?",
        f"no, {flat.root.unread:,} do not, such as {names}" if names else "yes",
        "a file whose name packaging can't read is left out" if names else "all can be mirrored",
    )
    await _ask_formats(found, "root-formats", session, config.url, RequestKind.ROOT, answer, limit)
    await _ask_validators(
        found, "root-validators", session, config.url, RequestKind.ROOT, answer, limit
    )
    _describe_page(found, page)
    files = [
        file
        for name, part in flat.projects.items()
        if selection.wants_project(name)
        for file in selection.select(part, {}).files.values()
    ]
    if files:
        await _ask_file(found, session, min(files, key=lambda f: f.size or 1 << 62))


def _describe_addresses(found: Probe, page: RootPage) -> None:
    odd = page.addresses
    answer = f"all {len(page.projects):,} at NAME/ below the url"
    if odd:
        answer = f"{len(odd):,} of {len(page.projects):,} elsewhere, such as {min(odd.values())}"
    meaning = "each page is asked for where the root's link leads"
    found.add("addresses", "Where are the projects' pages?", answer, meaning)
    if page.warnings:
        meaning = "the log reports it when the root changes"
        found.add("root-doubts", "What is odd in the root?", "; ".join(page.warnings), meaning)


async def _ask_project(
    found: Probe,
    session: IndexSession,
    project: ProjectName,
    url: str,
    limits: Limits,
    selection: Selection,
) -> None:
    limit = PageLimit(limit_bytes=limits.page_size, setting="limits.page-size")
    answer = await _get(session, url, RequestKind.PAGE, ACCEPT, limit)

    def from_json(content: Body, *, url: str) -> ProjectPage:
        return parse_json.parse_project_page(
            content, project=project, url=url, max_files=limits.files_per_project
        )

    def from_html(content: Body, *, url: str, charset: str | None) -> ProjectPage:
        return parse_html.parse_project_page(
            content, project=project, url=url, charset=charset, max_files=limits.files_per_project
        )

    page = _parse(answer, from_json, from_html)
    found.add(
        "project",
        "Which project is looked at?",
        f"{project}: {len(page.files)} files",
        "an example, not a census",
    )
    await _ask_formats(found, "page-formats", session, url, RequestKind.PAGE, answer, limit)
    await _ask_validators(found, "page-validators", session, url, RequestKind.PAGE, answer, limit)
    _describe_page(found, page)
    files = list(selection.select(page, {}).files.values())
    if files:
        await _ask_file(found, session, min(files, key=lambda f: f.size or 1 << 62))
    else:
        found.add(
            "file", "How are files delivered?", "not asked", "the page lists no file that is wanted"
        )


async def _ask_formats(
    found: Probe,
    name: str,
    session: IndexSession,
    url: str,
    kind: RequestKind,
    preferred: _Answer,
    limit: PageLimit,
) -> None:
    offered = {preferred.content_type or "no type"}
    with contextlib.suppress(Unavailable, BadPage):  # 406: it has no HTML
        offered.add((await _get(session, url, kind, HTML_ONLY, limit)).content_type or "no type")
    has_json = is_json(preferred.content, preferred.content_type, preferred.url)
    meaning = (
        "JSON is read, with sizes, upload times and serials"
        if has_json
        else "only HTML: no sizes, no serials"
    )
    found.add(name, "Which formats are offered?", " and ".join(sorted(offered)), meaning)
    if kind is RequestKind.ROOT:
        version = _VERSION.search(preferred.content)
        answer = "not told" if version is None else (version[1] or version[2]).decode()
        found.add(
            "version",
            "Which version of the API is it?",
            answer,
            "major version 1 is understood (PEP 629, 691)",
        )


async def _ask_validators(
    found: Probe,
    name: str,
    session: IndexSession,
    url: str,
    kind: RequestKind,
    first: _Answer,
    limit: PageLimit,
) -> None:
    etag, modified = first.headers.get("ETag"), first.headers.get("Last-Modified")
    conditions = {k: v for k, v in (("If-None-Match", etag), ("If-Modified-Since", modified)) if v}
    has = (
        " and ".join(word for word, value in (("ETag", etag), ("Last-Modified", modified)) if value)
        or "none"
    )
    question = "Are there validators, and does it answer 304?"
    if not conditions:
        found.add(name, question, has, "pages are read again in full and compared by digest")
        return
    again = await _get(session, url, kind, ACCEPT, limit, conditions)
    if again.status == 304:
        found.add(name, question, f"{has}; yes", "an unchanged page costs no body")
    else:
        same = "the same bytes" if again.content == first.content else "other bytes"
        found.add(
            name,
            question,
            f"{has}; no, {same}",
            "pages are read again in full and compared by digest",
        )


def _describe_page(found: Probe, page: ProjectPage) -> None:
    files = page.files
    strong = sum(strongest_digest(f.digests) is not None for f in files)
    found.add(
        "hashes",
        "Do files have sha256 or stronger?",
        f"{strong} of {len(files)}",
        "what comes is checked against it"
        if strong == len(files)
        else 'see unhashed = "pin" or "refuse"',
    )
    sizes = sum(f.size is not None for f in files)
    found.add(
        "sizes",
        "Do files have sizes?",
        f"{sizes} of {len(files)}",
        "--dry-run and the disk check know what will come"
        if sizes == len(files)
        else "--dry-run can't tell how much will come",
    )
    found.add(
        "page-serial",
        "Does the page have a serial?",
        "no" if page.serial is None else str(page.serial),
        "compared with the root's"
        if page.serial is not None
        else "serials of the root are not used for it",
    )
    times = sum(f.labels.upload_time is not None for f in files)
    found.add(
        "upload-times",
        "Do files have upload times?",
        f"{times} of {len(files)}",
        "passed on; for pip --uploaded-prior-to",
    )
    metadata = sum(f.metadata is not None for f in files)
    found.add(
        "metadata",
        "Is core metadata advertised?",
        f"{metadata} of {len(files)}",
        "it is taken out of each wheel in any case",
    )


async def _ask_file(found: Probe, session: IndexSession, file: ListedFile) -> None:
    headers = {"Accept-Encoding": "identity", "Range": "bytes=0-0"}
    started = time.monotonic()
    async with session.get(
        file.url, kind=RequestKind.FILE, headers=headers, budget=Budget(_BUDGET_S)
    ) as response:
        status, where = response.status, response.url
    seconds = time.monotonic() - started
    found.add(
        "ranges",
        "Can a download be resumed (Range)?",
        f"{'yes' if status == 206 else 'no'} ({status} in {seconds:.1f} s)",
        "an interrupted download goes on"
        if status == 206
        else "an interrupted download begins again",
    )
    before, after = urlsplit(file.url).netloc, urlsplit(where).netloc
    if before != urlsplit(session.root_url).netloc:
        answer = f"by {before}, which the page names"
    elif before != after:
        answer = f"by a redirect to {after}"
    else:
        answer = "by the index itself"
    found.add(
        "redirects",
        "Who delivers files?",
        answer,
        "the credential goes to the index's own host only",
    )


async def _get(
    session: IndexSession,
    url: str,
    kind: RequestKind,
    accept: str,
    limit: PageLimit,
    conditions: Mapping[str, str] | None = None,
) -> _Answer:
    headers = {"Accept": accept, "Accept-Encoding": "gzip", **(conditions or {})}
    budget = Budget(_BUDGET_S + (ROOT_EXTRA_S if kind is RequestKind.ROOT else 0.0))
    started = time.monotonic()
    async with session.get(url, kind=kind, headers=headers, budget=budget) as response:
        content = b"" if response.status == 304 else (await read_page(response, limit))[0]
        return _Answer(
            status=response.status,
            headers=response.headers,
            content=content,
            url=response.url,
            seconds=time.monotonic() - started,
        )


def _parse(answer: _Answer, from_json: Callable[..., Any], from_html: Callable[..., Any]) -> Any:
    if is_json(answer.content, answer.content_type, answer.url):
        return from_json(answer.content, url=answer.url)
    return from_html(answer.content, url=answer.url, charset=media_type(answer.headers)[1])
