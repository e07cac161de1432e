"""The answer of a proof by the published pages and the held bytes, as the state keeps it; and the
proof, which adds the reasons of the last cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from packaging.requirements import InvalidRequirement
from packaging.specifiers import SpecifierSet

from mirror.selection.gaps import Gap, GapReason, Instead
from mirror.selection.resolving.results import ChosenFile, Result
from mirror.selection.resolving.walk import read_requirement
from mirror.selection.view.tables import Distribution, read_distribution
from mirror.state.advisories.vulnerable import VulnerableFile


class ProvedPart(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one group of patch releases; for a lock the only one."""

    release: str = ""
    is_resolved: bool = True
    files: tuple[ChosenFile, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """By the pages."""
    judged: tuple[Gap, ...] = ()
    """By the bytes of the files."""


class ProofAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for all releases of one Python on one platform."""

    parts: tuple[ProvedPart, ...] = ()
    names: tuple[str, ...] = ()
    """All projects whose pages were looked at."""
    rebuilt: tuple[str, ...] = ()
    unknown_extras: tuple[str, ...] = ()
    """One sentence for each extra that the want asks for and the version does not have."""

    @property
    def releases(self) -> tuple[str, ...]:
        """One release of each group."""
        return tuple(part.release for part in self.parts)

    @property
    def is_damaged(self) -> bool:
        """Whether a file was damaged: it may be mended without any change of a page."""
        return any(gap.reason is GapReason.DAMAGED for part in self.parts for gap in part.judged)


class Barred(msgspec.Struct, frozen=True, kw_only=True):
    """A listed file that a rule of the configuration keeps out."""

    filename: str
    reason: GapReason
    detail: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of the state beyond the pages."""

    result: Result | None = None
    """Of the last cycle for the same want and target."""
    failures: Mapping[str, Gap] = {}
    """Wanted files that are not held, by project, each as a gap."""
    listed: Mapping[str, str] = {}
    """The index that lists a project, by project."""
    barred: Mapping[str, tuple[Barred, ...]] = {}
    """Files that rules keep out, by project."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one want installs in one target."""

    want: str | None
    file: str | None
    target: str
    files: tuple[ChosenFile, ...] = ()
    rebuilt: tuple[str, ...] = ()
    instead: tuple[Instead, ...] = ()
    gaps: tuple[Gap, ...] = ()
    vulnerable: tuple[VulnerableFile, ...] = ()
    """Its files that advisories name; they are held, and install."""
    warnings: tuple[str, ...] = ()
    """One sentence for each line of its file that is not followed."""
    withdrawn: tuple[str, ...] = ()
    """Its files that are withdrawn: a snapshot lists them, and no server gives them out."""

    @property
    def is_installable(self) -> bool:
        """Whether it installs."""
        return not self.gaps

    @property
    def unique_files(self) -> list[ChosenFile]:
        """Its files, each once, also where a build takes one that the want needs too."""
        return list({(file.project, file.filename): file for file in self.files}.values())

    def as_json(self) -> dict[str, Any]:
        """Return the object of ``mirror check``."""
        shown: dict[str, Any] = {
            "want": self.want,
            "file": self.file,
            "target": self.target,
            "installable": self.is_installable,
            "files": len(self.unique_files),
            "bytes": sum(file.size or 0 for file in self.unique_files),
            "rebuilt": list(self.rebuilt),
            "instead": [item.as_json() for item in self.instead],
            "gaps": [gap.as_json() for gap in self.gaps],
        }
        if self.vulnerable:
            shown["vulnerable"] = [one.as_json() for one in self.vulnerable]
        if self.withdrawn:
            shown["withdrawn"] = list(self.withdrawn)
        if self.warnings:
            shown["warnings"] = list(self.warnings)
        return shown


_ONLY_AN_INDEX_KNOWS = frozenset(
    {GapReason.NOT_OFFERED, GapReason.NO_VERSION, GapReason.NO_WHEEL, GapReason.CONFLICT}
)


def proof_of(base: Proof, answer: ProofAnswer, known: Known) -> Proof:
    """Return the proof: the answer, with the reasons that the last cycle knows."""
    gaps: dict[Gap, None] = {}
    for part in answer.parts:
        for gap in (*part.gaps, *part.judged):
            gaps[_with_reason(gap, known)] = None
    found = list(gaps)
    has_failed = any(not part.is_resolved for part in answer.parts)
    if has_failed and known.result is not None and not known.result.is_resolved:
        # nothing of it could be mirrored: only the last cycle knows why
        found = [*known.result.gaps, *(g for g in found if g.reason is GapReason.DAMAGED)]
    return msgspec.structs.replace(
        base,
        files=tuple(sorted({file for part in answer.parts for file in part.files})),
        rebuilt=answer.rebuilt,
        gaps=tuple(found),
        instead=known.result.instead if known.result is not None else (),
    )


def _barred(gap: Gap, files: Sequence[Barred]) -> Barred | None:
    """Return the newest file that a requirement asks for and a rule keeps out."""
    try:
        specifier = read_requirement(gap.requirement).requirement.specifier
    except InvalidRequirement:
        return None
    found = [(read.version, n) for n, one in enumerate(files) if (read := _read(one, specifier))]
    return files[max(found)[1]] if found else None


def _read(one: Barred, specifier: SpecifierSet) -> Distribution | None:
    read = read_distribution(one.filename)
    return read if read and specifier.contains(read.version, prereleases=True) else None


def _with_reason(gap: Gap, known: Known) -> Gap:
    """Return a gap with the reason that the last cycle knows for it."""
    if gap.reason not in _ONLY_AN_INDEX_KNOWS:
        return gap
    if known.result is not None:
        same = next((one for one in known.result.gaps if one.project == gap.project), None)
        if same is not None:
            return msgspec.structs.replace(gap, reason=same.reason, detail=same.detail)
    barred = _barred(gap, known.barred.get(gap.project, ()))
    if barred is not None:
        return msgspec.structs.replace(gap, reason=barred.reason, detail=barred.detail)
    failure = known.failures.get(gap.project)
    if failure is not None:
        return msgspec.structs.replace(gap, reason=failure.reason, detail=failure.detail)
    index = known.listed.get(gap.project)
    if gap.reason is GapReason.NOT_OFFERED and index is not None:
        return msgspec.structs.replace(gap, detail=f"{index} lists it: add a want")
    return gap
