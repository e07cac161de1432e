"""The guard against blocking calls in the event loop: blockbuster's functions, with a look at the stack that is quicker.

Blockbuster reads each frame down to the start of pytest at each call that could block, a twentieth of the time of a test
of whole cycles. The look here ends where the event loop calls back: what lies below it has called no coroutine. It also
remembers of each file whether it is the mirror's.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

from blockbuster import BlockBuster, BlockingError, blockbuster

MAY_BLOCK = (
    # An import inside a coroutine reads its file once; what is imported late keeps the start of the program fast.
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    # Credentials, .netrc and certificates are small local files, read when an index is opened or its credential asked.
    ("ssl.py", {"create_default_context", "load_default_certs"}),
    # A failed write of the state asks once for the room on the disk that has just answered SQLite.
    ("mirror/state/store.py", {"_full_disk"}),
)
"""Where blocking is allowed inside the event loop: (end of a module's path, functions), each with its reason."""

_running_loop = asyncio._get_running_loop
_BELOW_COROUTINES = asyncio.BaseEventLoop._run_once.__code__


class _Looking(threading.local):
    """Whether this thread looks at a call: what the look itself calls is not looked at."""

    value = False


_looking = _Looking()


def _guarded(
    modules: tuple[str, ...],
    _excluded: tuple[str, ...],
    function: Callable[..., Any],
    name: str,
    allowed: list[tuple[str, Iterable[str]]],
    may_block: Callable[..., bool],
) -> Callable[..., Any]:
    """Return the function that stands for one that could block."""
    allowed_names = frozenset(function for _, functions in allowed for function in functions)

    @cache
    def is_of_modules(path: str) -> bool:
        return path.startswith(modules)

    @cache
    def is_allowed(path: str, caller: str) -> bool:
        return any(path.endswith(end) and caller in functions for end, functions in allowed)

    def is_refused(frame: FrameType | None) -> bool:
        is_from_modules = False
        while frame is not None:
            code = frame.f_code
            if code is _BELOW_COROUTINES:
                break
            if not is_from_modules:
                is_from_modules = is_of_modules(code.co_filename)
            if code.co_name in allowed_names and is_allowed(code.co_filename, code.co_name):
                return False
            frame = frame.f_back
        return is_from_modules

    def guarded(*arguments: Any, **options: Any) -> Any:
        if _running_loop() is None or _looking.value:
            return function(*arguments, **options)
        _looking.value = True
        try:
            if not may_block(*arguments, **options) and is_refused(sys._getframe(1)):
                raise BlockingError(name)
            return function(*arguments, **options)
        finally:
            _looking.value = False

    return guarded


def _made() -> BlockBuster:
    blockbuster._wrap_blocking = _guarded
    guard = BlockBuster("mirror")
    for function in guard.functions.values():
        function.can_block_functions.extend(MAY_BLOCK)
    return guard


_GUARD = _made()
"""Made before any test runs: it puts back the functions as they were then."""


@contextmanager
def no_blocking() -> Iterator[None]:
    """Fail each call from a module of ``mirror`` that blocks an event loop while this is open."""
    _GUARD.activate()
    try:
        yield
    finally:
        _GUARD.deactivate()
