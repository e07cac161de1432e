"""The values that the stages of a cycle pass to each other; frozen, compared by value, free of I/O.

A page that was read is a ``ProjectPage`` of ``ListedFile``; the mirror's pages publish ``Entry``
values of a ``ProjectView``; the step between is a ``ProjectChange`` (``core.diff``). Terms as in
``docs/explanation/glossary.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mirror.core.names import ProjectName, Sha256
from mirror.core.rules.model import NO_RULES, Rules
from mirror.errors import Reason

Digests = tuple[tuple[str, str], ...]
"""(algorithm, lower-case hexadecimal digits) pairs, sorted by algorithm; only kinds of
``names.HEX_LENGTHS``.
"""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of a file that a page lists, apart from its bytes.

    A change here is a relabelling, not a replacement.
    """

    requires_python: str | None = None
    yanked: str | None = None
    """None: not yanked; the reason otherwise, empty where none is given (PEP 592)."""
    upload_time: str | None = None
    """Exactly as listed (PEP 700)."""
    provenance: str | None = None
    """An absolute https URL (PEP 740)."""
    extra: str = "{}"
    """Unknown keys of the file as a JSON object, keys sorted; ``gpg-sig`` is never among them."""


class ListedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as an index lists it: the name is safe, the URL absolute, http(s), without user info
    and fragment.
    """

    filename: str
    url: str
    digests: Digests = ()
    size: int | None = None
    labels: Labels = Labels()
    metadata: Digests | None = None
    """None: no core metadata is advertised (PEP 658/714); its digests otherwise, empty where none
    is given.
    """


class RefusedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a page lists and that must not be touched, with the reason as a sentence."""

    name: str
    """Exactly as listed where it is a safe name, else fit to be shown; empty where it can't be
    read.
    """
    cause: str
    reason: Reason = Reason.UNSAFE_NAME
    labels: Labels | None = None
    """Labels from the page, for a held file of this name; None where they can't be read."""


class ProjectMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of the project itself that its page lists."""

    status: str = "active"
    """PEP 792: active, archived, quarantined, deprecated; another word is passed through."""
    status_reason: str | None = None
    versions: tuple[str, ...] | None = None
    """As listed (PEP 700); None where the page's format has no list of versions."""
    extra: str = "{}"
    """Unknown top-level keys of the page as a JSON object, keys sorted."""
    extra_meta: str = "{}"
    """Unknown keys of ``meta`` as a JSON object, keys sorted; ``_last-serial`` is never among
    them.
    """


class ProjectPage(msgspec.Struct, frozen=True, kw_only=True):
    """A project's page, read."""

    name: ProjectName
    files: tuple[ListedFile, ...]
    """In the page's order. The same filename may occur twice: ``core.policy`` chooses."""
    meta: ProjectMeta = ProjectMeta()
    serial: int | None = None
    """``_last-serial`` of the page itself."""
    refused: tuple[RefusedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    """Sentences for the log, such as a higher minor version."""
    is_whole: bool = True
    """False: the page may have been cut on the way, or some names can't be read.

    Unlisted files are then not absent.
    """
    others: frozenset[str] = frozenset()
    """Names that the page links and that are no files, such as a manual; some of them, where there
    are very many.
    """
    is_html: bool = False
    """HTML can't carry sizes, versions or unknown keys: they are then kept from the last JSON
    (``core.diff``).
    """


class RootPage(msgspec.Struct, frozen=True, kw_only=True):
    """An index's root page, read."""

    projects: Mapping[ProjectName, int | None]
    """Each listed project with its ``_last-serial``, or None."""
    addresses: Mapping[ProjectName, str] = {}
    """Where the pages of projects are that have another address than the usual one."""
    unread: int = 0
    """Number of files of a flat page whose names hold no project."""
    unread_names: tuple[str, ...] = ()
    """The first of them."""
    serial: int | None = None
    refused: int = 0
    """How many names were no project names."""
    is_cut: bool = False
    """It may have been cut on the way: the index may list more."""
    unreadable: int = 0
    """How many items are without a name that can be read."""
    warnings: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether unlisted names are absent."""
        return not (self.is_cut or self.unreadable)


class Validators(msgspec.Struct, frozen=True, kw_only=True):
    """The values by which a change of a page since its last reading is noticed."""

    etag: str | None = None
    last_modified: str | None = None
    serial: int | None = None
    """The page's own ``_last-serial``."""
    digest: str | None = None
    """sha256 of the page's decoded bytes, for a server that has nothing else."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A held file as the mirror's pages publish it."""

    filename: str
    sha256: Sha256
    size: int
    labels: Labels = Labels()
    metadata_sha256: Sha256 | None = None
    """Digest of the sidecar stored with the blob, or None where there is none."""


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """All that one project's pages are rendered from; equal views give equal bytes."""

    name: ProjectName
    meta: ProjectMeta = ProjectMeta()
    entries: tuple[Entry, ...] = ()
    """One for each filename, sorted by filename; empty for a withdrawn project."""
    serial: int = 0
    """The mirror's revision of the last change of this page; published as ``_last-serial``."""


class IndexPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which projects and files of one index are wanted; filled by ``config``, judged by
    ``core.policy``.
    """

    name: str
    listed_by_config: bool = False
    projects: tuple[str, ...] = ("*",)
    exclude_projects: tuple[str, ...] = ()
    files: tuple[str, ...] = ("*",)
    exclude_files: tuple[str, ...] = ()
    skip_url_patterns: tuple[str, ...] = ("*/python-upstream/*",)
    refuse_unhashed: bool = False
    keep_replaced: bool = False
    overlay: bool = False
    overlay_targets: tuple[str, ...] = ()
    """The only targets for which the files of an overlay index are needed; none: all."""
    file_size_limit: int = 0
    """Bytes; 0: no limit."""
    page_hosts: tuple[str, ...] = ()
    """Other hosts whose pages the root may link."""
    is_flat: bool = False
    """The root is a page of files."""
    rules: Rules = NO_RULES
