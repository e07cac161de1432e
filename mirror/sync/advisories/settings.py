"""The configuration of advisories as a cycle works with it, and the judgement for each index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule
from mirror.core.rules.model import NO_RULES, Level, Rules


class AdvisorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The database, and the rules of indexes that have none of their own."""

    path: Path | None = None
    rules: Rules = NO_RULES
    sites: Mapping[str, Callable[[str], bool]] = {}
    """Which projects a site gets; one that is not named gets all."""


class Judges(msgspec.Struct, frozen=True, kw_only=True):
    """The rules about advisories in one cycle."""

    of_index: Mapping[str, AdvisoryRule] = {}
    others: AdvisoryRule = AdvisoryRule(AdvisoryBook({}), Level.NONE)
    """For files of indexes that are not in the configuration."""

    def of(self, index: str) -> AdvisoryRule:
        """Return the rule of one index."""
        return self.of_index.get(index, self.others)

    is_ready: bool = False
    """Whether the database of this cycle was looked at."""

    @property
    def text(self) -> str:
        """All rules as one text: another one judges every file again."""
        named = [f"{name}: {rule.text}" for name, rule in sorted(self.of_index.items())]
        return "\n".join([*named, self.others.text])
