"""The tree of exceptions for every failure; each message names the user's way out.

::

    MirrorError
    ├── ConfigError                 wrong usage or configuration; nothing was touched
    │   └── WrongUser               a writing command, run by another user than the state's owner
    ├── LockHeld                    another process works on this mirror
    │   └── StoreLocked             another process writes to its object store
    ├── UpstreamError               one request could not be answered usefully
    │   ├── Unavailable             no connection, cut, stalled, 5xx, 429: all tries failed
    │   │   └── RefusedElsewhere    401 or 403 of the host that an index redirects to
    │   │       └── MissingElsewhere    404
    │   ├── AccessDenied            401, 403, or no usable credential
    │   │   └── CredentialLost      the credential of an index that was read with one is missing
    │   ├── NotFound                400, 404 or 410 on something that the index lists
    │   ├── Withheld                409: cooldown, policy, malware
    │   ├── BadPage                 an answer that is not a page of the simple repository API
    │   ├── RedirectRefused         a redirect or link to a forbidden target
    │   └── TooLarge                over a limit of the configuration
    ├── IntegrityError              bytes or names that must not be published
    │   ├── DigestMismatch
    │   ├── SizeMismatch
    │   ├── BadFile                 no digest is listed, and the bytes do not match the file's name
    │   ├── UnhashedRefused         no strong digest, and the index has ``unhashed = "refuse"``
    │   └── UnsafeName
    ├── NoRoom                      a file of unlisted size that the disk has no room for
    ├── StateError                  state.db is missing, damaged, newer or can't be written
    ├── TreeError                   the tree can't be written: read-only, no permission
    │   ├── KeyRefused              a name that can't be a key of the object store
    │   └── DiskFull                the disk is full, or full up to the reserve
    │       └── StoreFull           the object store is full
    ├── NotProved                   a want does not install, and a proof was required
    ├── StillWithdrawn              a snapshot has withdrawn files, and nobody accepted them
    └── BundleError                 a bundle can't be made, is damaged, or does not fit

Fields first; the sentence is built in ``__str__``. URLs and texts from an index are
attacker-controlled and may carry secrets: they pass ``shown_url`` and ``shown_text`` before they
reach a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, ClassVar, Self, dataclass_transform
from urllib.parse import urlsplit


class Reason(Enum):
    """Why a file or page is not held; the words of the report."""

    DIGEST_MISMATCH = "digest-mismatch"
    SIZE_MISMATCH = "size-mismatch"
    NOT_FOUND = "not-found"
    NOT_OFFERED = "not-offered"
    NOT_SERVED = "not-served"
    WITHHELD = "withheld"
    DENIED = "denied"
    UNREACHABLE = "unreachable"
    REDIRECT_REFUSED = "redirect-refused"
    BAD_PAGE = "bad-page"
    BAD_FILE = "bad-file"
    UNSAFE_NAME = "unsafe-name"
    TOO_LARGE = "too-large"
    REFUSED_UNHASHED = "refused-unhashed"
    UNRESOLVED = "unresolved"
    SHRINK = "shrink"
    STORAGE = "storage"
    NO_SPACE = "no-space"
    INTERNAL = "internal"


def lacks_threads(error: BaseException) -> bool:
    """Return whether the system has no room for another thread: nothing else goes on either, and no
    single file or page is at fault.
    """
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def shown_text(text: str, limit: int = 200) -> str:
    """Return ``text`` fit for one line of a terminal or log: control characters escaped, at most
    ``limit`` long.
    """
    if len(text) <= limit and text.isprintable():
        return text  # nearly all: every value of every log line passes here
    safe = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text[:limit]
    )
    return safe if len(text) <= limit else safe + "…"


def shown_url(url: str) -> str:
    """Return ``url`` without user info, query and fragment, fit for a message."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(an unreadable URL)"
    if not parts.scheme and not host:
        return shown_text(parts.path)
    return shown_text(f"{parts.scheme}://{host}{parts.path}")


def leaves_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the errors of an exception group, however deep; the error itself where it is no
    group.
    """
    if isinstance(error, BaseExceptionGroup):
        return tuple(leaf for inner in error.exceptions for leaf in leaves_of(inner))
    return (error,)


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the error itself where a task group wraps nothing but errors that are expected."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = leaves_of(group)
        if not all(isinstance(error, MirrorError) for error in errors):
            raise
        raise errors[0] from group


@dataclass_transform(kw_only_default=True, eq_default=False)
class MirrorError(Exception):
    """The root of all errors that this program raises on purpose.

    The annotations of a class are its fields, given by name, as in a dataclass. Thirty dataclasses
    would compile code for each of them at every start, 0.02 s of CPU.
    """

    reason: ClassVar[Reason] = Reason.INTERNAL
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._fields = tuple(dict.fromkeys((*cls._fields, *cls.__annotations__)))

    def __init__(self, **values: Any) -> None:
        super().__init__()
        kind = type(self)
        missing = [name for name in self._fields if name not in values and not hasattr(kind, name)]
        unknown = values.keys() - set(self._fields)
        if missing or unknown:
            wrong = ", ".join([*missing, *sorted(unknown)])
            raise TypeError(f"{kind.__name__}: fields that are missing or unknown: {wrong}")
        self.__dict__.update(values)

    def __str__(self) -> str:  # pragma: no cover - every subclass has its own sentence
        return type(self).__name__

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Return the names of all fields."""
        return cls._fields

    def values(self) -> dict[str, Any]:
        """Return the values of all fields."""
        return {name: getattr(self, name) for name in self._fields}

    def replaced(self, **values: Any) -> Self:
        """Return the same error with other values of some fields."""
        return type(self)(**self.values() | values)

    def __repr__(self) -> str:
        values = (f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({', '.join(values)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it cross to another process (pickle): an exception is built from positions, these
        from names.
        """
        return _rebuilt, (type(self), self.values())


def _rebuilt(kind: type[MirrorError], values: dict[str, Any]) -> MirrorError:
    return kind(**values)


class ConfigError(MirrorError):
    """Wrong usage or configuration.

    ``where`` is the key's full path or the option, ``problem`` the value that was expected.
    """

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem


class WrongUser(ConfigError):
    """A command that writes was run by another user than the owner of the state; nothing was
    touched.

    ``run_as``: the words that run a command as the owner. ``command``: the command to run so, as a
    shell reads it.
    """

    where: str = ""
    problem: str = ""
    path: str
    owner: str
    user: str
    run_as: tuple[str, ...]
    command: str = "mirror …"

    def __str__(self) -> str:
        return (
            f"{shown_text(self.path)} belongs to {self.owner}, and {self.user} would leave files"
            f" that {self.owner} can't change: run `{' '.join(self.run_as)} {self.command}`"
        )


class LockHeld(MirrorError):
    """Another process holds a lock of this mirror."""

    path: str
    pid: int | None

    def __str__(self) -> str:
        holder = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{holder} is working on this mirror ({self.path}); wait for it,"
            " or pass --wait DURATION"
        )


class StoreLocked(LockHeld):
    """Another process writes to the object store, or wrote there last. ``path``: of the object."""

    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class UpstreamError(MirrorError):
    """One request to an index could not be answered usefully.

    ``url`` may be raw; it is shown without its secrets.
    """

    reason = Reason.UNREACHABLE
    url: str


class Unavailable(UpstreamError):
    """No usable answer within the budget of tries."""

    cause: str
    attempts: int = 1
    retry_after_s: float | None = None
    is_final: bool = False
    """Whether the same request would only be refused again."""

    def __str__(self) -> str:
        tries = f" after {self.attempts} tries" if self.attempts > 1 else ""
        return f"{shown_url(self.url)} could not be fetched{tries}: {shown_text(self.cause)}"


class RefusedElsewhere(Unavailable):
    """The host that an index redirects to has answered 401 or 403, also when the index was asked
    once more.

    It proves nothing about the index. The host never gets the credential.
    """

    reason = Reason.DENIED
    detail: str = ""

    def __str__(self) -> str:
        words = f": {shown_text(self.detail)}" if self.detail else ""
        return f"{shown_url(self.url)} can't be had: {shown_text(self.cause)}{words}"


class MissingElsewhere(RefusedElsewhere):
    """The same with 404."""

    reason = Reason.NOT_FOUND


class AccessDenied(UpstreamError):
    """401 or 403, or a credential that can't be read.

    ``source`` names the origin of the credential, never its value.

    ``ends_index``: the whole index refuses access; False: only this page or file. ``detail``: the
    answer's own text, or the fault of the credential. ``host``: the host that refused access, where
    it is not the index itself.
    """

    reason = Reason.DENIED
    index: str
    status: int | None
    source: str
    ends_index: bool = True
    detail: str = ""
    had_credential: bool = True
    """Whether one was sent."""
    host: str = ""
    is_sign_in: bool = False
    """The index sent the request to a sign-in page."""

    def __str__(self) -> str:
        if self.ends_index:
            return self._of_index()
        who = f"host {self.host}" if self.host else f"index {self.index!r}"
        if self.is_sign_in:
            return f"{who} sent the request for {shown_url(self.url)} to a sign-in page"
        words = f": {shown_text(self.detail)}" if self.detail else ""
        return f"{who} refused {shown_url(self.url)} with status {self.status}{words}"

    def _of_index(self) -> str:
        if self.is_sign_in and not self.had_credential:
            return (
                f"index {self.index!r}: no credential was found, and the index sent the request"
                f" to a sign-in page for {shown_url(self.url)}; looked in {self.source}"
            )
        answer = f"answered {self.status}" if self.status else "has no usable credential"
        if self.is_sign_in:
            answer = "sent the request to a sign-in page"
        # without a status the text is the program's own, with advice in it
        limit = 200 if self.status else 1_000
        detail = f" ({shown_text(self.detail, limit)})" if self.detail else ""
        if self.status in {402, 451}:
            advice = "ask the index's operator for access"
        elif self.status and not self.had_credential:
            advice = f"no credential was found in {self.source}: set one if this index needs one"
        else:
            advice = (
                f"credential from {self.source}: check that it is set,"
                " has not expired and is entitled to this index"
            )
        return f"index {self.index!r} {answer} for {shown_url(self.url)}{detail}; {advice}"


class CredentialLost(AccessDenied):
    """An index that was read with a credential would be read without one now, and may show
    strangers less.
    """

    detail: str = "it was read with a credential, and none was found"

    def __str__(self) -> str:
        return (
            f"index {self.index!r} was read with a credential; none was found in {self.source}:"
            " nothing was asked. Set it again; to read the index without one,"
            f" run `mirror sync --once --allow-shrink --index {self.index}`"
        )


THE_INDEX = "the index"
THE_PAGE = "its page"
THE_CONFIGURATION = "the configuration"


def although_listed(lister: str) -> str:
    """Return how the sentence of a missing page or file ends."""
    if lister == THE_CONFIGURATION:
        return ": the configuration names it, and the index does not have it; it is tried again"
    return f" although {lister} lists it; it is tried again"


class NotFound(UpstreamError):
    """400, 404 or 410 for a page or file that the index lists, or for its root page; of a file,
    other 4xx as well.
    """

    reason = Reason.NOT_FOUND
    status: int
    is_root: bool = False
    lister: str = THE_INDEX
    """The document that lists it, in words; the configuration where ``list = "config"``."""
    hint: str = ""

    def __str__(self) -> str:
        if self.is_root:
            hint = f"; {self.hint}" if self.hint else ""
            return (
                f"{shown_url(self.url)} was not found: the server answered {self.status};"
                " check the URL, or use"
                f' list = "config" if it has no root page{hint}'
            )
        listed = although_listed(self.lister)
        return f"{shown_url(self.url)} was not found: the server answered {self.status}{listed}"


class Withheld(UpstreamError):
    """409: the index lists it and does not give it out.

    ``code`` is its own word, such as POLICY_COOLDOWN.
    """

    reason = Reason.WITHHELD
    code: str | None

    @property
    def is_withdrawal(self) -> bool:
        """Whether the index declares that the content must not be used."""
        return self.code in {"MALWARE_DETECTED", "POLICY_ORG_BLOCKLIST"}

    def __str__(self) -> str:
        return (
            f"{shown_url(self.url)} is withheld by the index"
            f" ({shown_text(self.code or 'no reason given')})"
        )


class BadPage(UpstreamError):
    """An answer that is not a page of the simple repository API."""

    reason = Reason.BAD_PAGE
    cause: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return (
            f"{shown_url(self.url)} is not a page of a simple index:"
            f" {shown_text(self.cause, 500)}{hint}"
        )


class RedirectRefused(UpstreamError):
    """A redirect or link that leads where it must not."""

    reason = Reason.REDIRECT_REFUSED
    target: str
    cause: str

    def __str__(self) -> str:
        return (
            f"{shown_url(self.url)} leads to {shown_url(self.target)}:"
            f" {shown_text(self.cause, 500)}"
        )


class TooLarge(UpstreamError):
    """Over a limit. ``setting`` is the configuration key that raises it."""

    reason = Reason.TOO_LARGE
    limit_bytes: int
    setting: str
    what: str = ""
    """The thing that is too large, where it is not the length."""
    size_bytes: int | None = None
    """The length, where it was announced."""

    def __str__(self) -> str:
        if self.what:
            return f"{shown_url(self.url)} {self.what}"
        return (
            f"{shown_url(self.url)} is larger than {self.limit_bytes} bytes;"
            f" raise {self.setting} to allow it"
        )


class IntegrityError(MirrorError):
    """Bytes or names that must not be published."""


class DigestMismatch(IntegrityError):
    """The bytes have another digest than the index lists."""

    reason = Reason.DIGEST_MISMATCH
    filename: str
    algorithm: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"{shown_text(self.filename)}: the index lists {self.algorithm} {self.expected}, "
            f"the bytes have {self.actual}; not published, tried again in the next cycle"
        )


class SizeMismatch(IntegrityError):
    """The body has another length than the index lists."""

    reason = Reason.SIZE_MISMATCH
    filename: str
    expected_bytes: int
    actual_bytes: int

    def __str__(self) -> str:
        return (
            f"{shown_text(self.filename)}: the index lists {self.expected_bytes} bytes, "
            f"{self.actual_bytes} came; not published, tried again in the next cycle"
        )


class BadFile(IntegrityError):
    """The index lists no digest, and the bytes don't match the file's name.

    ``problem`` describes the bytes.
    """

    reason = Reason.BAD_FILE
    filename: str
    problem: str

    def __str__(self) -> str:
        return (
            f"{shown_text(self.filename)}: the index lists no digest, and {self.problem};"
            " not published, tried again in the next cycle"
        )


class UnhashedRefused(IntegrityError):
    """The index lists no sha256 or stronger, and its configuration refuses such files."""

    reason = Reason.REFUSED_UNHASHED
    filename: str

    def __str__(self) -> str:
        return (
            f"{shown_text(self.filename)}: listed without a sha256 or stronger,"
            ' and unhashed = "refuse"'
        )


class UnsafeName(IntegrityError):
    """A name that must not become a path."""

    reason = Reason.UNSAFE_NAME
    name: str
    cause: str

    def __str__(self) -> str:
        return f"the name {shown_text(self.name)!r} is refused: {self.cause}"


class NoRoom(MirrorError):
    """A body whose size is not listed takes more of the disk than one file may.

    ``is_disk_full``: the disk is at fault, which has little room; else the body is.
    """

    size_bytes: int
    is_announced: bool
    room_bytes: int
    is_disk_full: bool = False

    @property
    def reason(self) -> Reason:  # type: ignore[override]
        """Return the cause: the disk, or a file that is too large for it."""
        return Reason.NO_SPACE if self.is_disk_full else Reason.TOO_LARGE

    def __str__(self) -> str:
        if self.is_disk_full:
            size = f"at least {self.size_bytes}" if not self.is_announced else str(self.size_bytes)
            return (
                f"the disk has room for {self.room_bytes} bytes above disk-reserve,"
                f" and it takes {size}; free some space, the next cycle tries it again"
            )
        came = "are announced" if self.is_announced else "came and no end of it is known"
        return (
            f"the index lists no size for it, {self.size_bytes} bytes {came}, and the disk has"
            f" room for {self.room_bytes} above disk-reserve; free some space,"
            " or have limits.file-size refuse it sooner"
        )


class StateError(MirrorError):
    """``state.db`` is missing, damaged, of a newer version, or can't be written.

    ``is_damage``: the file can't be used, and `mirror verify --repair` rebuilds it from the tree.
    """

    reason = Reason.STORAGE
    path: str
    problem: str
    is_damage: bool = False
    is_full: bool = False
    """Whether the disk is full."""
    is_older: bool = False
    """Whether an earlier version of this program wrote it, and the next cycle brings it up."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class TreeError(MirrorError):
    """The tree can't be written or read.

    ``problem`` includes the advice, with the free space where that matters.
    """

    reason = Reason.STORAGE
    path: str
    problem: str

    def is_below(self, directory: str) -> bool:
        """Whether the failed path is this directory or below it, so that other directories may
        still be writable.
        """
        return self.path == directory or self.path.startswith(f"{directory}/")

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class DiskFull(TreeError):
    """The disk is full, or full up to the reserve."""

    reason = Reason.NO_SPACE


class KeyRefused(TreeError):
    """A name can't be a key of the object store."""


class StoreFull(DiskFull):
    """The object store has no room for more."""


class NotProved(MirrorError):
    """A proof was required, and some wants don't install; nothing was made."""

    wants: tuple[str, ...]
    more: int
    gap: str

    def __str__(self) -> str:
        more = f" and {self.more:,} more" if self.more else ""
        names = ", ".join(map(shown_text, self.wants))
        return (
            f"refused: {names}{more} can't be installed ({shown_text(self.gap, 400)});"
            " `mirror check` names each gap"
        )


class StillWithdrawn(MirrorError):
    """A snapshot still has withdrawn files; nothing was made or promoted."""

    snapshot: str
    files: tuple[str, ...]
    more: int

    def __str__(self) -> str:
        more = f" and {self.more:,} more" if self.more else ""
        names = ", ".join(map(shown_text, self.files))
        return (
            f"refused: the snapshot {self.snapshot} still has withdrawn files ({names}{more});"
            " make a new one, or repeat the command with --accept-withdrawn"
        )


class BundleError(MirrorError):
    """A bundle can't be made, is damaged, or does not fit its target.

    ``problem`` includes the advice.
    """

    reason = Reason.STORAGE
    problem: str

    def __str__(self) -> str:
        return self.problem
