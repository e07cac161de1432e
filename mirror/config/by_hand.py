"""Advice for running a command by hand where systemd alone has the credentials
(``LoadCredential=``).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mirror.config.settings import AuthConfig, Config


def credential_names(auth: AuthConfig) -> tuple[str, ...]:
    """Return the names in ``$CREDENTIALS_DIRECTORY`` that a credential is read from, each once."""
    fields = [
        field.name for field in msgspec.structs.fields(auth) if field.name.endswith("_credential")
    ]
    return tuple(
        dict.fromkeys(name for field in fields if (name := getattr(auth, field)) is not None)
    )


def all_credential_names(config: Config) -> tuple[str, ...]:
    """Return the names that the credentials of all indexes are read from, each once."""
    found = (
        name
        for index in config.indexes
        if index.auth is not None
        for name in credential_names(index.auth)
    )
    return tuple(dict.fromkeys(found))


def by_hand(names: Iterable[str]) -> str:
    """Return how to run a command that needs these credentials; their files are where the example
    puts them.
    """
    loaded = " ".join(f"-p LoadCredential={name}:/etc/mirror/{name}" for name in names)
    return (
        "only the systemd units get it: run `systemctl start mirror-once` for one cycle, or"
        " another command by `systemd-run --pipe --wait --collect --uid=mirror"
        f" {loaded} mirror …`"
    )
