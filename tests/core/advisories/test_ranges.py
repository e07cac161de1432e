"""Which versions an OSV record names: a table of cases, and a second reader of ranges beside ours."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mirror.core.advisories.joining import join_records
from mirror.core.advisories.judging import AdvisoryBook, AdvisoryRule, encode_advisories
from mirror.core.advisories.osv import parse_record
from mirror.core.rules.model import Level

ZERO = {"introduced": "0"}


def rule_of(*records, level="all", ignored=()):
    """Return the rule of an index over these records."""
    joined = join_records([parse_record(json.dumps(record).encode()) for record in records])
    book = AdvisoryBook({project: encode_advisories(of) for project, of in joined.items()})
    return AdvisoryRule(book, Level(level), ignored)


def record(*events, record_id="GHSA-1", name="foo", versions=None, kind="ECOSYSTEM", **more):
    """Return a record about one project, with one range where events are given."""
    affected = {"package": {"ecosystem": "PyPI", "name": name}}
    if events:
        affected["ranges"] = [{"type": kind, "events": list(events)}]
    if versions is not None:
        affected["versions"] = versions
    return {"id": record_id, "modified": "2026-01-01T00:00:00Z", "affected": [affected], **more}


def malware(*events, **more):
    return record(*events, record_id="MAL-2026-1", **more)


def fixed(version):
    return {"fixed": version}


def last(version):
    return {"last_affected": version}


def introduced(version):
    return {"introduced": version}


def limit(version):
    return {"limit": version}


# id -> record, versions that it names, versions that it does not name, local builds that are not judged
CASES = {
    "from-start-to-fix": (
        record(ZERO, fixed("1.5")),
        ["0.0.dev0", "0", "1.4.99", "1.5rc1"],
        ["1.5", "1.5.0", "2"],
        ["1.4+x"],
    ),
    "from-a-version": (
        record(introduced("1.0"), fixed("1.5")),
        ["1.0", "1.0.0", "1.4.post1"],
        ["0.9", "1.0rc1", "1.5"],
        [],
    ),
    "last-affected": (record(ZERO, last("1.5")), ["1.5", "1.5.0", "0.1"], ["1.5.post1", "1.6"], ["1.5+x"]),
    "one-version-by-range": (record(introduced("1.5"), last("1.5")), ["1.5", "1.5.0"], ["1.4", "1.6"], ["1.5+x"]),
    "one-version-by-range-unsorted": (record(last("1.5"), introduced("1.5")), ["1.5"], ["1.4", "1.6"], []),
    "unsorted": (record(fixed("3"), introduced("2"), fixed("1"), ZERO), ["0.5", "2", "2.9"], ["1", "1.9", "3"], []),
    "two-spans-that-touch": (record(ZERO, fixed("1"), introduced("1"), fixed("2")), ["0.9", "1", "1.9"], ["2"], []),
    "no-end": (record(introduced("2.0")), ["2.0", "99"], ["1.9"], ["2.0+x"]),
    "limit": (record(ZERO, limit("2.0")), ["0.1", "1.9"], ["2.0", "3"], ["1.0+x"]),
    "limit-without-end": (record(ZERO, limit("*")), ["0.1", "99"], [], ["1.0+x"]),
    "several-limits": (record(ZERO, limit("1.0"), limit("2.0")), ["1.5"], ["2.0"], []),
    "epoch": (record(ZERO, fixed("1!1.0")), ["99", "1!0.5"], ["1!1.0"], []),
    "listed": (record(versions=["1.0", "1.2.0"]), ["1.0", "1.0.0", "1.2"], ["1.1", "1.0.post1"], ["1.0+x", "1.2+x"]),
    "listed-or-in-a-range": (record(introduced("2"), fixed("3"), versions=["1.0"]), ["1.0", "2.5"], ["1.5", "3"], []),
    "listed-local": (record(versions=["1.0+x"]), ["1.0+x"], ["1.0", "1.0+y"], []),
    "listed-local-otherwise-spelled": (record(versions=["1.0+CGR-1"]), ["1.0+cgr.1"], ["1.0"], []),
    "local-by-range": (record(introduced("1.0+x"), last("1.0+x")), ["1.0+x"], ["1.0"], []),
    "patched-local-build": (record(ZERO, fixed("1.26.19")), ["1.26.18"], ["1.26.19"], ["1.26.18+cgr.1"]),
    "later-local-build": (record(ZERO, fixed("1.26.19")), [], ["1.26.19+cgr.1", "1.26.20+cgr.1"], []),
    "fixed-in-a-local-build": (record(ZERO, fixed("1.0+x")), ["0.9", "1.0"], ["1.1"], ["1.0+a"]),
    "semver-range": (record(ZERO, fixed("1.5"), kind="SEMVER"), ["1.4"], ["1.5"], []),
    "git-range": (record(ZERO, fixed("abc"), kind="GIT"), [], ["1.0"], []),
    "neither": (record(), [], ["1.0", "1.0+x"], []),
    "neither-but-malware": (malware(), ["1.0", "99", "1.0+x", "0.0.dev0"], [], []),
    "empty-lists-but-malware": (malware(versions=[]), ["1.0", "1.0+x"], [], []),
    "whole-by-range": (record(ZERO), ["0.0.dev0", "99"], [], ["1.0+x"]),
    "whole-malware-by-range": (malware(ZERO), ["0.0.dev0", "99", "1.0+x"], [], []),
    "malware-version": (malware(versions=["1.0"]), ["1.0"], ["1.1"], ["1.0+x"]),
    "malware-range": (malware(introduced("1.0"), fixed("1.1")), ["1.0"], ["1.1"], ["1.0+x"]),
    "end-that-is-no-version": (record(ZERO, fixed("2004d-final")), ["1.0"], [], []),
    "beginning-that-is-no-version": (record(introduced("odd-one"), fixed("2")), ["1.0"], ["2"], []),
    "versions-of-very-many-digits": (
        record(ZERO, fixed("9" * 5000), versions=["1." + "0" * 5000]),
        ["1.0"],
        [],
        ["1+x"],
    ),
    "name-otherwise-spelled": (record(ZERO, name="Foo"), ["1.0"], [], []),
    "another-name": (record(ZERO, name="bar"), [], ["1.0"], []),
    "suffixed-ecosystem": (
        {"id": "A-1", "affected": [{"package": {"ecosystem": "PyPI:x", "name": "foo"}, "versions": ["1"]}]},
        ["1"],
        ["2"],
        [],
    ),
    "another-ecosystem": (
        {"id": "A-1", "affected": [{"package": {"ecosystem": "npm", "name": "foo"}, "versions": ["1"]}]},
        [],
        ["1"],
        [],
    ),
    "withdrawn": (record(ZERO, withdrawn="2026-02-01T00:00:00Z"), [], ["1.0"], []),
    "nulls": (
        {
            "id": "A-1",
            "aliases": None,
            "affected": [{"package": {"ecosystem": "PyPI", "name": "foo"}, "versions": ["1"], "ranges": None}],
            "severity": None,
            "withdrawn": None,
        },
        ["1"],
        ["2"],
        [],
    ),
}


@pytest.mark.parametrize(("found", "named", "others", "unjudged"), CASES.values(), ids=CASES)
def test_which_versions_a_record_names(found, named, others, unjudged):
    """Versions and ranges both count; a local build is hit by what names exactly it, or by malware of the whole project."""
    rule = rule_of(found)
    files = {version: f"foo-{version}-py3-none-any.whl" for version in [*named, *others, *unjudged]}
    assert rule.advised("foo", files.values()).keys() == {files[version] for version in named}
    assert {v for v in files if rule.is_unjudged("foo", files[v])} == set(unjudged)


@pytest.mark.parametrize(
    ("filename", "is_named"),
    [
        ("foo-1.0.tar.gz", True),
        ("Foo-1.0.zip", True),
        ("foo-1.0-1.tar.gz", True),
        ("foo-2.0.tar.gz", False),
        ("foo-1.0-py3.9.egg", True),
        ("foo-2.0-cp311-cp311-linux_x86_64.whl", False),
        ("foo-latest.tar.gz", False),
        ("readme.txt", False),
    ],
)
def test_the_version_is_read_from_any_name(filename, is_named):
    """The project's name says where the version begins; a name without a version meets records of the whole project only."""
    assert bool(rule_of(record(introduced("1.0"), fixed("1.5"))).advised("foo", [filename])) is is_named
    assert rule_of(malware()).advised("foo", [filename])


_PARTS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "a1", "rc1", ".post1", ".dev1"]))
_VERSIONS = _PARTS.map(lambda part: f"{part[0]}.{part[1]}{part[2]}")


def second_reader(events, version):
    """Evaluate a range as the OSV schema's pseudocode does: over the sorted events, one by one."""
    is_in = False
    key = lambda event: (Version("0.dev0") if event[1] == "0" else Version(event[1]), event[0] == "last_affected")  # noqa: E731
    for kind, text in sorted(events, key=key):
        if kind == "introduced" and (text == "0" or Version(version) >= Version(text)):
            is_in = True
        elif (kind == "fixed" and Version(version) >= Version(text)) or (
            kind == "last_affected" and Version(version) > Version(text)
        ):
            is_in = False
    return is_in


@given(
    st.lists(st.tuples(st.sampled_from(["introduced", "fixed", "last_affected"]), _VERSIONS), min_size=1, max_size=6),
    st.lists(_VERSIONS, min_size=1, max_size=6),
)
@example([("introduced", "1.0"), ("last_affected", "1.0")], ["1.0", "1.1"])
@example([("introduced", "0"), ("fixed", "1.0"), ("introduced", "1.0"), ("fixed", "2.0")], ["1.0"])
def test_ranges_are_read_as_the_schema_says(events, versions):
    """Any events in any order hold the same versions as for a second reader, written from the schema."""
    rule = rule_of(record(*[{kind: text} for kind, text in events]))
    files = {version: f"foo-{version}-py3-none-any.whl" for version in versions}
    named = rule.advised("foo", files.values())
    assert {v for v, file in files.items() if file in named} == {v for v in files if second_reader(events, v)}


@given(_VERSIONS, _VERSIONS, st.booleans(), st.lists(_VERSIONS, min_size=1, max_size=8))
def test_one_span_holds_what_a_specifier_holds(start, end, is_last, versions):
    """``packaging``'s ordered comparison agrees, where its specifiers have no exceptions of their own."""
    rule = rule_of(record(introduced(start), last(end) if is_last else fixed(end)))
    expected = {
        v
        for v in versions
        if Version(v) >= Version(start) and (Version(v) <= Version(end) if is_last else Version(v) < Version(end))
    }
    files = {v: f"foo-{v}-py3-none-any.whl" for v in versions}
    named = rule.advised("foo", files.values())
    found = {v for v in versions if files[v] in named}
    if Version(start) <= Version(end):
        assert found == expected
    # ``<2.0`` of PEP 440 leaves out pre-releases of 2.0, and ``>1.0`` its post-releases: final versions have no exceptions
    finals = [v for v in versions if Version(v) == Version(Version(v).base_version)]
    specifier = SpecifierSet(f">={start},{'<=' if is_last else '<'}{end}")
    if Version(start) <= Version(end):
        assert {v for v in finals if v in found} == set(specifier.filter(finals, prereleases=True))
