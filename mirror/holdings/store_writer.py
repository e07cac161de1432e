"""The right to write to an object store: a claim in the state, and the lock object.

Order: the claim is committed, then the engine's conditions are judged once, then the lock is taken,
then the root page is compared with the state; only then is anything else put. All of it happens
when something is to be written, so that a cycle without a change costs no request.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from mirror.config import MirrorSettings
from mirror.errors import StateError, TreeError
from mirror.logs import get_logger
from mirror.state.entries.pages import load_revisions
from mirror.state.objects import Claim, forget_claim, load_claim, record_claim
from mirror.state.store import Store
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.conditions import judge_conditions
from mirror.tree.objects.keys import PROBE
from mirror.tree.objects.lease import Lease
from mirror.tree.objects.pages import ObjectPages

_log = get_logger(__name__)


class StoreWriter:
    """Gets and keeps the right to write; also the gate of ``ObjectFiles`` and ``ObjectPages``."""

    def __init__(
        self,
        store: Store,
        client: ObjectClient,
        settings: MirrorSettings,
        *,
        wait_s: float,
        is_repair: bool = False,
        may_adopt: bool = False,
    ) -> None:
        """``is_repair``: a root page that differs from the state is about to be mended.
        ``may_adopt``: also where another root has written.
        """
        self._store, self._client, self._settings = store, client, settings
        self._wait_s, self._is_repair, self._may_adopt = wait_s, is_repair, may_adopt
        self._beginning = anyio.Lock()
        self._lease: Lease | None = None

    @property
    def root(self) -> str:
        """This root's id; known once the right was got."""
        assert self._lease is not None
        return self._lease.root

    async def begin(self) -> None:
        """Get the right to write, unless it was got already."""
        async with self._beginning:
            if self._lease is not None:
                return
            claim = await self._with_conditions(*await self._claimed())
            lease = Lease(self._client, root=claim.root, etag_form=_form(claim.conditions))
            found = await anyio.to_thread.run_sync(lease.read_record)
            kept = (found.nonce,) if found is not None and found.nonce in claim.nonces else ()
            await record_claim(
                self._store, msgspec.structs.replace(claim, nonces=(*kept, lease.nonce))
            )
            try:
                await anyio.to_thread.run_sync(self._take, lease, kept, abandon_on_cancel=True)
                await self._check_root_page()
            except BaseException:
                lease.give_up()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(lease.release)
                raise
            self._lease = lease

    async def end(self) -> None:
        """Release the lock."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lease.release)

    # -- the gate, for threads of the event loop ----------------------------------------------

    def enter(self) -> None:
        """Get the right to write from a thread."""
        self._entered().raise_if_lost()

    def enter_for_page(self) -> None:
        """See that a page may be written now."""
        self._entered().check()

    def enter_for_delete(self) -> None:
        """See that an object may be deleted now."""
        self._entered().check_for_delete()

    def condition(self, etag: str) -> str | dict[str, str]:
        """Return the mode of a put over this ETag."""
        return self._entered().condition(etag)

    def _entered(self) -> Lease:
        if self._lease is None:
            anyio.from_thread.run(self.begin)
            assert self._lease is not None
        return self._lease

    # -- steps of the beginning ------------------------------------------------------------------

    async def _claimed(self) -> tuple[Claim, bool]:
        """Return the claim of this root, committed, and whether it was made just now."""
        address = str(self._client.address)
        claim = await load_claim(self._store)
        if claim is not None and claim.address == address:
            return claim, False
        if not self._may_adopt:
            await anyio.to_thread.run_sync(self._check_empty)
        root = secrets.token_hex(16) if claim is None else claim.root
        claim = Claim(address=address, root=root)
        await record_claim(self._store, claim)
        return claim, True

    def _check_empty(self) -> None:
        found = next(self._client.list_objects(limit=1), None)
        if found is None:
            return
        problem = (
            f"holds objects that this root has not put there ({found.key}): choose an empty prefix,"
            " or run `mirror tree adopt` if it is a tree that this root is to continue"
        )
        raise TreeError(path=str(self._client.address), problem=problem)

    async def _with_conditions(self, claim: Claim, is_fresh: bool) -> Claim:  # noqa: FBT001
        is_single = self._settings.single_writer
        if claim.conditions and (claim.conditions != "none" or is_single):
            return claim
        try:
            conditions = await anyio.to_thread.run_sync(_judge, self._client, is_single)
        except TreeError:
            if is_fresh:
                await forget_claim(self._store)
            raise
        claim = msgspec.structs.replace(claim, conditions=conditions)
        await record_claim(self._store, claim)
        return claim

    def _take(self, lease: Lease, known: tuple[str, ...]) -> None:
        lease.take(known, wait_s=self._wait_s, may_adopt=self._may_adopt)

    async def _check_root_page(self) -> None:
        """Raise ``StateError`` where the root page is newer or older than the state, or gone."""
        if self._is_repair or self._may_adopt:
            return
        revisions = await load_revisions(self._store)
        written, known = revisions.written, max(revisions.newest, revisions.written)
        pages = ObjectPages(self._client, self, root=lambda: "")
        there = await anyio.to_thread.run_sync(pages.root_serial)
        address = self._client.address
        if there is not None and there > known:
            problem = (
                f"{address} holds pages that this state does not know (revision {there}, known"
                f" {known}): the state is older than the tree; run `mirror tree adopt`, or restore"
                " the newer state"
            )
            raise StateError(path=str(self._store.path), problem=problem)
        if (there or 0) < written:
            found = "no root page" if there is None else f"an older root page (revision {there})"
            problem = (
                f"{address} holds {found}, this state wrote revision {written}: objects were"
                " removed or replaced by older ones;"
                " run `mirror verify --repair` to mend the tree from the state"
            )
            raise StateError(path=str(self._store.path), problem=problem)


def _judge(client: ObjectClient, is_single: bool) -> str:  # noqa: FBT001
    """Return how the engine takes conditions, as a claim has it. Raises ``TreeError``."""
    key = f"{PROBE}-{secrets.token_hex(8)}"
    try:
        found = judge_conditions(client, key)
    except TreeError:
        if not is_single:
            raise
        client.put(key, b"")  # some engines answer a condition with an error
        client.delete([key])
        return "none"
    if found.is_safe:
        return "bare" if found.takes_bare else "etag"
    if is_single:
        _log.warning("store.ignores_conditions", problem=found.describe())
        return "none"
    problem = (
        f"this store ignores the conditions of a put ({found.describe()}), so it can't keep one"
        " writer: choose another store, or set `single-writer = true` in [mirror] if you"
        " guarantee that nobody else writes there"
    )
    raise TreeError(path=str(client.address), problem=problem)


async def seize_lock(
    client: ObjectClient, *, wait_s: float, is_single_writer: bool
) -> tuple[Claim, Lease]:
    """Take the lock of a tree for a root that has no state yet; return its claim and the lock.

    A process of this claim takes the lock over at once. Raises ``LockHeld``, ``TreeError``.
    """
    conditions = await anyio.to_thread.run_sync(_judge, client, is_single_writer)
    lease = Lease(client, root=secrets.token_hex(16), etag_form=_form(conditions))
    take = partial(lease.take, (), wait_s=wait_s, may_adopt=True)
    try:
        await anyio.to_thread.run_sync(take, abandon_on_cancel=True)
    except BaseException:
        lease.give_up()
        raise
    claim = Claim(
        address=str(client.address), root=lease.root, conditions=conditions, nonces=(lease.nonce,)
    )
    return claim, lease


class WorkerGate:
    """The gate of a worker process: the main process holds the lock, and a blob needs no fence."""

    def __init__(self, conditions: str) -> None:
        """``conditions``: as the claim has them."""
        self._form = _form(conditions)

    def enter(self) -> None:
        """Nothing to do."""

    def enter_for_page(self) -> None:
        """Never: a worker writes no page."""
        raise AssertionError

    enter_for_delete = enter_for_page

    def condition(self, etag: str) -> str | dict[str, str]:
        """Return the mode of a put over this ETag."""
        if self._form is None:
            return "overwrite"
        return {"e_tag": self._form(etag)} if etag else "create"


def _form(conditions: str) -> Callable[[str], str] | None:
    """Return the form in which the engine takes an ETag; None where it ignores conditions."""
    match conditions:
        case "etag":
            return str
        case "bare":
            return _bare
    return None


def _bare(etag: str) -> str:
    return etag.strip('"')
