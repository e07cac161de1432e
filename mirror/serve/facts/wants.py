"""The facts about wants: whether each installs in each target, by the last proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mirror.core.words.gap_advice import advice_for_gap
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.whole import hide_paths
from mirror.state.notes import WantNote, load_note

MAX_SHOWN_GAPS: Final = 50
"""Maximum number of gaps of one want that are shown."""


class GapFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A gap of one want, in one or several targets."""

    project: str
    requirement: str
    reason: str
    detail: str
    advice: str
    targets: tuple[str, ...]


class TargetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One want in one target."""

    target: str
    is_installable: bool
    files: int
    bytes: int


class WantFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One list or file of a want, in all its targets."""

    name: str
    file: str
    targets: tuple[TargetFacts, ...]
    gaps: tuple[GapFacts, ...]
    more_gaps: int
    instead: tuple[str, ...]
    """Older versions that are used, in words."""
    rebuilt: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """The id of its section, without characters that need an escape."""
        text = f"{self.name}-{self.file}" if self.file else self.name
        return "want-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in text)

    @property
    def is_installable(self) -> bool:
        """Whether it installs in each target."""
        return all(one.is_installable for one in self.targets)


def load_want_facts(reading: Reading, root: Path) -> list[WantFacts] | None:
    """Return the wants, those that don't install first; None without a state."""
    notes = reading.load(lambda store: load_note(store, "want_proofs", tuple[WantNote, ...]))
    groups: dict[tuple[str, str], list[WantNote]] = {}
    for note in notes or ():
        groups.setdefault((note.want or "", note.file or ""), []).append(note)
    found = [_want(name, file, group, root) for (name, file), group in groups.items()]
    return sorted(found, key=lambda one: (one.is_installable, one.name, one.file))


def _want(name: str, file: str, notes: Sequence[WantNote], root: Path) -> WantFacts:
    gaps = _gaps(notes, root)
    instead = [
        f"{one['project']} {one['version']} instead of {one['hidden']}: {one['reason']}"
        for note in notes
        for one in note.instead
    ]
    return WantFacts(
        name=name,
        file=hide_paths(file, root),
        targets=tuple(
            TargetFacts(
                target=note.target,
                is_installable=note.installable,
                files=note.files,
                bytes=note.bytes,
            )
            for note in notes
        ),
        gaps=tuple(gaps[:MAX_SHOWN_GAPS]),
        more_gaps=max(0, len(gaps) - MAX_SHOWN_GAPS),
        instead=tuple(dict.fromkeys(instead)),
        rebuilt=tuple(dict.fromkeys(filename for note in notes for filename in note.rebuilt)),
    )


def _gaps(notes: Sequence[WantNote], root: Path) -> list[GapFacts]:
    """Return the gaps, each once with the targets in which it is one."""
    targets: dict[tuple[str, str, str, str], list[str]] = {}
    for note in notes:
        for gap in note.gaps:
            key = (gap["project"], gap["requirement"], gap["reason"], gap["detail"])
            targets.setdefault(key, []).append(note.target)
    return [
        GapFacts(
            project=project,
            requirement=requirement,
            reason=reason,
            detail=hide_paths(detail, root),
            advice=advice_for_gap(reason),
            targets=tuple(places),
        )
        for (project, requirement, reason, detail), places in targets.items()
    ]
