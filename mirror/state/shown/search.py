"""The search over names and summaries: its records and its questions.

``about`` has a row for each project; triggers on ``page`` keep ``shown``. A text is compared
folded: lower case, with ``-``, ``_`` and ``.`` the same. Without an index (``search_index``) the
table is scanned.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from mirror.core.names import ProjectName
from mirror.state.parameters import chunks, marks
from mirror.state.rows import Columns
from mirror.state.shown.search_index import HAS_INDEX
from mirror.state.store import Store, Transaction

MAX_COUNTED: Final = 10_000
"""Maximum number of hits that are counted."""
MAX_RANKED: Final = 2_000
"""Maximum number of names of one kind (beginning, or elsewhere) that are ranked."""
MAX_TERMS: Final = 8
_CHUNK: Final = 500
_TRIGRAM: Final = 3
_LAST: Final = "\U0010ffff"
_SEPARATORS: Final = re.compile(r"[-_.]+")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The summary in the metadata of one version of a project."""

    name: ProjectName
    version: str
    text: str


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A project that a search has found."""

    name: str
    summary: str | None


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on projects, and how its hits are counted for less."""

    source: str
    condition: str
    values: tuple[str, ...]
    counted: tuple[str, str] | None = None


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits, and how many there are, up to ``MAX_COUNTED``."""

    hits: tuple[Hit, ...]
    total: int


def fold_text(text: str) -> str:
    """Return a text as the search compares it."""
    return _SEPARATORS.sub("-", text.casefold())


class _KnownVersion(Columns, frozen=True):
    name: str
    version: str


async def enter_summaries(tx: Transaction, found: Sequence[Summary]) -> None:
    """Record summaries, each unless that of a newer version is known."""
    newest: dict[str, Summary] = {}
    for one in found:
        other = newest.get(one.name)
        if other is None or not _is_newer(other.version, one.version):
            newest[one.name] = one
    for chunk in chunks(sorted(newest)):
        known = await tx.rows_as(
            _KnownVersion,
            f"SELECT name, version FROM about WHERE name IN ({marks(chunk)})"
            f" AND version IS NOT NULL",
            chunk,
        )
        for row in known:
            if _is_newer(row.version, newest[row.name].version):
                del newest[row.name]
    await tx.executemany(
        "INSERT INTO about (name, summary, version, words) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET (summary, version, words) = (excluded.summary, excluded.version,"
        " excluded.words)"
        " WHERE summary IS NOT excluded.summary OR version IS NOT excluded.version",
        [(s.name, s.text, s.version, f"{s.name}\n{fold_text(s.text)}") for s in newest.values()],
    )


async def load_unread(store: Store, after: str, limit: int = _CHUNK) -> list[str]:
    """Return some published projects whose summary was never read, by name."""
    return await store.values(
        "SELECT name FROM about WHERE summary IS NULL AND shown = 1 AND name > ?"
        " ORDER BY 1 LIMIT ?",
        (after, limit),
    )


class _WheelColumns(Columns, frozen=True):
    name: str
    filename: str
    sha256: str


async def load_wheels(store: Store, names: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the published wheels with metadata of some projects: name -> (filename, sha256)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for chunk in chunks(sorted(names)):
        for row in await store.rows_as(
            _WheelColumns,
            "SELECT p.name, e.filename, e.sha256 FROM project p"
            " JOIN entry e ON e.project = p.id AND e.valid_to IS NULL"
            " JOIN blob b ON b.sha256 = e.sha256 AND b.filename = e.filename"
            f" WHERE b.metadata_sha256 IS NOT NULL AND p.name IN ({marks(chunk)})"
            f" AND e.filename LIKE '%.whl'",
            chunk,
        ):
            found.setdefault(row.name, []).append((row.filename, row.sha256))
    return found


def newest_first(wheels: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (filename, sha256) of wheels, that of the version that gives the summary first."""

    def key(wheel: tuple[str, str]) -> tuple[Any, ...]:
        filename = wheel[0]
        return (_version_key(filename.split("-", 2)[1]), filename)

    return sorted(wheels, key=key, reverse=True)


async def record_summaries(
    store: Store,
    found: Sequence[Summary],
    without: Collection[str],
) -> None:
    """Record summaries that were read later, and the projects that have none."""
    async with store.transaction() as tx:
        await enter_summaries(tx, found)
        await tx.executemany(
            "UPDATE about SET summary = '' WHERE name = ? AND summary IS NULL",
            [(name,) for name in sorted(without)],
        )


async def load_hits(store: Store, text: str, limit: int) -> Hits:
    """Return the best hits of a text: the name itself, names that begin with it, other names, then
    summaries.

    Each word must be in the name or the summary. A single word of one or two letters is the
    beginning of a name. Without a word every project is a hit, by name.
    """
    terms = fold_text(text.replace("\0", " ")).split()[:MAX_TERMS]
    if not terms:
        shown = "FROM about WHERE shown = 1"
        query = f"SELECT name, summary {shown} ORDER BY name LIMIT ?"
        hits = await store.rows_as(Hit, query, (limit,))
        total = await store.value(f"SELECT count(*) FROM (SELECT 1 {shown} LIMIT {MAX_COUNTED})")
        return Hits(hits=tuple(hits), total=total)
    whole = "-".join(terms)
    beginning = _Question(
        source="about a",
        condition="a.name >= ? AND a.name < ? AND a.shown = 1",
        values=(whole, whole + _LAST),
    )
    questions = [beginning]
    if len(terms) > 1 or len(whole) >= _TRIGRAM:
        questions.append(await _containing(store, terms))
    found = [await _names(store, question) for question in questions]
    names = {name for listed in found for name in listed}
    total = len(names)
    if any(len(listed) == MAX_RANKED for listed in found):
        total = max(total, *[await _count(store, question) for question in questions])
    ranked = sorted(names, key=lambda name: rank_name(name, whole))[:limit]
    return Hits(hits=await _with_summaries(store, ranked), total=total)


async def _containing(store: Store, terms: Sequence[str]) -> _Question:
    """Return the question for the projects whose words contain each term."""
    contains = " AND ".join(["instr(a.words, ?)"] * len(terms))
    grams = sorted({gram for term in terms for gram in _trigrams(term)})
    if grams and await store.value(HAS_INDEX):
        return _Question(
            source="search CROSS JOIN about a ON a.id = search.rowid",
            condition=f"search MATCH ? AND {contains}",
            values=(" AND ".join(map(_quoted, grams)), *terms),
            counted=("search", "search MATCH ?"),
        )
    return _Question(source="about a", condition=f"a.shown = 1 AND {contains}", values=tuple(terms))


async def _names(store: Store, question: _Question) -> list[str]:
    where = f"FROM {question.source} WHERE {question.condition} LIMIT {MAX_RANKED}"
    return await store.values(f"SELECT a.name {where}", question.values)


async def _count(store: Store, question: _Question) -> int:
    """Return how many hits a question has, up to ``MAX_COUNTED``.

    Of the index without a look at the words: a few may have the letters, but not the text.
    """
    source, condition = question.counted or (question.source, question.condition)
    values = question.values[:1] if question.counted else question.values
    rows = f"SELECT 1 FROM {source} WHERE {condition} LIMIT {MAX_COUNTED}"
    return int(await store.value(f"SELECT count(*) FROM ({rows})", values))


async def _with_summaries(store: Store, names: Sequence[str]) -> tuple[Hit, ...]:
    summaries: dict[str, str | None] = {}
    for chunk in chunks(names):
        query = f"SELECT name, summary FROM about WHERE name IN ({marks(chunk)})"
        summaries |= await store.mapping(query, chunk)
    return tuple(Hit(name=name, summary=summaries.get(name)) for name in names)


def _quoted(gram: str) -> str:
    doubled = gram.replace('"', '""')
    return f'"{doubled}"'


def _trigrams(term: str) -> list[str]:
    return [term[at : at + _TRIGRAM] for at in range(len(term) - _TRIGRAM + 1)]


def rank_name(name: str, text: str) -> tuple[int, int, str]:
    """Return the place of a hit: the text itself, names that begin with it, other names, others."""
    if name == text:
        return 0, 0, name
    if name.startswith(text):
        return 1, len(name), name
    return (2 if text in name else 3), len(name), name


def _is_newer(version: str, than: str) -> bool:
    known, other = _version_key(version), _version_key(than)
    return bool(known > other)


def _version_key(text: str) -> tuple[Any, ...]:
    """Return a key that orders final releases after pre-releases, as an installer prefers them."""
    from packaging.version import InvalidVersion, Version  # 2 ms

    try:
        version = Version(text)
    except InvalidVersion:
        return (0, Version("0"))
    return (1 if version.is_prerelease else 2, version)
