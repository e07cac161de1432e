"""The questions of a configuration: whether each source of each want installs in an environment.

A question is for one Python on one platform of a target. A cycle resolves the questions, and
``mirror check`` proves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from mirror.config import Config, TargetConfig, WantConfig
from mirror.selection.reading import read_want
from mirror.selection.targets import Environment, environments
from mirror.selection.wants import LockedSet, Resolution, UnresolvedFile, WantSource
from mirror.state.wants.needs import Key


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one source of a want installs in one environment, and with which files."""

    source: WantSource
    want: WantConfig | None
    """None for a file that the command line names."""
    environments: tuple[Environment, ...]
    """All releases of one Python on one platform."""

    @property
    def key(self) -> Key:
        """The key of its resolution and of its proof in the state."""
        file = self.source.file or ""
        return Key(want=self.source.want or "", file=file, target=self.environments[0].name)

    @property
    def first_line(self) -> str:
        """Its first requirement; empty where it has none."""
        return self.source.lines[0].text if isinstance(self.source, Resolution) else ""

    @property
    def names_digests(self) -> bool:
        """Whether its source names files by their digests."""
        match self.source:
            case Resolution(lines=lines, constraints=constraints):
                return any(line.hashes for line in (*lines, *constraints))
            case LockedSet():
                return True
            case UnresolvedFile():
                return False

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each line of its source that is not followed."""
        if isinstance(self.source, UnresolvedFile):
            return ()
        return (*self.source.warnings, *self.source.skipped)

    @property
    def named_projects(self) -> list[str]:
        """The projects that its source names itself."""
        match self.source:
            case Resolution(lines=lines):
                return [line.project for line in lines]
            case LockedSet(packages=packages):
                return [package.project for package in packages]
            case UnresolvedFile():
                return []


def read_questions(config: Config) -> list[Question]:
    """Return the questions of all wants. Blocks."""
    return [
        question
        for want in config.wants
        for question in questions_for(read_want(want, config.folder), want, config.targets_of(want))
    ]


def questions_for(
    sources: Sequence[WantSource], want: WantConfig | None, targets: Sequence[TargetConfig]
) -> Iterator[Question]:
    """Yield a question for each source and each Python and platform of the targets."""
    groups = [group for target in targets for group in _grouped(environments(target))]
    for source in sources:
        for group in groups:
            yield Question(source=source, want=want, environments=group)


def _grouped(found: Sequence[Environment]) -> list[tuple[Environment, ...]]:
    """Group the environments of a target by Python and platform."""
    groups: dict[str, list[Environment]] = {}
    for one in found:
        groups.setdefault(one.name, []).append(one)
    return [tuple(group) for group in groups.values()]
