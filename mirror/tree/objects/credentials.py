"""The settings of an engine: endpoint, region and credentials, from the places that are usual for
it.

In this order: the variables ``AWS_*``; files of these names in systemd's
``$CREDENTIALS_DIRECTORY``; the profile in the files of the AWS tools; else obstore asks for the
role of the instance.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mirror.core.store_address import StoreAddress
from mirror.errors import ConfigError, shown_url
from mirror.logs import register_secret

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_KEYS: Final = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_LONGEST: Final = 64 * 1024


def engine_settings(address: StoreAddress, env: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration of a client, in obstore's words. Blocking.

    Raises ``ConfigError`` for plain http that is not allowed.
    """
    profile = _profile(env)
    settings = {"bucket": address.bucket, "region": _region(env, profile)}
    endpoint = next((env[name] for name in _ENDPOINTS if env.get(name)), None)
    endpoint = endpoint or profile.get("endpoint_url")
    if endpoint:
        _check_endpoint(endpoint, env)
        settings["endpoint"] = endpoint.rstrip("/")
    settings |= _credentials(env, profile)
    return settings


def allows_http(env: Mapping[str, str]) -> bool:
    """Return whether plain http is allowed."""
    return env.get("AWS_ALLOW_HTTP", "").lower() in _TRUE


def _check_endpoint(endpoint: str, env: Mapping[str, str]) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        problem = "expected the URL of the store's endpoint, such as https://store.example"
        raise ConfigError(where="AWS_ENDPOINT_URL", problem=problem)
    if parts.username is not None or parts.password is not None:
        problem = "expected a URL without user and password"
        raise ConfigError(where="AWS_ENDPOINT_URL", problem=problem)
    if parts.scheme == "http" and not allows_http(env):
        problem = (
            f"{shown_url(endpoint)} is plain http: what is read and written can be changed on the"
            " way; use https, or set AWS_ALLOW_HTTP=true where nobody else is on that network"
        )
        raise ConfigError(where="AWS_ENDPOINT_URL", problem=problem)


def _region(env: Mapping[str, str], profile: Mapping[str, str]) -> str:
    return (
        env.get("AWS_REGION")
        or env.get("AWS_DEFAULT_REGION")
        or profile.get("region")
        or "us-east-1"
    )


def _credentials(env: Mapping[str, str], profile: Mapping[str, str]) -> dict[str, str]:
    found = {key: env[name] for key, name in _KEYS.items() if env.get(name)}
    if "access_key_id" not in found and (directory := env.get("CREDENTIALS_DIRECTORY")):
        found = {}
        for key, name in _KEYS.items():
            if text := _read(Path(directory) / name).strip():
                found[key] = text
    if "access_key_id" not in found:
        found = {key: profile[f"aws_{key}"] for key in _KEYS if profile.get(f"aws_{key}")}
    for key in ("secret_access_key", "session_token"):
        if key in found:
            register_secret(found[key])
    return found


def _profile(env: Mapping[str, str]) -> dict[str, str]:
    """Return the profile that counts, of both files of the AWS tools; empty without one."""
    name = env.get("AWS_PROFILE") or "default"
    home = Path(env.get("HOME") or "/nonexistent") / ".aws"
    places = (
        (env.get("AWS_CONFIG_FILE") or home / "config", f"profile {name}"),
        (env.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", name),
    )
    found: dict[str, str] = {}
    for place, section in places:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(_read(Path(place)))
        except configparser.Error:
            problem = f"{place} is no file of profiles as the AWS tools write them"
            raise ConfigError(where="AWS_PROFILE", problem=problem) from None
        for title in (section, name):
            if parser.has_section(title):
                found |= parser[title]
                break
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""
