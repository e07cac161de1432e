"""Addresses of indexes that are secrets: read from a variable or a file when the configuration is
loaded.

Invariant: no message repeats an address.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.config.checks import check_variable, checked_url
from mirror.config.settings import ConfigFile, IndexConfig
from mirror.errors import ConfigError

_KEYS = ("url", "url-env", "url-file")
_MAX_BYTES = 16_384


def with_urls(config: ConfigFile, env: Mapping[str, str]) -> ConfigFile:
    """Return the configuration with the address of each index.

    Raises ``ConfigError`` for one that can't be read.
    """
    indexes = tuple(_with_url(index, f"index[{n}]", env) for n, index in enumerate(config.indexes))
    return msgspec.structs.replace(config, indexes=indexes)


def _with_url(index: IndexConfig, where: str, env: Mapping[str, str]) -> IndexConfig:
    named = [key for key in _KEYS if getattr(index, key.replace("-", "_"))]
    if not named:
        raise ConfigError(
            where=f"{where}.url",
            problem="expected a URL such as https://HOST/simple/, http or https",
        )
    if len(named) > 1:
        raise ConfigError(
            where=f"{where}.{named[1]}", problem=f"{named[0]} is there too; keep one of them"
        )
    if named == ["url"]:
        return index
    where = f"{where}.{named[0]}"
    url = _from_variable(index, where, env) if named == ["url-env"] else _from_file(index, where)
    return msgspec.structs.replace(
        index, url=checked_url(url, where=where, is_flat=index.format == "flat")
    )


def _from_variable(index: IndexConfig, where: str, env: Mapping[str, str]) -> str:
    assert index.url_env is not None
    check_variable(index.url_env, where)
    url = env.get(index.url_env, "").strip()
    if not url:
        raise ConfigError(where=where, problem=f"the variable {index.url_env} is not set, or empty")
    return url


def _from_file(index: IndexConfig, where: str) -> str:
    path = index.url_file
    assert path is not None
    try:
        with path.expanduser().open("rb") as source:
            content = source.read(_MAX_BYTES + 1)
        url = content.decode("utf-8-sig").strip()
    except OSError as exc:
        raise ConfigError(where=where, problem=f"{path} can't be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(where=where, problem=f"{path} is not UTF-8 text") from None
    if not url or len(content) > _MAX_BYTES:
        problem = "is empty" if not url else "is too large for an address"
        raise ConfigError(where=where, problem=f"{path} {problem}")
    return url
