"""Metadata and build requirements in source distributions, of tar and of zip."""

from __future__ import annotations

import io
import zipfile

import pytest

from mirror.tree.needed.metadata import MetadataUnreadable, read_file_metadata, read_pyproject
from simulator import build_sdist

LIMIT = 1 << 20
OLD = b"Metadata-Version: 1.2\nName: old\nVersion: 1.0\n"
REQUIRES = {"old.egg-info/requires.txt": b"lib>=1\n\n[x:python_version < '3.9']\nmore\n"}


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_both_forms_are_read(ending: str):
    """PKG-INFO, pyproject.toml, and the dependencies of an old one, which stand in requires.txt."""
    filename, data = build_sdist("app", "1.0", requires=["lib"], build_requires=["tool"], ending=ending)
    assert b"Requires-Dist: lib" in read_file_metadata(data, filename, LIMIT)
    assert b'requires = ["tool"]' in (read_pyproject(io.BytesIO(data), filename, LIMIT) or b"")
    filename, data = build_sdist("old", "1.0", metadata=OLD, extra_files=REQUIRES, ending=ending)
    found = read_file_metadata(data, filename, LIMIT).decode()
    assert "Requires-Dist: lib>=1" in found
    assert "Requires-Dist: more ; (python_version < '3.9') and extra == \"x\"" in found


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, data in members:
            opened.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no zip at all", "no zip archive"),
        (archive(("app-1.0/PKG-INFO", OLD))[:-40], "unpacked"),
        (archive(("app-1.0/PKG-INFO", OLD), ("app-1.0/PKG-INFQ", OLD)).replace(b"INFQ", b"INFO"), "2 PKG-INFO members"),
        (archive(("a/PKG-INFO", OLD), ("b/PKG-INFO", OLD)), "2 PKG-INFO members"),
        (archive(("app-1.0/PKG-INFO", b"x" * (LIMIT + 1))), "more than metadata-size allows"),
        (archive(("PKG-INFO", OLD), ("app-1.0/deep/PKG-INFO", OLD)), "it has no PKG-INFO"),
        (archive(("app-1.0/PKG-INFO", OLD)).replace(b"Name: old", b"Name: odd"), "damaged"),
    ],
    ids=["text", "cut", "twice", "two-folders", "large", "elsewhere", "changed"],
)
def test_a_bad_zip_is_refused_in_words(data: bytes, words: str):
    """No bytes of a zip cost more than its bounds, and each is the archive's own fault."""
    with pytest.raises(MetadataUnreadable, match=words):
        read_file_metadata(data, "app-1.0.zip", LIMIT)
