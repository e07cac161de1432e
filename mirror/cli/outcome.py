"""The output of a command on its terminal: lines of its result, and of errors without secrets."""

from __future__ import annotations

import contextlib
import os
import sys

from mirror import __version__
from mirror.core.words.direction_marks import escape_marks
from mirror.errors import TreeError
from mirror.logs import error_priority, redact


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
