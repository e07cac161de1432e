"""Messages between a worker process and the main process of the cycle (sent through ``channel``).

All are MessagePack of known types. One part is pickled: the configuration in ``Open``, which only
the main process sends, to a copy of itself.
"""

from __future__ import annotations

import pickle
from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from mirror import errors
from mirror.config import IndexConfig, Limits
from mirror.core.model import ProjectPage, Validators
from mirror.core.names import ProjectName
from mirror.core.store_address import StoreAddress
from mirror.errors import MirrorError
from mirror.tree.files import PlacedBlob
from mirror.tree.layout import Layout
from mirror.upstream.access import RefusedRequest
from mirror.upstream.connections.addresses import Reach
from mirror.upstream.credentials import Credential
from mirror.upstream.index import PageAnswer, Read, Unchanged
from mirror.upstream.limits.retry import RetryPolicy
from mirror.upstream.limits.traffic import Traffic
from mirror.workers.channel import Codec
from mirror.workers.transfer import FetchJob

if TYPE_CHECKING:
    from mirror.tree.objects.client import ObjectClient

_LARGEST = 2**63 - 1


class Message(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """One message, or a part of one that may also be another: an array that begins with its type's
    name.
    """


class StorePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a process puts its files, where the tree lies in an object store."""

    address: StoreAddress
    conditions: str
    """How the engine takes conditions (``state.objects.Claim``)."""
    connect_timeout_s: float
    stall_timeout_s: float

    @classmethod
    def of(cls, client: ObjectClient, conditions: str) -> StorePlace:
        """Return the place of a client."""
        return cls(
            address=client.address,
            conditions=conditions,
            connect_timeout_s=client.connect_timeout_s,
            stall_timeout_s=client.stall_timeout_s,
        )


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Whose files a fetch process fetches, and how."""

    index: IndexConfig
    limits: Limits
    """``max-connections``, ``pages`` and ``downloads`` are its own share."""
    layout: Layout
    store: StorePlace | None = None
    """None: the tree lies on the disk."""
    retry_policy: RetryPolicy
    credential: Credential | None
    credential_from: str
    own_reach: Reach | None
    """How public the index is; a worker must not look this up again, since the name's owner may
    answer otherwise by then.
    """


class Open(Message, frozen=True, kw_only=True):
    """The first message to a fetch process."""

    orders: bytes
    """``Orders``, pickled: the configuration has values that only Python has."""

    @classmethod
    def of(cls, orders: Orders) -> Open:
        """Return the message for some orders."""
        return cls(orders=pickle.dumps(orders, protocol=pickle.HIGHEST_PROTOCOL))

    def read(self) -> Orders:
        """Return the orders; in the worker only."""
        orders: Orders = pickle.loads(self.orders)  # noqa: S301 - from the main process
        return orders


class FetchOrder(Message, frozen=True, kw_only=True):
    """A file to fetch and the number of its outcome."""

    number: int
    job: FetchJob


class KnownPage(msgspec.Struct, frozen=True, array_like=True):
    """A project, the validators of its page, its address and its origin, where they are not the
    usual ones.
    """

    name: ProjectName
    etag: str | None = None
    last_modified: str | None = None
    serial: int | None = None
    digest: str | None = None
    """None: there are no validators."""
    address: str | None = None
    """None: the usual one."""
    origin: str | None = None
    """None: the index's own."""

    @property
    def validators(self) -> Validators | None:
        """The validators of the page."""
        if self.digest is None:
            return None
        return Validators(
            etag=self.etag,
            last_modified=self.last_modified,
            serial=self.serial,
            digest=self.digest,
        )


class ReadPages(Message, frozen=True, kw_only=True):
    """Pages to read; the first one has the number ``first``, the others follow."""

    first: int
    pages: tuple[KnownPage, ...]


class JobOutcome(Message, frozen=True, kw_only=True):
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
    """A ``PageAnswer`` as ``pack_answer`` makes it: many packed ones may wait in a fraction of the
    room.
    """
    error: MirrorError | None = None
    bug: str | None = None
    """The kind of that exception; the log has it."""


class WorkerReport(Message, frozen=True, kw_only=True):
    """A worker's work since its last report."""

    traffic: Traffic | None
    has_served: bool = False
    """Whether the index served a page or a file to it."""
    outcomes: tuple[JobOutcome | int, ...] = ()
    """In order of arrival. A number alone: this page is unchanged, by the same validators."""


def known_page(
    name: ProjectName, validators: Validators | None, address: str | None, origin: str | None
) -> KnownPage:
    """Return the fields of a page for a ``ReadPages``."""
    if validators is None:
        return KnownPage(name, address=address, origin=origin)
    return KnownPage(
        name,
        validators.etag,
        validators.last_modified,
        validators.serial,
        validators.digest,
        address,
        origin,
    )


class _PackedAnswer(msgspec.Struct, frozen=True, array_like=True):
    read: Read[ProjectPage] | None
    unchanged: Unchanged | None


_ANSWERS = msgspec.msgpack.Decoder(_PackedAnswer)
_PACK = msgspec.msgpack.Encoder()


def pack_answer(answer: PageAnswer) -> bytes:
    """Return the form of a page in an ``JobOutcome``."""
    if isinstance(answer, Read):
        return _PACK.encode(_PackedAnswer(answer, None))
    return _PACK.encode(_PackedAnswer(None, answer))


def unpack_answer(page: bytes) -> PageAnswer:
    """Return the page of an ``JobOutcome``. Raises ``msgspec.ValidationError``."""
    packed = _ANSWERS.decode(page)
    answer = packed.read or packed.unchanged
    if answer is None:
        raise msgspec.ValidationError("no page")
    return answer


class LogLine(Message, frozen=True, kw_only=True):
    """A line for the log."""

    line: str


class RefusalMet(Message, frozen=True, kw_only=True):
    """The index refused a request; the worker asks for the meaning, by this number."""

    number: int
    refusal: RefusedRequest


class RefusalAnswer(Message, frozen=True, kw_only=True):
    """The meaning of a refusal; without an error the request is to be repeated, with the credential
    that was sent before.
    """

    number: int
    error: MirrorError | None = None


class NewCredential(Message, frozen=True, kw_only=True):
    """The credential to use from now on."""

    credential: Credential | None


class Stop(Message, frozen=True):
    """Give up unfinished jobs, keep their partial files, and reply with ``Stopped``."""


class Stopped(Message, frozen=True):
    """No message follows."""


class _SentError(msgspec.Struct, frozen=True, array_like=True):
    """An error, by the name of its class and the values of its fields."""

    kind: str
    values: dict[str, Any]

    @classmethod
    def of(cls, error: MirrorError) -> _SentError:
        """Return the form of an error in a message."""
        values = {name: _sendable(value) for name, value in error.values().items()}
        return cls(type(error).__name__, values)

    def read(self) -> MirrorError:
        """Return the error. Raises ``ValueError`` where it is none of this program."""
        kind, values = _error_type(self.kind)
        return kind(**msgspec.structs.asdict(msgspec.convert(self.values, values)))


def _sendable(value: object) -> object:
    """Return a value as MessagePack has it: a path may hold other bytes than UTF-8, a header any
    number.
    """
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace").decode()
    if type(value) is int:
        return max(-_LARGEST, min(value, _LARGEST))
    return value


@cache
def _error_type(name: str) -> tuple[type[MirrorError], type[msgspec.Struct]]:
    """Return a kind of error, and the type of its fields, by which they are checked.

    Raises ``ValueError``.
    """
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, MirrorError)):
        raise ValueError(f"{name!r} is no error")  # noqa: TRY004 - a value of a message
    hints = get_type_hints(kind)
    fields = [(field, hints[field]) for field in kind.field_names()]
    return kind, msgspec.defstruct(f"{name}Values", fields, forbid_unknown_fields=True)


def _encode_other(value: object) -> object:
    if isinstance(value, MirrorError):
        return _SentError.of(value)
    raise NotImplementedError(f"no message has a {type(value).__name__}")


def _decode_other(kind: type, value: object) -> object:
    if kind is MirrorError:
        return msgspec.convert(value, _SentError).read()
    raise NotImplementedError(f"no message has a {kind.__name__}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_TO_WORKER = Open | FetchOrder | ReadPages | RefusalAnswer | NewCredential | Stop
_FROM_WORKER = WorkerReport | LogLine | RefusalMet | Stopped
MAIN_END = Codec(
    encode=_ENCODER.encode,
    decode=msgspec.msgpack.Decoder(_FROM_WORKER, dec_hook=_decode_other).decode,
)
WORKER_END = Codec(
    encode=_ENCODER.encode,
    decode=msgspec.msgpack.Decoder(_TO_WORKER, dec_hook=_decode_other).decode,
)
