"""The pages that wants may need: asked for early and once, judged by the owner's rules, offered to
the selection.

Ownership is judged from the rows of the roots, as everywhere. A name that an unread root may list
is not answered: an outage must not become dependency confusion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import msgspec

from mirror.core.files.build_requires import read_build_requires
from mirror.core.files.versions import version_of
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName
from mirror.core.offers import HIDING, Offer, ProjectOffers
from mirror.core.rules.model import EXCLUDE_VULNERABLE, NO_RULES, PRE_RELEASES, Admitted
from mirror.errors import MirrorError, Unavailable
from mirror.state.advisories.records import read_advisories
from mirror.state.entries.held import load_held
from mirror.state.listing.due import Due, ProjectRow
from mirror.state.listing.sources import SourceRow
from mirror.state.missing.deferred import load_deferred_names
from mirror.state.missing.ledger import FailureRow, load_project_failures
from mirror.sync.cycle_parts import PageScope
from mirror.sync.needs.early_pages import EarlyPages
from mirror.sync.needs.metadata import MetadataReader
from mirror.sync.needs.offers import (
    is_withdrawal,
    offer_of,
    published_offer,
    refused_offers,
    still_waits,
    targets_of,
    waiting_offers,
)
from mirror.sync.needs.recent import RecentListings
from mirror.sync.pages.ruling import facts_of
from mirror.sync.work import IndexRun


class CyclePages:
    """Implements ``core.offered_pages.WantedPages`` for one cycle."""

    def __init__(
        self,
        scope: PageScope,
        sources: Sequence[SourceRow],
        dues: Sequence[tuple[IndexRun, Due]],
        resting: Sequence[tuple[IndexRun, Due]] = (),
    ) -> None:
        """``sources``: each configured index, in their order.

        ``resting``: indexes that this cycle does not read; only unknown pages are asked for.
        """
        self._scope, self._holdings, self._sources = scope, scope.holdings, sources
        self._pages = EarlyPages(scope, dues, resting)
        self._waiting: dict[tuple[int, ProjectName], list[list[str]]] = {}
        """The files that a rule keeps out for now, of each project that this cycle has judged."""
        self._recent = RecentListings(scope.holdings.store)
        self._metadata = MetadataReader(
            scope.holdings, scope.wants, {run.name: run for run, _ in self._pages.dues.values()}
        )

    async def see(self, names: Collection[ProjectName]) -> None:
        """Ask for the pages of some projects, several at the same time."""
        await self._pages.see(names)

    # -- listings ---------------------------------------------------------------------------------

    async def digest(self, project: ProjectName) -> str:
        """Return the digest of a project's listing, without reading it. Raises ``MirrorError``."""
        await self._pages.see([project])
        sources = self._sources_of(project)
        if (known := self._recent.digest(project)) is not None:
            return known
        changes = self._recent.changes
        parts: list[object] = []
        for source in sources:
            run, _ = self._pages.dues[source]
            early, row = self._pages.find(run, project)
            if early is None or row is None:
                parts.append([run.name, "published"])
                continue
            if early.error is not None and not is_withdrawal(early.error):
                raise early.error
            ledger = await self._ledger(run, row)
            hidden = sorted(
                [name, one.reason.value] for name, one in ledger.items() if one.reason in HIDING
            )
            listed = early.validators.digest if early.validators else ""
            published = (
                sorted(await self._published_only(run, project, row)) if row.has_absent else []
            )
            waiting = await self._files_that_wait(run, row)
            parts.append(
                [
                    run.name,
                    run.selection.page_digest,
                    targets_of(run),
                    listed,
                    hidden,
                    row.meta.status,
                    published,
                    *([waiting] if waiting else []),
                ]
            )
        digest = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
        return self._recent.keep_digest(project, digest, changes)

    async def list_offers(self, project: ProjectName) -> ProjectOffers:
        """Return a project's listing. Raises ``MirrorError`` where nobody knows it now."""
        await self._pages.see([project])
        sources = self._sources_of(project)
        if not sources:
            digest = await self.digest(project)
            return ProjectOffers(project=project, digest=digest, rule=self._rule_against(project))
        if (known := self._recent.offers(project)) is not None:
            return known
        changes = self._recent.changes
        owner, offers, left_out = self._pages.dues[sources[0]][0].name, [], dict[str, str]()
        claimed: set[str] = set()
        owners: list[str] = []
        for source in sources:
            run, _ = self._pages.dues[source]
            found = await self._offers_of(run, project, claimed, owners)
            if found is None:  # withdrawn: by the owner for all
                return ProjectOffers(
                    project=project,
                    digest=await self.digest(project),
                    owner=owner,
                    rule="withdrawn by the index",
                )
            offers += found[0]
            left_out |= {name: f"{rule} of {run.name}" for name, rule in found[1].items()}
            owners.append(run.name)
        listing = ProjectOffers(
            project=project,
            offers=tuple(offers),
            digest=await self.digest(project),  # with the files that were just judged to wait
            owner=owner,
            later=self._later(project, sources),
            left_out=left_out,
        )
        return self._recent.keep_offers(listing, changes)

    def _sources_of(self, project: ProjectName) -> list[int]:
        """Return the owner and the overlays of a project.

        Raises ``Unavailable`` where that is unknown.
        """
        terms, named = self._scope.terms, self._pages.named.get(project, {})
        overlays = {policy.name for policy in terms.policies[1:] if policy.overlay}
        found: list[int] = []
        for source in self._sources:
            if found and not (source.name in overlays and source.id in named):
                continue
            if source.id in named:
                run, due = self._pages.dues.get(source.id, (None, None))
                if run is None or due is None or (due.only_held and not found):
                    raise self._unknown(source.name, project)
                if run.reach.ended is not None:
                    raise run.reach.ended
                found.append(source.id)
            elif source.root_read is None or source.selection != terms.root_digests[source.name]:
                raise self._unknown(source.name, project)
        return found

    def _unknown(self, index: str, project: ProjectName) -> MirrorError:
        url = next(
            (run.source.url for run, _ in self._pages.dues.values() if run.name == index), index
        )
        cause = f"the root of {index}, which may list {project}, was not read"
        return Unavailable(url=url, cause=cause)

    def _rule_against(self, project: ProjectName) -> str:
        for run, _ in self._pages.dues.values():
            rule = run.selection.rule_against_project(project)
            if rule is not None and not run.selection.policy.listed_by_config:
                return f"{rule} of {run.name}"
        return ""

    def _later(self, project: ProjectName, sources: Sequence[int]) -> tuple[str, ...]:
        named = self._pages.named.get(project, {})
        return tuple(
            run.name
            for source, (run, _) in self._pages.dues.items()
            if source in named and source not in sources
        )

    async def _offers_of(
        self, run: IndexRun, project: ProjectName, claimed: set[str], owners: Sequence[str]
    ) -> tuple[list[Offer], dict[str, str]] | None:
        """Return the offers of one index and its left-out files; None for a withdrawn project."""
        early, row = self._pages.find(run, project)
        if early is None or row is None:  # missing in one look at the root only
            identifier = self._pages.named[project][run.source.id].id
            held = (await load_held(self._holdings.store, [identifier]))[identifier]
            return [published_offer(run, one) for one in held.values()], {}
        if early.error is not None:
            if is_withdrawal(early.error):
                return None
            raise early.error
        page = early.page or await self._pages.load(run, project, early.validators)
        if page is None:
            raise Unavailable(
                url=run.source.url, cause=f"the listing of {project} was lost from the cache"
            )
        if row.withdrawn or page.meta.status == "quarantined":
            return None
        held = (await load_held(self._holdings.store, [row.id]))[
            row.id
        ]  # a download may have ended since
        digests = {name: one.sha256 for name, one in held.items()}
        facts = await facts_of(self._scope, run, row, page, held, by_wants=True)
        selected = run.selection.select(page, digests, claimed, owners, facts)
        ledger = await self._ledger(run, row)
        left_out = dict(selected.left_out)
        files, barred = self._without_pre_releases(run, selected.files)
        left_out |= dict.fromkeys(barred, PRE_RELEASES)
        offers = [offer_of(run, file, ledger.get(file.filename), held) for file in files]
        offers += refused_offers(run, selected)
        offers += waiting_offers(run, selected, held)
        offers += [
            published_offer(run, held[name])
            for name in await self._published_only(run, project, row)
            if name not in claimed
        ]
        claimed.update(selected.files, selected.claims, (r.filename for r in selected.refusals))
        waiting = selected.deferred.keys()
        judged = sorted([name, one.verdict.rule] for name, one in selected.deferred.items())
        if self._waiting.get((run.source.id, project)) != judged:
            self._waiting[run.source.id, project] = judged
            self._recent.forget(project)
        return offers, {n: rule for n, rule in left_out.items() if n not in waiting}

    def _without_pre_releases(
        self, run: IndexRun, files: Mapping[str, ListedFile]
    ) -> tuple[list[ListedFile], list[str]]:
        """Return the files that the resolver may see, and the pre-releases that it may not.

        Where another index says ``always``, the resolver takes pre-releases of all: those of this
        index are then shown only where it lists no other version.
        """
        others = [policy.rules.pre_releases for policy in self._scope.terms.policies]
        own = run.selection.policy.rules.pre_releases
        if Admitted.ALWAYS not in others or own is Admitted.ALWAYS:
            return list(files.values()), []
        versions = {name: version_of(name) for name in files}
        has_final = any(v is not None and not v.is_prerelease for v in versions.values())
        barred = [n for n, v in versions.items() if has_final and v is not None and v.is_prerelease]
        return [file for name, file in files.items() if name not in barred], barred

    async def _published_only(
        self, run: IndexRun, project: ProjectName, row: ProjectRow
    ) -> list[str]:
        """Return the published files that a page does not list any more, while their removal is not
        applied.
        """
        early = run.pages.early[project]
        page = early.page or await self._pages.load(run, project, early.validators)
        if page is None:
            return []
        listed = {file.filename for file in page.files} | {refused.name for refused in page.refused}
        needs = self._scope.wants.needs
        wanted = needs.files_of(run.name, project) if needs is not None else None
        held = (await load_held(self._holdings.store, [row.id]))[row.id]
        return [name for name in held if name not in listed and (wanted is None or name in wanted)]

    async def _files_that_wait(self, run: IndexRun, row: ProjectRow) -> list[list[str]]:
        """Return the files that a rule keeps out for now: as this cycle has judged the page, else
        as the last one did.
        """
        if run.selection.policy.rules == NO_RULES:
            return []
        if (judged := self._waiting.get((run.source.id, row.name))) is not None:
            return judged
        now = self._scope.terms.judged_at
        waiting = await load_deferred_names(self._holdings.store, row.id)
        # By the advisories that are in force now: they may be newer than that judgement.
        names = [one.filename for one in waiting if one.rule == EXCLUDE_VULNERABLE]
        await read_advisories(self._holdings.store, run.refused.advisories.book, [row.name])
        advised = run.refused.advisories.advised(row.name, names)
        return [[one.filename, one.rule] for one in waiting if still_waits(one, advised, now)]

    async def _ledger(self, run: IndexRun, row: ProjectRow) -> dict[str, FailureRow]:
        # loaded each time: a download may have failed since the page was read
        return await load_project_failures(self._holdings.store, run.source.id, row.name)

    # -- metadata ---------------------------------------------------------------------------------

    async def metadata(self, project: ProjectName, offer: Offer) -> bytes:
        """Return the core metadata of a file. Raises ``MetadataRefused``, ``MirrorError``."""
        return await self._metadata.read(project, offer)

    async def build_requires(self, project: ProjectName, offer: Offer) -> tuple[str, ...]:
        """Return the build requirements of a source distribution."""
        return read_build_requires(await self._metadata.read_pyproject(project, offer))

    async def corrected(self, project: ProjectName, offer: Offer) -> bool:
        """Return whether a held file has other metadata than its index offered before it was
        held.
        """
        return await self._metadata.corrected(project, offer)
