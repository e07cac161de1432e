"""``mirror config check``: check a configuration and its credentials' sources."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mirror.cli.arguments.configuration import ConfigCheckArguments
from mirror.cli.configuration import load_config
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.cli.running import run_async
from mirror.config import Config, all_credential_names, by_hand, missing_sources
from mirror.errors import AccessDenied, ConfigError, shown_text
from mirror.exit_codes import ExitCode
from mirror.upstream.credentials import credential_source


def check(options: GlobalOptions, given: ConfigCheckArguments) -> ExitCode:
    """Check the configuration and its credentials' sources."""
    config = load_config(options)
    missing = missing_sources(config, os.environ)
    warnings = (*missing, *_unusable(config, missing))
    names = [index.name for index in config.indexes]
    if given.as_json:
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
