"""What changed on a project's page between two states."""

from __future__ import annotations

import pytest

from mirror.core.changes import ProjectDifference, PublishedFile, compare_project, file_version
from mirror.core.model import Labels
from mirror.core.names import ProjectName

NAME = ProjectName("demo")
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


def file(sha256: str = "a", **labels) -> PublishedFile:
    return PublishedFile(sha256=sha256, size=10, labels=Labels(**labels))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param({WHEEL: file()}, {WHEEL: file()}, None, id="equal"),
        pytest.param(
            {},
            {WHEEL: file()},
            ProjectDifference(name=NAME, is_new=True, versions_added=("1.0",), added=(WHEEL,), bytes_added=10),
            id="new",
        ),
        pytest.param(
            {WHEEL: file()},
            {},
            ProjectDifference(name=NAME, is_gone=True, versions_removed=("1.0",), removed=(WHEEL,)),
            id="gone",
        ),
        pytest.param(
            {WHEEL: file()},
            {WHEEL: file(), SDIST: file("b")},
            ProjectDifference(name=NAME, added=(SDIST,), bytes_added=10),
            id="another file of the same version",
        ),
        pytest.param(
            {WHEEL: file()},
            {WHEEL: file("b")},
            ProjectDifference(name=NAME, replaced=(WHEEL,), bytes_added=10),
            id="other bytes",
        ),
        pytest.param(
            {WHEEL: file()},
            {WHEEL: file(yanked="")},
            ProjectDifference(name=NAME, yanked=((WHEEL, ""),)),
            id="yanked",
        ),
        pytest.param(
            {WHEEL: file(yanked="a")},
            {WHEEL: file(yanked="b")},
            ProjectDifference(name=NAME, yanked=((WHEEL, "b"),)),
            id="another reason",
        ),
        pytest.param(
            {WHEEL: file(yanked="a")},
            {WHEEL: file()},
            ProjectDifference(name=NAME, unyanked=(WHEEL,)),
            id="unyanked",
        ),
        pytest.param(
            {WHEEL: file(provenance="x")},
            {WHEEL: file(provenance="y")},
            ProjectDifference(name=NAME, relabelled=(WHEEL,)),
            id="relabelled",
        ),
        pytest.param(
            {WHEEL: file(), SDIST: file()},
            {WHEEL: file()},
            ProjectDifference(name=NAME, removed=(SDIST,)),
            id="one file less",
        ),
    ],
)
def test_the_difference_is_a_whole_value(before, after, expected):
    """Each kind of change is told, and nothing else with it."""
    assert compare_project(NAME, before, after) == expected


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        (WHEEL, "1.0"),
        (SDIST, "1.0"),
        ("demo-1.0.zip", "1.0"),
        ("demo.whl", None),
        ("demo-1.0.exe", None),
        ("demo.tar.gz", None),
    ],
)
def test_a_version_is_read_from_a_file_name(filename, version):
    """What is no wheel and no source distribution has no version."""
    assert file_version(filename) == version
