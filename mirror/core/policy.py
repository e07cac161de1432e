"""Which projects and files are wanted, which index owns each, and when removals are too many to be
believed.

Pure rules over ``core.model.IndexPolicy``. An index *owns* the projects that it lists and that its
patterns want; the first one in the order of the configuration wins. That is the guard against
dependency confusion (README, Decisions).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit, urlunsplit

import msgspec

from mirror.core.files.distributions import is_foreign
from mirror.core.model import IndexPolicy, Labels, ListedFile, ProjectPage
from mirror.core.names import ProjectName, compile_patterns, strongest_digest
from mirror.core.rules.judge import Judgement, RuleBook, RuleFacts, RuleVerdict, Sight
from mirror.core.rules.model import EXCLUDE_VULNERABLE, MIN_AGE, NO_RULES
from mirror.errors import Reason

FILES, EXCLUDE_FILES, SKIP_URL_PATTERNS = "files", "exclude-files", "skip-url-patterns"
"""The rules that leave files out, by their keys in the configuration."""
FOREIGN_NAME = "foreign-name"
"""The rule that leaves out a file named after another project: clients ignore such a file on this
page.
"""

_MOST_FILES = 2**53
_RULES = 1
"""The version of the rules by which pages are read. Another one has every page read again after an
upgrade.
"""
BRAKE_MIN_FILES = 5
"""Number of files that may always leave the pages within the window of the brake."""


class FileRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted file that can't be taken, found without a request."""

    filename: str
    reason: Reason
    detail: str
    file: ListedFile | None = None
    labels: Labels | None = None
    """Labels from the page, where they can be read: a held file of this name takes them on."""


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the cooldown or an advisory keeps out, with all that judging it again needs."""

    file: ListedFile
    verdict: RuleVerdict

    @property
    def next_at(self) -> float | None:
        """When it is judged again; None: only a new database of advisories decides."""
        return self.verdict.until if self.verdict.rule == MIN_AGE else None


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The policy's decision about the files of one page."""

    files: Mapping[str, ListedFile]
    """The wanted files, one for each filename, in the page's order."""
    left_out: Mapping[str, str] = {}
    """Listed filenames that are not wanted, each with the rule that leaves it out: a key of the
    configuration such as ``exclude-files``, or another word that names the rule."""
    claims: tuple[str, ...] = ()
    """Listed filenames that the file patterns leave out: an overlay may not add them either."""
    refusals: tuple[FileRefusal, ...] = ()
    warnings: tuple[str, ...] = ()
    deferred: Mapping[str, Deferral] = {}
    """The left-out files that are judged again later, by file name."""
    kept: Mapping[str, Labels] = {}
    """Held files whose replacements wait: they stay, with the labels that the page lists."""
    sights: Mapping[Sight, float] = {}
    """First sights to record."""

    @property
    def skipped(self) -> int:
        """How many listed files are left out."""
        return len(self.left_out)


class Selection:
    """The compiled patterns of one index."""

    def __init__(
        self, policy: IndexPolicy, earlier: Sequence[IndexPolicy] = (), *, has_overlay: bool = False
    ) -> None:
        """Compile ``policy``; ``earlier`` are the policies of the indexes before it,
        ``has_overlay``: one follows it.
        """
        self.policy = policy
        self._names_project = compile_patterns(policy.projects)
        self._excludes_project = compile_patterns(policy.exclude_projects)
        self._names_file = compile_patterns(policy.files)
        self._excludes_file = compile_patterns(policy.exclude_files)
        self._skips_url = compile_patterns(policy.skip_url_patterns)
        self._owner_excludes = {
            e.name: compile_patterns(e.exclude_files) for e in earlier if policy.overlay
        }
        self._has_overlay = has_overlay
        self.rules = RuleBook(policy.rules)
        root_rules: list[object] = [
            policy.projects,
            policy.exclude_projects,
            policy.listed_by_config,
        ]
        if policy.page_hosts:
            root_rules.append(policy.page_hosts)
        if policy.is_flat:
            root_rules.append("flat")
        self.root_digest = _digest(root_rules)
        """Identifies the rules that decide which projects of the root are wanted."""
        page_rules: list[object] = [
            _RULES,
            policy.files,
            policy.exclude_files,
            policy.skip_url_patterns,
            policy.refuse_unhashed,
            policy.keep_replaced,
            policy.overlay,
            has_overlay,
            [e.exclude_files for e in earlier] if policy.overlay else [],
        ]
        if (rules := policy.rules.text()) is not None:
            page_rules.append(rules)
        self.page_digest = _digest(page_rules)
        """Identifies the rules that decide which files of a page are wanted; stored with the page's
        validators.
        """

    def wants_project(self, name: ProjectName) -> bool:
        """Return whether the project patterns want ``name``; exclusion wins."""
        return self.rule_against_project(name) is None

    def rule_against_project(self, name: ProjectName) -> str | None:
        """Return the key of the project patterns that leave ``name`` out, or None."""
        if self._excludes_project(name):
            return "exclude-projects"
        return None if self._names_project(name) else "projects"

    def wants_filename(self, filename: str, owners: Collection[str] = ()) -> bool:
        """Return whether the file patterns want ``filename``, regardless of its URL.

        ``owners`` are the earlier indexes that list the project too, when this one is an overlay: a
        file that their ``exclude-files`` leaves out is left out here too.
        """
        return self.rule_against(filename, owners) is None

    def rule_against(self, filename: str, owners: Collection[str] = ()) -> str | None:
        """Return the key of the file patterns that leave ``filename`` out, or None; ``owners`` as
        above.
        """
        if self._excludes_file(filename) or any(
            self._owner_excludes[owner](filename) for owner in owners
        ):
            return EXCLUDE_FILES
        return None if self._names_file(filename) else FILES

    def select(
        self,
        page: ProjectPage,
        held: Mapping[str, str],
        claimed: Collection[str] = (),
        owners: Collection[str] = (),
        facts: RuleFacts | None = None,
    ) -> Selected:
        """Choose the wanted files of ``page``.

        ``facts``: the files that the rules ask for; without it the patterns alone decide.

        ``held`` maps held filenames to their sha256: of several offers for one filename the held
        one is taken, else the first. ``claimed`` are the filenames that belong to the ``owners``
        when this index is an overlay.
        """
        files: dict[str, ListedFile] = {}
        refusals: dict[str, FileRefusal] = {
            r.name: FileRefusal(filename=r.name, reason=r.reason, detail=r.cause, labels=r.labels)
            for r in page.refused
        }
        left_out: dict[str, str] = {}
        repeated: list[str] = []
        for file in page.files:
            if file.filename in claimed:
                continue  # the owner's, which publishes it or leaves it out
            if rule := self._rule_against_file(file, page.name, owners):
                left_out[file.filename] = rule
            elif file.filename not in files:
                files[file.filename] = file
            else:
                repeated.append(file.filename)
                is_held = dict(file.digests).get("sha256") == held.get(file.filename, "")
                chosen, other = (
                    (file, files[file.filename]) if is_held else (files[file.filename], file)
                )
                files[file.filename] = _with_yank_of(other, chosen)
        for refused in page.refused:
            if refused.name in claimed:
                refusals.pop(refused.name, None)
            elif refused.name and (rule := self.rule_against(refused.name, owners)):
                left_out[refused.name] = rule
                refusals.pop(refused.name, None)
        for name in refusals.keys() & files.keys():
            repeated.append(name)
            del refusals[name]
        judged = Judgement()
        if facts is not None and self.policy.rules != NO_RULES:
            judged = self.rules.judge(page.name, files, facts)
        left_out |= {name: verdict.rule for name, verdict in judged.out.items()}
        barred = {name: files.pop(name) for name in judged.out}
        if self.policy.refuse_unhashed:
            refusals.update(_refuse_unhashed(files))
        return Selected(
            files=files,
            left_out={name: rule for name, rule in left_out.items() if name not in files},
            claims=self._claims(left_out),
            refusals=tuple(refusals.values()),
            warnings=(*page.warnings, *_repeated_warning(repeated)),
            deferred=deferrals(barred, judged.out),
            kept={n: f.labels for n, f in barred.items() if judged.out[n].keeps_held},
            sights=judged.sights,
        )

    def _rule_against_file(
        self, file: ListedFile, project: ProjectName, owners: Collection[str]
    ) -> str | None:
        by_name = self.rule_against(file.filename, owners)
        if by_name is not None:
            return by_name
        if is_foreign(file.filename, project):
            return FOREIGN_NAME
        return SKIP_URL_PATTERNS if self._skips_url(_without_query(file.url)) else None

    def _claims(self, left_out: Mapping[str, str]) -> tuple[str, ...]:
        """Return the filenames that later overlays may not add; a file left out by its address is
        unclaimed.
        """
        if not self._has_overlay:
            return ()
        unclaimed = {FOREIGN_NAME, SKIP_URL_PATTERNS}
        return tuple(name for name, rule in left_out.items() if rule not in unclaimed)

    def too_large(self, file: ListedFile) -> bool:
        """Return whether the listed size is over the limit of this index."""
        limit = self.policy.file_size_limit
        return bool(limit) and file.size is not None and file.size > limit


def deferrals(
    files: Mapping[str, ListedFile], out: Mapping[str, RuleVerdict]
) -> dict[str, Deferral]:
    """Return the files to judge again, of those that a rule keeps out."""
    return {
        name: Deferral(file=file, verdict=out[name])
        for name, file in files.items()
        if name in out and out[name].rule in {MIN_AGE, EXCLUDE_VULNERABLE}
    }


def narrow(selected: Selected, names: Collection[str]) -> Selected:
    """Return what of a selection has one of these file names: those that a want needs, and the held
    ones.
    """
    return msgspec.structs.replace(
        selected,
        files={name: file for name, file in selected.files.items() if name in names},
        refusals=tuple(refusal for refusal in selected.refusals if refusal.filename in names),
    )


def digest_of_needed(page_digest: str, names: Collection[str]) -> str:
    """Return the digest of the rules for one page of which only these files are needed."""
    return _digest([page_digest, sorted(names)])


def literal_names(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns that match one name only: somebody asked for exactly that."""
    return tuple(pattern for pattern in patterns if not any(mark in pattern for mark in "*?["))


def compile_selections(policies: Sequence[IndexPolicy]) -> tuple[Selection, ...]:
    """Compile the policies of all indexes, given in the order of the configuration."""
    return tuple(
        Selection(
            policy, policies[:i], has_overlay=any(later.overlay for later in policies[i + 1 :])
        )
        for i, policy in enumerate(policies)
    )


def brake_holds(*, leaving: int, published: int, max_shrink: float) -> bool:
    """Return whether implausibly many files leave the pages within the window.

    ``leaving`` counts the files that left since the start of the window plus those about to leave;
    ``published`` the files that the pages listed at its start. A ``max_shrink`` of 1 allows every
    removal, also for an index that changes all its files more than once within the window.
    """
    return max_shrink < 1 and leaving > BRAKE_MIN_FILES and leaving > published * max_shrink


def enough_published(*, leaving: int, max_shrink: float) -> int:
    """Return a number of published files from which on the brake lets ``leaving`` files go."""
    if leaving <= BRAKE_MIN_FILES:
        return 0
    return (
        math.floor(leaving / max_shrink) + 1 if max_shrink * _MOST_FILES > leaving else _MOST_FILES
    )


def _repeated_warning(names: Sequence[str]) -> Iterator[str]:
    """Yield one sentence, however many files a page lists more than once."""
    if len(names) == 1:
        yield f"{names[0]} is listed more than once"
    elif names:
        yield (
            f"{names[0]} is listed more than once, and so are files in {len(names) - 1} more places"
        )


def _with_yank_of(other: ListedFile, chosen: ListedFile) -> ListedFile:
    """Return the chosen one of two offers for a filename, yanked where either is."""
    if other.labels.yanked is None or chosen.labels.yanked is not None:
        return chosen
    labels = msgspec.structs.replace(chosen.labels, yanked=other.labels.yanked)
    return msgspec.structs.replace(chosen, labels=labels)


def _refuse_unhashed(files: dict[str, ListedFile]) -> dict[str, FileRefusal]:
    """Remove the files without a strong digest from ``files`` and return the refusals."""
    weak = [f for f in files.values() if strongest_digest(f.digests) is None]
    for file in weak:
        del files[file.filename]
    detail = 'listed without a sha256 or stronger, and unhashed = "refuse"'
    return {
        f.filename: FileRefusal(
            filename=f.filename,
            reason=Reason.REFUSED_UNHASHED,
            detail=detail,
            file=f,
            labels=f.labels,
        )
        for f in weak
    }


def _without_query(url: str) -> str:
    if "?" not in url and "#" not in url:
        return url
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


_LONGEST_GAP_S = 7 * 86_400.0
"""So much time is believed to pass between two cycles: cycles by hand once a month are usual."""


def believable_cutoff(cycle_starts: Iterable[float], *, now: float, keep_s: float) -> float | None:
    """Return the time before which a retention of ``keep_s`` seconds has ended, or None where it
    can't have yet.

    ``cycle_starts`` are the starts of the cycles, the newest first. The clock alone is not
    believed: between two cycles at most a week passes, and at most a quarter of the retention, so
    that some jumps of the clock delete nothing.
    """
    return believable_end(cycle_starts, now=now, keep_s=keep_s)[0]


def believable_end(
    cycle_starts: Iterable[float], *, now: float, keep_s: float
) -> tuple[float | None, int]:
    """Return ``believable_cutoff``, and how many of the newest cycles began after it.

    Those cycles count by their order: a file that one of them removed from the pages is kept, also
    where its clock was wrong.
    """
    if keep_s <= 0:
        return now, 0
    most_s = min(_LONGEST_GAP_S, keep_s / 4)
    passed_s, later = 0.0, now
    for newer, start in enumerate(cycle_starts):
        gap_s = min(max(later - start, 0.0), most_s)
        if passed_s + gap_s >= keep_s:
            return min(later - (keep_s - passed_s), now), newer
        passed_s += gap_s
        later = start
    return None, 0
