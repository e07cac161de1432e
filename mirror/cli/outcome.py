"""The results of a command: of its asynchronous work, and on its terminal as lines of output and
as lines of errors without secrets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

from mirror import __version__
from mirror.core.words.direction_marks import escape_marks
from mirror.errors import MirrorError, TreeError, leaves_of
from mirror.logs import error_priority, redact

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DISK_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)
_FILE_ERRORS: Final = _DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}
"""Errors of the disk where they name a file."""


def run_async(function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """Call an asynchronous function on a new event loop, and return its result."""
    import anyio  # 10 ms

    return anyio.run(function, *arguments)


def expected_errors(error: BaseException) -> tuple[MirrorError, ...]:
    """Return the errors that were raised on purpose: one, or the members of a group; none if a bug
    is among them. An error of the disk that no other place has turned into one is expected too.
    """
    leaves = tuple(map(_as_tree_error, leaves_of(error)))
    expected = tuple(leaf for leaf in leaves if isinstance(leaf, MirrorError))
    return expected if len(expected) == len(leaves) else ()


def _as_tree_error(error: BaseException) -> BaseException:
    if not isinstance(error, OSError):
        return error
    known = _DISK_ERRORS if error.filename is None else _FILE_ERRORS
    from mirror.tree.atomic import tree_error  # 21 ms: only here: --version and --help need no tree

    return tree_error(error, "the mirror's disk") if error.errno in known else error


def usage_error(error: BaseException) -> str:
    """Return the message for arguments that typer refused; empty for any other error.

    Recognised by its attributes: the class has moved between the versions of typer.
    """
    message = getattr(error, "format_message", None)
    if getattr(error, "exit_code", None) is None or message is None:
        return ""
    context = getattr(error, "ctx", None)
    advice = f"; see `{context.command_path} --help`" if context is not None else ""
    # Newer typers contain pydantic, which prefixes a parser's message with "Value error, ".
    return f"error: {str(message()).replace('Value error, ', '').rstrip('.')}{advice}"


def write_error(line: str) -> None:
    """Print one line on stderr, free of secrets. A closed stderr changes no exit code."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            shown = escape_marks(redact(" ".join(line.splitlines())))
            print(f"{error_priority(sys.stderr)}{shown}", file=sys.stderr)


def write_out(text: str, *, end: str = "\n") -> None:
    """Print ``text`` as a line of the command's result, or with another ``end`` as a part of one.

    Raises ``TreeError`` if standard output can't be written. A reader that has seen enough (``|
    head``) is not an error, and takes nothing from the command's exit code.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{escape_marks(text)}{end}")
        sys.stdout.flush()
    except BrokenPipeError:
        close_output()
    except OSError as exc:
        close_output()
        raise TreeError(
            path="standard output", problem=f"can't be written: {exc.strerror}"
        ) from exc


def write_json(value: Any) -> None:
    """Print one JSON object on a line of its own. Raises ``TreeError`` as ``write_out`` does."""
    import msgspec  # 31 ms: not needed for --version and --help

    write_out(msgspec.json.encode(value).decode())


def own_command() -> str:
    """Return the command that runs now, as a shell reads it; the program by its full path, since
    another user runs it.
    """
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        program = [sys.executable, "-m", "mirror"]
    else:
        program = [str(path.absolute())] if path.name == "mirror" else ["mirror"]
    return shlex.join([*program, *sys.argv[1:]])


def show_version() -> None:
    """Print the program's name and version."""
    write_out(f"mirror {__version__}")


def close_output() -> None:
    """Redirect standard output's buffered rest to nowhere, so that the interpreter's exit does not
    write it again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
