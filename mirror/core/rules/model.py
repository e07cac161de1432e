"""The rules of one index as values, in the order in which they are named where several keep a file
out.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from mirror.core.names import ProjectName

MIN_AGE = "min-age"
NOT_AFTER = "not-after"
PRE_RELEASES = "pre-releases"
YANKED = "yanked"
NEWEST = "newest"
VERSIONS = "versions"
PLATFORMS = "platforms"
EXCLUDE_VULNERABLE = "exclude-vulnerable"

RULE_KEYS = (
    MIN_AGE,
    NOT_AFTER,
    PRE_RELEASES,
    YANKED,
    NEWEST,
    VERSIONS,
    PLATFORMS,
    EXCLUDE_VULNERABLE,
)
"""The keys that leave files out, in the order of the configuration: of several the first is
named.
"""


class Admitted(Enum):
    """Whether pre-releases or yanked files are admitted."""

    NEVER = "never"
    WHERE_NEEDED = "where-needed"
    """Pre-releases of a project of which the index lists no other version."""
    WHERE_PINNED = "where-pinned"
    """Yanked files that a want pins; for patterns none."""
    ALWAYS = "always"


class Level(Enum):
    """The severity of an advisory from which on a file is kept out."""

    NONE = "none"
    MALICIOUS = "malicious"
    CRITICAL = "critical"
    HIGH = "high"
    ALL = "all"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that count for one index; the default keeps nothing out."""

    min_age_s: float = 0.0
    """Cooldown, in seconds; 0: none."""
    urgent: tuple[str, ...] = ()
    """Patterns of normalised project names that are exempt from the cooldown."""
    not_after: float | None = None
    """Files count that were uploaded before this moment, in seconds since 1970."""
    pre_releases: Admitted | None = None
    """None: ``where-needed`` for wants, ``always`` for patterns."""
    yanked: Admitted | None = None
    """None: ``where-pinned`` for wants, ``always`` for patterns."""
    newest: int = 0
    """Maximum number of versions of each project that patterns take; 0: no limit."""
    versions: tuple[tuple[ProjectName, str], ...] = ()
    """Specifiers; all those of a project apply."""
    platform_tags: frozenset[str] | None = None
    """The tags of all targets, such as ``cp311-cp311-linux_x86_64``; None: wheels are not judged by
    tags.
    """
    exclude_vulnerable: Level = Level.NONE
    ignore_advisories: tuple[str, ...] = ()

    def text(self) -> list[object] | None:
        """Return the rules in a form that has a digest; None where they keep nothing out."""
        if self == NO_RULES:
            return None
        return [
            self.min_age_s,
            self.urgent,
            self.not_after,
            self.pre_releases,
            self.yanked,
            self.newest,
            self.versions,
            None if self.platform_tags is None else sorted(self.platform_tags),
            self.exclude_vulnerable,
            self.ignore_advisories,
        ]


NO_RULES = Rules()
