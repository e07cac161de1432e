"""The rules for a configuration's values beyond their types; pure, without any look-up.

A URL is never repeated in an error: it may carry a user name, a password or a signature.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mirror.config.addresses import check_serve, check_service, is_loopback_host, split_url
from mirror.config.rules import check_rules, effective
from mirror.config.settings import (
    AuthConfig,
    AuthKind,
    ConfigFile,
    IndexConfig,
    MirrorSettings,
    SiteConfig,
)
from mirror.config.want_checks import check_target, check_want
from mirror.core.files.origins import page_origins
from mirror.core.names import normalize_project
from mirror.core.store_address import parse_store_address
from mirror.errors import ConfigError, UnsafeName, shown_text

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_WILDCARDS = re.compile(r"[*?\[\]]")
_PAGE_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")

_SOURCES: Mapping[str, tuple[str, ...]] = {
    "username": ("username", "username_env", "username_file", "username_credential"),
    "password": ("password_env", "password_file", "password_credential"),
    "token": ("token_env", "token_file", "token_credential"),
    "command": ("command",),
}
_USED: Mapping[AuthKind, Mapping[str, bool]] = {
    "auto": {},
    "none": {},
    "netrc": {},
    "basic": {"username": True, "password": False},
    "bearer": {"token": True},
    "keyring": {"username": False},
    "command": {"command": True, "username": False},
}
"""For each kind, the groups of ``_SOURCES`` that it uses, and whether it needs one."""


def checked_url(url: str, *, where: str, is_flat: bool = False) -> str:
    """Return an index's URL with ``/`` at its end; the URL of a flat page or of a document
    unchanged.

    Raises ``ConfigError``, which does not repeat it.
    """
    parts = split_url(url, where=where)
    if parts.query or "?" in url or "#" in url:
        raise ConfigError(
            where=where, problem="expected a URL without query and fragment (? and #)"
        )
    is_document = is_flat or url.lower().endswith((".html", ".htm"))
    return url if url.endswith("/") or is_document else f"{url}/"


def check_variable(name: str, where: str) -> None:
    """Raise ``ConfigError`` for a text that can't be a variable's name: often the secret itself, so
    it is not repeated.
    """
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(
            where=where, problem="expected the name of an environment variable, not its value"
        )


def check(config: ConfigFile) -> ConfigFile:
    """Return the configuration with normalised URLs.

    Raises ``ConfigError`` for values that can't work.
    """
    if not config.indexes:
        raise ConfigError(where="index", problem="expected one or more [[index]] tables, got none")
    indexes = tuple(_check_index(index, f"index[{n}]") for n, index in enumerate(config.indexes))
    twice = next(
        (name for name, count in Counter(index.name for index in indexes).items() if count > 1),
        None,
    )
    if twice is not None:
        raise ConfigError(
            where="index", problem=f'two indexes are named "{twice}"; names must be unique'
        )
    mirror = _check_tree(config.mirror)
    check_service(config.service)
    served = check_serve(config.serve)
    for n, site in enumerate(config.sites):
        _check_site(site, f"site[{n}]")
    _check_unique("site", [site.name for site in config.sites])
    _check_wants(config)
    _check_rules(config)
    return msgspec.structs.replace(config, mirror=mirror, indexes=indexes, serve=served)


def _check_tree(settings: MirrorSettings) -> MirrorSettings:
    """Check the address of a store; it is never repeated, since it may carry a secret."""
    if settings.tree is None:
        return settings
    try:
        address = parse_store_address(settings.tree)
    except ValueError as exc:
        raise ConfigError(where="mirror.tree", problem=f"expected {exc}") from exc
    return msgspec.structs.replace(settings, tree=str(address))


def _check_rules(config: ConfigFile) -> None:
    has_targets = bool(config.targets)
    check_rules(config.rules, "rules", has_targets=has_targets)
    for n, index in enumerate(config.indexes):
        if index.rules is not None:
            rules = effective(config.rules, index.rules)
            check_rules(rules, f"index[{n}].rules", has_targets=has_targets)


def _check_wants(config: ConfigFile) -> None:
    """Check targets and wants, and what indexes say of them."""
    of_targets = [target.name for target in config.targets]
    of_wants = [want.name for want in config.wants]
    for kind, names_of_kind in (("target", of_targets), ("want", of_wants)):
        for n, name in enumerate(names_of_kind):
            _check_name(name, f"{kind}[{n}].name")
        _check_unique(kind, names_of_kind)
    for n, target in enumerate(config.targets):
        check_target(target, f"target[{n}]")
    for n, want in enumerate(config.wants):
        check_want(want, f"want[{n}]", targets=frozenset(of_targets))
    if config.wants and not config.targets:
        problem = (
            "wants need one or more [[target]] tables:"
            " `mirror target here` prints that of a machine"
        )
        raise ConfigError(where="target", problem=problem)
    for n, index in enumerate(config.indexes):
        _check_selection(config, index, f"index[{n}]")


def _check_selection(config: ConfigFile, index: IndexConfig, where: str) -> None:
    if index.select == "needed" and not config.wants:
        problem = (
            'expected one or more [[want]] tables with "needed", got none; "listed" needs none'
        )
        raise ConfigError(where=f"{where}.select", problem=problem)
    if not index.overlay_targets:
        return
    if not index.overlay:
        problem = "not used without overlay = true"
        raise ConfigError(where=f"{where}.overlay-targets", problem=problem)
    known = [target.name for target in config.targets]
    for name in index.overlay_targets:
        if name not in known:
            shown = f'no target is named "{shown_text(name, limit=60)}"'
            problem = f"{shown}; known: {', '.join(sorted(known)) or 'there is none'}"
            raise ConfigError(where=f"{where}.overlay-targets", problem=problem)


def _check_unique(kind: str, names: list[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        problem = f'two {kind}s are named "{twice}"; names must be unique'
        raise ConfigError(where=kind, problem=problem)


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        problem = "expected up to 63 lower-case letters, digits and hyphens, the first no hyphen"
        raise ConfigError(where=where, problem=f'{problem}, got "{shown_text(name, limit=60)}"')


def _check_site(site: SiteConfig, where: str) -> None:
    _check_name(site.name, f"{where}.name")
    if not site.projects:
        raise ConfigError(
            where=f"{where}.projects",
            problem='expected one or more patterns, such as ["*"], got none',
        )
    for key, patterns in (("projects", site.projects), ("exclude-projects", site.exclude_projects)):
        if not all(pattern and pattern.isprintable() for pattern in patterns):
            raise ConfigError(
                where=f"{where}.{key}",
                problem="expected patterns of printable characters, none empty",
            )


def _check_index(index: IndexConfig, where: str) -> IndexConfig:
    _check_name(index.name, f"{where}.name")
    url = checked_url(index.url, where=f"{where}.url", is_flat=index.format == "flat")
    if index.format == "flat" and index.list == "config":
        problem = (
            'a flat page is the list itself; name the projects with list = "root" and projects'
        )
        raise ConfigError(where=f"{where}.list", problem=problem)
    if index.proxy is not None:
        split_url(index.proxy, where=f"{where}.proxy")
    if index.client_key and not index.client_cert:
        raise ConfigError(where=f"{where}.client-key", problem="needs client-cert beside it")
    _check_patterns(index, where)
    _check_page_hosts(url, index.page_hosts, f"{where}.page-hosts")
    if index.auth is not None:
        _check_auth(index.auth, f"{where}.auth")
        _check_transport(index, where)
    return msgspec.structs.replace(index, url=url)


def _check_page_hosts(url: str, hosts: tuple[str, ...], where: str) -> None:
    for host in hosts:
        try:
            is_host = _PAGE_HOST.fullmatch(host) is not None and bool(page_origins(url, [host]))
        except ValueError:
            is_host = False
        if not is_host:
            problem = (
                'expected hosts such as "pages.example" or "pages.example:8443",'
                " without https:// and path"
            )
            raise ConfigError(where=where, problem=f'{problem}, got "{shown_text(host, limit=60)}"')


def _check_patterns(index: IndexConfig, where: str) -> None:
    lists: tuple[tuple[str, tuple[str, ...], bool], ...] = (
        ("projects", index.projects, True),
        ("exclude-projects", index.exclude_projects, False),
        ("files", index.files, True),
        ("exclude-files", index.exclude_files, False),
        ("skip-url-patterns", index.skip_url_patterns, False),
    )
    for key, patterns, needed in lists:
        if needed and not patterns:
            raise ConfigError(
                where=f"{where}.{key}",
                problem='expected one or more patterns, such as ["*"], got none',
            )
        if not all(pattern and pattern.isprintable() for pattern in patterns):
            raise ConfigError(
                where=f"{where}.{key}",
                problem="expected patterns of printable characters, none empty",
            )
    if index.list == "config":
        _check_names(index.projects, f"{where}.projects")


def _check_names(names: tuple[str, ...], where: str) -> None:
    for name in names:
        if _WILDCARDS.search(name):
            problem = (
                f'expected plain names with list = "config", got "{shown_text(name, limit=60)}"'
            )
            raise ConfigError(where=where, problem=problem)
        try:
            normalize_project(name)
        except UnsafeName as exc:
            raise ConfigError(where=where, problem=str(exc)) from exc


def _check_auth(auth: AuthConfig, where: str) -> None:
    used = _USED[auth.kind]
    for group, fields in _SOURCES.items():
        given = [
            field.replace("_", "-") for field in fields if getattr(auth, field) not in {None, ()}
        ]
        empty = [field for field in given if getattr(auth, field.replace("-", "_")) == ""]
        if auth.kind == "basic" and empty == ["username"]:
            empty = []  # empty on purpose: the password alone is the credential
        if empty:
            raise ConfigError(
                where=f"{where}.{empty[0]}", problem="expected a text in quotes, got an empty text"
            )
        if given and group not in used:
            raise ConfigError(
                where=f"{where}.{given[0]}",
                problem=f'not used with kind = "{auth.kind}"{_hint(group)}',
            )
        if len(given) > 1:
            raise ConfigError(
                where=f"{where}.{given[1]}", problem=f"{given[0]} is there too; keep one of them"
            )
        if not given and used.get(group):
            keys = ", ".join(field.replace("_", "-") for field in fields)
            one = "" if len(fields) == 1 else "one of "
            raise ConfigError(where=where, problem=f'kind = "{auth.kind}" needs {one}{keys}')
    _check_sources(auth, where)


def _check_sources(auth: AuthConfig, where: str) -> None:
    """Refuse texts that can't be names: often the secret itself, so it is not repeated."""
    values: dict[str, Any] = msgspec.structs.asdict(auth)
    for field, value in values.items():
        key = f"{where}.{field.replace('_', '-')}"
        if field.endswith("_env") and value is not None:
            check_variable(value, key)
        if field.endswith("_credential") and value is not None and not _CREDENTIAL.fullmatch(value):
            raise ConfigError(
                where=key, problem="expected the name of a file in $CREDENTIALS_DIRECTORY"
            )
    if auth.username is not None and (":" in auth.username or not auth.username.isprintable()):
        raise ConfigError(
            where=f"{where}.username", problem="expected printable characters without a colon"
        )
    if auth.command and not auth.command[0]:
        raise ConfigError(
            where=f"{where}.command", problem="expected a program first, got an empty text"
        )


def _check_transport(index: IndexConfig, where: str) -> None:
    parts = urlsplit(index.url)
    explicit = index.auth is not None and index.auth.kind not in {"auto", "none"}
    if (
        explicit
        and parts.scheme == "http"
        and not is_loopback_host(parts.hostname or "")
        and not index.allow_insecure
    ):
        problem = (
            "credentials would be sent unencrypted; use https,"
            " or allow it with allow-insecure = true"
        )
        raise ConfigError(where=f"{where}.url", problem=problem)


def _hint(group: str) -> str:
    kind = {"password": "basic", "username": "basic", "token": "bearer", "command": "command"}[
        group
    ]
    return f'; did you mean kind = "{kind}"?'
