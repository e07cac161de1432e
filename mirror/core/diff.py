"""Compares a page's listing with the held files and decides what to do; acting on the decision is
left to the caller.

Identity is (index, project, filename) and the sha256, never the URL. Where an index lists no strong
digest, a file counts as unchanged while every label in both listings is equal; a digest that
appears later is compared with the blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from mirror.core.files.distributions import is_foreign, metadata_to_fetch
from mirror.core.files.labels import merged_labels
from mirror.core.model import Digests, Labels, ListedFile, ProjectMeta, ProjectPage
from mirror.core.names import STRONG_DIGESTS, Sha256, digests_to_compare
from mirror.core.policy import FileRefusal, Selected
from mirror.core.rules.model import NEWEST, PRE_RELEASES


class HeldFile(msgspec.Struct, frozen=True, kw_only=True):
    """An open entry row: a file that the mirror's pages publish for one index and project."""

    id: int
    filename: str
    sha256: Sha256
    size: int
    digests: Digests
    """As listed by the index, not computed."""
    url: str
    labels: Labels
    absent_since: int | None = None
    """The cycle that first missed it."""
    refused: Digests = ()
    """The digests of other bytes under this name that ``on-replace = "keep"`` has refused."""
    has_metadata: bool = False
    """Whether the mirror's page offers core metadata for it (PEP 658)."""
    first_metadata: str | None = None
    """The sha256 of the only metadata that may ever be offered for it, where it is not a wheel;
    None: none was published yet.
    """


class RemovalKind(Enum):
    """The reason for a removal; all but those of ``OUTSIDE_BRAKE`` obey the brake."""

    ABSENT = "absent"
    """Missing in two consecutive readings."""
    CONFIGURATION = "configuration"
    """The patterns no longer want it, or another index owns the name."""
    WITHDRAWN = "withdrawn"
    """The index withdrew the project."""
    NO_FILE = "no-file"
    """The page links it, but the link is not a file's: an earlier version of this program mirrored
    it as a file.
    """
    FOREIGN = "foreign"
    """It is named after another project, so that no client takes it."""
    DISPLACED = "displaced"
    """Newer versions take its place (``newest``), once they are held."""
    SUPERSEDED = "superseded"
    """A final version takes the place of a pre-release (``where-needed``), once one is held."""


_KINDS = {NEWEST: RemovalKind.DISPLACED, PRE_RELEASES: RemovalKind.SUPERSEDED}
"""Rules whose removals wait for what takes the place of the file."""

OUTSIDE_BRAKE = frozenset({RemovalKind.NO_FILE, RemovalKind.FOREIGN})
"""Removals that follow from the mirror's own rules, which no index can trigger."""


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """A file to download; ``replaces`` is the open entry of the same name whose bytes it
    supersedes.
    """

    file: ListedFile
    replaces: HeldFile | None = None


class Relabel(msgspec.Struct, frozen=True, kw_only=True):
    """A held file whose labels changed. The bytes stay."""

    held: HeldFile
    labels: Labels


class Rehash(msgspec.Struct, frozen=True, kw_only=True):
    """A held file for which the index now lists digests that have to be compared with the blob."""

    held: HeldFile
    file: ListedFile
    expected: Digests


class FetchMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """A held file that is not a wheel, and whose advertised metadata is not held: it appeared
    later, or was damaged.
    """

    held: HeldFile
    file: ListedFile


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A file to take off the pages."""

    held: HeldFile
    kind: RemovalKind


class ProjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """The changes to make for one project of one index."""

    fetch: tuple[Fetch, ...] = ()
    relabel: tuple[Relabel, ...] = ()
    rehash: tuple[Rehash, ...] = ()
    metadata: tuple[FetchMetadata, ...] = ()
    touch: tuple[tuple[HeldFile, ListedFile], ...] = ()
    """Listed digests or address changed, nothing that a page shows: the row is updated in place."""
    refuse: tuple[tuple[HeldFile, Digests], ...] = ()
    """Other bytes under a held name, refused for the first time (``on-replace = "keep"``)."""
    missing: tuple[HeldFile, ...] = ()
    """Absent in this reading for the first time."""
    returned: tuple[HeldFile, ...] = ()
    """Absent in an earlier reading and listed again."""
    remove: tuple[Removal, ...] = ()
    refusals: tuple[FileRefusal, ...] = ()
    meta: ProjectMeta | None = None
    """The page's own keys, where they changed."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing that a page shows changes and nothing is to be fetched."""
        shown = (
            self.fetch
            or self.relabel
            or self.rehash
            or self.metadata
            or self.refuse
            or self.remove
            or self.meta
        )
        return not shown


def diff_page(
    page: ProjectPage,
    selected: Selected,
    held: Mapping[str, HeldFile],
    *,
    cycle: int,
    old_meta: ProjectMeta,
    keep_replaced: bool,
    unwanted: frozenset[str] = frozenset(),
) -> ProjectChange:
    """Compare a page that was read with the held files.

    ``held`` maps filenames to the open entries; ``unwanted`` are those that no pattern wants or
    that another index owns. A page with status ``quarantined`` withdraws everything (PEP 792); an
    incomplete page never makes a file absent.
    """
    meta = _merged_meta(page, old_meta)
    if meta.status == "quarantined":
        removals = tuple(Removal(held=h, kind=RemovalKind.WITHDRAWN) for h in held.values())
        return ProjectChange(remove=removals, meta=meta if meta != old_meta else None)
    work = _ChangeDraft()
    for file in selected.files.values():
        known = held.get(file.filename)
        if known is None:
            work.fetch.append(Fetch(file=file))
        else:
            metadata = metadata_to_fetch(file, page.name)
            _compare(file, known, work, metadata, is_html=page.is_html, keep_replaced=keep_replaced)
    refused = {r.filename: r.labels for r in selected.refusals}
    listed = {f.filename for f in page.files} | {r.name for r in page.refused}
    for known in held.values():
        if known.filename in selected.files:
            continue
        if known.filename in selected.kept:
            _keep_refused(known, selected.kept[known.filename], work, is_html=page.is_html)
            continue
        if is_foreign(known.filename, page.name):
            work.remove.append(Removal(held=known, kind=RemovalKind.FOREIGN))
        elif known.filename in unwanted or (
            known.filename in listed and known.filename not in refused
        ):
            rule = selected.left_out.get(known.filename, "")
            kind = _KINDS.get(rule, RemovalKind.CONFIGURATION)
            work.remove.append(Removal(held=known, kind=kind))
        elif known.filename in page.others and known.filename not in listed:
            work.remove.append(Removal(held=known, kind=RemovalKind.NO_FILE))
        elif known.filename in listed:
            _keep_refused(known, refused[known.filename], work, is_html=page.is_html)
        elif page.is_whole:
            _judge_absence(known, cycle, work)
    return ProjectChange(
        fetch=tuple(work.fetch),
        relabel=tuple(work.relabel),
        rehash=tuple(work.rehash),
        metadata=tuple(work.metadata),
        touch=tuple(work.touch),
        refuse=tuple(work.refuse),
        missing=tuple(work.missing),
        returned=tuple(work.returned),
        remove=tuple(work.remove),
        refusals=selected.refusals,
        meta=meta if meta != old_meta else None,
    )


def diff_unchanged(held: Mapping[str, HeldFile], *, cycle: int) -> ProjectChange:
    """Judge a page that was confirmed unchanged: files that were absent in an earlier cycle are now
    removed.
    """
    removals = tuple(
        Removal(held=h, kind=RemovalKind.ABSENT)
        for h in held.values()
        if h.absent_since is not None and h.absent_since < cycle
    )
    return ProjectChange(remove=removals)


class _ChangeDraft:
    """The growing lists of one comparison."""

    __slots__ = (
        "fetch",
        "metadata",
        "missing",
        "refuse",
        "rehash",
        "relabel",
        "remove",
        "returned",
        "touch",
    )

    def __init__(self) -> None:
        self.fetch: list[Fetch] = []
        self.relabel: list[Relabel] = []
        self.rehash: list[Rehash] = []
        self.metadata: list[FetchMetadata] = []
        self.touch: list[tuple[HeldFile, ListedFile]] = []
        self.refuse: list[tuple[HeldFile, Digests]] = []
        self.missing: list[HeldFile] = []
        self.returned: list[HeldFile] = []
        self.remove: list[Removal] = []


def _judge_absence(known: HeldFile, cycle: int, work: _ChangeDraft) -> None:
    if known.absent_since is None:
        work.missing.append(known)
    elif known.absent_since < cycle:
        work.remove.append(Removal(held=known, kind=RemovalKind.ABSENT))


def _keep_refused(
    known: HeldFile, labels: Labels | None, work: _ChangeDraft, *, is_html: bool
) -> None:
    """A file that is listed and must not be touched stays as it is held, with the labels that it
    has now: a yank.
    """
    if known.absent_since is not None:
        work.returned.append(known)
    if labels is None:
        return
    merged = merged_labels(labels, known.labels) if is_html else labels
    if merged != known.labels:
        work.relabel.append(Relabel(held=known, labels=merged))


def may_offer(metadata: Digests, first: str | None) -> bool:
    """Return whether listed metadata may equal the metadata that a file's pages offered first,
    which is never exchanged.
    """
    return bool(metadata) and (first is None or dict(metadata).get("sha256", first) == first)


def _compare(
    file: ListedFile,
    known: HeldFile,
    work: _ChangeDraft,
    metadata: Digests,
    *,
    is_html: bool,
    keep_replaced: bool,
) -> None:
    if known.absent_since is not None:
        work.returned.append(known)
    verdict = same_bytes(file, known)
    is_same_html = is_html and verdict is not False
    labels = merged_labels(file.labels, known.labels) if is_same_html else file.labels
    if labels != known.labels:
        work.relabel.append(Relabel(held=known, labels=labels))
    if isinstance(verdict, tuple):
        if keep_replaced and file.digests == known.refused:
            return
        work.rehash.append(Rehash(held=known, file=file, expected=verdict))
    elif verdict:
        if file.digests != known.digests or _address(file.url) != _address(known.url):
            work.touch.append((known, file))
        if not known.has_metadata and may_offer(metadata, known.first_metadata):
            work.metadata.append(FetchMetadata(held=known, file=file))
    elif not keep_replaced:
        work.fetch.append(Fetch(file=file, replaces=known))
    elif file.digests != known.refused:
        work.refuse.append((known, file.digests))


def same_bytes(file: ListedFile, known: HeldFile) -> bool | Digests:
    """Return whether the listing still describes the held bytes, or the digests of the blob that
    decide it.
    """
    offered, before = dict(file.digests), {**dict(known.digests), "sha256": str(known.sha256)}
    if "sha256" in offered and offered["sha256"] != known.sha256:
        return False
    compared = digests_to_compare(file.digests)
    if any(before.get(algorithm, digits) != digits for algorithm, digits in compared):
        return False
    is_strong = any(algorithm in STRONG_DIGESTS for algorithm, _ in compared)
    if "sha256" not in offered and file.size is not None and file.size != known.size:
        return False
    if not is_strong and _both_differ(file.labels.upload_time, known.labels.upload_time):
        return False
    return tuple(pair for pair in compared if pair[0] not in before) or True


def _both_differ(new: str | None, old: str | None) -> bool:
    return new is not None and old is not None and new != old


def _merged_meta(page: ProjectPage, old: ProjectMeta) -> ProjectMeta:
    if not page.is_html:
        return page.meta
    return ProjectMeta(
        status=page.meta.status,
        status_reason=page.meta.status_reason,
        versions=page.meta.versions if page.meta.versions is not None else old.versions,
        extra=page.meta.extra if page.meta.extra != "{}" else old.extra,
        extra_meta=page.meta.extra_meta if page.meta.extra_meta != "{}" else old.extra_meta,
    )


def _address(url: str) -> str:
    """Return the URL without its query: a signature that changes with each reading is not a
    change.
    """
    return url.partition("?")[0]
