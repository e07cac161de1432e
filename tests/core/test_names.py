"""Names, digests and patterns."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.names import (
    check_filename,
    check_sha256,
    compile_patterns,
    digests_to_compare,
    known_digests,
    normalize_pattern,
    normalize_project,
    projects_of_filename,
    strongest_digest,
)
from mirror.errors import UnsafeName


@pytest.mark.parametrize(
    ("name", "normalised"),
    [("Flask", "flask"), ("zope.Interface", "zope-interface"), ("a__b--c", "a-b-c"), ("x", "x"), ("7z", "7z")],
)
def test_projects_are_normalised(name, normalised):
    """Case, dots, underscores and runs of separators make no other project (PEP 503)."""
    assert normalize_project(name) == normalised


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "a-", "a/b", "../a", "a\n", "ä", "a b", "a\0", "x" * 201], ids=lambda n: ascii(n)[:12]
)
def test_what_is_no_project_is_refused(name):
    """What can't be a directory of the tree, or is no project's name, is refused."""
    with pytest.raises(UnsafeName):
        normalize_project(name)


@given(st.text(max_size=40))
def test_a_normalised_name_is_one_path_segment(name):
    """Whatever is accepted stays in its place, and is its own normal form."""
    try:
        normalised = normalize_project(name)
    except UnsafeName:
        return
    assert "/" not in normalised
    assert normalised not in {"", ".", ".."}
    assert normalize_project(normalised) == normalised


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a\0.whl",
        "a\n.whl",
        "a\x7f.whl",
        "a\u202e.whl",
        "\ud800.whl",
        "é" * 121,
        "a.whl.metadata",
    ],
    ids=lambda n: ascii(n)[:16],
)
def test_unsafe_filenames_are_refused(name):
    """A name that could leave its place, can't be written or collides with a sidecar is refused."""
    with pytest.raises(UnsafeName):
        check_filename(name)


@pytest.mark.parametrize("name", ["a-1.0-py3-none-any.whl", "a+b-1.tar.gz", "ü.zip", "x" * 240, "..a", "a b.egg"])
def test_odd_but_safe_filenames_are_kept(name):
    """Names that packaging cannot parse are mirrored as they are."""
    assert check_filename(name) == name


@pytest.mark.parametrize("value", ["", "a" * 63, "A" * 64, "g" * 64])
def test_what_is_no_sha256_is_refused(value):
    """Only 64 lower-case hexadecimal digits are a sha256."""
    with pytest.raises(ValueError, match="not a sha256"):
        check_sha256(value)


def test_a_sha256_is_kept():
    """A good one is returned as it is."""
    assert check_sha256("0f" * 32) == "0f" * 32


def test_digests_are_sorted_and_unknown_ones_left_out():
    """Only digests that can be compared are kept: known kinds, right length, hexadecimal text."""
    listed = [
        ("SHA256", "AB" * 32),
        ("sha3-256", "cd" * 32),
        ("md5", "0" * 32),
        ("crc32", "00000000"),
        ("sha1", "zz" * 20),
        ("sha512", "00"),
        ("sha384", 7),
    ]
    assert known_digests(listed) == (("md5", "0" * 32), ("sha256", "ab" * 32), ("sha3_256", "cd" * 32))


@pytest.mark.parametrize(
    ("digests", "strongest"),
    [
        ((), None),
        ((("md5", "0"), ("sha1", "1")), None),
        ((("md5", "0"), ("sha256", "1")), ("sha256", "1")),
        ((("sha256", "1"), ("sha512", "2")), ("sha512", "2")),
    ],
)
def test_the_strongest_digest_counts(digests, strongest):
    """Of several digests the strongest counts, and none weaker than sha256."""
    assert strongest_digest(digests) == strongest


@pytest.mark.parametrize(
    ("patterns", "text", "matches"),
    [
        ([], "a", False),
        (["*"], "", True),
        (["a*"], "abc", True),
        (["a*"], "ba", False),
        (["a", "b?"], "bc", True),
        (["*.WHL"], "a.whl", False),
        (["[ab]c"], "bc", True),
        (["a"], "a\n", False),
    ],
)
def test_patterns_match_the_whole_text(patterns, text, matches):
    """Shell patterns match whole texts, and case counts."""
    assert compile_patterns(patterns)(text) is matches


@pytest.mark.parametrize(
    ("pattern", "normalised"), [("zope.*", "zope-*"), ("Flask", "flask"), ("a_[A._]b", "a-[a._]b"), ("*", "*")]
)
def test_project_patterns_are_normalised_like_names(pattern, normalised):
    """A pattern is written as people write names, and means the normalised ones."""
    assert normalize_pattern(pattern) == normalised


@pytest.mark.parametrize(
    ("filename", "projects"),
    [
        ("a_b-1.0-py3-none-any.whl", ["a-b", "a-b-1-0", "a-b-1-0-py3", "a-b-1-0-py3-none"]),
        ("a-b-1.0.tar.gz", ["a-b", "a"]),
        ("-1.zip", []),
        ("plain.zip", []),
    ],
)
def test_projects_of_a_filename(filename, projects):
    """The likeliest project comes first: of a wheel the shortest prefix, of other files the longest."""
    assert projects_of_filename(filename) == projects


def test_digests_that_the_host_forbids(monkeypatch):
    """A weak digest that this machine's OpenSSL refuses to compute, as in FIPS mode, is not compared."""
    digests = (("md5", "1" * 32), ("sha1", "2" * 40))
    assert set(digests_to_compare(digests)) == set(digests)
    new = hashlib.new

    def new_without_md5(name, *arguments, **options):
        if name == "md5":
            raise ValueError("disabled for FIPS")
        return new(name, *arguments, **options)

    monkeypatch.setattr(hashlib, "new", new_without_md5)
    assert digests_to_compare(digests) == (("sha1", "2" * 40),)
    assert digests_to_compare([("md5", "1" * 32), ("sha256", "a" * 64)]) == (("sha256", "a" * 64),)
