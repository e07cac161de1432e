"""The rules for addresses: URLs, ``HOST:PORT`` and networks; pure, without any look-up.

A URL is never repeated in an error: it may carry a user name, a password or a signature.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

import msgspec

from mirror.config.settings import ServeConfig, ServiceConfig
from mirror.errors import ConfigError, shown_text

_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})", re.ASCII)
_UNFIT_FOR_URL = re.compile(r"[\s\\<>\"^`{|}\x00-\x20\x7f]")
_USERINFO = "take the user name and password out of it"


def is_loopback_host(host: str) -> bool:
    """Return whether a host's name or address, with or without brackets, can only mean this
    machine.
    """
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def check_listen(listen: str, where: str, *, port: int = 8080) -> None:
    """Raise ``ConfigError`` for a text that is no ``HOST:PORT``; ``port`` is that of the
    example.
    """
    found = _LISTEN.fullmatch(listen)
    if found is None or int(found[2]) > 65_535:
        problem = f'expected HOST:PORT such as "127.0.0.1:{port}" or "[::1]:{port}"'
        raise ConfigError(where=where, problem=problem)


def split_url(
    url: str, *, where: str, schemes: tuple[str, ...] = ("http", "https"), path: str = "simple/"
) -> SplitResult:
    """Split a URL that must have a host and no part that could be a secret.

    ``path`` is that of the example in an error.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(where=where, problem="not a URL") from None
    if "@" in parts.netloc:
        is_source = where.startswith("index") or where == "--index-url"
        advice = ", and name their source in [index.auth] or the environment" if is_source else ""
        raise ConfigError(where=where, problem=f"{_USERINFO}{advice}")
    is_unfit = _UNFIT_FOR_URL.search(url) is not None or not url.isprintable()
    if parts.scheme not in schemes or not host or port == 0 or is_unfit:
        problem = f"expected a URL such as https://HOST/{path}, http or https"
        raise ConfigError(where=where, problem=problem)
    return parts


def check_service(service: ServiceConfig) -> None:
    """Raise ``ConfigError`` for values of ``[service]`` that can't work."""
    if service.metrics_listen is not None:
        check_listen(service.metrics_listen, "service.metrics-listen", port=9140)
    if service.notify_command and not service.notify_command[0]:
        problem = "expected a program first, got an empty text"
        raise ConfigError(where="service.notify-command", problem=problem)


def check_serve(serve: ServeConfig) -> ServeConfig:
    """Return ``[serve]`` with its URLs ending in a slash.

    Raises ``ConfigError`` for values that can't work.
    """
    if serve.listen:
        check_listen(serve.listen, "serve.listen")
    if (serve.certificate is None) != (serve.key is None):
        missing = "key" if serve.key is None else "certificate"
        raise ConfigError(
            where=f"serve.{missing}", problem="missing: TLS needs certificate and key"
        )
    for proxy in serve.trusted_proxies:
        _check_network(proxy, "serve.trusted-proxies")
    return msgspec.structs.replace(
        serve,
        url=_base_address(serve.url, where="serve.url"),
        store_url=_base_address(serve.store_url, where="serve.store-url"),
    )


def _base_address(url: str | None, *, where: str) -> str | None:
    """Return a base address with a slash at its end."""
    if url is None:
        return None
    parts = split_url(url, where=where, path="")
    if parts.query or "?" in url or "#" in url:
        problem = "expected a URL without query and fragment (? and #)"
        raise ConfigError(where=where, problem=problem)
    return f"{url.rstrip('/')}/"


def _check_network(text: str, where: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        hint = ": its address has bits beyond its prefix" if "host bits" in str(exc) else ""
        problem = 'expected addresses and networks such as "10.0.0.7" or "10.0.0.0/8", got'
        shown = f'{problem} "{shown_text(text, limit=60)}"{hint}'
        raise ConfigError(where=where, problem=shown) from None
