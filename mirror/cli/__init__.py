"""The command line: arguments become one command, a command one exit code.

``main`` is the one place where an exception becomes an exit code. ``--version`` needs nothing but
the output, the help nothing but the arguments of commands (``app``, ``arguments``), and a command
its own module of ``commands``, which imports at its top all that it works with; ``groups`` imports
that module. The milliseconds in a comment are the CPU time that ``--version`` is spared.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from mirror.cli.memory import is_limit_reached, is_out_of_memory, write_memory_limit

_RARELY = (100_000, 5, 40)
"""Thresholds of the garbage collector.

Counting references frees nearly all objects of a cycle; the usual collection after every 700 new
objects takes a twentieth of its time. The imports of a cycle make 70,000 objects, which live until
the end: none is collected before the first fork exempts them (``workers.fork_server``).
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

    from mirror.cli import app
    from mirror.cli.groups import command_of, describe
    from mirror.cli.outcome import close_output

    group = describe(app.PROGRAM, command_of(arguments))
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
            from mirror.cli.failures import report_failure  # 31 ms

            return report_failure(error)
        except Exception as exc:
            if not (is_out_of_memory(exc) or is_limit_reached()):
                raise
    write_memory_limit()
    return _STORAGE
