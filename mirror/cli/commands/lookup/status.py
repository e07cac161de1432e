"""``mirror status``: held files, their age, failures, and advice for each.

Reads the state without a lock, also during a cycle, and asks no upstream. The exit code is 0 for a
mirror that is fresh and whole, 4 for a stale one, 6 where there is none, 7 where the daemon found
damage, else that of the last finished cycle (5 where that was stopped by a signal, or where the
last one was killed) and of each index that could not be read at its last turn: a cycle over the
others does not hide it. ``status_words`` prints the same in words.
``--json`` prints the object of ``status.objects``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from mirror.cli.arguments.lookup import StatusArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import folded, stdout_width
from mirror.cli.words.status import describe_status
from mirror.config import Config, IndexConfig, credential_names
from mirror.errors import AccessDenied, ConfigError
from mirror.exit_codes import ExitCode
from mirror.state.store import check_quickly, open_store_for_reading
from mirror.status.loading import load_status
from mirror.status.objects import status_object
from mirror.status.value import CredentialState, Status
from mirror.upstream.credentials import credential_source

_SHOWN_FAILURES = 20


def status(options: GlobalOptions, given: StatusArguments) -> ExitCode:
    """Show held files, freshness and failures."""
    found = run_async(_load, options, None if given.json else _SHOWN_FAILURES)
    if given.json:
        write_json(status_object(found))
        return found.exit_code

    write_out("\n".join(folded(describe_status(found), stdout_width())))
    return found.exit_code


async def _load(options: GlobalOptions, max_failures: int | None) -> Status:

    config = load_tree_config(options)
    async with open_store_for_reading(config.mirror.state) as store:
        await check_quickly(store)
        found = await load_status(store, config, max_failures=max_failures)
    credentials = await _load_credentials(config, dict(os.environ), found.credentials)
    return dataclasses.replace(found, credentials=credentials)


async def _load_credentials(
    config: Config, env: Mapping[str, str], noted: Mapping[str, CredentialState]
) -> dict[str, CredentialState]:
    """Return the state of each credential; for a source that is not read here, as the last cycle
    recorded it.
    """
    found = {}
    for index in config.indexes:
        source = credential_source(index, env, config.indexes)
        if _is_not_asked(index, env):
            known = noted.get(index.name) or CredentialState(source="")
            found[index.name] = dataclasses.replace(known, source=source.describe())
            continue
        try:
            credential = await source.load()
        except AccessDenied as exc:
            found[index.name] = CredentialState(source=source.describe(), problem=exc.detail)
        except ConfigError as exc:
            found[index.name] = CredentialState(source=source.describe(), problem=exc.problem)
        else:
            if credential is not None:
                found[index.name] = CredentialState(
                    source=credential.source, expires_at=credential.expires_at
                )
    return found


def _is_not_asked(index: IndexConfig, env: Mapping[str, str]) -> bool:
    """Return whether the last cycle knows more of a credential: it would take a command, or systemd
    has it for itself.
    """
    if index.auth is None:
        return False
    of_systemd = bool(credential_names(index.auth)) and not env.get("CREDENTIALS_DIRECTORY")
    return of_systemd or index.auth.runs_program
