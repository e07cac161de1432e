"""What a cycle or a proof knows of resolving before anything has to be resolved: a want's choices,
and the resolver that starts once it is asked for.

An idle cycle stops here, so that what resolves is imported with the first resolution.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread
import msgspec
from packaging.utils import canonicalize_name

from mirror.config import WantConfig
from mirror.errors import MirrorError, TreeError
from mirror.selection.resolving.program import Uv
from mirror.selection.view.tables import Sdists
from mirror.tree.layout import PRIVATE_DIRECTORY

if TYPE_CHECKING:
    from mirror.selection.resolving.runs import Resolver
    from mirror.selection.view.answers import Offers

_FOLDER = "mirror-resolve-"


class Void(Exception):
    """A run counts for nothing, since something could not be asked for."""

    def __init__(self, cause: MirrorError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The choices of a want beyond its requirements."""

    sdists: Sdists = "where-no-wheel"
    all_wheels: bool = False
    all_sdists: bool = False
    newest: int = 0
    """Number of newest versions of the projects that the want names itself; 0: none."""
    accept_unproved: tuple[str, ...] = ()
    """Projects whose dependencies may be known only by running code."""
    refuses_rebuilt: bool = True
    """Whether a file with none of the digests of its line is a gap."""


def policy_of(want: WantConfig | None, *, sdists: Sdists | None = None) -> Policy:
    """Return the choices of a want; those by default without one.

    ``sdists``: for a proof, which asks only whether the want itself installs.
    """
    if want is None:
        return Policy()
    accepted = tuple(canonicalize_name(name) for name in want.accept_unproved)
    return Policy(
        sdists=sdists or want.sdists,
        all_wheels=sdists is None and want.wheels == "all",
        all_sdists=sdists is None and want.sdists == "always",
        newest=0 if sdists is not None else want.newest,
        accept_unproved=accepted,
        refuses_rebuilt=want.on_rebuilt == "refuse",
    )


class LazyResolver:
    """A resolver that is started when the first resolution needs it: an idle cycle starts none."""

    def __init__(
        self,
        uv: Uv | None,
        offers: Offers,
        *,
        name: str,
        place: Path | None = None,
        pre_releases: bool = False,
    ) -> None:
        """``place``: the folder for its files, of this process alone; None: the system's.

        ``pre_releases``: they are taken like other versions.
        """
        self._uv, self._offers, self._name, self._place = uv, offers, name, place
        self._pre_releases = pre_releases
        self._stack = contextlib.AsyncExitStack()
        self._lock = anyio.Lock()
        self._resolver: Resolver | None = None
        self._folder: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()
            if self._folder is not None:
                await anyio.to_thread.run_sync(
                    partial(shutil.rmtree, self._folder, ignore_errors=True)
                )

    async def get(self) -> Resolver:
        """Return the resolver; uv must be there."""
        async with self._lock:
            if self._resolver is None:
                assert self._uv is not None
                self._folder = await anyio.to_thread.run_sync(_make_folder, self._place)
                # An idle cycle resolves nothing: aiohttp.web takes 0.15 s of CPU, the rest 4 ms.
                from mirror.selection.resolving.runs import Resolver
                from mirror.selection.view.server import served_view

                view = await self._stack.enter_async_context(served_view())
                self._resolver = Resolver(
                    self._uv,
                    view,
                    self._offers,
                    Path(self._folder),
                    name=self._name,
                    pre_releases=self._pre_releases,
                )
        return self._resolver


def _make_folder(place: Path | None) -> str:
    """Return a new folder for the resolver's files; those of a killed process are removed.

    Raises ``TreeError``.
    """
    try:
        if place is not None:
            place.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            for left in place.glob(f"{_FOLDER}*"):
                shutil.rmtree(left, ignore_errors=True)
        return tempfile.mkdtemp(prefix=_FOLDER, dir=place)
    except OSError as exc:
        path = str(place or "the system's temporary folder")
        problem = f"the resolver's files can't be written there ({exc.strerror}): set TMPDIR"
        raise TreeError(path=path, problem=problem) from exc
