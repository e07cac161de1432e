"""Memory that runs out: how it differs from other errors, and the line that names the limit.

Only the standard library: memory may run out while the rest of the program is imported.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator

_WORDS = ("can't start new thread", "failed to map segment", "cannot allocate memory")
_WORDS_OF_C = ("without exception set", "without setting an exception")
"""Of the interpreter, where a library in C got no memory and did not report it."""

_NEAR_BYTES = 2 << 20
"""The allocators of Python and of C ask the system for at most half of it at once for small values.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; where it does, no thread is started and no library loaded
    either.
    """
    return any(_is_memory(one) for one in _chain(error))


def is_limit_reached() -> bool:
    """Return whether the process has come so near to its limit that a library may have got no
    memory: some report that as an error of another kind, such as TLS without ciphers.
    """
    limit_bytes = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit_bytes == resource.RLIM_INFINITY:
        return False
    try:
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - pathlib may not be there
            peaks = [line.split()[1] for line in status if line.startswith(b"VmPeak:")]
    except OSError:
        return False
    return any(limit_bytes - int(peak) * 1024 < _NEAR_BYTES for peak in peaks)


def memory_limit() -> str:
    """Return a sentence that says that memory ran out, which limit it was, and what to do."""
    limit_bytes = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit_bytes == resource.RLIM_INFINITY:
        return (
            "memory ran out: give the program more of it (MemoryMax= of its unit or container,"
            " or the machine's own)"
        )
    return (
        f"memory ran out: RLIMIT_AS allows {limit_bytes} bytes (`ulimit -v`,"
        " LimitAS= of the unit); raise it"
    )


def write_memory_limit() -> None:
    """Print that sentence on stderr, without whatever could not be imported."""
    line = f"error: {memory_limit()}"
    try:
        from mirror.cli.outcome import write_error  # 24 ms

        write_error(line)
    except BaseException:  # noqa: BLE001 - there is no memory for more than this
        os.write(2, f"{line}\n".encode())


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    if isinstance(error, SystemError):
        return any(words in str(error) for words in _WORDS_OF_C)
    return isinstance(error, ImportError | RuntimeError | OSError) and any(
        w in str(error).lower() for w in _WORDS
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those of a group, and what each came from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
