"""Exit codes: their meaning, their order of precedence, and the code of each error and failure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from mirror.errors import (
    AccessDenied,
    BundleError,
    ConfigError,
    IntegrityError,
    LockHeld,
    MirrorError,
    NotProved,
    Reason,
    StateError,
    StillWithdrawn,
    TreeError,
    UpstreamError,
)


class ExitCode(IntEnum):
    """The exit codes that a script may rely on."""

    OK = 0
    BUG = 1
    USAGE = 2
    DENIED = 3
    UPSTREAM = 4
    PARTIAL = 5
    STORAGE = 6
    DAMAGED = 7
    LOCKED = 8
    SIGINT = 130
    SIGTERM = 143


_ORDER = (
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.USAGE,
    ExitCode.LOCKED,
    ExitCode.STORAGE,
    ExitCode.BUG,
    ExitCode.DENIED,
    ExitCode.UPSTREAM,
    ExitCode.DAMAGED,
    ExitCode.PARTIAL,
)
"""Order of precedence. A signal comes first: whatever else was found, the work was not finished."""


SIGNALS = frozenset({ExitCode.SIGINT, ExitCode.SIGTERM})
"""The codes of a stop by a signal."""


def first_of(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that counts among those that apply; ``OK`` where none does."""
    applying = frozenset(codes)
    return next((code for code in _ORDER if code in applying), ExitCode.OK)


def exit_code_for(error: MirrorError) -> ExitCode:
    """Return the code of a command that ended with this error."""
    match error:
        case ConfigError():
            return ExitCode.USAGE
        case LockHeld():
            return ExitCode.LOCKED
        case StateError() | TreeError():
            return ExitCode.STORAGE
        case BundleError() | NotProved() | StillWithdrawn():
            return ExitCode.DAMAGED
        case AccessDenied(ends_index=False):
            return ExitCode.PARTIAL
        case AccessDenied():
            return ExitCode.DENIED
        case UpstreamError():
            return ExitCode.UPSTREAM
        case IntegrityError():
            return ExitCode.PARTIAL
    return ExitCode.BUG


def exit_code_of_index(reason: Reason) -> ExitCode:
    """Return the code that the failure of a whole index means, as the ledger has it."""
    match reason:
        case Reason.DENIED:
            return ExitCode.DENIED
        case Reason.INTERNAL:
            return ExitCode.BUG
        case Reason.STORAGE | Reason.NO_SPACE:
            return ExitCode.STORAGE
    return ExitCode.UPSTREAM


def exit_code_of_failure(reason: Reason) -> ExitCode:
    """Return the code that a failure in a cycle's report means, of a page, a file or a removal."""
    match reason:
        case Reason.INTERNAL:
            return ExitCode.BUG
        case Reason.STORAGE:
            return ExitCode.STORAGE
        case Reason.SHRINK:
            return ExitCode.UPSTREAM
        case Reason.WITHHELD:
            return ExitCode.OK
    return ExitCode.PARTIAL
