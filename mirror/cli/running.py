"""Runs the asynchronous work of a command, and ends its process."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio

from mirror.exit_codes import ExitCode

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LEAVE_S = 2.0
"""How long to wait for threads once everything is done and closed."""


def run_async(function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """Call an asynchronous function on a new event loop, and return its result."""
    return anyio.run(function, *arguments)


def leave_soon(code: ExitCode) -> None:
    """End the process in a moment, also where a thread hangs: Python and the service manager would
    wait for it.

    Everything is done, closed and printed by now. A thread that may hang only reads: from a name
    server or a file that does not answer, or a large file that is hashed.
    """
    timer = threading.Timer(_LEAVE_S, os._exit, (int(code),))
    timer.daemon = True
    timer.start()
