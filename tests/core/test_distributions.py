"""What a file's name says of the project that it belongs to."""

from __future__ import annotations

import pytest

from mirror.core.files.distributions import belongs_to, is_foreign, metadata_to_fetch
from mirror.core.model import ListedFile
from mirror.core.names import ProjectName

FOREIGN = {
    "sdist": ("flask-9.0.tar.gz", "innocent", True),
    "wheel": ("flask-9.0-py3-none-any.whl", "innocent", True),
    "zip": ("Flask-9.0.zip", "innocent", True),
    "tar.bz2": ("flask-9.0.tar.bz2", "innocent", True),
    "tgz": ("flask-9.0.tgz", "innocent", True),
    "a shorter name": ("flask-9.0.tar.gz", "flask-ext", True),
    "a name that goes on": ("flaskr-9.0.tar.gz", "flask", True),
    "own": ("flask-9.0.tar.gz", "flask", False),
    "own, in capitals": ("FLASK-9.0.tar.gz", "flask", False),
    "own, with separators": ("Zope.Inter_face-9.0.zip", "zope-inter-face", False),
    "own wheel, with separators": ("zope_inter_face-9.0-py3-none-any.whl", "zope-inter-face", False),
    "a longer name": ("flask_ext-9.0.tar.gz", "flask", False),
    "egg": ("flask-9.0-py3.11.egg", "innocent", False),
    "installer": ("flask-9.0.win32.exe", "innocent", False),
    "signature": ("flask-9.0.tar.gz.asc", "innocent", False),
    "no version": ("flask.tar.gz", "innocent", False),
    "no wheel": ("flask.whl", "innocent", False),
    "a version that is none": ("flask-new.tar.gz", "innocent", False),
    "no project's name": ("ümläut-1.0.zip", "innocent", False),
}


@pytest.mark.parametrize(("filename", "project", "expected"), FOREIGN.values(), ids=FOREIGN)
def test_foreign(filename: str, project: str, expected: bool) -> None:
    """Wheels and source distributions are judged by their names, nothing else is."""
    assert is_foreign(filename, ProjectName(project)) is expected


BELONGS = {
    "own": ("Flask_Ext-1.0.tar.gz", "flask-ext", True),
    "zip": ("flask-ext-1.0.zip", "flask-ext", True),
    "a shorter project": ("flask-ext-1.0.tar.gz", "flask", False),
    "another ending": ("flask-1.0.tar.bz2", "flask", False),
    "wheel": ("flask-1.0-py3-none-any.whl", "flask", False),
}


@pytest.mark.parametrize(("filename", "project", "expected"), BELONGS.values(), ids=BELONGS)
def test_belongs(filename: str, project: str, expected: bool) -> None:
    """A source distribution belongs to the project that ``packaging`` reads in its name, and to no other."""
    assert belongs_to(filename, project) is expected


A = "a" * 64
METADATA = {
    "sdist": ("flask-1.0.tar.gz", (("sha256", A),), True),
    "of another project": ("flask-ext-1.0.tar.gz", (("sha256", A),), False),
    "without a digest": ("flask-1.0.tar.gz", (), False),
    "with a weak digest": ("flask-1.0.tar.gz", (("md5", "a" * 32),), False),
    "none": ("flask-1.0.tar.gz", None, False),
    "wheel": ("flask-1.0-py3-none-any.whl", (("sha256", A),), False),
}


@pytest.mark.parametrize(("filename", "metadata", "is_fetched"), METADATA.values(), ids=METADATA)
def test_metadata_to_fetch(filename: str, metadata: tuple[tuple[str, str], ...] | None, is_fetched: bool) -> None:
    """Metadata is fetched for a source distribution of the project alone, and only with a strong digest."""
    file = ListedFile(filename=filename, url="https://index/x", metadata=metadata)
    assert metadata_to_fetch(file, ProjectName("flask")) == ((metadata or ()) if is_fetched else ())
