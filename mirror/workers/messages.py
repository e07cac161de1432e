"""Messages between a worker process and the main process of the cycle (sent through ``channel``)."""

from __future__ import annotations

import pickle

import msgspec

from mirror.config import IndexConfig, Limits
from mirror.core.model import Validators
from mirror.core.names import ProjectName
from mirror.errors import MirrorError
from mirror.tree.files import PlacedBlob
from mirror.tree.layout import Layout
from mirror.upstream.access import RefusedRequest
from mirror.upstream.connections.addresses import Reach
from mirror.upstream.credentials import Credential
from mirror.upstream.index import PageLook
from mirror.upstream.limits.retry import RetryPolicy
from mirror.upstream.session import Traffic
from mirror.workers.transfer import FetchJob


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a fetch process: whose files it fetches, and how."""

    index: IndexConfig
    limits: Limits
    """``max-connections``, ``pages`` and ``downloads`` are its own share."""
    layout: Layout
    retry_policy: RetryPolicy
    credential: Credential | None
    credential_from: str
    own_reach: Reach | None
    """How public the index is; a worker must not look this up again, since the name's owner may
    answer otherwise by then.
    """


class FetchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch and the number of its outcome."""

    number: int
    job: FetchJob


KnownPage = (
    tuple[ProjectName]
    | tuple[ProjectName, str | None, str | None, int | None, str | None]
    | tuple[ProjectName, str | None, str | None, int | None, str | None, str | None, str | None]
)
"""A project, the validators of its page, its address and its origin, where they are not the usual ones.

The name alone where nothing else is known. A tuple: it is written much faster.
"""


class ReadPages(msgspec.Struct, frozen=True, kw_only=True):
    """Pages to read; the first one has the number ``first``, the others follow."""

    first: int
    pages: tuple[KnownPage, ...]


class JobOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a job: a blob in its place (not durable yet), a page, or an error.

    None of them: the page is too large to be sent, or an unexpected exception was raised.
    """

    number: int
    blob: PlacedBlob | None = None
    metadata: bytes | None = None
    """Metadata fetched with the blob, to be judged and placed by the main process."""
    has_large_metadata: bool = False
    """Whether the metadata is too large to be sent; the main process fetches it again."""
    page: bytes | None = None
    """A ``PageLook`` as ``pack_look`` makes it: many may wait to be judged, and take a fraction of the room so."""
    error: MirrorError | None = None
    bug: str | None = None
    """The kind of that exception; the log has it."""


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's work since its last report."""

    traffic: Traffic | None
    let_out: bool = False
    """Whether the index served a page or a file to it."""
    outcomes: tuple[JobOutcome | int, ...] = ()
    """In order of arrival. A number alone: this page is unchanged, by the same validators."""


def known_page(
    name: ProjectName, validators: Validators | None, address: str | None, origin: str | None
) -> KnownPage:
    """Return the fields of a page for a ``ReadPages``."""
    if address is not None or origin is not None:
        known = validators or Validators()
        return (name, known.etag, known.last_modified, known.serial, known.digest, address, origin)
    if validators is None:
        return (name,)
    return (name, validators.etag, validators.last_modified, validators.serial, validators.digest)


def validators_of(page: KnownPage) -> Validators | None:
    """Return the validators of a page of a ``ReadPages``."""
    if len(page) == 1 or page[4] is None:
        return None
    return Validators(etag=page[1], last_modified=page[2], serial=page[3], digest=page[4])


def address_of(page: KnownPage) -> str | None:
    """Return the address of a page of a ``ReadPages``; None for the usual one."""
    return page[5] if len(page) == 7 else None


def known_origin_of(page: KnownPage) -> str | None:
    """Return the earlier origin of a page of a ``ReadPages``; None for the index's own origin."""
    return page[6] if len(page) == 7 else None


def pack_look(look: PageLook) -> bytes:
    """Return the form of a page in an ``JobOutcome``."""
    return pickle.dumps(look, protocol=pickle.HIGHEST_PROTOCOL)


def unpack_look(page: bytes) -> PageLook:
    """Return the page of an ``JobOutcome``."""
    look: PageLook = pickle.loads(page)  # noqa: S301 - from ourselves
    return look


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the log."""

    line: str


class RefusalMet(msgspec.Struct, frozen=True, kw_only=True):
    """The index refused a request; the worker asks for the meaning, by this number."""

    number: int
    refusal: RefusedRequest


class RefusalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of a refusal; without an error the request is to be repeated, with the credential
    that was sent before.
    """

    number: int
    error: MirrorError | None = None


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """The credential to use from now on."""

    credential: Credential | None


class Stop(msgspec.Struct, frozen=True):
    """Give up unfinished jobs, keep their partial files, and reply with ``Stopped``."""


class Stopped(msgspec.Struct, frozen=True):
    """No message follows."""
