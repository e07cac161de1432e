"""The judgement on one question: its recorded result still holds, or a new one is computed.

A resolution is known by the digest of all that it depends on. Equal digest: no resolver starts. An
index that can't be read makes no resolution: the earlier result stays, and the ledger has the
index's own reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from mirror.core.offered_pages import WantedPages
from mirror.errors import MirrorError, StateError, TreeError
from mirror.logs import get_logger
from mirror.selection.gaps import Gap, GapReason
from mirror.selection.questions import Question
from mirror.selection.resolving.inputs import Asked, Inputs, digest_of_listings, inputs_of
from mirror.selection.resolving.lazy import LazyResolver, Void, policy_of
from mirror.selection.resolving.program import Uv
from mirror.selection.resolving.results import ChosenFile, Result, decode_result, failed
from mirror.selection.wants import LockedSet, Resolution, UnresolvedFile
from mirror.state.store import Store
from mirror.state.wants.needs import (
    NewResolution,
    StoredResolution,
    WantedFile,
    record_resolution,
)

_log = get_logger(__name__)

_NO_INPUTS = Inputs(listings="", rows="")
"""Of a result that depends on nothing that could be asked for."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The last recorded result of a question."""

    stored: StoredResolution | None = None
    names: Sequence[str] = ()
    """The projects that it asked for."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a question in this cycle."""

    result: Result
    is_computed: bool = False
    """Whether this cycle computed it again."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A result of an earlier cycle that still holds."""

    answered: Answered
    renewed: Mapping[int, tuple[str, bytes]] = {}
    """Its new digests, where its listings changed and the rows that it was shown did not."""


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """Judges the questions of one round of a cycle, and records the new results."""

    store: Store
    pages: WantedPages
    resolver: LazyResolver
    uv: Uv | None
    no_uv: str
    """Why there is no resolver."""
    pre_releases: bool
    """Whether pre-releases are taken like other versions."""
    cycle: int
    clock: Callable[[], float]

    async def recorded(self, question: Question, earlier: Earlier) -> Recorded | None:
        """Return the recorded result where it still holds; None: it is to be computed.

        Raises ``StateError``, ``TreeError``.
        """
        stored = earlier.stored
        if stored is None:
            return None
        try:
            result = decode_result(stored)
            if result.is_void:
                return None
            before = msgspec.json.decode(stored.inputs, type=Inputs)
            asked = self._asked(question)
            if before.listings == await digest_of_listings(asked, earlier.names, self.pages):
                return Recorded(answered=Answered(result=result))
            now = await inputs_of(asked, result.releases, earlier.names, self.pages)
        except (StateError, TreeError):
            raise
        except MirrorError as exc:
            return Recorded(answered=await self._keep(question, stored, exc))
        if before.rows != now.rows:
            return None
        inputs = msgspec.json.encode(now).decode()
        return Recorded(
            answered=Answered(result=result), renewed={stored.id: (inputs, stored.answer)}
        )

    async def compute(self, question: Question, earlier: Earlier) -> Answered:
        """Compute a result and record it. Raises ``StateError``, ``TreeError``."""
        try:
            result = await self._resolve(question)
            inputs = await inputs_of(
                self._asked(question), result.releases, result.names, self.pages
            )
        except (StateError, TreeError):
            raise
        except Void as exc:
            return await self._keep(question, earlier.stored, exc.cause)
        except MirrorError as exc:
            return await self._keep(question, earlier.stored, exc)
        await self._record(question, result, inputs)
        _log_result(question, result)
        return Answered(result=result, is_computed=True)

    async def _resolve(self, question: Question) -> Result:
        """Raise ``Void`` or ``MirrorError`` where an index can't be asked."""
        match question.source:
            case UnresolvedFile(problem=problem):
                return _unresolved("", problem)
            case Resolution() if self.uv is None:
                return _unresolved(question.first_line, self.no_uv)
            case Resolution() as source:
                resolver = await self.resolver.get()
                return await resolver.resolve(
                    source, question.environments, policy_of(question.want)
                )
            case LockedSet() as lock:
                from mirror.selection.resolving.locked import (
                    resolve_lock,  # 1 ms, not in an idle cycle
                )

                assert question.want is not None
                return await resolve_lock(lock, question.environments, question.want, self.pages)

    async def _keep(
        self, question: Question, stored: StoredResolution | None, cause: MirrorError
    ) -> Answered:
        """Keep the earlier result: something that it depends on could not be asked for."""
        words = str(cause)
        _log.warning("want.waits", want=question.key.want, target=question.key.target, cause=words)
        if stored is not None and not (earlier := decode_result(stored)).is_void:
            return Answered(result=earlier)
        gap = Gap(
            project="", requirement=question.first_line, reason=GapReason.FAILED, detail=words
        )
        names = tuple(sorted(set(question.named_projects)))
        result = msgspec.structs.replace(failed((gap,)), is_void=True, names=names)
        await self._record(question, result, _NO_INPUTS)
        return Answered(result=result)

    async def _record(self, question: Question, result: Result, inputs: Inputs) -> None:
        new = NewResolution(
            key=question.key,
            inputs=msgspec.json.encode(inputs).decode(),
            answer=msgspec.json.encode(result),
            names=result.names,
            files=tuple(map(_wanted, result.files)) if result.is_resolved else None,
            sought=tuple(map(_wanted, result.sought)),
        )
        await record_resolution(self.store, new, cycle=self.cycle, now=self.clock())

    def _asked(self, question: Question) -> Asked:
        want = question.want
        assert want is not None
        counts_all = question.names_digests or want.wheels == "all" or want.sdists == "always"
        return Asked(
            source=question.source,
            want=want,
            environments=question.environments,
            uv_version=self.uv.version if self.uv is not None else None,
            sdists=want.sdists,
            counts_all_files=counts_all,
            pre_releases=self.pre_releases,
        )


def _unresolved(requirement: str, problem: str) -> Result:
    gap = Gap(project="", requirement=requirement, reason=GapReason.UNRESOLVED, detail=problem)
    return failed((gap,))


def _wanted(file: ChosenFile) -> WantedFile:
    return WantedFile(index=file.index, project=file.project, filename=file.filename)


def _log_result(question: Question, result: Result) -> None:
    key = question.key
    facts = {"want": key.want, "file": key.file or None, "target": key.target}
    if result.is_resolved:
        _log.info("want.resolved", **facts, files=len(result.files), projects=len(result.names))
    else:
        gaps = [f"{gap.requirement or gap.project}: {gap.reason.value}" for gap in result.gaps]
        _log.warning("want.unresolved", **facts, gaps=gaps)
    for warning in (*result.warnings, *result.unknown_extras):
        _log.warning("want.warned", **facts, warning=warning)
    for item in result.instead:
        _log.warning("want.instead", **facts, **item.as_json())
