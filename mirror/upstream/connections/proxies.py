"""The proxy of a request: the index's ``proxy``, else the environment's variables, else none.

Invariant: a proxy's user info goes into ``Proxy-Authorization`` and is not part of any text that is
shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from aiohttp import encode_basic_auth

from mirror.errors import ConfigError
from mirror.logs import register_secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; ``url`` has no user info."""

    url: str
    authorization: str | None = field(default=None, repr=False)


class ProxyChoice:
    """Chooses the proxy for each origin, and remembers the choice."""

    def __init__(self, configured: str | None, *, env: Mapping[str, str], where: str) -> None:
        self._configured = None if configured is None else parse_proxy(configured, where=where)
        self._listed = {} if configured is not None else _from_environment(env)
        self._chosen: dict[tuple[str, str, int], Proxy | None] = {}

    def for_origin(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for an origin, or None.

        Raises ``ConfigError`` for an unusable variable.
        """
        if self._configured is not None:
            return self._configured
        if not self._listed:
            return None
        key = (scheme, host, port)
        if key not in self._chosen:
            self._chosen[key] = self._choose(scheme, host, port)
        return self._chosen[key]

    def _choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        name = scheme if scheme in self._listed else "all"
        if name not in self._listed or is_exempt(host, port, self._listed.get("no", "")):
            return None
        return parse_proxy(self._listed[name], where=f"${name.upper()}_PROXY")


def parse_proxy(text: str, *, where: str) -> Proxy:
    """Return the proxy that ``text`` (a URL, or HOST:PORT) names.

    Raises ``ConfigError``, which does not quote it.
    """
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(where=where, problem="not the URL of a proxy") from None
    if parts.scheme not in {"http", "https"}:
        problem = f"a {parts.scheme} proxy is not supported; expected http://HOST:PORT"
        raise ConfigError(where=where, problem=problem)
    if not parts.hostname:
        raise ConfigError(where=where, problem="not the URL of a proxy; expected http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    if parts.username is None:
        return Proxy(url=address)
    username, password = unquote(parts.username), unquote(parts.password or "")
    try:
        authorization = encode_basic_auth(username, password)
    except ValueError:
        raise ConfigError(
            where=where, problem="a proxy's user name can't contain a colon"
        ) from None
    register_secret(password)
    register_secret(authorization.removeprefix("Basic "))
    return Proxy(url=address, authorization=authorization)


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` names the host: ``*``, or a list of hosts and domains, each with a port
    or without.
    """
    name = host.strip("[]").rstrip(".").lower()
    for item in no_proxy.lower().replace(",", " ").split():
        if item == "*":
            return True
        domain, colon, listed_port = item.rpartition(":")
        if (
            not colon
            or not listed_port.isdigit()
            or (domain.count(":") and not domain.endswith("]"))
        ):
            # No port, or a bare IPv6 address.
            domain, listed_port = item, str(port)
        domain = domain.removeprefix("*").removeprefix(".").strip("[]")
        if listed_port == str(port) and (name == domain or name.endswith(f".{domain}")):
            return True
    return False


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables by scheme, and ``no``; the lower-case form wins, as in curl."""
    listed: dict[str, str] = {}
    for scheme in ("http", "https", "all", "no"):
        value = env.get(f"{scheme}_proxy", env.get(f"{scheme.upper()}_PROXY", ""))
        if value:
            listed[scheme] = value
    return listed if listed.keys() - {"no"} else {}
