"""Whether bytes are what the name of their file says, where no digest tells."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.tree.file_form import form_problem
from simulator import build_sdist, build_wheel

WHEEL, WHEEL_BYTES = build_wheel("tide-tables", "1.0")
_, SDIST_BYTES = build_sdist("tide-tables", "1.0")
FILTER = b"""\
<!DOCTYPE html>
<html><head><title>Access to this site is restricted</title></head>
<body><h1>Not available</h1></body></html>"""


def zip_of(*names: str) -> bytes:
    """Return a zip archive with empty members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


def tar_of(mode: str) -> bytes:
    """Return a tar archive with one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("d-1.0/PKG-INFO"))
    return buffer.getvalue()


RIGHT = {
    "wheel": (WHEEL, WHEEL_BYTES),
    "wheel with bytes before it": (WHEEL, b"#!/bin/sh\n" + WHEEL_BYTES),
    "wheel with bytes behind it": (WHEEL, WHEEL_BYTES + b"signed"),
    "wheel in other letters": ("Tide.Tables-1.0-py3-none-any.WHL", WHEEL_BYTES),
    "wheel with only a .dist-info": ("d-1.0-py3-none-any.whl", zip_of("d-1.0.dist-info/METADATA")),
    "zip": ("d-1.0.zip", zip_of("d-1.0/PKG-INFO")),
    "empty zip": ("d-1.0.zip", zip_of()),
    "egg": ("d-1.0-py3.11.egg", zip_of("EGG-INFO/PKG-INFO")),
    "sdist": ("d-1.0.tar.gz", SDIST_BYTES),
    "tgz": ("d-1.0.tgz", SDIST_BYTES),
    "bzip2": ("d-1.0.tar.bz2", tar_of("w:bz2")),
    "xz": ("d-1.0.tar.xz", tar_of("w:xz")),
    "tar": ("d-1.0.tar", tar_of("w")),
    "old tar": ("d-1.0.tar", tar_of("w").replace(b"ustar", b"\0\0\0\0\0", 0)),
    "empty tar": ("d-1.0.tar", b"\0" * 10240),
    "compress": ("d-1.0.tar.Z", b"\x1f\x9d\x90rest"),
    "zstd": ("d-1.0.tar.zst", b"\x28\xb5\x2f\xfdrest"),
    "program": ("d-1.0.win32.exe", b"MZ\x90\0"),
    "signature": (f"{WHEEL}.asc", b"-----BEGIN PGP SIGNATURE-----\n"),
    "binary signature": (f"{WHEEL}.sig", b"\x89\x02\x33"),
    "variants": ("d-1.0-variants.json", b'{"text": "<html>"}'),
    "name without a known form": ("d-1.0.dmg", b"koly"),
}


@pytest.mark.parametrize(("name", "data"), RIGHT.values(), ids=RIGHT.keys())
def test_what_is_right(name: str, data: bytes, tmp_path: Path) -> None:
    """Bytes of the right form pass, in memory and on the disk."""
    assert form_problem(data, name) == ""
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert form_problem(file, name) == ""


WRONG = {
    "wheel without .dist-info": (WHEEL, zip_of("tide_tables/__init__.py"), ".dist-info"),
    "wheel of another project": (WHEEL, build_wheel("other", "1.0")[1], ".dist-info"),
    "wheel that is cut": (WHEEL, WHEEL_BYTES[:-200], "zip"),
    "wheel without its beginning": (WHEEL, WHEEL_BYTES[200:], "zip"),
    "wheel that is a sdist": (WHEEL, SDIST_BYTES, "zip"),
    "sdist that is a zip": ("d-1.0.tar.gz", WHEEL_BYTES, "gzip"),
    "sdist that is text": ("d-1.0.tar.gz", b"404 not found", "gzip"),
    "tar that is gzip": ("d-1.0.tar", SDIST_BYTES, "tar"),
    "tar that is text": ("d-1.0.tar", b"not found\n" * 100, "tar"),
    "egg that is JSON": ("d-1.0.egg", b'{"detail": "not found"}', "zip"),
    "msi that is text": ("d-1.0.msi", b"x", "installer"),
}


@pytest.mark.parametrize(("name", "data", "word"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong(name: str, data: bytes, word: str) -> None:
    """Bytes of another form are told."""
    assert word in form_problem(data, name)


NAMES = sorted({name for name, _ in RIGHT.values()})
PAGES = {
    "filter": FILTER,
    "byte order mark": b"\xef\xbb\xbf\r\n" + FILTER,
    "comment before": b"<!-- squid --> " + FILTER,
    "xhtml": b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"></html>',
    "no doctype": b"<BODY bgcolor=white>denied",
    "utf-16": FILTER.decode().encode("utf-16"),
    "fragment": b"<h1>Sign in</h1>",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_an_html_page_is_no_file(name: str, page: bytes) -> None:
    """Whatever the name, an error page with status 200 is told as what it is."""
    assert form_problem(page, name) == "an HTML page came"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"", b" \r\n\t"], ids=["empty", "blanks"])
def test_nothing_is_no_file(name: str, data: bytes) -> None:
    """An empty body is no file of any kind."""
    assert form_problem(data, name) == "nothing came"


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda data: data + zip_of("a")), st.sampled_from(NAMES))
def test_any_bytes_are_judged(data: bytes, name: str) -> None:
    """Whatever comes, the answer is a text and no exception."""
    assert isinstance(form_problem(data, name), str)
