"""Turns the exception that ended a command into a line on stderr and an exit code."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path
from typing import Final

from mirror.cli.memory import is_limit_reached, write_memory_limit
from mirror.cli.outcome import write_error
from mirror.errors import MirrorError, WrongUser, leaves_of
from mirror.exit_codes import ExitCode, exit_code_for, first_of
from mirror.logs import get_logger, use_default_logging
from mirror.tree.disk.failures import tree_error

_DISK_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)
_FILE_ERRORS: Final = _DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO}
"""Errors of the disk where they name a file."""


def report_failure(error: BaseException) -> ExitCode:
    """Print the failure on stderr, and return the exit code: one line for an expected error and for
    memory that ran out, a traceback for a bug.
    """
    if usage := usage_error(error):
        write_error(usage)
        return ExitCode.USAGE
    if expected := expected_errors(error):
        for one in expected:
            if isinstance(one, WrongUser):
                one.command = own_command()
        for line in dict.fromkeys(str(one) for one in expected):
            write_error(f"error: {line}")
        return first_of(map(exit_code_for, expected))
    if is_limit_reached():
        write_memory_limit()
        return ExitCode.STORAGE
    use_default_logging()
    get_logger(__name__).error("program.failed", exc_info=error)
    return ExitCode.BUG


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
