"""``mirror want add|remove|list``: wants are edited in the configuration.

``want list --json`` prints one object::

    {"format": 1, "wants": [{"name": "apps", "requirements": ["flask>=3"], "files": [],
     "targets": ["linux"]}]}

``add`` and ``remove``: ``{"format": 1, "changes": ["want apps: flask>=3 added"]}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirror import config as sources
from mirror.cli.arguments.want import WantAddArguments, WantListArguments, WantRemoveArguments
from mirror.cli.configuration import load_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, fitted_table, safe, stdout_width
from mirror.config import Config, find_config
from mirror.config.want_checks import check_requirement
from mirror.errors import ConfigError, TreeError, shown_text
from mirror.exit_codes import ExitCode
from mirror.selection.editing import EditedConfig, add_requirements, remove_requirements
from mirror.state.listing.sources import load_sources
from mirror.state.readers.overview import load_held_counts
from mirror.state.store import open_store_for_reading

_HEAD = ("WANT", "REQUIREMENTS", "FILES", "TARGETS")


def add(options: GlobalOptions, given: WantAddArguments) -> ExitCode:
    """Add requirements to a want, or a new want.

    Comments of the configuration stay.
    """
    for requirement in given.requirements:
        check_requirement(requirement, "REQUIREMENT")
    path = configuration_path(options)
    listed = listed_indexes(load_config(options))
    before = read_configuration(path)
    edited = add_requirements(before, given.name, given.requirements, listed=listed)
    replace_configuration(options, path, edited, before=before)
    _print(edited, as_json=given.json)
    return ExitCode.OK


def remove(options: GlobalOptions, given: WantRemoveArguments) -> ExitCode:
    """Remove a want, or some of its requirements.

    Comments of the configuration stay.
    """
    path = configuration_path(options)
    load_config(options)
    before = read_configuration(path)
    edited = remove_requirements(before, given.name, given.requirements or ())
    replace_configuration(options, path, edited, before=before)
    _print(edited, as_json=given.json)
    return ExitCode.OK


def show(options: GlobalOptions, given: WantListArguments) -> ExitCode:
    """List the wants of the configuration."""
    config = load_config(options)
    if given.json:
        wants = [_want_json(config, n) for n in range(len(config.wants))]
        write_json({"format": 1, "wants": wants})
    elif config.wants:
        rows = [_want_row(config, n) for n in range(len(config.wants))]
        write_out("\n".join(fitted_table([_HEAD, *rows], stdout_width())))
    else:
        write_out("There is no [[want]] table: `mirror want add NAME REQUIREMENT` writes one.")
    return ExitCode.OK


def _want_json(config: Config, number: int) -> dict[str, Any]:
    want = config.wants[number]
    return {
        "name": want.name,
        "requirements": want.requirements,
        "files": want.files,
        "targets": [target.name for target in config.targets_of(want)],
    }


def _want_row(config: Config, number: int) -> tuple[str, str, str, str]:
    want = config.wants[number]
    shown = want.requirements[:3]
    more = len(want.requirements) - len(shown)
    requirements = ", ".join(shown) + (f" and {counted(more, 'other')}" if more else "")
    targets = ", ".join(target.name for target in config.targets_of(want))
    return want.name, safe(requirements) or "-", safe(", ".join(want.files)) or "-", targets


def configuration_path(options: GlobalOptions) -> Path:
    """Return the file to edit. Raises ``ConfigError``."""
    found = find_config(options.config, os.environ)
    if found is None:
        problem = "no configuration to edit: write one with `mirror init`, or name one by --config"
        raise ConfigError(where="", problem=problem)
    return found


def listed_indexes(config: Config) -> list[str]:
    """Return the indexes whose files are published by patterns: a first want would unwant them."""
    if config.wants:
        return []

    undecided = [index.name for index in config.indexes if index.select is None]
    if not config.mirror.state.exists():
        return []
    published = run_async(_published_indexes, config.mirror.state)
    return [name for name in undecided if name in published]


async def _published_indexes(state: Path) -> set[str]:
    """Return the names of the indexes of which the state publishes files."""
    async with open_store_for_reading(state) as store:
        held = await load_held_counts(store)
        return {source.name for source in await load_sources(store) if source.id in held}


def read_configuration(path: Path) -> str:
    """Return the text of a configuration. Raises ``ConfigError``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as exc:
        raise ConfigError(where=str(path), problem=f"can't be read: {exc.strerror}") from exc


def replace_configuration(
    options: GlobalOptions, path: Path, edited: EditedConfig, *, before: str
) -> None:
    """Replace a configuration by one that was checked: whole or not at all, with its permissions.

    ``before``: the text that was edited. Raises ``ConfigError`` where the file has another by now.
    """
    target = path.resolve()
    shown = shown_text(str(path))
    new = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    try:
        status = target.stat()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(edited.text)
                file.flush()
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fsync(file.fileno())
            sources.load_config(new, env=os.environ, root=options.root)
            with _others_excluded(target.parent):
                if read_configuration(target) != before:
                    problem = "it was changed meanwhile, and stays so: run the command again"
                    raise ConfigError(where=shown, problem=problem)
                new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as exc:
        raise TreeError(path=shown, problem=f"can't be written: {exc.strerror}") from exc


@contextlib.contextmanager
def _others_excluded(directory: Path) -> Iterator[None]:
    """Let one command at a time replace a file in a directory, where the file system has locks."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _print(edited: EditedConfig, *, as_json: bool) -> None:
    if as_json:
        write_json({"format": 1, "changes": edited.changes})
    else:
        write_out("\n".join(safe(change) for change in edited.changes))
