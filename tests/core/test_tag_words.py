"""File names in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.words.tag_words import describe_file, expand_tags


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("cp312-cp312-manylinux_2_28_x86_64", "Linux x86-64, CPython 3.12, glibc ≥ 2.28"),
        ("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", "Linux x86-64, CPython 3.12, glibc ≥ 2.17"),
        ("cp39-abi3-manylinux_2_34_aarch64", "Linux ARM64, CPython ≥ 3.9, glibc ≥ 2.34"),
        ("cp39-abi3-musllinux_1_2_x86_64", "Linux x86-64, CPython ≥ 3.9, musl ≥ 1.2"),
        ("cp313-cp313t-win_amd64", "Windows x86-64, CPython 3.13 free-threaded"),
        ("cp310-cp310-win32", "Windows x86, CPython 3.10"),
        ("cp311-cp311-macosx_11_0_arm64", "macOS ARM64, CPython 3.11, macOS ≥ 11.0"),
        ("cp311-cp311-macosx_10_9_universal2", "macOS x86-64 and ARM64, CPython 3.11, macOS ≥ 10.9"),
        ("pp310-pypy310_pp73-linux_x86_64", "Linux x86-64, PyPy 3.10"),
        ("py3-none-any", "any system, Python 3"),
        ("py2.py3-none-any", "any system, any Python"),
        ("py37-none-any", "any system, Python 3.7"),
        ("py3-none-win_arm64", "Windows ARM64, Python 3"),
        ("odd-x-freebsd_14", "freebsd_14, odd"),
    ],
)
def test_a_wheel_says_where_it_runs(tag: str, words: str) -> None:
    """System, interpreter and C library, in this order; of several C libraries the oldest counts."""
    assert describe_file(f"demo-1.0-{tag}.whl") == words


def test_other_files_say_what_they_are() -> None:
    """A source distribution and any other file have no tags."""
    assert describe_file("demo-1.0.tar.gz") == "source distribution"
    assert describe_file("demo-1.0.egg") == "other file"
    assert describe_file("odd.whl") == "other file"
    assert expand_tags("demo-1.0.tar.gz") == []


def test_tags_are_expanded_in_their_order() -> None:
    """A compressed set gives each of its tags; an enormous one stays as it is."""
    assert expand_tags("demo-1.0-py2.py3-none-any.whl") == ["py2-none-any", "py3-none-any"]
    assert expand_tags("demo-1.0-1build-cp312-cp312-a.b.whl") == ["cp312-cp312-a", "cp312-cp312-b"]
    huge = f"{'.'.join('a' * 20)}-{'.'.join('b' * 20)}-c"
    assert expand_tags(f"demo-1.0-{huge}.whl") == [huge]


@given(st.text(max_size=80))
def test_any_name_gives_words(name: str) -> None:
    """No name is an error."""
    assert describe_file(name)
    assert describe_file(f"demo-1.0-{name}.whl") is not None
    expand_tags(f"demo-1.0-{name}.whl")
