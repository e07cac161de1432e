"""Before each answer: the client's limit and its credentials; after it: the headers of all answers.

Invariant: without a user's credentials only the two health addresses are answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from mirror.serve.access.passwords import Admission, Passwords
from mirror.serve.access.proxies import Proxies
from mirror.serve.answers import plain, too_many
from mirror.serve.connections.protocol import Connection
from mirror.serve.requests.routes import Live, Ready, find_route
from mirror.serve.requests.target import MalformedTargetError, parse_target

RETRY_S: Final = 5
_CHALLENGE: Final = 'Basic realm="Python packages", charset="UTF-8"'

Handler = Callable[[BaseRequest], Awaitable[web.StreamResponse]]


class Gate:
    """Admits the requests of one process."""

    def __init__(
        self, handler: Handler, *, proxies: Proxies, passwords: Passwords | None = None
    ) -> None:
        self._handler, self._proxies, self._passwords = handler, proxies, passwords

    async def answer(self, request: BaseRequest) -> web.StreamResponse:
        """Return the answer to a request, with the headers of every answer."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        answer = await self._answer(request, connection)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Server"] = "mirror"
        if connection.is_draining:
            answer.force_close()
        connection.began(answer)
        return answer

    async def _answer(self, request: BaseRequest, connection: Connection) -> web.StreamResponse:
        client = self._proxies.client(connection.address, request.headers)
        request["client"] = client
        if connection.is_excess or connection.begin_request(client):
            noun = "connections" if connection.is_excess else "requests"
            text = f"There are too many {noun} from this client.\n"
            return too_many(text, retry_s=RETRY_S, closes=True)
        if self._passwords is None or _is_open(request):
            return await self._handler(request)
        header = request.headers.get("Authorization")
        match await self._passwords.admission(header):
            case Admission.ADMITTED:
                return await self._handler(request)
            case Admission.BUSY:
                text = "Too many passwords are being checked at the moment.\n"
                return too_many(text, retry_s=RETRY_S, closes=False)
            case Admission.REFUSED:
                text = "This index asks for a user name and a password.\n"
                refused = plain(HTTPStatus.UNAUTHORIZED, text)
                refused.headers["WWW-Authenticate"] = _CHALLENGE
                return refused


def _is_open(request: BaseRequest) -> bool:
    """Return whether a request needs no password."""
    try:
        route = find_route(parse_target(request.message.path))
    except MalformedTargetError:
        return False
    return isinstance(route, Live | Ready)
