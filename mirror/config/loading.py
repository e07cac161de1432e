"""Sources of the configuration: a file, the environment and the command line, each overriding the
one before.

Nothing is written, nothing outside the file is read: a credential's source is only read when a
request needs it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mirror.config import units
from mirror.config.checks import check, checked_url
from mirror.config.reading import read_struct
from mirror.config.secret_urls import with_urls
from mirror.config.settings import (
    REMEMBERED_TREE,
    AuthConfig,
    Config,
    ConfigFile,
    IndexConfig,
    MirrorSettings,
)
from mirror.core.store_address import StoreAddress, parse_store_address
from mirror.errors import ConfigError

DEFAULT_FILE = Path("mirror.toml")
SYSTEM_FILE = Path("/etc/mirror/mirror.toml")
MAX_FILE_BYTES = 1 << 20


def load_config(
    path: Path | None,
    *,
    env: Mapping[str, str],
    root: Path | None = None,
    index_url: str | None = None,
) -> Config:
    """Return the checked configuration of ``--config``, ``--root`` and ``--index-url``. Raises
    ``ConfigError``.

    With ``index_url`` no file is read: one index, named ``default``. Relative paths in a file start
    at its directory, those of the command line and the environment at the working directory.
    """
    overrides = _overrides(env, root)
    if index_url is not None:
        return _without_file(index_url, overrides)
    found = _find(path, env)
    raw = _parse(found)
    table = raw.get("mirror", {})
    if isinstance(table, dict):
        raw["mirror"] = table | overrides
        if "root" not in raw["mirror"]:
            raise ConfigError(where="mirror.root", problem="missing: set it, MIRROR_ROOT or --root")
    read = read_struct(ConfigFile, raw, where="", base=found.absolute().parent)
    config = check(with_urls(read, env))
    return Config(**msgspec.structs.asdict(config), source=str(found))


def config_for_tree(path: Path | None, *, env: Mapping[str, str], root: Path | None) -> Config:
    """Return the configuration of commands that work from a tree alone. Raises ``ConfigError``.

    A file that is named counts. Where only the root is, one in a usual place counts if it is for
    this root; otherwise all is as by default and there are no indexes: the state knows them.
    """
    overrides = _overrides(env, root)
    if path is not None or env.get("MIRROR_CONFIG") or "root" not in overrides:
        return load_config(path, env=env, root=root)
    chosen = Path(overrides["root"])
    if any(place.exists() for place in (DEFAULT_FILE, SYSTEM_FILE)):
        configured = load_config(
            None, env={k: v for k, v in env.items() if k != "MIRROR_ROOT"}, root=None
        )
        if configured.mirror.root.resolve() == chosen.resolve():
            return configured
    return config_of_root(env=env, root=root)


def config_of_root(*, env: Mapping[str, str], root: Path | None) -> Config:
    """Return the configuration for a root alone: every value at its default, and no indexes.

    Raises ``ConfigError``.
    """
    settings = _settings_of_root(_overrides(env, root))
    return Config(mirror=settings, indexes=(), source="--root")


def config_for_address(path: Path | None, *, env: Mapping[str, str]) -> Config:
    """Return the configuration of a command that needs an object store and no root.

    A file that is named, or stands in a usual place, counts; else all is as by default. Raises
    ``ConfigError``.
    """
    if find_config(path, env) is not None:
        return load_config(path, env=env)
    return Config(mirror=MirrorSettings(root=Path("/nonexistent")), indexes=(), source="--tree")


def parse_tree(text: str, *, where: str) -> StoreAddress:
    """Return the address of a tree in an object store.

    Raises ``ConfigError``, which does not repeat it: it may carry a secret.
    """
    try:
        return parse_store_address(text)
    except ValueError as exc:
        raise ConfigError(where=where, problem=f"expected {exc}") from None


def missing_sources(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return one sentence for each source of a credential, and each TLS file, that is named and not
    there now.
    """
    return tuple(
        f"index[{n}].{sentence}"
        for n, index in enumerate(config.indexes)
        for sentence in (
            *_missing_files("", index),
            *(_missing_of_auth(index.auth, env) if index.auth else ()),
        )
    )


def _overrides(env: Mapping[str, str], root: Path | None) -> dict[str, str]:
    """Return the values that replace keys of ``[mirror]``, in the form of the file; paths
    absolute.
    """
    chosen: dict[str, str] = {}
    if interval := env.get("MIRROR_INTERVAL"):
        _require(units.POSITIVE_DURATION, interval, "MIRROR_INTERVAL")
        chosen["interval"] = interval
    if root is not None:
        chosen["root"] = _absolute(str(root), "--root")
    elif from_env := env.get("MIRROR_ROOT"):
        chosen["root"] = _absolute(from_env, "MIRROR_ROOT")
    return chosen


def _absolute(path: str, where: str) -> str:
    _require(units.PATH, path, where)
    return str(units.parse_path(path, Path.cwd()))


def _require(unit: units.Unit, value: str, where: str) -> None:
    try:
        unit.read(value, Path())
    except ValueError as exc:
        raise ConfigError(where=where, problem=f"expected {unit.expected}") from exc


def _without_file(index_url: str, overrides: dict[str, str]) -> Config:
    if "root" not in overrides:
        raise ConfigError(where="--index-url", problem="needs --root DIR beside it")
    config = ConfigFile(
        mirror=_settings_of_root(overrides),
        indexes=(IndexConfig(name="default", url=checked_url(index_url, where="--index-url")),),
    )
    return Config(
        mirror=config.mirror, limits=config.limits, indexes=config.indexes, source="--index-url"
    )


def _settings_of_root(overrides: dict[str, str]) -> MirrorSettings:
    settings = read_struct(MirrorSettings, overrides, where="mirror", base=Path.cwd())
    return msgspec.structs.replace(settings, tree=REMEMBERED_TREE)


def find_config(path: Path | None, env: Mapping[str, str]) -> Path | None:
    """Return the file that counts: the named one, else the first that is in a usual place, else
    None.
    """
    if path is not None:
        return path
    if named := env.get("MIRROR_CONFIG"):
        return Path(named)
    return next((place for place in (DEFAULT_FILE, SYSTEM_FILE) if place.exists()), None)


def _find(path: Path | None, env: Mapping[str, str]) -> Path:
    found = find_config(path, env)
    if found is not None:
        return found
    problem = (
        f"no configuration found: looked at --config, $MIRROR_CONFIG, ./{DEFAULT_FILE} and"
        f" {SYSTEM_FILE}; write one with `mirror init`, or pass --index-url URL --root DIR"
    )
    raise ConfigError(where="", problem=problem)


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(where=str(path), problem=f"can't be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(where=str(path), problem="larger than 1 MiB: not a configuration")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConfigError(where=str(path), problem=f"not UTF-8 (at line {line})") from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        problem = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise ConfigError(where=str(path), problem=f"not valid TOML: {problem}") from exc


def _missing_files(prefix: str, struct: IndexConfig | AuthConfig) -> list[str]:
    return [
        f"{prefix}{field.encode_name}: {value} is not there"
        for field in msgspec.structs.fields(struct)
        if isinstance(value := getattr(struct, field.name), Path) and not _is_file(value)
    ]


def _missing_of_auth(auth: AuthConfig, env: Mapping[str, str]) -> list[str]:
    missing = _missing_files("auth.", auth)
    directory = env.get("CREDENTIALS_DIRECTORY")
    for field in msgspec.structs.fields(auth):
        value, key = getattr(auth, field.name), f"auth.{field.encode_name}"
        if value is None:
            continue
        if field.name.endswith("_env") and not env.get(value):
            missing.append(f"{key}: the variable {value} is not set")
        if field.name.endswith("_credential") and directory is None:
            missing.append(
                f"{key}: $CREDENTIALS_DIRECTORY is not set; systemd sets it with LoadCredential="
            )
        elif field.name.endswith("_credential") and not _is_file(Path(directory or "") / value):
            missing.append(f"{key}: $CREDENTIALS_DIRECTORY has no file {value}")
    return missing


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a directory that this user may not enter
        return False
