"""``mirror init``: write a first configuration."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirror.cli.arguments.configuration import InitArguments
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.config import all_credential_names, load_config, render_default, render_for_systemd
from mirror.config.loading import DEFAULT_FILE
from mirror.config.show import DEFAULT_ROOT
from mirror.errors import ConfigError, TreeError, shown_text
from mirror.exit_codes import ExitCode

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


def init(options: GlobalOptions, given: InitArguments) -> ExitCode:
    """Write a commented configuration to start from."""
    return write_first(options, given, lambda _target: {})


def write_first(
    options: GlobalOptions, given: InitArguments, tables_for: Callable[[Path], dict[str, Any]]
) -> ExitCode:
    """Write a configuration with the tables for its place, and print the next steps."""
    target = given.file or options.config or DEFAULT_FILE
    root = options.root.absolute() if options.root else DEFAULT_ROOT
    tables = tables_for(target)
    text = render_for_systemd(root, **tables) if given.systemd else render_default(root, **tables)
    _write_new(target, text.encode("utf-8", "surrogateescape"))
    if given.systemd:
        names = " and ".join(
            f"/etc/mirror/{n}" for n in all_credential_names(load_config(target, env={}))
        )
        root_option = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        write_out(
            _NEXT_STEPS_OF_SERVICE.format(
                file=shown_text(str(target)), names=names, option=shown_text(root_option)
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
