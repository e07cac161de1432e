"""``mirror sync``: run a cycle and say what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import ExitCode, exit_code_for, first_of, write_out
from mirror.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio import CancelScope

    from mirror.config import Config
    from mirror.sync.report import Report
    from mirror.sync.work import Options


def sync(
    options: GlobalOptions,
    once: Annotated[bool, typer.Option("--once", help="Run one cycle, then exit.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Read every page again.")] = False,
    index: Annotated[
        list[str] | None, typer.Option("--index", metavar="NAME", help="Only this index; repeatable.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option("--project", metavar="NAME", help="Only this project; repeatable.")
    ] = None,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Lift the removal brake for this cycle.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")] = False,
    index_url: Annotated[
        str | None,
        typer.Option("--index-url", metavar="URL", help="Mirror this index into --root, without a configuration file."),
    ] = None,
) -> ExitCode:
    """Bring the mirror up to date: one cycle with --once."""
    import os

    import anyio

    from mirror.core.names import normalize_project
    from mirror.errors import UnsafeName
    from mirror.sync.work import Options

    if not once:
        raise ConfigError(where="mirror sync", problem="give --once to run one cycle")
    try:
        names = tuple(normalize_project(name) for name in project or ())
    except UnsafeName as exc:
        raise ConfigError(where="--project", problem=str(exc)) from exc
    config = options.load_config(index_url=index_url)
    wanted = Options(full=full, dry_run=dry_run, allow_shrink=allow_shrink, indexes=tuple(index or ()), projects=names)
    return anyio.run(_sync_once, config, wanted, options.wait_s, dict(os.environ), json)


async def _sync_once(config: Config, wanted: Options, wait_s: float, env: dict[str, str], as_json: bool) -> ExitCode:
    import anyio
    import msgspec

    done: list[tuple[Report, ExitCode]] = []
    caught: list[ExitCode] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, tasks.cancel_scope, caught)
        await _run_once(config, wanted, wait_s, env, caught, done)
        tasks.cancel_scope.cancel()
    report, code = done[0] if done else (None, first_of(caught))
    if report is not None and as_json:
        write_out(msgspec.json.encode(report.as_json()).decode())
    return code


async def _watch_signals(scope: CancelScope, caught: list[ExitCode]) -> None:
    """Cancel everything at the first SIGTERM or SIGINT; what is finished stays."""
    import signal

    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            caught.append(ExitCode.SIGINT if number is signal.SIGINT else ExitCode.SIGTERM)
            scope.cancel()


async def _run_once(
    config: Config,
    wanted: Options,
    wait_s: float,
    env: dict[str, str],
    caught: list[ExitCode],
    done: list[tuple[Report, ExitCode]],
) -> None:
    import anyio

    from mirror.sync.cycle import record_outcome, run_cycle
    from mirror.wiring import opened_cycle

    async with opened_cycle(config, wanted, env=env, wait_s=wait_s) as cycle:
        try:
            await run_cycle(cycle)
        finally:
            code = _exit_code(cycle.report, caught)
            done.append((cycle.report, code))
            with anyio.CancelScope(shield=True):
                await record_outcome(cycle, code)


def _exit_code(report: Report, caught: Sequence[ExitCode]) -> ExitCode:
    """Return what the report, or a signal, means for the caller."""
    from mirror.errors import Reason

    codes = [*caught, *(exit_code_for(error) for error in report.ended.values())]
    if report.aborted is not None:
        codes.append(exit_code_for(report.aborted))
    for failure in report.failures:
        if failure.reason is Reason.INTERNAL:
            codes.append(ExitCode.BUG)
        elif failure.reason is Reason.SHRINK:
            codes.append(ExitCode.UPSTREAM)
        elif failure.reason is not Reason.WITHHELD and failure.project is not None:
            codes.append(ExitCode.PARTIAL)
    return first_of(codes)
