"""Forms of a configuration: TOML that loads again, the commented file of ``mirror init``, JSON
Schema.

A configuration contains no secret, only the names of sources. The arguments of a command may
contain one all the same, so they are hidden.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo

from mirror.config.explain import EXPLAINED
from mirror.config.reading import is_list, struct_of, unit_of
from mirror.config.rules import IndexRulesConfig, RulesConfig
from mirror.config.settings import (
    AuthConfig,
    Config,
    ConfigFile,
    IndexConfig,
    Limits,
    MirrorSettings,
    ServeConfig,
    ServiceConfig,
    SiteConfig,
)
from mirror.config.wants import DEFAULT_GLIBC, DEFAULT_MACOS, TargetConfig, WantConfig
from mirror.core.words.amounts import counted

DEFAULT_ROOT = Path("/var/lib/mirror")

FIRST_INDEX = IndexConfig(
    name="chainguard",
    url="https://libraries.cgr.dev/python/simple/",
    auth=AuthConfig(
        kind="basic",
        username_env="CHAINGUARD_PYTHON_IDENTITY_ID",
        password_env="CHAINGUARD_PYTHON_TOKEN",  # noqa: S106 - the name of a variable
    ),
)

FIRST_INDEX_OF_SERVICE = msgspec.structs.replace(
    FIRST_INDEX,
    auth=AuthConfig(
        kind="basic",
        username_credential="index-username",
        password_credential="index-token",  # noqa: S106 - the name of a systemd credential
    ),
)
"""As in ``systemd/mirror.service.d/credential.conf.example``."""

_SITE = SiteConfig(name="plant")
_TARGET = TargetConfig(name="linux", python=("3.11", "3.13"), platforms=("linux-x86_64",))
_WANT = WantConfig(name="apps", requirements=("fastapi[all]", "pandas>=2"))

_INDEX_RULES = IndexRulesConfig(min_age_s=3 * 86_400.0, newest=3, exclude_vulnerable="malicious")

_HEADER = """\
# The configuration of `mirror`. Keys that are commented out show their defaults or an example.
# Check it with `mirror config check`, see what counts with `mirror config show`.
"""

_EXAMPLES: dict[str, object] = {
    "key": Path("/etc/mirror/bundle-key"),
    "state": DEFAULT_ROOT / "state.db",
    "interval": 3600.0,
    "max-shrink": 1.0,
    "scrub": 0.01,
    "tree": "s3://bucket/prefix",
    "metrics-listen": "127.0.0.1:9140",
    "metrics-file": Path("/var/lib/prometheus/node-exporter/mirror.prom"),
    "notify-command": ("/etc/mirror/notify",),
    "url-env": "INDEX_URL",
    "url-file": Path("/etc/mirror/index-url"),
    "select": "listed",
    "overlay-targets": ("linux",),
    "glibc": DEFAULT_GLIBC,
    "musl": "1.2",
    "macos": DEFAULT_MACOS,
    "want.files": ("wants/*.txt", "app/uv.lock"),
    "want.targets": ("linux",),
    "urgent": ("urllib3", "our-*"),
    "not-after": date(2026, 11, 1),
    "pre-releases": "where-needed",
    "rules.yanked": "where-pinned",
    "rules.versions": ("numpy>=1.26", "django<5"),
    "advisories": Path("/var/lib/osv"),
    "ignore-advisories": ("GHSA-aaaa-bbbb-cccc",),
    "extras": ("all",),
    "groups": ("dev",),
    "accept-unproved": ("docopt",),
    "proxy": "http://proxy.example:3128",
    "ca-file": Path("/etc/ssl/certs/our-ca.pem"),
    "listen": "127.0.0.1:8080",
    "htpasswd": Path("/etc/mirror/htpasswd"),
    "trusted-proxies": ("10.0.0.0/8",),
    "serve.url": "https://pypi.example/",
    "store-url": "https://store.example/",
    "serve.key": Path("/etc/mirror/server.key"),
    "certificate": Path("/etc/mirror/server.pem"),
    "client-cert": Path("/etc/mirror/client.pem"),
    "client-key": Path("/etc/mirror/client.key"),
    "username": "name",
    "username-env": "INDEX_USERNAME",
    "username-file": Path("/etc/mirror/username"),
    "username-credential": "index-username",
    "password-env": "INDEX_PASSWORD",
    "password-file": Path("/etc/mirror/password"),
    "password-credential": "index-password",
    "token-env": "INDEX_TOKEN",
    "token-file": Path("/etc/mirror/token"),
    "token-credential": "index-token",
    "command": ("chainctl", "auth", "token", "--audience=libraries.cgr.dev"),
}
"""The example in a commented line whose default is none."""


def effective_toml(config: Config, *, hides_arguments: bool = False) -> str:
    """Return the configuration with all its defaults, as TOML that loads as the same values again.

    ``hides_arguments``: show the program of a command and the number of its arguments only: one of
    them may be a secret.
    """
    mirror = msgspec.structs.replace(
        config.mirror,
        state_file=config.mirror.state,
        scrub=config.mirror.scrub_share,
        tree=config.mirror.tree or None,
    )
    tables: list[tuple[str, msgspec.Struct]] = [("[mirror]", mirror), ("[limits]", config.limits)]
    if config.service != ServiceConfig():
        tables.append(("[service]", config.service))
    if config.serve != ServeConfig():
        tables.append(("[serve]", config.serve))
    if config.rules != RulesConfig():
        tables.append(("[rules]", config.rules))
    lines: list[str] = []
    tables += [("[[index]]", index) for index in config.indexes]
    tables += [("[[target]]", target) for target in config.targets]
    tables += [("[[want]]", want) for want in config.wants]
    tables += [("[[site]]", site) for site in config.sites]
    for header, struct in tables:
        lines += [header, *_key_lines(struct, hides_arguments=hides_arguments), ""]
        if isinstance(struct, IndexConfig) and struct.auth is not None:
            lines += ["[index.auth]", *_key_lines(struct.auth, hides_arguments=hides_arguments), ""]
        if isinstance(struct, IndexConfig) and struct.rules is not None:
            lines += ["[index.rules]", *_key_lines(struct.rules, hides_arguments=False), ""]
    return "\n".join(lines)


def render_for_systemd(
    root: Path = DEFAULT_ROOT,
    *,
    target: TargetConfig | None = None,
    want: WantConfig | None = None,
) -> str:
    """Return the configuration for the systemd units, whose credential is passed by
    ``LoadCredential=``.
    """
    return render_default(root, FIRST_INDEX_OF_SERVICE, target=target, want=want)


def render_default(
    root: Path = DEFAULT_ROOT,
    index: IndexConfig = FIRST_INDEX,
    *,
    target: TargetConfig | None = None,
    want: WantConfig | None = None,
) -> str:
    """Return the configuration that ``mirror init`` writes.

    It loads, and explains every key in one line. Without a target or a want: commented examples.
    """
    auth = index.auth or AuthConfig()
    blocks = (
        _HEADER,
        "\n".join(["[mirror]", *_explained_lines(MirrorSettings(root=root), "mirror")]),
        "\n".join(["[limits]", *_explained_lines(Limits(), "limits")]),
        "\n".join(["[service]", *_explained_lines(ServiceConfig(), "service")]),
        "\n".join(["[serve]", *_explained_lines(ServeConfig(), "serve")]),
        "\n".join(["[[index]]", *_explained_lines(index, "index")]),
        "\n".join(["[index.auth]", *_explained_lines(auth, "auth")]),
        _commented_block(_INDEX_RULES, "rules", "[index.rules]"),
        "\n".join(["[rules]", *_explained_lines(RulesConfig(), "rules")]),
        _block(target, "target") if target else _commented_block(_TARGET, "target"),
        _block(want, "want") if want else _commented_block(_WANT, "want"),
        _commented_block(_SITE, "site"),
    )
    return "\n".join(f"{block.rstrip()}\n" for block in blocks)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of mirror",
        **_object_schema(ConfigFile, ""),
    }


def toml_value(value: object) -> str:
    """Return a value as TOML.

    A JSON string is a TOML basic string, once DEL and characters beyond ASCII are escaped.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key_lines(struct: msgspec.Struct, *, hides_arguments: bool) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if isinstance(struct, IndexConfig) and field.name == "url" and struct.has_secret_url:
            continue
        if field.name.endswith("command"):
            if value:
                yield (
                    f"{field.encode_name} ="
                    f" {_shown_command(value) if hides_arguments else toml_value(value)}"
                )
        elif struct_of(field.type) is None and value is not None:
            yield f"{field.encode_name} = {_written(field, value)}"


def _shown_command(command: tuple[str, ...]) -> str:
    """Return a command's program; an argument may be a secret."""
    count = len(command) - 1
    hidden = f"  # {counted(count, 'argument')} hidden" if count else ""
    return toml_value(command[:1]) + hidden


def _explained_lines(struct: msgspec.Struct, table: str) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        if struct_of(field.type) is not None:
            continue
        value = getattr(struct, field.name)
        is_default = not field.required and value == field.default
        example = _EXAMPLES.get(f"{table}.{field.encode_name}", _EXAMPLES.get(field.encode_name))
        if not value and example is not None:
            value = example
        mark = "# " if is_default else ""
        line = f"{mark}{field.encode_name} = {_written(field, value)}"
        yield f"{line:<40}  # {EXPLAINED[table][field.encode_name]}"


def _block(struct: msgspec.Struct, table: str) -> str:
    return "\n".join([f"[[{table}]]", *_explained_lines(struct, table)])


def _commented_block(struct: msgspec.Struct, table: str, header: str | None = None) -> str:
    """Return an example table of which every line is commented out."""
    lines = (f"# {line.removeprefix('# ')}" for line in _explained_lines(struct, table))
    return "\n".join([f"# {header or f'[[{table}]]'}", *lines])


def _written(field: FieldInfo, value: Any) -> str:
    unit = unit_of(field.type)
    return toml_value(unit.write(value) if unit else value)


def _object_schema(cls: type[msgspec.Struct], table: str) -> dict[str, Any]:
    fields = msgspec.structs.fields(cls)
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.encode_name: _field_schema(field, table) for field in fields},
    }
    if required := [
        field.encode_name
        for field in fields
        if field.required and field.name not in {"mirror", "root"}
    ]:
        schema["required"] = required
    if cls is IndexConfig:
        schema["oneOf"] = [{"required": [key]} for key in ("url", "url-env", "url-file")]
    return schema


def _field_schema(field: FieldInfo, table: str) -> dict[str, Any]:
    if struct := struct_of(field.type):
        inner = _object_schema(struct, field.encode_name)
        return {"type": "array", "minItems": 1, "items": inner} if is_list(field.type) else inner
    unit = unit_of(field.type)
    schema = dict(unit.schema) if unit else _leaf_schema(inspect.type_info(field.type))
    if field.default is not msgspec.NODEFAULT and field.default is not None:
        default = unit.write(field.default) if unit else field.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return {"description": EXPLAINED[table][field.encode_name], **schema}


def _leaf_schema(info: inspect.Type) -> dict[str, Any]:
    match info:
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=least, le=most):
            return {"type": "integer", "minimum": least, "maximum": most}
        case inspect.VarTupleType():
            return {"type": "array", "items": {"type": "string"}}
    return {"type": "string"}
