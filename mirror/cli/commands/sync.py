"""``mirror sync``: run a cycle and print its result."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_json, write_out
from mirror.cli.text import folded, stdout_width
from mirror.errors import ConfigError, UnsafeName
from mirror.exit_codes import ExitCode, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio import CancelScope

    from mirror.cli.words.cycle import Place
    from mirror.config import Config
    from mirror.core.names import ProjectName
    from mirror.jobs.once import OnceResult
    from mirror.sync.cycle_parts import Options
    from mirror.sync.report import Report
    from mirror.workers.fork_server import ForkServer

_LEAVE_S = 2.0
"""How long to wait for threads once everything is done and closed."""


def sync(
    options: GlobalOptions,
    once: Annotated[bool, typer.Option("--once", help="Run one cycle, then exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and change nothing.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Read every page again.")] = False,
    index: Annotated[
        list[str] | None,
        typer.Option("--index", metavar="NAME", help="Only this index; repeatable."),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option("--project", metavar="NAME", help="Only this project; repeatable."),
    ] = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Lift the removal brake for this cycle.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one report object on stdout.")
    ] = False,
    index_url: Annotated[
        str | None,
        typer.Option(
            "--index-url",
            metavar="URL",
            help="Mirror this index into --root, without a configuration file.",
        ),
    ] = None,
) -> ExitCode:
    """Keep the mirror up to date, as a service or once."""
    # 924 ms
    from mirror.core.names import normalize_project
    from mirror.jobs.once import OnceResult
    from mirror.sync.cycle_parts import Options

    if not once:
        narrowed = {"--dry-run": dry_run, "--full": full, "--index": index, "--project": project}
        _refuse_without_once(narrowed | {"--allow-shrink": allow_shrink, "--json": json})
        return _serve(options, index_url)
    try:
        names = tuple(normalize_project(name) for name in project or ())
    except UnsafeName as exc:
        raise ConfigError(where="--project", problem=str(exc)) from exc
    config = options.load_config(index_url=index_url)
    _refuse_unwanted(config, names, index or ())
    wanted = Options(
        refuses_unlisted=True,
        full=full,
        dry_run=dry_run,
        allow_shrink=allow_shrink,
        indexes=tuple(index or ()),
        projects=names,
    )
    result = OnceResult()

    def write_report() -> None:
        if result.report is not None:
            _write_report(result.report, _place(options, config), dry_run=dry_run, as_json=json)

    with nullcontext() if dry_run else _fork_server() as fork_server:
        return run_async(_sync_once, options, config, wanted, fork_server, result, write_report)


def _fork_server() -> AbstractContextManager[ForkServer | None]:
    """Start the fork server, while there is one thread and all modules that the workers need are
    imported.
    """
    # 847 ms
    import mirror.wiring  # noqa: F401
    from mirror.workers.fork_server import started_fork_server
    from mirror.workers.process import serve

    return started_fork_server(serve)


def _refuse_unwanted(config: Config, names: Sequence[ProjectName], indexes: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a project that the patterns of each index leave out: no request is
    made for it.
    """
    from mirror.core.policy import compile_selections  # 93 ms

    selections = compile_selections([index.policy(config.limits) for index in config.indexes])
    asked = [
        selection for selection in selections if not indexes or selection.policy.name in indexes
    ]
    for name in names:
        rules = [
            f"{s.rule_against_project(name)} of {s.policy.name}"
            for s in asked
            if not s.wants_project(name)
        ]
        if asked and len(rules) == len(asked):
            raise ConfigError(
                where="--project", problem=f"{name} is left out by {' and by '.join(rules)}"
            )


def _refuse_without_once(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise ConfigError(
                where=option, problem="only together with --once; without it this is the daemon"
            )


def _serve(options: GlobalOptions, index_url: str | None) -> ExitCode:
    """Run the daemon until a signal ends it."""
    # 1032 ms
    from mirror.daemon.service import Daemon
    from mirror.daemon.web import LogChoice

    def load() -> Config:
        return options.load_config(index_url=index_url)

    config = load()
    with _fork_server() as fork_server:
        level, log_format = options.log_choice
        daemon = Daemon(
            config,
            load=load,
            env=dict(os.environ),
            wait_s=options.wait_s,
            fork_server=fork_server,
            log=LogChoice(level=level, format=log_format),
        )

        async def run() -> None:
            await daemon.run()
            _leave_soon(ExitCode.OK)

        run_async(run)
    return ExitCode.OK


def _leave_soon(code: ExitCode) -> None:
    """End the process in a moment, also where a thread hangs: Python and the service manager would
    wait for it.

    Everything is done, closed and printed by now. A thread that may hang only reads: from a name
    server or a file that does not answer, or a large file that is hashed.
    """
    timer = threading.Timer(_LEAVE_S, os._exit, (int(code),))
    timer.daemon = True
    timer.start()


async def _sync_once(
    options: GlobalOptions,
    config: Config,
    wanted: Options,
    fork_server: ForkServer | None,
    into: OnceResult,
    write_report: Callable[[], None],
) -> ExitCode:
    """Run one cycle and print its result, while the process still waits for each of its threads."""
    # 882 ms
    import anyio

    from mirror.jobs.once import run_once

    progress = None
    if options.is_interactive:
        from mirror.cli.progress import shown_progress  # 1 ms

        progress = shown_progress
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, tasks.cancel_scope, into.caught)
        await run_once(
            config,
            wanted,
            env=dict(os.environ),
            wait_s=options.wait_s,
            fork_server=fork_server,
            into=into,
            progress=progress,
        )
        tasks.cancel_scope.cancel()
    code = first_of(into.caught) if into.exit_code is None else into.exit_code
    try:
        write_report()
    finally:
        if into.caught:
            _leave_soon(code)
    return code


async def _watch_signals(scope: CancelScope, caught: list[ExitCode]) -> None:
    """Cancel everything at the first SIGTERM or SIGINT; finished work stays."""
    import anyio  # 4 ms

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            caught.append(ExitCode.SIGINT if number is signal.SIGINT else ExitCode.SIGTERM)
            scope.cancel()


def _write_report(report: Report, place: Place, *, dry_run: bool, as_json: bool) -> None:
    """Print the result on stdout: one object for a machine, else words that fit the terminal."""
    if as_json:
        write_json(report.as_json())
        return
    if dry_run:
        from mirror.cli.words.plan import describe_plan  # 25 ms

        lines = describe_plan(report, place)
    else:
        from mirror.cli.words.cycle import describe_cycle  # 24 ms

        lines = describe_cycle(report, place)
    write_out("\n".join(folded(lines, stdout_width())))


def _place(options: GlobalOptions, config: Config) -> Place:
    # 43 ms
    from mirror.cli.words.cycle import Place
    from mirror.tree.layout import Layout

    root = config.mirror.root
    if config.source == "--index-url":
        chosen = f"--root {shlex.quote(str(options.root or root))}"
    else:
        chosen = f"--config {shlex.quote(str(options.config))}" if options.config else ""
    simple = str(Layout(root).simple)
    return Place(simple=simple, store=config.mirror.tree or None, options=chosen)
