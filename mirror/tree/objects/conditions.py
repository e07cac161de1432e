"""Whether an engine honours the conditions of a put, found out in a scratch key.

Engines differ: some overwrite without a word, some refuse each condition, some compare an ETag
only without its quotation marks.
"""

from __future__ import annotations

import contextlib

import msgspec

from mirror.errors import TreeError
from mirror.tree.objects.client import Conflict, ObjectClient


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The results of conditional puts."""

    creates_once: bool
    """The second creator of a key was refused, and the first was not."""
    refuses_stale: bool
    """A put over an ETag that is not the object's was refused."""
    accepts_right: bool
    """A put over the object's own ETag was done."""
    takes_bare: bool = False
    """An ETag is compared without its quotation marks."""

    @property
    def is_safe(self) -> bool:
        """Whether a lock object keeps one writer."""
        return self.creates_once and self.refuses_stale and self.accepts_right

    def describe(self) -> str:
        """Return the faults in words; empty without one."""
        faults = (
            (self.creates_once, "a second creator of a key is not refused"),
            (self.refuses_stale, "a put over another ETag is not refused"),
            (self.accepts_right, "a put over the right ETag is refused"),
        )
        return ", ".join(fault for is_right, fault in faults if not is_right)


def judge_conditions(client: ObjectClient, key: str) -> Conditions:
    """Judge an engine by puts to a scratch key, which is removed. Blocking.

    Raises ``TreeError``.
    """
    try:
        return _judge(client, key)
    finally:
        with contextlib.suppress(TreeError):
            client.delete([key])


def _judge(client: ObjectClient, key: str) -> Conditions:
    etag = _put(client, key, b"first", "create")
    if etag is None:  # refused although nothing is there
        return Conditions(creates_once=False, refuses_stale=True, accepts_right=False)
    creates_once = _put(client, key, b"second", "create") is None
    if not creates_once:
        etag = client.put(key, b"again")
    for takes_bare in (False, True):
        known = etag.strip('"') if takes_bare else etag
        newer = _put(client, key, b"newer", {"e_tag": known})
        if newer is not None:
            # Now the first ETag is stale: the bytes are others.
            is_refused = _put(client, key, b"stale", {"e_tag": known}) is None
            return Conditions(
                creates_once=creates_once,
                refuses_stale=is_refused,
                accepts_right=True,
                takes_bare=takes_bare,
            )
    return Conditions(creates_once=creates_once, refuses_stale=True, accepts_right=False)


def _put(client: ObjectClient, key: str, data: bytes, mode: str | dict[str, str]) -> str | None:
    """Return the new ETag, or None where the condition was refused."""
    try:
        return client.put(key, data, mode=mode)
    except Conflict:
        return None
