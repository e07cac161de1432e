"""``mirror init`` and ``mirror config``: write a first configuration, check it, show what counts, describe its keys."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import ExitCode, write_error, write_out
from mirror.errors import ConfigError, TreeError, shown_text

_NEXT_STEPS_OF_SERVICE = """\
Wrote {file}. Next, as root:
  1. put your index into it, and have it at /etc/mirror/mirror.toml
  2. write user name and token to {names}, readable by root alone
  3. mirror install-units{option}
  4. mv /etc/systemd/system/mirror.service.d/credential.conf.example \\
        /etc/systemd/system/mirror.service.d/credential.conf
  5. systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload && systemctl enable --now mirror"""

_NEXT_STEPS = """\
Wrote {file}. Next:
  1. put your index and its credential's source into it ({variables} for the first one)
  2. mirror{option} config check
  3. mirror{option} sync --once"""


def init(
    options: GlobalOptions,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", show_default=False, help="Default: mirror.toml.")
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="One that fits the units of `mirror install-units`.")
    ] = False,
) -> ExitCode:
    """Write a commented configuration to start from."""
    from mirror.config import all_credential_names, load_config, render_default, render_for_systemd
    from mirror.config.loading import DEFAULT_FILE
    from mirror.config.show import DEFAULT_ROOT

    target = file or options.config or DEFAULT_FILE
    root = options.root.absolute() if options.root else DEFAULT_ROOT
    text = render_for_systemd(root) if systemd else render_default(root)
    _write_new(target, text.encode("utf-8", "surrogateescape"))
    if systemd:
        names = " and ".join(f"/etc/mirror/{n}" for n in all_credential_names(load_config(target, env={})))
        given = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        write_out(_NEXT_STEPS_OF_SERVICE.format(file=shown_text(str(target)), names=names, option=shown_text(given)))
        return ExitCode.OK
    option = "" if target == DEFAULT_FILE else f" --config {target}"
    variables = "CHAINGUARD_PYTHON_IDENTITY_ID and CHAINGUARD_PYTHON_TOKEN"
    write_out(_NEXT_STEPS.format(file=shown_text(str(target)), option=shown_text(option), variables=variables))
    return ExitCode.OK


def check(
    options: GlobalOptions,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object on stdout.")] = False,
) -> ExitCode:
    """Check the configuration and its credentials' sources."""
    from mirror.config import all_credential_names, by_hand, missing_sources

    config = options.load_config()
    warnings = missing_sources(config, os.environ)
    names = [index.name for index in config.indexes]
    if as_json:
        write_out(json.dumps({"format": 1, "source": config.source, "indexes": names, "warnings": warnings}))
        return ExitCode.OK
    for warning in warnings:
        write_error(f"warning: {shown_text(warning)}")
    if (of_systemd := all_credential_names(config)) and not os.environ.get("CREDENTIALS_DIRECTORY"):
        write_error(f"by hand: {by_hand(of_systemd)}")
    write_out(f"{shown_text(config.source)}: ok, {len(names)} {'index' if len(names) == 1 else 'indexes'}")
    return ExitCode.OK


def show(options: GlobalOptions) -> ExitCode:
    """Print the effective configuration, without secrets."""
    from mirror.config import effective_toml

    write_out(effective_toml(options.load_config(), hides_arguments=True).rstrip("\n"))
    return ExitCode.OK


def schema(_options: GlobalOptions) -> ExitCode:
    """Print the JSON Schema of the configuration."""
    from mirror.config import json_schema

    write_out(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return ExitCode.OK


def _write_new(target: Path, data: bytes) -> None:
    """Write a new file, whole or not at all. It holds no secret: everyone may read it, whatever the umask."""
    shown = shown_text(str(target))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as exc:
        raise ConfigError(where=shown, problem="is there already, and is never written over") from exc
    except OSError as exc:
        raise ConfigError(where=shown, problem=f"can't be written: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
    except OSError as exc:
        target.unlink()
        raise TreeError(path=shown, problem=f"can't be written: {exc.strerror}") from exc
