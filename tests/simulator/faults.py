"""Faults that tests script: what goes wrong, for which requests, and how often.

Two sorts. A *refusal* takes the place of the answer, whatever it would have been. A *body fault* waits for an answer
that carries the asked-for bytes (200 or 206), so that with a second origin it hits the file, not the redirect to it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.origin import Answer, Kind, Target

_GUARD_S = 240.0
"""How long a test may wait for a request that never comes: a guard against hanging, not a measure."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Answer this status instead, with a JSON object or a text."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    text: str = "scripted\n"

    def change(self, _answer: Answer) -> Answer:
        """Return the answer that takes the place of the real one."""
        if self.json is not None:
            body, content_type = json.dumps(self.json).encode(), "application/json"
        else:
            body, content_type = self.text.encode(), "text/plain; charset=utf-8"
        return Answer(status=self.status, headers={"Content-Type": content_type, **self.headers}, body=body)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Answer these bytes with 200 instead: a login page, a broken page."""

    body: bytes
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)

    def change(self, _answer: Answer) -> Answer:
        """Return the answer that takes the place of the real one."""
        return Answer(status=200, headers={"Content-Type": self.content_type, **self.headers}, body=self.body)


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """Answer a redirect to this URL instead."""

    url: str
    status: int = 302

    def change(self, _answer: Answer) -> Answer:
        """Return the answer that takes the place of the real one."""
        body = f'<html><body><a href="{self.url}">Found</a></body></html>'.encode()
        return Answer(status=self.status, headers={"Location": self.url, "Content-Type": "text/html"}, body=body)


@dataclass(frozen=True, kw_only=True)
class Corrupt:
    """Flip the bits of one byte of the body."""

    at: int = 0

    def change(self, answer: Answer) -> Answer:
        """Return the answer with the byte changed."""
        at = min(self.at, len(answer.body) - 1)
        flipped = answer.body[:at] + bytes([answer.body[at] ^ 0xFF]) + answer.body[at + 1 :]
        return replace(answer, body=flipped)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Send a body that is whole by HTTP's rules, but this many bytes longer or shorter than the file."""

    by: int

    def change(self, answer: Answer) -> Answer:
        """Return the answer with the other length."""
        body = answer.body[: self.by] if self.by < 0 else answer.body + b"\0" * self.by
        return replace(answer, body=body)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Close the connection after so many bytes of the body."""

    after: int

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery is cut."""
        return answer


@dataclass(frozen=True, kw_only=True)
class Unframed:
    """Answer as HTTP/1.0 without a length; the body ends behind the first occurrence of some bytes, None: where it ends."""

    behind: bytes | None = None

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery does not tell where it ends."""
        return answer


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Reset the connection (RST) after so many bytes of the body; None: without any answer."""

    after: int | None = None

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery is broken off."""
        return answer


@dataclass(frozen=True, kw_only=True)
class Relabel:
    """Answer with other headers: a 206 that lies about its range, a wrong Content-Encoding. None leaves one out."""

    headers: Mapping[str, str | None]

    def change(self, answer: Answer) -> Answer:
        """Return the answer with the other headers."""
        merged: dict[str, str | None] = {**answer.headers, **self.headers}
        return replace(answer, headers={k: v for k, v in merged.items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class Announce:
    """Announce a Content-Length that is so many bytes off, send the body as it is, and close the connection."""

    by: int

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery lies."""
        return answer


@dataclass(frozen=True, kw_only=True)
class Endless:
    """Send the body again and again until the client has had enough."""

    content_length: int | None = None
    """What is announced; None: chunks without an end."""

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery does not end."""
        return answer


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Send so many bytes of the body (None: nothing at all, not even headers), then wait to be released."""

    after: int | None = 0
    reached: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery is stalled."""
        return answer

    def wait(self) -> None:
        """Wait, in a thread that may block, until a request has stalled."""
        if not self.reached.wait(_GUARD_S):
            raise AssertionError("no request reached the stall")

    async def wait_async(self) -> None:
        """Wait, in an event loop, until a request has stalled."""
        await asyncio.to_thread(self.wait)


@dataclass(frozen=True, kw_only=True)
class Drip:
    """Send the body in pieces of this size, with a pause after each."""

    piece: int = 1
    pause_s: float = 0.0

    def change(self, answer: Answer) -> Answer:
        """Return the answer as it is: the delivery is slow."""
        return answer


Delivery = Cut | Unframed | Reset | Stall | Drip | Announce | Endless
"""What the server does while it sends an answer."""

Fault = Status | Page | Redirect | Corrupt | Resize | Relabel | Delivery

_BODY_FAULTS = (Corrupt, Resize, Relabel, Delivery)


def withheld(reason: str | None) -> Status:
    """Return the 409 of an index that lists something and does not give it out."""
    return Status(status=409, json={"reason": reason} if reason is not None else {"detail": "conflict"})


def unavailable(status: int = 503, retry_after: str | None = None) -> Status:
    """Return a 503 or 429, with ``Retry-After`` if given."""
    return Status(status=status, headers={} if retry_after is None else {"Retry-After": retry_after})


@dataclass(kw_only=True)
class _Rule:
    fault: Fault
    kind: Kind | None
    project: str | None
    filename: str | None
    left: int | None

    def fits(self, target: Target, answer: Answer) -> bool:
        is_for_all = isinstance(self.fault, Reset) and self.fault.after is None
        has_body = answer.status in {200, 206} and bool(answer.body)
        if isinstance(self.fault, _BODY_FAULTS) and not (is_for_all or has_body):
            return False
        wanted = (self.kind, self.project, self.filename)
        asked = (target.kind, target.project, target.filename)
        return all(w is None or w == a for w, a in zip(wanted, asked, strict=True))


class Faults:
    """The faults in force; the oldest that fits is used."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(
        self,
        fault: Fault,
        *,
        kind: Kind | None = None,
        project: str | None = None,
        filename: str | None = None,
        times: int | None = None,
    ) -> None:
        """Use a fault for the next ``times`` requests (None: all) of this kind, project (normalised) and file."""
        self._rules.append(_Rule(fault=fault, kind=kind, project=project, filename=filename, left=times))

    def clear(self) -> None:
        """Let everything work again."""
        self._rules.clear()

    def take(self, target: Target, answer: Answer) -> Fault | None:
        """Return the fault for a request, and count it."""
        for rule in self._rules:
            if rule.left != 0 and rule.fits(target, answer):
                if rule.left is not None:
                    rule.left -= 1
                return rule.fault
        return None
