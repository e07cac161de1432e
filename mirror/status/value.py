"""The status as a value, with its judgements: stale, interrupted, the exit code. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.config import Config, IndexConfig
from mirror.core.schedule import DiskSample, days_until_full, growth_per_day, is_stale
from mirror.exit_codes import SIGNALS, ExitCode, exit_code_of_index, first_of
from mirror.state.listing.sources import SourceRow
from mirror.state.notes import Activity, DamageNote, Notes
from mirror.state.readers.overview import IndexOverview, Overview
from mirror.state.readers.sizes import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """The state of an index's credential, found without using it."""

    source: str
    expires_at: float | None = None
    problem: str | None = None
    """Why it can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that ``status`` prints."""

    root: Path
    config: Config | None
    """None where only the root is known."""
    overview: Overview
    now: float
    pid: int | None
    """The process that works on the mirror."""
    credentials: Mapping[str, CredentialState]
    notes: Notes | None = None
    daemon_pid: int | None = None
    locked_at: float | None = None
    """When the process that works on the mirror took the lock."""
    tree: str | None = None
    """The address of the object store that has the tree; None: it lies on the disk."""
    disk: DiskSample | None = None
    """Now."""
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def activity(self) -> Activity | None:
        """The current activity of the running daemon."""
        found = self.notes.activity if self.notes is not None else None
        return found if found is not None and found.pid == self.daemon_pid else None

    @property
    def damage(self) -> Sequence[DamageNote]:
        """Damage that the daemon found."""
        return self.notes.damage if self.notes is not None else ()

    @property
    def disk_forecast(self) -> tuple[float | None, float | None]:
        """The disk's growth in bytes a day, and in how many days it is full; None where that is not
        known.
        """
        if self.disk is None:
            return None, None
        per_day = growth_per_day(self.notes.disk if self.notes is not None else (), self.disk)
        reserve = self.config.limits.disk_reserve if self.config is not None else 0
        return per_day, days_until_full(self.disk, per_day, reserve=reserve)

    @property
    def is_running(self) -> bool:
        """Whether a cycle is under way."""
        last = self.overview.last_cycle
        if self.pid is None or last is None or last.finished_at is not None:
            return False
        # A command that took the lock after a cycle began is not that cycle, which must have been
        # killed.
        return self.locked_at is None or self.locked_at <= last.started_at

    @property
    def interrupted(self) -> int | None:
        """The number of the last cycle, if it is unfinished; of the one before where the last one
        is under way.
        """
        last = self.overview.last_cycle
        if last is not None and last.finished_at is None and not self.is_running:
            return last.id
        return self.overview.killed_before

    def configured(self, name: str) -> IndexConfig | None:
        """Return an index of the configuration."""
        return (
            next((i for i in self.config.indexes if i.name == name), None) if self.config else None
        )

    def is_configured(self, source: SourceRow) -> bool:
        """Whether the index is in the configuration, or was in the last cycle where that is not
        known.
        """
        return self.configured(source.name) is not None if self.config else source.configured

    @property
    def configured_names(self) -> frozenset[str]:
        """The indexes of which something is known and that are still in the configuration."""
        return frozenset(
            i.source.name for i in self.overview.indexes if self.is_configured(i.source)
        )

    def stale(self, index: IndexOverview) -> bool | None:
        """Judge one index; None where its interval is not known."""
        configured = self.configured(index.source.name)
        if self.config is None or configured is None:
            return None
        interval_s = configured.interval_s or self.config.mirror.interval_s
        since = self.overview.first_cycle_at or self.now
        return is_stale(index.source.succeeded_at, since=since, interval_s=interval_s, now=self.now)

    @property
    def is_stale(self) -> bool | None:
        """Whether any index is stale."""
        judged = [
            stale for index in self.overview.indexes if (stale := self.stale(index)) is not None
        ]
        return any(judged) if judged else None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code for the state of the mirror."""
        finished = self.overview.last_finished
        codes = [ExitCode.UPSTREAM] if self.is_stale else []
        if self.damage:
            codes.append(ExitCode.DAMAGED)
        if finished is None or self.interrupted is not None:
            codes.append(ExitCode.PARTIAL)
        if finished is not None:
            code = ExitCode(finished.exit_code or 0)
            codes.append(ExitCode.PARTIAL if code in SIGNALS else code)
        codes += [
            exit_code_of_index(row.reason)
            for row in self.overview.ended
            if row.index in self.configured_names
        ]
        return first_of(codes)
