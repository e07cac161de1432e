"""What a fetch process and the one that runs the cycle say to each other (``channel`` carries it)."""

from __future__ import annotations

import msgspec

from mirror.config import IndexConfig, Limits
from mirror.core.model import Validators
from mirror.core.names import ProjectName
from mirror.errors import MirrorError
from mirror.sync.arrival import FetchJob
from mirror.tree.files import PlacedBlob
from mirror.tree.layout import Layout
from mirror.upstream.credentials import Credential
from mirror.upstream.index import PageLook
from mirror.upstream.retry import RetryPolicy
from mirror.upstream.session import Traffic


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a fetch process: whose files it fetches, and how."""

    index: IndexConfig
    limits: Limits
    """``max-connections`` and ``downloads`` are its own share."""
    layout: Layout
    retry_policy: RetryPolicy
    credential: Credential | None
    credential_from: str


class LookJob(msgspec.Struct, frozen=True, kw_only=True):
    """A project's page to look at."""

    name: ProjectName
    validators: Validators | None


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """A job and the number under which its outcome is told."""

    number: int
    job: FetchJob | LookJob


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job: a blob in its place (not durable yet), a page, or an error.

    None of them: the page is too large to be handed on, or an exception came that nobody expected.
    """

    number: int
    blob: PlacedBlob | None = None
    look: PageLook | None = None
    error: MirrorError | None = None
    bug: str | None = None
    """The kind of that exception; the log has it."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch process did since it said so last."""

    traffic: Traffic | None
    outcomes: tuple[Outcome, ...] = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the log."""

    line: str


class Renew(msgspec.Struct, frozen=True, kw_only=True):
    """The index refused this credential; another one is asked for."""

    used: Credential | None


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """The credential to use from now on, or why there is none."""

    credential: Credential | None = None
    error: MirrorError | None = None


class Stop(msgspec.Struct, frozen=True):
    """Give up what is under way, keep what came of it, and say ``Stopped``."""


class Stopped(msgspec.Struct, frozen=True):
    """Nothing more comes."""
