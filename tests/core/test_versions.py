"""Files by version."""

from __future__ import annotations

import pytest

from mirror.core.files.versions import VersionFiles, group_versions, newest_version, parse_version, version_of


def test_versions_are_in_the_order_of_pep_440() -> None:
    """1.10 is newer than 1.9, a final release than its candidates; files without a version come last."""
    names = ["p-1.9.tar.gz", "p-1.10-py3-none-any.whl", "p-1.10.tar.gz", "p-2.0rc1.tar.gz", "odd.exe", "p-2.0.zip"]
    groups = group_versions([(name, False) for name in names])
    assert [(group.version, group.filenames) for group in groups] == [
        ("2.0", ("p-2.0.zip",)),
        ("2.0rc1", ("p-2.0rc1.tar.gz",)),
        ("1.10", ("p-1.10-py3-none-any.whl", "p-1.10.tar.gz")),
        ("1.9", ("p-1.9.tar.gz",)),
        (None, ("odd.exe",)),
    ]


@pytest.mark.parametrize(
    ("files", "newest"),
    [
        ([("p-1.0.zip", False), ("p-2.0a1.zip", False)], "1.0"),
        ([("p-1.0.zip", False), ("p-2.0.zip", "broken")], "1.0"),
        ([("p-1.0.zip", True), ("p-2.0a1.zip", False)], "2.0a1"),
        ([("p-1.0.zip", True)], "1.0"),
        ([("odd.exe", False)], None),
        ([], None),
    ],
)
def test_the_newest_version_is_final_and_not_yanked(files, newest) -> None:
    """The newest that is neither yanked nor a pre-release counts, else the newest."""
    found = newest_version(group_versions(files))
    assert (found.version if found else None) == newest


@pytest.mark.parametrize(
    ("marks", "yanked"),
    [((False, "bad"), False), (("", "bad"), "bad"), ((True, ""), True), ((True, True), True), ((False,), False)],
)
def test_a_version_is_yanked_where_all_its_files_are(marks, yanked) -> None:
    """The first reason is that of the version."""
    files = [(f"p-1.0-{number}-py3-none-any.whl", mark) for number, mark in enumerate(marks)]
    assert group_versions(files) == [
        VersionFiles(version="1.0", filenames=tuple(n for n, _ in files), yanked=yanked, is_prerelease=False)
    ]


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("p-1.0.post1.tar.gz", "1.0.post1"),
        ("p_q-1.0+cpu-py3-none-any.whl", "1.0+cpu"),
        ("p-1.0-1-py3-none-any.whl", "1.0"),
        ("p-q-1.0.zip", "1.0"),
        ("p-.zip", None),
        ("p", None),
        ("p-1.0.exe", None),
    ],
)
def test_a_name_tells_its_version(filename, version) -> None:
    """Wheels and source distributions are read; others tell nothing."""
    found = version_of(filename)
    assert (str(found) if found else None) == version


def test_a_text_that_is_no_version() -> None:
    """It is None, and no error."""
    assert (parse_version("1.0"), parse_version("one")) == (version_of("a-1.0.zip"), None)
