"""Reads an index's pages: requested conditionally, retried, bounded, recognised as JSON or HTML,
parsed.

Invariants: a page counts as unchanged only by the index's 304 or by equal bytes; an answer that is
not a page of the simple repository API raises and is never taken for an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

import anyio.to_thread
import msgspec

from mirror.config import IndexConfig, Limits
from mirror.core.files.origins import origin_of_url, page_origins
from mirror.core.model import ProjectPage, RootPage, Validators
from mirror.core.names import ProjectName
from mirror.core.pages import parse_json
from mirror.core.pages.flat import ANY
from mirror.core.pages.page_cost import (
    PAGE_MEMORY_BYTES,
    html_page_cost,
    json_page_cost,
    too_costly,
)
from mirror.core.pages.root_links import resolve_address
from mirror.errors import BadPage, TooLarge, Unavailable, UpstreamError
from mirror.upstream.exchange import RequestKind
from mirror.upstream.limits.memory import PageLease, PageMemory
from mirror.upstream.limits.rate import Budget
from mirror.upstream.limits.retry import RetryPolicy, pause_before_next
from mirror.upstream.pages import Body, PageLimit, read_page
from mirror.upstream.response import Response, media_type
from mirror.upstream.session import IndexSession

ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2,"
    " text/html;q=0.01"
)

ROOT_EXTRA_S = 600.0
"""How much longer the reading of a root page may take: 40 MB over a slow line are no failure."""

THREAD_BYTES = 256 * 1024
"""A longer body is parsed in a worker thread."""

_ALL = 2**31
_VALIDATOR_CHARS = 1024
_SIMPLE_API = re.compile(r"application/vnd\.pypi\.simple\.v([0-9]+)\+(json|html)\Z")

P = TypeVar("P", RootPage, ProjectPage)
T = TypeVar("T")


class Unchanged(msgspec.Struct, frozen=True, kw_only=True):
    """The page is as it was.

    ``validators`` replace the ones that were sent: a server may have a new ETag for it.
    """

    validators: Validators
    origin: str | None = None
    """The origin of the page; None for the index's own origin."""


class Read(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """The page was read."""

    page: P
    validators: Validators
    origin: str | None = None
    """The origin of the page; None for the index's own origin."""


RootAnswer = Unchanged | Read[RootPage]
PageAnswer = Unchanged | Read[ProjectPage]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """A page's bytes before they are parsed; ``url`` is its final address."""

    content: Body
    digest: str
    url: str
    content_type: str
    charset: str | None
    etag: str | None
    last_modified: str | None
    has_known_end: bool
    origin: str | None


class IndexClient:
    """The pages of one index."""

    reads_alone = False
    """Whether only one process can read the pages."""

    def __init__(
        self,
        session: IndexSession,
        config: IndexConfig,
        limits: Limits,
        *,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._session = session
        self._url = config.url
        self._limits = limits
        self._policy = policy or session.retry_policy
        self._page_limit = PageLimit(limit_bytes=limits.page_size, setting="limits.page-size")
        self._origins = page_origins(config.url, config.page_hosts)
        self.memory = PageMemory()
        """Shared by all project pages that are read at the same time."""

    def expect(self, root: Validators | None, pages: Iterable[tuple[str, str | None]]) -> None:
        """Take over the results of an earlier cycle.

        They are the root's validators, and the projects whose pages were served, with their
        addresses, the last first.
        """
        self._session.served_pages.root_headers = _conditions(root)
        for name, address in reversed(tuple(pages)):
            self.record_served_page(ProjectName(name), address)

    def record_served_page(self, name: ProjectName, address: str | None = None) -> None:
        """Record that the index served a project's page; it is requested again to judge a
        refusal.
        """
        self._session.served_pages.record_page(name, resolve_address(self._url, name, address))

    @property
    def url(self) -> str:
        """The index's URL."""
        return self._url

    def expect_flat(self, root: Validators | None, *, was_served: bool) -> None:
        """Take over an earlier cycle's results for a flat page: its validators, and whether it was
        served.
        """
        self._session.served_pages.root_headers = _conditions(root)
        if was_served:
            self._session.served_pages.record_page("", self._url)

    async def fetch_flat(self, validators: Validators | None) -> Unchanged | Read[ProjectPage]:
        """Read the flat page at the index's URL as if it were the page of one project."""
        limit = PageLimit(limit_bytes=self._limits.root_page_size, setting="limits.root-page-size")
        body = await self._fetch(self._url, RequestKind.ROOT, limit, validators)
        self._session.served_pages.record_page("", self._url)
        if isinstance(body, Unchanged):
            return body
        await _cost_of(body)
        page = await _parsed(lambda: _read_flat(body), body)
        return Read(page=page, validators=_validators_of(body, page.serial), origin=body.origin)

    async def fetch_root(self, validators: Validators | None) -> RootAnswer:
        """Read the root page unless it is unchanged.

        Raises ``UpstreamError``; ``BadPage`` for another kind of page.

        One call at a time: a root page may take more memory than all project pages.
        """
        answer = await self._fetch_root(validators)
        self._session.served_pages.root_headers = _conditions(answer.validators)
        return answer

    async def _fetch_root(self, validators: Validators | None) -> RootAnswer:
        limit = PageLimit(limit_bytes=self._limits.root_page_size, setting="limits.root-page-size")
        body = await self._fetch(self._url, RequestKind.ROOT, limit, validators)
        if isinstance(body, Unchanged):
            return body

        max_projects = self._limits.projects

        def parse() -> RootPage:
            if is_json(body.content, body.content_type, body.url):
                return parse_json.parse_root_page(
                    body.content, url=body.url, max_projects=max_projects
                )
            from mirror.core.pages import parse_html  # its parser takes 0.02 s to import

            return parse_html.parse_root_page(
                body.content,
                url=body.url,
                charset=body.charset,
                index_url=self._url,
                origins=self._origins,
                has_known_end=body.has_known_end,
                max_projects=max_projects,
            )

        page = await _parsed(parse, body)
        return Read(page=page, validators=_validators_of(body, page.serial), origin=body.origin)

    async def answers(self) -> bool:
        """Return whether the index gives any answer, by its root page, which is not read."""
        try:
            async with self._session.get(
                self._url,
                kind=RequestKind.ROOT,
                headers=_headers(None),
                budget=Budget(self._policy.budget_s),
            ):
                return True
        except UpstreamError as exc:
            return not isinstance(exc, Unavailable)

    async def fetch_project(
        self,
        name: ProjectName,
        validators: Validators | None,
        address: str | None = None,
        lease: PageLease | None = None,
    ) -> PageAnswer:
        """Read a project's page unless it is unchanged. ``address``: None for the usual one.

        ``lease``: of ``memory``; a caller that passes one releases it when the page's values are
        gone. Raises ``UpstreamError``; ``BadPage`` for an answer that is not a project's page.
        """
        own = self.memory.lease() if lease is None else lease
        url = resolve_address(self._url, name, address)
        try:
            with own.body():
                answer = await self._fetch_project(name, url, validators, own)
        finally:
            if lease is None:
                own.release()
        self._session.served_pages.record_page(name, url)
        return answer

    async def _fetch_project(
        self,
        name: ProjectName,
        url: str,
        validators: Validators | None,
        lease: PageLease,
    ) -> PageAnswer:
        body = await self._fetch(url, RequestKind.PAGE, self._page_limit, validators, lease)
        if isinstance(body, Unchanged):
            return body
        max_files = self._limits.files_per_project

        def parse() -> ProjectPage:
            if is_json(body.content, body.content_type, body.url):
                return parse_json.parse_project_page(
                    body.content, project=name, url=body.url, max_files=max_files
                )
            from mirror.core.pages import parse_html  # 21 ms: as above

            return parse_html.parse_project_page(
                body.content,
                project=name,
                url=body.url,
                charset=body.charset,
                max_files=max_files,
                has_known_end=body.has_known_end,
            )

        await lease.hold_values(await _cost_of(body))
        page = await _parsed(parse, body)
        return Read(page=page, validators=_validators_of(body, page.serial), origin=body.origin)

    async def _fetch(
        self,
        url: str,
        kind: RequestKind,
        limit: PageLimit,
        validators: Validators | None,
        lease: PageLease | None = None,
    ) -> _Body | Unchanged:
        """Return the body of a page that is not unchanged; tried again within the budget."""
        policy = self._policy
        # A new try of a root page starts within the same time; only the reading itself may take
        # longer.
        extra_s = ROOT_EXTRA_S if kind is RequestKind.ROOT else 0.0
        budget = Budget(policy.budget_s + extra_s)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._try(url, kind, limit, validators, budget, lease)
            except Unavailable as exc:
                remaining_s = budget.remaining_s() - extra_s
                await pause_before_next(
                    exc,
                    tries_made=tries,
                    remaining_s=remaining_s,
                    policy=policy,
                    allowance=self._session.allowance,
                )
                self._session.traffic.retries += 1

    async def _try(
        self,
        url: str,
        kind: RequestKind,
        limit: PageLimit,
        validators: Validators | None,
        budget: Budget,
        lease: PageLease | None,
    ) -> _Body | Unchanged:
        async with self._session.get(
            url, kind=kind, headers=_headers(validators), budget=budget
        ) as response:
            if response.status == 304:
                if validators is None:
                    raise Unavailable(
                        url=url,
                        cause="the server answered 304 without having been asked for changes",
                    )
                return Unchanged(
                    validators=_confirmed(validators, response), origin=self._origin_of(response)
                )
            if response.status != 200:
                raise Unavailable(
                    url=url,
                    cause=f"the server answered {response.status} to a request for a whole page",
                )
            content, digest = await read_page(response, limit, lease)
            kind_of_page, charset = media_type(response.headers)
            body = _Body(
                content=content,
                digest=digest,
                url=response.url,
                content_type=kind_of_page,
                charset=charset,
                etag=_validator(response, "ETag"),
                last_modified=_validator(response, "Last-Modified"),
                has_known_end=response.has_known_end,
                origin=self._origin_of(response),
            )
        if validators is not None and validators.digest == body.digest:
            return Unchanged(validators=_validators_of(body, validators.serial), origin=body.origin)
        return body

    def _origin_of(self, response: Response) -> str | None:
        """Return the foreign origin that answered; None for the index's own."""
        if response.url.startswith(f"{self._origins.index}/"):
            return None
        origin = origin_of_url(response.url)
        return None if origin in self._origins.own else origin


def _read_flat(body: _Body) -> ProjectPage:
    if is_json(body.content, body.content_type, body.url):
        return parse_json.parse_project_page(
            body.content, project=None, url=body.url, max_files=_ALL
        )
    from mirror.core.pages import parse_html  # 23 ms: as above

    return parse_html.parse_project_page(
        body.content,
        project=ANY,
        url=body.url,
        charset=body.charset,
        max_files=_ALL,
        has_known_end=body.has_known_end,
    )


def is_json(content: Body, content_type: str, url: str) -> bool:
    """Return whether a page is JSON, else it is HTML; by its type, or by its first character where
    the type is neither.

    Raises ``BadPage`` for another major version of the API (PEP 691) and for an answer that is
    neither.
    """
    found = _SIMPLE_API.match(content_type)
    if found is not None:
        if found[1] != "1":
            raise BadPage(
                url=url, cause=f"it has major version {found[1]} of the API, only 1 is understood"
            )
        return found[2] == "json"
    if content_type in {"application/json", "text/html"}:
        return content_type == "application/json"
    first = bytes(content[:1024]).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first not in {b"{", b"<"}:
        raise BadPage(
            url=url,
            cause=f"its Content-Type {content_type!r} is no page's, and it does not look like one",
        )
    return first == b"{"


async def _parsed(parse: Callable[[], P], body: _Body) -> P:
    """Return the result of ``parse``.

    Raises ``TooLarge`` where memory runs out, which ends this page alone.
    """
    try:
        return await _in_thread(parse, body)
    except MemoryError:
        what = (
            f"has {len(body.content)} bytes, and memory ran out while they were read;"
            " give the program more of it"
        )
        raise TooLarge(url=body.url, limit_bytes=len(body.content), setting="", what=what) from None


async def _in_thread(work: Callable[[], T], body: _Body) -> T:
    return await anyio.to_thread.run_sync(work) if len(body.content) > THREAD_BYTES else work()


async def _cost_of(body: _Body) -> int:
    """Return how much memory a page's values may take.

    Raises ``TooLarge`` where that is too much.
    """
    cost = await _in_thread(partial(_page_cost, body), body)
    if cost > PAGE_MEMORY_BYTES:
        raise too_costly(
            body.url, PAGE_MEMORY_BYTES, f"{len(body.content)} bytes of many small values"
        )
    return cost


def _page_cost(body: _Body) -> int:
    cost = json_page_cost if is_json(body.content, body.content_type, body.url) else html_page_cost
    return cost(body.content, url=body.url)


def _headers(validators: Validators | None) -> dict[str, str]:
    return {"Accept": ACCEPT, "Accept-Encoding": "gzip", **_conditions(validators)}


def _conditions(validators: Validators | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if validators is not None and validators.etag is not None:
        headers["If-None-Match"] = validators.etag
    if validators is not None and validators.last_modified is not None:
        headers["If-Modified-Since"] = validators.last_modified
    return headers


def _confirmed(validators: Validators, response: Response) -> Validators:
    """Return the validators after a 304, which may bring new ones."""
    etag = _validator(response, "ETag", validators.etag)
    last_modified = _validator(response, "Last-Modified", validators.last_modified)
    if etag == validators.etag and last_modified == validators.last_modified:
        return validators
    return Validators(
        etag=etag, last_modified=last_modified, serial=validators.serial, digest=validators.digest
    )


def _validators_of(body: _Body, serial: int | None) -> Validators:
    return Validators(
        etag=body.etag, last_modified=body.last_modified, serial=serial, digest=body.digest
    )


def _validator(response: Response, name: str, known: str | None = None) -> str | None:
    """Return a header that is fit to be sent back, or ``known``, which was checked when it was
    new.
    """
    value = response.headers.get(name)
    if value is None or value == known:
        return known
    is_fit = value and len(value) <= _VALIDATOR_CHARS and value.isascii() and value.isprintable()
    return value if is_fit else known
