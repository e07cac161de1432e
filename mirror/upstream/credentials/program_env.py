"""The environment of programs that the mirror starts: credential commands and the notify-command
get none of its secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from mirror.config import IndexConfig
from mirror.notify import without_manager

CHAINGUARD_USERNAME = "CHAINGUARD_PYTHON_IDENTITY_ID"
CHAINGUARD_PASSWORD = "CHAINGUARD_PYTHON_TOKEN"  # noqa: S105 - the name of a variable

_OF_AN_INDEX = re.compile(r"MIRROR_\w+_(USERNAME|PASSWORD)")
_OF_A_PROXY = re.compile(r"\w+_proxy", re.IGNORECASE)


def program_environment(
    indexes: Iterable[IndexConfig], env: Mapping[str, str], *, own: IndexConfig | None = None
) -> dict[str, str]:
    """Return the environment without variables that contain a secret, and without the service
    manager's variables.

    The secret ones are the variables that a ``*-env`` key of any index names, the pairs of ``auto``
    and proxies with user info. ``own``: the index whose credential the program fetches; the proxy
    that this index is reached by stays.
    """
    hidden = {CHAINGUARD_USERNAME, CHAINGUARD_PASSWORD}
    for index in indexes:
        for struct in (index, index.auth):
            if struct is not None:
                keys = [
                    field.name
                    for field in msgspec.structs.fields(struct)
                    if field.name.endswith("_env")
                ]
                hidden |= {name for key in keys if (name := getattr(struct, key))}
    proxies = {
        name for name, value in env.items() if _OF_A_PROXY.fullmatch(name) and _has_user_info(value)
    }
    if own is not None and proxies:
        proxies -= _own_proxy(own, env)
    return {
        name: value
        for name, value in without_manager(env).items()
        if name not in hidden | proxies and not _OF_AN_INDEX.fullmatch(name)
    }


def _has_user_info(value: str) -> bool:
    """Return whether the value of a proxy variable may have a user name or password in it; when in
    doubt, it has.
    """
    return "@" in value or "%40" in value


def _own_proxy(index: IndexConfig, env: Mapping[str, str]) -> set[str]:
    """Return the names of the variable with the proxy of an index, as ``proxies`` reads it."""
    if index.proxy is not None:
        return set()
    try:
        parts = urlsplit(index.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # an address that is a secret and not read yet
        return set()
    for scheme in (parts.scheme, "all"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
        # The lower-case form wins, also where it is empty.
        name = next((name for name in names if name in env), None)
        if name is not None and env[name]:
            # 355 ms
            from mirror.upstream.connections.proxies import is_exempt  # heavy, and rarely needed

            exempt = env.get("no_proxy", env.get("NO_PROXY", ""))
            if is_exempt(parts.hostname or "", port, exempt):
                return set()
            return {other for other in names if env.get(other) == env[name]}
    return set()
