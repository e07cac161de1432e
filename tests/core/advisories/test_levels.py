"""How bad an advisory is, which records are one, and what is reported of a file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.advisories.joining import join_records
from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule, encode_advisories
from mirror.core.advisories.osv import BadRecord, parse_record
from mirror.core.advisories.severity import Severity, severity_of_vectors
from mirror.core.rules.model import Level

V2 = "AV:N/AC:L/Au:N/C:P/I:P/A:P"  # 7.5
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"  # 9.8
V3_LOW = "CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"  # 1.8
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"  # 9.3
FILE = "foo-1.0-py3-none-any.whl"


def book_of(*records):
    joined = join_records([parse_record(json.dumps(record).encode()) for record in records])
    return AdvisoryBook({project: encode_advisories(of) for project, of in joined.items()})


def record(
    record_id, *, word=None, scores=(), part_word=None, part_scores=(), name="foo", versions=("1.0",), fixed=(), **more
):
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "versions": list(versions)}
    if fixed:
        affected["ranges"] = [
            {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *({"fixed": one} for one in fixed)]}
        ]
    if part_word:
        affected["database_specific"] = {"severity": part_word}
    affected["severity"] = [{"type": "CVSS_V3", "score": score} for score in part_scores]
    found = {"id": record_id, "modified": "2026-01-01T00:00:00Z", "affected": [affected], **more}
    if word is not None:
        found["database_specific"] = {"severity": word, "more": {"any": [1, None]}}
    found["severity"] = [{"type": "CVSS_V3", "score": score} for score in scores]
    return found


# id -> records, level
LEVELS = {
    "word": ([record("A", word="HIGH")], "high"),
    "word-of-others": ([record("A", word="medium")], "moderate"),
    "word-wins-over-scores": ([record("A", word="LOW", scores=[V3], part_scores=[V4])], "low"),
    "unknown-word": ([record("A", word="IMPORTANT", scores=[V3])], "critical"),
    "word-that-is-no-text": ([record("A", word=["HIGH"], scores=[V3_LOW])], "low"),
    "score": ([record("A", scores=[V3])], "critical"),
    "score-2": ([record("A", scores=[V2])], "high"),
    "score-4": ([record("A", scores=[V4])], "critical"),
    "highest-score": ([record("A", scores=[V3_LOW, V2])], "high"),
    "score-of-the-part": ([record("A", scores=[V3_LOW], part_scores=[V3])], "critical"),
    "word-of-the-part": ([record("A", part_word="CRITICAL")], "critical"),
    "score-that-is-none": ([record("A", scores=["CVSS:3.1/AV:N", "9.8", "x" * 600, ""])], "unknown"),
    "none": ([record("A")], "unknown"),
    "malware": ([record("MAL-1", scores=[V3_LOW])], "malicious"),
    "joined-by-one-that-names-the-other": (
        [record("A", word="LOW"), record("B", word="CRITICAL", aliases=["A"])],
        "critical",
    ),
    "joined-by-an-id-without-a-record": (
        [record("A", word="LOW", aliases=["CVE-1"]), record("B", word="HIGH", aliases=["CVE-1"])],
        "high",
    ),
    "joined-in-a-row": (
        [record("A", aliases=["B"]), record("B", aliases=["C"]), record("C", word="HIGH", aliases=["D"])],
        "high",
    ),
    "joined-with-another-ecosystem": (
        [record("A", aliases=["CVE-1"]), {"id": "CVE-1", "severity": [{"type": "CVSS_V3", "score": V3}]}],
        "critical",
    ),
    "joined-otherwise-spelled": ([record("A", aliases=["cve-1"]), record("B", word="HIGH", aliases=["CVE-1"])], "high"),
    "withdrawn-says-nothing": (
        [record("A", word="LOW", aliases=["B"]), record("B", word="CRITICAL", withdrawn="2026-01-01T00:00:00Z")],
        "low",
    ),
    "related-is-no-alias": ([record("A", word="LOW", related=["B"]), record("B", word="HIGH", name="bar")], "low"),
    "joined-with-malware": ([record("A", word="LOW", aliases=["MAL-1"]), record("MAL-1", versions=["9"])], "malicious"),
    "two-advisories": ([record("A", word="LOW"), record("B", word="HIGH")], "high"),
}


@pytest.mark.parametrize(("records", "level"), LEVELS.values(), ids=LEVELS)
def test_level(records, level):
    """The word of the database counts, else the highest score; of joined records the worst."""
    book = book_of(*records)
    assert AdvisoryRule(book, Level.NONE).find("foo", FILE).level.word == level
    least = {"malicious": 5, "critical": 4, "high": 3, "all": 0}
    for key, rank in least.items():
        rule = AdvisoryRule(book, Level(key))
        assert bool(rule.advised("foo", [FILE])) is (Severity[level.upper()] >= rank), key
        assert rule.withdraws("foo", FILE) is (level == "malicious")
    none = AdvisoryRule(book, Level.NONE)
    assert none.advised("foo", [FILE]) == {}
    assert not none.withdraws("foo", FILE)


@pytest.mark.parametrize("ignored", ["A", "B", "CVE-1", "cve-1", "CVE-2"])
def test_ignoring_one_ignores_all(ignored):
    """An advisory is ignored by any id that it is known by, with a record of its own or not."""
    book = book_of(
        record("A", aliases=["CVE-1"]), record("B", aliases=["CVE-1", "CVE-2"]), record("C", versions=["2.0"])
    )
    rule = AdvisoryRule(book, Level.ALL, [ignored])
    assert rule.advised("foo", [FILE, "foo-2.0.tar.gz"]) == {"foo-2.0.tar.gz": "unknown: C"}
    assert rule.find("foo", FILE) is None


# id -> records, first fixed version of foo 1.0
FIXED = {
    "next": ([record("A", fixed=["1.5", "2.5"])], "1.5"),
    "not-an-earlier-one": ([record("A", versions=["1.0"], fixed=["0.5"])], None),
    "of-two": ([record("A", fixed=["1.5"]), record("B", fixed=["1.7"])], "1.7"),
    "not-one-that-another-names": ([record("A", fixed=["1.5"]), record("B", fixed=["1.6"], versions=["1.5"])], "1.6"),
    "unknown": ([record("A")], None),
    "joined": ([record("A", fixed=["1.5"]), record("B", aliases=["A"])], "1.5"),
}


@pytest.mark.parametrize(("records", "fixed"), FIXED.values(), ids=FIXED)
def test_first_fixed_version(records, fixed):
    """The first later version counts in which an advisory is fixed and which none that counts names."""
    found = AdvisoryRule(book_of(*records), Level.ALL).find("foo", FILE)
    assert (found.ids, found.fixed) == (tuple(sorted(one["id"] for one in records)), fixed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": 1}',
        b'{"id": ""}',
        b'{"id": "A\\u001b[31m"}',
        b'{"id": "A B"}',
        b'{"id": "' + b"A" * 201 + b'"}',
        b'{"id": "A", "affected": {}}',
        b'{"id": "A", "affected": [{"package": {"ecosystem": "PyPI", "name": "foo"}, "versions": [1.0]}]}',
        b'{"id": "A", "affected": [{"package": {"ecosystem": "PyPI", "name": "foo"}, "ranges": [{"events": [{"fixed": 2}]}]}]}',
        b'{"id": "A", "schema_version": "2.0.0"}',
        b'{"id": "A", "aliases": "B"}',
        b'{"id": "A"',
        b'{"id": "\xff"}',
        b'{"id": "A", "affected": [{"package": {"ecosystem": "PyPI", "name": "foo"}, "ranges": [{"type": "GIT", "events": ['
        + b", ".join([b'{"fixed": "a"}'] * 10_001)
        + b"]}]}]}",
        b'{"id": "A", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=range(17),
)
def test_what_is_no_record(data):
    """A file that is no record is refused by a short text without control characters."""
    with pytest.raises(BadRecord) as refused:
        parse_record(data)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_names_that_no_index_can_list_are_passed_over():
    """A record may be about a name that is none; the others of it count."""
    other = {"package": {"ecosystem": "PyPI", "name": "../x"}, "versions": ["1.0"]}
    found = record("A")
    found["affected"].append(other)
    assert list(join_records([parse_record(json.dumps(found).encode())])) == ["foo"]


@given(
    st.text(alphabet="CVSS:/234.01AVNLCPRUIHSEXauw()", max_size=60),
    st.sampled_from(["", "CVSS:3.1/", "CVSS:4.0/", V2, V3, V4]),
)
def test_any_text_may_stand_for_a_vector(text, start):
    """A score that can't be read is none, whatever text stands there."""
    assert severity_of_vectors([start + text]) in set(Severity)


def test_a_question_about_unread_advisories_fails():
    """A book that was not given a project's advisories says so, instead of answering that there are none."""
    whole = book_of(record("A"))
    book = AdvisoryBook({}, unread=["foo", "bar"])
    with pytest.raises(LookupError):
        AdvisoryRule(book, Level.ALL).advised("foo", [FILE])
    assert book.unread_of(["foo", "other"]) == ["foo"]
    book.add(["foo"], {"foo": encode_advisories(join_records([parse_record(json.dumps(record("A")).encode())])["foo"])})
    assert AdvisoryRule(book, Level.ALL).advised("foo", [FILE]) == AdvisoryRule(whole, Level.ALL).advised("foo", [FILE])
    assert book.unread_of(["foo", "bar"]) == ["bar"]
