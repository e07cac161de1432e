"""One writer: a lock object that its holder renews, and that another takes only when it was left
alone.

Invariants: clocks of machines are never compared; a root waits until it has seen the lock's ETag
unchanged for ``LEASE_S`` by its own clock, which goes on while the machine sleeps; the holder
counts its lease from before a renewal was sent, and begins no write of a page and no delete with
less than ``MARGIN_S`` left. The lock is released by a put that marks it free and keeps the writer's
id, never by a delete.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from mirror.errors import MirrorError, StoreLocked, TreeError
from mirror.logs import get_logger
from mirror.tree.objects.client import CALL_S, Conflict, ObjectClient, StoredObject
from mirror.tree.objects.keys import LOCK

_log = get_logger(__name__)

LEASE_S: Final = 60.0
RENEW_S: Final = 10.0
MARGIN_S: Final = CALL_S
_RETRY_S: Final = 2.0
_LONGEST: Final = 4096
_MOST_CONFLICTS: Final = 50
"""Maximum number of puts that may lose against another process's, before the engine is at fault."""


class LockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the lock object."""

    root: str
    """The id of the root that holds it, or held it last."""
    nonce: str
    """Of the living process that wrote it."""
    is_free: bool = False
    format: int = 1


class Lease:
    """The lock of one tree, in one process. Methods block, except ``holds``.

    ``etag_form``: the form in which the engine takes an ETag; None: it ignores conditions, and the
    operator guarantees one writer.
    """

    def __init__(
        self,
        client: ObjectClient,
        *,
        root: str,
        etag_form: Callable[[str], str] | None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.root = root
        self.nonce = secrets.token_hex(16)
        self._client, self._etag_form, self._clock = client, etag_form, clock
        self._etag = ""
        self._until = 0.0
        self._lost: MirrorError | None = None
        self._is_held = False
        self._renewing = threading.Lock()
        self._stop = threading.Event()

    @property
    def holds(self) -> bool:
        """Whether it was taken and not released."""
        return self._is_held

    def condition(self, etag: str) -> str | dict[str, str]:
        """Return the mode of a put over this ETag; an empty one: where nothing is."""
        if self._etag_form is None:
            return "overwrite"
        return {"e_tag": self._etag_form(etag)} if etag else "create"

    def read_record(self) -> LockRecord | None:
        """Return the record of the lock object, or None where there is none.

        Raises ``TreeError``.
        """
        found = self._client.get(LOCK, end=_LONGEST)
        return None if found is None else self._decode(found[0])

    def take(self, known: Collection[str], *, wait_s: float, may_adopt: bool = False) -> None:
        """Take the lock, and renew it from now on.

        ``known``: the nonces that the root's own state remembers. ``may_adopt``: also from another
        root. Raises ``StoreLocked``, ``TreeError``.
        """
        started_at = self._clock()
        seen_etag, seen_at = "", 0.0
        conflicts = 0
        while conflicts < _MOST_CONFLICTS:
            asked_at = self._clock()
            found = self._client.get(LOCK, end=_LONGEST)
            etag = ""
            if found is not None:
                record, etag = self._decode(found[0]), found[1].etag
                if record.nonce == self.nonce:  # an answer was lost, and the put was repeated
                    self._hold(etag, asked_at)
                    return
                self._check_root(record, may_adopt=may_adopt)
                if etag != seen_etag:
                    seen_etag, seen_at = etag, self._clock()
                is_known = record.root == self.root and record.nonce in known
                if not (record.is_free or is_known or asked_at - seen_at >= LEASE_S):
                    self._pause(record, started_at + wait_s, seen_at + LEASE_S)
                    continue
            try:
                self._hold(self._put(etag, is_free=False), asked_at)
            except Conflict:
                conflicts += 1
                continue
            return
        problem = (
            "the store refuses each put of this object, although nobody else holds it;"
            " look at the conditions in `mirror probe`"
        )
        raise TreeError(path=self._client.address.shown(LOCK), problem=problem)

    def check(self) -> None:
        """Raise unless a page may be written now: ``StoreLocked`` where another has the lock."""
        if self._lost is None and self._until - self._clock() < MARGIN_S:
            self._renew()
        if self._lost is not None:
            raise self._lost
        if self._until - self._clock() < MARGIN_S:
            problem = (
                "the lock could not be renewed in time: the store gave no answer; run it again"
            )
            raise TreeError(path=self._client.address.shown(LOCK), problem=problem)

    def check_for_delete(self) -> None:
        """Raise unless an object may be deleted now; reads the lock first."""
        self.check()
        found = self._client.get(LOCK, end=_LONGEST)
        if found is None or self._decode(found[0]).nonce != self.nonce:
            raise self._lose(found)
        self.check()

    def give_up(self) -> None:
        """Let ``take``, which may wait in another thread, end without the lock.

        A held lock is not renewed any more: a process that knows its nonce takes it over.
        """
        self._stop.set()

    def raise_if_lost(self) -> None:
        """Raise where the lock was lost: nothing more is written, not even a blob."""
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Mark the lock free. A store that gives no answer keeps nobody from ending."""
        if not self._is_held:
            return
        self._is_held = False
        self._stop.set()
        with self._renewing:
            if self._lost is not None:
                return
            try:
                self._mark_free()
            except (StoreLocked, TreeError) as exc:
                _log.warning("store_lock.unreleased", problem=str(exc))

    def _mark_free(self) -> None:
        """Mark the lock free, also where the answer to a renewal, or to this put, was lost."""
        for _ in range(2):
            with contextlib.suppress(Conflict):
                self._put(self._etag, is_free=True)
                return
            found = self._client.get(LOCK, end=_LONGEST)
            if found is None or (record := self._decode(found[0])).nonce != self.nonce:
                raise self._lose(found)
            if record.is_free:
                return
            self._etag = found[1].etag
        problem = "the store refused the put that marks it free; another root waits for 60 s"
        raise TreeError(path=self._client.address.shown(LOCK), problem=problem)

    def _check_root(self, record: LockRecord, *, may_adopt: bool) -> None:
        if record.root == self.root or may_adopt:
            return
        problem = (
            "another root writes here by now, so this root's state is stale;"
            " `mirror tree adopt` makes this root the writer again"
        )
        raise StoreLocked(path=self._client.address.shown(LOCK), pid=None, problem=problem)

    def _pause(self, record: LockRecord, deadline: float, free_at: float) -> None:
        now = self._clock()
        if now >= deadline:
            owner = "this root's own id" if record.root == self.root else "another root"
            problem = (
                f"held by a process of {owner}; it may be taken once it was left alone for"
                f" {LEASE_S:.0f} s: pass --wait 70s"
            )
            raise StoreLocked(path=self._client.address.shown(LOCK), pid=None, problem=problem)
        if self._stop.wait(max(0.01, min(_RETRY_S, deadline - now, free_at - now))):
            problem = "the wait for the lock was given up"
            raise StoreLocked(path=self._client.address.shown(LOCK), pid=None, problem=problem)

    def _hold(self, etag: str, sent_at: float) -> None:
        self._etag, self._until = etag, sent_at + LEASE_S
        self._is_held = True
        if self._stop.is_set():
            self.release()
            return
        threading.Thread(target=self._renew_regularly, name="store lock", daemon=True).start()

    def _renew_regularly(self) -> None:
        while not self._stop.wait(RENEW_S):
            self._renew()
            if self._lost is not None:
                return

    def _renew(self) -> None:
        with self._renewing:
            if self._lost is not None or self._stop.is_set():
                return
            sent_at = self._clock()
            try:
                self._etag = self._put(self._etag, is_free=False)
                self._until = sent_at + LEASE_S
            except Conflict:
                self._judge_conflict(sent_at)
            except TreeError as exc:
                _log.warning("store_lock.unrenewed", problem=str(exc))

    def _judge_conflict(self, sent_at: float) -> None:
        """Find out whether the lock is still this process's: its own repeated put looks so too."""
        try:
            found = self._client.get(LOCK, end=_LONGEST)
        except TreeError as exc:
            _log.warning("store_lock.unrenewed", problem=str(exc))
            return
        if found is not None and self._decode(found[0]).nonce == self.nonce:
            self._etag, self._until = found[1].etag, sent_at + LEASE_S
        else:
            _log.error("store_lock.lost", problem=str(self._lose(found)))

    def _lose(self, found: tuple[bytes, StoredObject] | None) -> MirrorError:
        path = self._client.address.shown(LOCK)
        if found is None:
            problem = "somebody removed the lock while this process worked; run it again"
            self._lost = TreeError(path=path, problem=problem)
        else:
            problem = "another process took the lock while this one stood still; it stops here"
            self._lost = StoreLocked(path=path, pid=None, problem=problem)
        return self._lost

    def _put(self, etag: str, *, is_free: bool) -> str:
        record = LockRecord(root=self.root, nonce=self.nonce, is_free=is_free)
        return self._client.put(
            LOCK,
            msgspec.json.encode(record),
            attributes={"Content-Type": "application/json", "Cache-Control": "no-store"},
            mode=self.condition(etag),
        )

    def _decode(self, body: bytes) -> LockRecord:
        try:
            return msgspec.json.decode(body, type=LockRecord)
        except msgspec.DecodeError as exc:
            problem = "this object is no lock of a mirror; remove it if nothing else needs it"
            raise TreeError(path=self._client.address.shown(LOCK), problem=problem) from exc
