"""The build requirements of a source distribution."""

from __future__ import annotations

import pytest

from mirror.core.files.build_requires import DEFAULT_BUILD, read_build_requires

DECLARED = {
    "none": (None, DEFAULT_BUILD),
    "no table": (b"[project]\n", DEFAULT_BUILD),
    "no requires": (b"[build-system]\n", DEFAULT_BUILD),
    "some": (b'[build-system]\nrequires = ["hatchling>=1", 5, "tool"]\n', ("hatchling>=1", "tool")),
    "empty": (b"[build-system]\nrequires = []\n", ()),
    "a text": (b'[build-system]\nrequires = "hatchling"\n', DEFAULT_BUILD),
    "no TOML": (b"[build-system", DEFAULT_BUILD),
    "no UTF-8": (b"\xff", DEFAULT_BUILD),
}


@pytest.mark.parametrize(("pyproject", "expected"), DECLARED.values(), ids=DECLARED)
def test_build_requires(pyproject: bytes | None, expected: tuple[str, ...]) -> None:
    """What is declared counts; where nothing can be read, it is setuptools."""
    assert read_build_requires(pyproject) == expected
