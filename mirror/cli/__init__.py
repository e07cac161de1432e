"""The command line: arguments become one command, a command one exit code.

``main`` is the one place where an exception becomes an exit code. Each group of commands has a
file. ``--help`` imports all of them, and so takes 0.1 s of CPU. A module that only the command
itself needs is imported within a function; the milliseconds in the comment are the CPU time by
which the same import at the top of the file would delay the help.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from mirror.cli.memory import is_out_of_memory, write_memory_limit

_RARELY = (20_000, 20, 50)
"""Thresholds of the garbage collector.

Counting references frees most objects of a cycle; the usual collection after every 700 new objects
takes a twentieth of its time.
"""
_RESERVE_BYTES = 1 << 20
"""Memory that is freed where the program fails, so that there is some to say why."""
_STORAGE = 6
"""``ExitCode.STORAGE``, also where its module can't be imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    ``arguments`` are those of the process by default.
    """
    if arguments is None:
        gc.set_threshold(*_RARELY)
    given = list(sys.argv[1:] if arguments is None else arguments)
    reserve = bytearray(_RESERVE_BYTES)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as exc:
        del reserve
        return 130 if exc.subgroup(KeyboardInterrupt) else _end_of(exc)
    except Exception as exc:  # noqa: BLE001 - the border of the program: nothing may end without its exit code
        del reserve
        return _end_of(exc)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from mirror.cli.outcome import show_version  # 23 ms

        show_version()
        return 0
    # 60 ms
    from typer.main import get_command

    from mirror.cli.groups import command_of, group_of, only
    from mirror.cli.outcome import close_output

    command = command_of(arguments)
    group = group_of(command)
    if group is None:
        from mirror.cli.app import app  # 103 ms

        group = only(app, command)

    try:
        # Not app(), which installs an exception hook of its own; not standalone, where typer prints
        # a usage error itself, with the user's arguments, which may include a URL with a password.
        code = get_command(group).main(args=arguments, prog_name="mirror", standalone_mode=False)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            # The reader of the help or of a completion has seen enough.
            close_output()
            return 0
        code = ended.code
    return code if isinstance(code, int) else 0


def _end_of(error: BaseException) -> int:
    """Return the exit code of an error; memory may run out on the way there too."""
    if not is_out_of_memory(error):
        try:
            return _report(error)
        except (MemoryError, ImportError, OSError) as exc:
            if not is_out_of_memory(exc):
                raise
    write_memory_limit()
    return _STORAGE


def _report(error: BaseException) -> int:
    """Print the failure on stderr, and return the exit code: one line for an expected error, a
    traceback for a bug.
    """
    # 31 ms
    from mirror.cli.outcome import expected_errors, own_command, usage_error, write_error
    from mirror.errors import WrongUser
    from mirror.exit_codes import ExitCode, exit_code_for, first_of
    from mirror.logs import get_logger, use_default_logging

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
    use_default_logging()
    get_logger(__name__).error("program.failed", exc_info=error)
    return ExitCode.BUG
