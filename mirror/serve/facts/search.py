"""The hits of a search, each with its newest version and its number of files."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mirror.core.files.versions import Yanked, group_versions, newest_version
from mirror.core.names import ProjectName
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.tree_pages import NameList, load_project_page
from mirror.state.shown.origins import load_files
from mirror.state.shown.search import MAX_COUNTED, Hit, Hits, fold_text, load_hits, rank_name
from mirror.state.store import Store


class HitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A project that a search has found."""

    project: str
    summary: str | None
    version: str | None
    files: int


class SearchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits, and how many there are in all, up to ``MAX_COUNTED``."""

    hits: tuple[HitFacts, ...]
    total: int

    @property
    def is_cut(self) -> bool:
        """Whether there may be more than ``total``."""
        return self.total >= MAX_COUNTED


def load_search_facts(reading: Reading, names: NameList, text: str, limit: int) -> SearchFacts:
    """Return the hits of a text; without a state by name alone."""
    found = reading.load(lambda store: _load(store, text, limit))
    if found is not None:
        return found
    hits = _find_names(names.load(reading), text, limit)
    return SearchFacts(hits=tuple(_from_page(reading, hit) for hit in hits.hits), total=hits.total)


async def _load(store: Store, text: str, limit: int) -> SearchFacts:
    found = await load_hits(store, text, limit)
    files = await load_files(store, [hit.name for hit in found.hits])
    hits = (
        _hit(hit, [(file.filename, _yanked(file.yanked)) for file in files[hit.name]])
        for hit in found.hits
    )
    return SearchFacts(hits=tuple(hits), total=found.total)


def _yanked(mark: str | None) -> Yanked:
    return False if mark is None else mark or True


def _from_page(reading: Reading, hit: Hit) -> HitFacts:
    page = load_project_page(reading, ProjectName(hit.name))
    return _hit(hit, [(file.filename, file.yanked) for file in page.files] if page else [])


def _hit(hit: Hit, files: list[tuple[str, Yanked]]) -> HitFacts:
    newest = newest_version(group_versions(files))
    return HitFacts(
        project=hit.name,
        summary=hit.summary or None,
        version=newest.version if newest else None,
        files=len(files),
    )


def _find_names(lines: str, text: str, limit: int) -> Hits:
    terms = fold_text(text).split()
    whole = "-".join(terms)
    found = list(_matching(lines, terms))[:MAX_COUNTED]
    ranked = sorted(found, key=lambda name: rank_name(name, whole)) if terms else found
    hits = tuple(Hit(name=name, summary=None) for name in ranked[:limit])
    return Hits(hits=hits, total=len(found))


def _matching(lines: str, terms: list[str]) -> Iterator[str]:
    """Yield the names with each term; a single short one is the beginning of a name."""
    first = max(terms, key=len, default="")
    is_beginning = len(terms) == 1 and len(first) < 3
    wanted = f"\n{first}" if is_beginning or not first else first
    at = lines.find(wanted)
    while at >= 0:
        start = lines.rfind("\n", 0, at + 1) + 1
        end = lines.find("\n", start)
        if end < 0:
            return
        name = lines[start:end]
        if name and all(term in name for term in terms):
            yield name
        at = lines.find(wanted, end)
