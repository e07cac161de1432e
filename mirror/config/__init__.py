"""The configuration: read from a file, the environment and the command line, checked, and written
in the file's form.

It guarantees that a configuration from ``load_config`` can be used without a further check, that an
error is one line with the key's full path and the expected value, and that no error repeats a value
that may be a secret. ``settings`` declares the values, ``units`` their text forms, ``loading``
their sources.
"""

from mirror.config.addresses import check_listen, is_loopback_host
from mirror.config.by_hand import all_credential_names, by_hand, credential_names
from mirror.config.checks import checked_url
from mirror.config.loading import (
    config_for_address,
    config_for_tree,
    config_of_root,
    find_config,
    load_config,
    missing_sources,
    parse_tree,
)
from mirror.config.settings import (
    AuthConfig,
    AuthKind,
    Config,
    IndexConfig,
    Limits,
    MirrorSettings,
    ServeConfig,
    ServiceConfig,
    SiteConfig,
)
from mirror.config.show import effective_toml, json_schema, render_default, render_for_systemd
from mirror.config.units import (
    format_size,
    parse_ratio,
    parse_size,
)
from mirror.config.wants import TargetConfig, WantConfig
from mirror.core.words.durations import format_duration, parse_duration

__all__ = [
    "AuthConfig",
    "AuthKind",
    "Config",
    "IndexConfig",
    "Limits",
    "MirrorSettings",
    "ServeConfig",
    "ServiceConfig",
    "SiteConfig",
    "TargetConfig",
    "WantConfig",
    "all_credential_names",
    "by_hand",
    "check_listen",
    "checked_url",
    "config_for_address",
    "config_for_tree",
    "config_of_root",
    "credential_names",
    "effective_toml",
    "find_config",
    "format_duration",
    "format_size",
    "is_loopback_host",
    "json_schema",
    "load_config",
    "missing_sources",
    "parse_duration",
    "parse_ratio",
    "parse_size",
    "parse_tree",
    "render_default",
    "render_for_systemd",
]
