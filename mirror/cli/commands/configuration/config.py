"""``mirror init`` and ``mirror config``: write a first configuration, check it, show the effective
one, describe its keys.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import run_async, write_error, write_out
from mirror.errors import AccessDenied, ConfigError, TreeError, shown_text
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirror.config import Config

_NEXT_STEPS_OF_SERVICE = """\
Wrote {file}. Next, as root:
  1. put your index into it, and have it at /etc/mirror/mirror.toml
  2. write user name and token to {names}, readable by root alone
  3. mirror install-units{option}
  4. mv /etc/systemd/system/mirror.service.d/credential.conf.example \\
        /etc/systemd/system/mirror.service.d/credential.conf
  5. systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
     systemctl enable --now mirror"""

_NEXT_STEPS = """\
Wrote {file}. Next:
  1. put your index and its credential's source into it ({variables} for the first one)
  2. mirror{option} config check
  3. mirror{option} sync --once"""


def init(
    options: GlobalOptions,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", show_default=False, help="Default: mirror.toml."),
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="One that fits the units of `mirror install-units`.")
    ] = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="A requirement file, project or lock: its needs become a want,"
            " this machine a target.",
        ),
    ] = None,
) -> ExitCode:
    """Write a commented configuration to start from."""
    # 34 ms
    from mirror.config import all_credential_names, load_config, render_default, render_for_systemd
    from mirror.config.loading import DEFAULT_FILE
    from mirror.config.show import DEFAULT_ROOT

    target = file or options.config or DEFAULT_FILE
    root = options.root.absolute() if options.root else DEFAULT_ROOT
    tables = _tables_from(from_file, target) if from_file else {}
    text = render_for_systemd(root, **tables) if systemd else render_default(root, **tables)
    _write_new(target, text.encode("utf-8", "surrogateescape"))
    if systemd:
        names = " and ".join(
            f"/etc/mirror/{n}" for n in all_credential_names(load_config(target, env={}))
        )
        given = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        write_out(
            _NEXT_STEPS_OF_SERVICE.format(
                file=shown_text(str(target)), names=names, option=shown_text(given)
            )
        )
        return ExitCode.OK
    option = "" if target == DEFAULT_FILE else f" --config {target}"
    variables = "CHAINGUARD_PYTHON_IDENTITY_ID and CHAINGUARD_PYTHON_TOKEN"
    write_out(
        _NEXT_STEPS.format(
            file=shown_text(str(target)), option=shown_text(option), variables=variables
        )
    )
    return ExitCode.OK


def _tables_from(file: Path, target: Path) -> dict[str, Any]:
    """Return the want of a project's file, and this machine as its target.

    Raises ``ConfigError``.
    """
    # 173 ms
    from mirror.bundle.serve import machine_target
    from mirror.config import WantConfig
    from mirror.selection.machine import parse_machine_target
    from mirror.selection.reading import load_source

    folder = target.absolute().parent.resolve()
    path = file.absolute().resolve()
    load_source(path, want=None, folder=folder)
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    try:
        machine = parse_machine_target(machine_target())
    except ValueError as exc:
        raise ConfigError(where="this machine", problem=str(exc)) from exc
    want = WantConfig(name=_want_name(path), files=(str(relative),))
    return {"target": machine, "want": want}


def _want_name(path: Path) -> str:
    """Return the name for the want of a project: that of its folder, where it can be a name."""
    plain = re.sub(r"[^a-z0-9]+", "-", path.parent.name.lower()).strip("-")
    return plain[:63].strip("-") or "apps"


def check(
    options: GlobalOptions,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Check the configuration and its credentials' sources."""
    from mirror.config import all_credential_names, by_hand, missing_sources  # 32 ms

    config = options.load_config()
    missing = missing_sources(config, os.environ)
    warnings = (*missing, *_unusable(config, missing))
    names = [index.name for index in config.indexes]
    if as_json:
        write_out(
            json.dumps(
                {"format": 1, "source": config.source, "indexes": names, "warnings": warnings}
            )
        )
        return ExitCode.OK
    for warning in warnings:
        write_error(f"warning: {shown_text(warning)}")
    if (of_systemd := all_credential_names(config)) and not os.environ.get("CREDENTIALS_DIRECTORY"):
        write_error(f"by hand: {by_hand(of_systemd)}")
    write_out(
        f"{shown_text(config.source)}: ok, {len(names)} {'index' if len(names) == 1 else 'indexes'}"
    )
    return ExitCode.OK


def _unusable(config: Config, missing: Sequence[str]) -> list[str]:
    """Return one sentence for each credential that is there and can't be used, and for a root that
    can't be written.
    """
    return [*run_async(_unusable_credentials, config, missing), *_unwritable(config.mirror.root)]


async def _unusable_credentials(config: Config, missing: Sequence[str]) -> list[str]:
    from mirror.upstream.credentials import credential_source  # 46 ms

    found = []
    for number, index in enumerate(config.indexes):
        if index.auth is not None and index.auth.kind in {"command", "keyring"}:
            continue  # a check runs nothing and never waits
        if any(sentence.startswith(f"index[{number}].auth") for sentence in missing):
            continue
        where = f"index[{number}].auth"
        try:
            credential = await credential_source(index, os.environ).load()
        except AccessDenied as exc:
            found.append(f"{where}: {exc.detail}")
        except ConfigError as exc:
            found.append(f"{where}: {exc.problem}")
        else:
            if (
                credential is not None
                and credential.expires_at is not None
                and credential.expires_at <= time.time()
            ):
                found.append(
                    f"{where}: the credential from {credential.source} has expired; renew it"
                )
    return found


def _unwritable(root: Path) -> list[str]:
    """Return a sentence where the root, or the directory that it would be made in, can't be
    written.
    """
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"mirror.root: {place} is not a directory"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"mirror.root: {place} can't be written by this user"]
    return []


def show(options: GlobalOptions) -> ExitCode:
    """Print the effective configuration, without secrets."""
    from mirror.config import effective_toml  # 32 ms

    write_out(effective_toml(options.load_config(), hides_arguments=True).rstrip("\n"))
    return ExitCode.OK


def schema(_options: GlobalOptions) -> ExitCode:
    """Print the JSON Schema of the configuration."""
    from mirror.config import json_schema  # 32 ms

    write_out(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK


def _write_new(target: Path, data: bytes) -> None:
    """Write a new file, whole or not at all.

    It contains no secret: everyone may read it, regardless of the umask.
    """
    shown = shown_text(str(target))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as exc:
        raise ConfigError(
            where=shown, problem="is there already, and is never written over"
        ) from exc
    except OSError as exc:
        raise ConfigError(where=shown, problem=f"can't be written: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
    except OSError as exc:
        target.unlink()
        raise TreeError(path=shown, problem=f"can't be written: {exc.strerror}") from exc
