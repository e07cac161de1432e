"""Answers of one line."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import web

NO_UPLOADS: Final = "This index takes no uploads: it answers GET and HEAD.\n"
ALLOWED: Final = {"Allow": "GET, HEAD"}

A = TypeVar("A", bound=web.StreamResponse)


def plain(status: HTTPStatus, text: str) -> web.Response:
    """Return an answer of one line that no cache keeps."""
    return no_store(web.Response(status=status, text=text))


def no_uploads() -> web.Response:
    """Return the answer to another method than GET and HEAD."""
    answer = plain(HTTPStatus.METHOD_NOT_ALLOWED, NO_UPLOADS)
    answer.headers.update(ALLOWED)
    return answer


def not_found() -> web.Response:
    """Return the answer for a missing file."""
    return plain(HTTPStatus.NOT_FOUND, "There is nothing here.\n")


def no_store(answer: A) -> A:
    """Forbid every cache to keep an answer."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def too_many(text: str, *, retry_s: int, closes: bool) -> web.Response:
    """Return the answer for a client that has to try again later."""
    answer = plain(HTTPStatus.TOO_MANY_REQUESTS, text)
    answer.headers["Retry-After"] = str(retry_s)
    if closes:
        answer.force_close()
    return answer
