"""The values of a configuration, frozen, with their defaults.

The file's keys are the field names in kebab case, or the name that the field gives; ``_s`` are
seconds, sizes bytes. Reading (``reading``), writing (``show``) and the JSON Schema are all driven
by these declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mirror.config import units
from mirror.config.rules import IndexRulesConfig, RulesConfig, effective, judged_rules
from mirror.config.wants import TargetConfig, WantConfig
from mirror.core.model import IndexPolicy
from mirror.core.names import compile_patterns, normalize_pattern, normalize_project
from mirror.core.rules.model import NO_RULES, Rules
from mirror.core.store_address import StoreAddress, parse_store_address

AuthKind = Literal["auto", "none", "basic", "bearer", "netrc", "keyring", "command"]

Duration = Annotated[float, msgspec.Meta(extra={"unit": units.DURATION})]
PositiveDuration = Annotated[float, msgspec.Meta(extra={"unit": units.POSITIVE_DURATION})]
Size = Annotated[int, msgspec.Meta(extra={"unit": units.SIZE})]
PositiveSize = Annotated[int, msgspec.Meta(extra={"unit": units.POSITIVE_SIZE})]
Ratio = Annotated[float, msgspec.Meta(extra={"unit": units.RATIO})]
Rate = Annotated[float, msgspec.Meta(extra={"unit": units.RATE})]
FilePath = Annotated[Path, msgspec.Meta(extra={"unit": units.PATH})]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31)]

WorkerCount = Annotated[int, msgspec.Meta(ge=1, le=32)]
ConnectionCount = Annotated[int, msgspec.Meta(ge=0, le=60_000)]

MIB = 1 << 20
GIB = 1 << 30

REMEMBERED_TREE = ""
"""``tree`` where no configuration was read: the state knows where its tree is."""


class MirrorSettings(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[mirror]``."""

    root: FilePath
    state_file: FilePath | None = msgspec.field(default=None, name="state")
    interval_s: PositiveDuration = msgspec.field(default=900.0, name="interval")
    keep_removed_s: Duration = msgspec.field(default=30 * 86_400.0, name="keep-removed")
    keep_history_s: Duration = msgspec.field(default=365 * 86_400.0, name="keep-history")
    keep_unwanted_s: Duration = msgspec.field(default=90 * 86_400.0, name="keep-unwanted")
    max_shrink: Ratio = 0.1
    scrub: Ratio | None = None
    """None: by default (``scrub_share``)."""
    tree: str | None = None
    """The address of an object store; None: ``public/`` in the root; empty: as the state knows it
    (``REMEMBERED_TREE``).
    """
    staging_size: PositiveSize = 20 * GIB
    single_writer: bool = False

    @property
    def state(self) -> Path:
        """The database: as configured, else ``state.db`` in the root."""
        return self.state_file or self.root / "state.db"

    @property
    def scrub_share(self) -> float:
        """The part of the tree that the daemon hashes again each day: of a store nothing, unless
        configured.
        """
        if self.scrub is not None:
            return self.scrub
        return 0.01 if self.tree is None else 0.0

    @property
    def store_address(self) -> StoreAddress | None:
        """The configured address of an object store, which was checked."""
        return parse_store_address(self.tree) if self.tree else None


class Limits(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[limits]``; 0 in a rate, in ``file-size`` and in ``bytes-per-second`` means: no
    limit.
    """

    pages: Count = 16
    downloads: Count = 16
    max_connections: Count = 64
    requests_per_second: Rate = 0.0
    bytes_per_second: Size = 0
    file_size: Size = 0
    page_size: PositiveSize = 100 * MIB
    root_page_size: PositiveSize = GIB
    files_per_project: Count = 1_000_000
    projects: Count = 5_000_000
    metadata_size: PositiveSize = 16 * MIB
    connect_timeout_s: PositiveDuration = msgspec.field(default=10.0, name="connect-timeout")
    stall_timeout_s: PositiveDuration = msgspec.field(default=60.0, name="stall-timeout")
    disk_reserve: Size = GIB


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[index.auth]``: the source of a credential, never the credential.

    With ``kind = "basic"`` one half may be empty on purpose: an empty ``username``, or no key of a
    password.
    """

    kind: AuthKind = "auto"
    username: str | None = None
    username_env: str | None = None
    username_file: FilePath | None = None
    username_credential: str | None = None
    password_env: str | None = None
    password_file: FilePath | None = None
    password_credential: str | None = None
    token_env: str | None = None
    token_file: FilePath | None = None
    token_credential: str | None = None
    command: tuple[str, ...] = ()

    @property
    def runs_program(self) -> bool:
        """Whether a program is run to read the credential: only when it is needed."""
        return self.kind in {"command", "keyring"}


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[service]``: metrics and notifications about the mirror."""

    metrics_listen: str | None = None
    """``HOST:PORT``; an IPv6 address in brackets."""
    metrics_file: FilePath | None = None
    notify_command: tuple[str, ...] = ()

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """Host and port of ``metrics-listen``, which was checked."""
        if self.metrics_listen is None:
            return None
        host, _, port = self.metrics_listen.rpartition(":")
        return host.strip("[]"), int(port)


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The table ``[serve]``: how the tree is served."""

    listen: str = ""
    """``HOST:PORT`` where the daemon serves too; empty: it does not."""
    certificate: FilePath | None = None
    key: FilePath | None = None
    htpasswd: FilePath | None = None
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-*`` headers count."""
    url: str | None = None
    """The base address by which clients reach the server; ends in ``/``."""
    wishes: bool = False
    """Whether names are recorded that clients asked for and that are not in the tree."""
    store_url: str | None = None
    """The base address by which clients reach the object store of the tree; ends in ``/``."""
    workers: WorkerCount = 1
    connections_per_client: ConnectionCount = 100
    """0: no limit."""


class IndexConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One table ``[[index]]``."""

    name: str
    url: str = ""
    """Of its root page; ends in ``/`` unless it is a flat page, without user info, query and
    fragment.

    Read from its source where one is named.
    """
    url_env: str | None = None
    url_file: FilePath | None = None
    list: Literal["root", "config"] = "root"
    projects: tuple[str, ...] = ("*",)
    exclude_projects: tuple[str, ...] = ()
    select: Literal["needed", "listed"] | None = None
    """None: ``needed`` where the configuration has a want, else ``listed``."""
    files: tuple[str, ...] = ("*",)
    exclude_files: tuple[str, ...] = ()
    skip_url_patterns: tuple[str, ...] = ("*/python-upstream/*",)
    unhashed: Literal["pin", "refuse"] = "pin"
    on_replace: Literal["follow", "keep"] = "follow"
    overlay: bool = False
    overlay_targets: tuple[str, ...] = ()
    """Names of the only targets that its files are for; none: all."""
    max_shrink: Ratio | None = None
    """The removal brake of this index; None: as for all."""
    format: Literal["simple", "flat"] = "simple"
    page_hosts: tuple[str, ...] = ()
    interval_s: PositiveDuration | None = msgspec.field(default=None, name="interval")
    proxy: str | None = None
    ca_file: FilePath | None = None
    client_cert: FilePath | None = None
    client_key: FilePath | None = None
    allow_insecure: bool = False
    allow_private: bool = False
    auth: AuthConfig | None = None
    rules: IndexRulesConfig | None = None

    def __repr__(self) -> str:
        return (
            f"IndexConfig(name={self.name!r}, url={'***' if self.has_secret_url else self.url!r})"
        )

    @property
    def has_secret_url(self) -> bool:
        """Whether the path of ``url`` is a secret, read from a variable or a file."""
        return self.url_env is not None or self.url_file is not None

    def policy(self, limits: Limits, rules: Rules = NO_RULES) -> IndexPolicy:
        """Return the selection of this index, its project patterns in the form of normalised
        names.
        """
        by_config = self.list == "config"
        projects = (
            map(normalize_project, self.projects)
            if by_config
            else map(normalize_pattern, self.projects)
        )
        return IndexPolicy(
            name=self.name,
            listed_by_config=by_config,
            projects=tuple(projects),
            exclude_projects=tuple(normalize_pattern(pattern) for pattern in self.exclude_projects),
            files=self.files,
            exclude_files=self.exclude_files,
            skip_url_patterns=self.skip_url_patterns,
            refuse_unhashed=self.unhashed == "refuse",
            keep_replaced=self.on_replace == "keep",
            overlay=self.overlay,
            overlay_targets=self.overlay_targets,
            file_size_limit=limits.file_size,
            page_hosts=self.page_hosts,
            is_flat=self.format == "flat",
            rules=rules,
        )


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One table ``[[site]]``: a place beyond the gap; one without a table gets everything."""

    name: str
    projects: tuple[str, ...] = ("*",)
    exclude_projects: tuple[str, ...] = ()
    key: FilePath | None = None

    @property
    def takes_all(self) -> bool:
        """Whether it gets every project."""
        return "*" in self.projects and not self.exclude_projects

    def wants(self) -> Callable[[str], bool]:
        """Return whether a project, by its normalised name, is for this site."""
        wanted = compile_patterns(normalize_pattern(pattern) for pattern in self.projects)
        left_out = compile_patterns(normalize_pattern(pattern) for pattern in self.exclude_projects)
        return lambda name: wanted(name) and not left_out(name)


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The shape of a whole file."""

    mirror: MirrorSettings
    limits: Limits = Limits()
    service: ServiceConfig = ServiceConfig()
    serve: ServeConfig = ServeConfig()
    indexes: tuple[IndexConfig, ...] = msgspec.field(name="index")
    sites: tuple[SiteConfig, ...] = msgspec.field(default=(), name="site")
    rules: RulesConfig = RulesConfig()
    targets: tuple[TargetConfig, ...] = msgspec.field(default=(), name="target")
    wants: tuple[WantConfig, ...] = msgspec.field(default=(), name="want")


class Config(ConfigFile, frozen=True, kw_only=True):
    """A checked configuration. ``source`` names its origin: a path, or ``--index-url``."""

    source: str

    @property
    def folder(self) -> Path:
        """The folder that relative paths and patterns of files start from."""
        return Path.cwd() if self.source.startswith("--") else Path(self.source).absolute().parent

    def selects_needed(self, index: IndexConfig) -> bool:
        """Return whether only the files of this index are mirrored that a want needs."""
        return index.select == "needed" or (index.select is None and bool(self.wants))

    def policies(self, platform_tags: Iterable[str]) -> tuple[IndexPolicy, ...]:
        """Return the selection of each index with its rules.

        ``platform_tags``: the tags of all targets, for ``platforms = "targets"``.
        """
        tags = frozenset(platform_tags)
        return tuple(
            index.policy(self.limits, judged_rules(self.rules_of(index), tags))
            for index in self.indexes
        )

    def rules_of(self, index: IndexConfig) -> RulesConfig:
        """Return the rules of an index: its own keys, else those of ``[rules]``."""
        return effective(self.rules, index.rules)

    def targets_of(self, want: WantConfig) -> tuple[TargetConfig, ...]:
        """Return the targets in which a want must install."""
        return tuple(t for t in self.targets if not want.targets or t.name in want.targets)
