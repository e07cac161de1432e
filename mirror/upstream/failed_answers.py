"""The meaning of an answer that is no success and no refusal to be judged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from mirror.core.backoff import parse_retry_after
from mirror.errors import (
    THE_CONFIGURATION,
    THE_INDEX,
    THE_PAGE,
    AccessDenied,
    BadPage,
    MirrorError,
    MissingElsewhere,
    NotFound,
    RefusedElsewhere,
    Unavailable,
    Withheld,
)
from mirror.logs import redact
from mirror.upstream.access import Credentials
from mirror.upstream.exchange import Exchange, RequestKind
from mirror.upstream.response import DRAIN_BYTES, Response, cause_of_proxy

REFUSALS: Final = frozenset({401, 403})
PUSHBACKS: Final = frozenset({429, 503})
_DENIALS: Final = frozenset({203, 402, 451})
"""A retry would get the same answer, and the credential is not the cause."""
_PASSING: Final = frozenset({408, 425, 429})
"""The only ones of 4xx that may pass by themselves."""
_EXPIRED: Final = frozenset({401, 403, 404})
_NOT_LISTED: Final = frozenset({400, 404, 410})

ProxyFor = Callable[[str], str | None]
"""Returns the proxy for a URL, without user info."""


class FailedAnswers:
    """Turns the failed answers of one index into errors."""

    def __init__(
        self, index: str, credentials: Credentials, *, listed_by_config: bool, proxy_for: ProxyFor
    ) -> None:
        self._index, self._credentials = index, credentials
        self._listed_by_config, self._proxy_for = listed_by_config, proxy_for

    async def error_of(self, exchange: Exchange, response: Response) -> MirrorError:
        """Return the error that an unsuccessful answer means."""
        url = exchange.url
        status = response.status
        code = await _withheld_code(response) if status == 409 else None
        speaks = status in REFUSALS | _DENIALS or has_expired(exchange, response)
        words = await words_of(exchange, response) if speaks else ""
        await response.drain()
        if status == 409:
            return Withheld(url=url, code=code)
        if has_expired(exchange, response):
            cause = f"the host that it redirects to answered {status}, also when asked again"
            kind = MissingElsewhere if status == 404 else RefusedElsewhere
            return kind(url=url, cause=cause, detail=redact(words), is_final=True)
        if status in _NOT_LISTED:
            return self._not_listed(exchange, status)
        if status in REFUSALS | _DENIALS:
            return self._denied(exchange, response, words)
        if status == 407:
            proxy = self._proxy_for(response.url)
            return Unavailable(url=url, cause=cause_of_proxy(proxy, status), is_final=True)
        if 400 <= status < 500 and status not in _PASSING:
            if exchange.kind is RequestKind.FILE:
                return self._not_listed(exchange, status)
            return BadPage(url=url, cause=f"the server answered {status}")
        wait_s = parse_retry_after(response.headers.get("Retry-After"), now=datetime.now(UTC))
        return Unavailable(url=url, cause=f"the server answered {status}", retry_after_s=wait_s)

    def _not_listed(self, exchange: Exchange, status: int) -> NotFound:
        lister = THE_INDEX
        if self._listed_by_config:
            lister = THE_PAGE if exchange.kind is RequestKind.FILE else THE_CONFIGURATION
        return NotFound(
            url=exchange.url,
            status=status,
            is_root=exchange.kind is RequestKind.ROOT,
            lister=lister,
        )

    def _denied(self, exchange: Exchange, response: Response, words: str) -> AccessDenied:
        """Return a refusal that is not judged: by a host that never gets the credential, or for
        another reason.
        """
        return AccessDenied(
            url=exchange.url,
            index=self._index,
            status=response.status,
            source=self._credentials.describe(),
            ends_index=False,
            detail=redact(words),
            had_credential=exchange.is_own and self._credentials.kept is not None,
            host="" if exchange.is_own else urlsplit(response.url).netloc,
        )


def has_expired(exchange: Exchange, response: Response) -> bool:
    """Whether the index redirected to a signed URL that has expired: another redirect may help."""
    return exchange.was_redirected and not exchange.is_own and response.status in _EXPIRED


async def words_of(exchange: Exchange, response: Response) -> str:
    """Return the answer's own explanation, for people."""
    from mirror.upstream.answer_words import read_words  # 4 ms: most answers need no words

    return await read_words(response, asked=(exchange.url, response.url))


async def _withheld_code(response: Response) -> str | None:
    """Return the ``reason`` of a 409's JSON body, or None where there is none."""
    body = await response.read_at_most(DRAIN_BYTES)
    try:
        answer = msgspec.json.decode(body or b"")
    except (msgspec.DecodeError, RecursionError):
        return None
    reason = answer.get("reason") if isinstance(answer, dict) else None
    return reason if isinstance(reason, str) else None
