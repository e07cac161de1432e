"""Metadata out of wheels: what pip would read, or a refusal; never anything else, whatever the bytes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.tree import wheel
from mirror.tree.wheel import WheelError, extract_metadata

METADATA = b"Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.0\n"
MEMBER = "Demo.Pkg-1.0.dist-info/METADATA"
FILENAME = "demo_pkg-1.0-py3-none-any.whl"
LIMIT = 1 << 20


def archive(
    members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", prefix: bytes = b""
) -> bytes:
    """Return a zip archive; a name may stand in it twice."""
    buffer = io.BytesIO()
    buffer.write(prefix)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a" if prefix else "w", method) as opened:
        warnings.simplefilter("ignore")
        for name, data in members:
            opened.writestr(name, data)
        opened.comment = comment
    return buffer.getvalue()


GOOD = archive([("demo_pkg/__init__.py", b"x = 1\n" * 50), (MEMBER, METADATA), ("Demo.Pkg-1.0.dist-info/WHEEL", b"w")])


def patched(data: bytes, position: int, form: str, value: int) -> bytes:
    """Return ``data`` with a number replaced."""
    changed = bytearray(data)
    struct.pack_into(form, changed, position, value)
    return bytes(changed)


def central(data: bytes) -> int:
    """Return where METADATA's entry of the central directory begins."""
    return data.rindex(MEMBER.encode()) - 46


def local(data: bytes) -> int:
    """Return where METADATA's own header begins."""
    return data.index(MEMBER.encode()) - 30


def end(data: bytes) -> int:
    """Return where the end record begins."""
    return data.rindex(b"PK\5\6")


def zip64_values(data: bytes) -> bytes:
    """Return the values of METADATA's entry as 64-bit numbers."""
    packed, plain = struct.unpack_from("<2L", data, central(data) + 20)
    return struct.pack("<3Q", plain, packed, struct.unpack_from("<L", data, central(data) + 42)[0])


def zip64(data: bytes, *, truncated: bool = False) -> bytes:
    """Return the archive with its METADATA entry and its end written in the form of large archives."""
    at, tail = central(data), end(data)
    offset = struct.unpack_from("<L", data, tail + 16)[0]
    extra = struct.pack("<2H", 0x9999, 2) + b"xx" + struct.pack("<2H", 1, 24) + zip64_values(data)
    if truncated:
        extra = extra[:-8]
    entry = bytearray(data[at : at + 46])
    struct.pack_into("<2L", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<L", entry, 42, 0xFFFFFFFF)
    rest = data[at + 46 + len(MEMBER) : tail]
    directory = data[offset:at] + bytes(entry) + MEMBER.encode() + extra + rest
    count = struct.unpack_from("<H", data, tail + 10)[0]
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, offset + len(directory), 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:offset] + directory + end64 + locator + last


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GOOD, id="deflated"),
        pytest.param(archive([(MEMBER, METADATA)], zipfile.ZIP_STORED), id="stored"),
        pytest.param(archive([(MEMBER, METADATA)], comment=b"PK" * 99), id="with a comment"),
        pytest.param(archive([(MEMBER, METADATA)], prefix=b"#!/bin/sh\n" * 9), id="after other bytes"),
        pytest.param(zip64(GOOD), id="zip64"),
        pytest.param(archive([("x/y.dist-info/METADATA", b"no"), (MEMBER, METADATA)]), id="another one deeper"),
    ],
)
def test_metadata_is_read(data: bytes) -> None:
    """The bytes of METADATA come out of every valid form of archive, from memory and from a file."""
    assert extract_metadata(data, FILENAME, LIMIT) == METADATA
    assert extract_metadata(bytearray(data), FILENAME, LIMIT) == METADATA
    assert extract_metadata(io.BytesIO(data), FILENAME, LIMIT) == METADATA
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.read(MEMBER) == METADATA


def test_empty_metadata() -> None:
    """METADATA without a byte is METADATA."""
    assert extract_metadata(archive([(MEMBER, b"")]), FILENAME, LIMIT) == b""


HUGE = archive([(MEMBER, b"\0" * (LIMIT + 1))])
REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "no zip archive"),
    ("no archive", b"<html>" * 99, "no zip archive"),
    ("an end alone, cut", b"PK\5\6" + b"\0" * 5, "no zip archive"),
    ("cut in front", GOOD[40:], "the archive is cut"),
    ("end before its directory", GOOD[end(GOOD) :], "the archive is cut"),
    ("no member", archive([]), "0 .dist-info directories"),
    ("no METADATA", archive([("demo_pkg-1.dist-info/WHEEL", b"")]), "0 METADATA members"),
    ("METADATA twice", archive([(MEMBER, b"1"), (MEMBER, b"2")]), "2 METADATA members"),
    (
        "METADATA twice by NUL",
        archive([("Demo.Pkg-1.0.dist-info/METADATB", b"1"), (MEMBER, b"2")]).replace(b"METADATB", b"METADATA"),
        "2 METADATA members",
    ),
    ("two directories", archive([(MEMBER, b"1"), ("z-1.dist-info/RECORD", b"")]), "2 .dist-info directories"),
    ("another project", archive([("evil-1.0.dist-info/METADATA", b"")]), "of another project"),
    ("not UTF-8", archive([("zz-1.0.dist-info/METADATA", b"")]).replace(b"zz-1.0", b"\xff\xfe-1.0"), "another project"),
    ("over the limit", HUGE, "more than metadata-size allows (1048576)"),
    ("lying about its size", patched(HUGE, central(HUGE) + 24, "<L", 100), "damaged"),
    ("encrypted", patched(GOOD, central(GOOD) + 8, "<H", 1), "encrypted"),
    ("unknown method", patched(GOOD, central(GOOD) + 10, "<H", 12), "packed by method 12"),
    ("wrong CRC", patched(GOOD, central(GOOD) + 16, "<L", 1), "damaged"),
    ("packed into too much", patched(GOOD, central(GOOD) + 20, "<L", 1 << 30), "packed into more bytes"),
    ("cut", patched(GOOD, central(GOOD) + 20, "<L", 900), "cut"),
    ("elsewhere", patched(GOOD, central(GOOD) + 42, "<L", 1), "not where the directory says"),
    ("far elsewhere", patched(GOOD, central(GOOD) + 42, "<L", 1 << 30), "not where the directory says"),
    ("another name of its own", patched(GOOD, local(GOOD) + 30, "<B", 65), "another name"),
    ("not deflated", patched(GOOD, local(GOOD) + 30 + len(MEMBER), "<L", 0xFFFFFFFF), "can't be unpacked"),
    (
        "too many entries told",
        patched(zip64(GOOD), zip64(GOOD).rindex(b"PK\6\6") + 32, "<Q", 100_001),
        "100001 entries",
    ),
    ("too large a directory", patched(GOOD, end(GOOD) + 12, "<L", 33 << 20), "a directory of"),
    ("a broken directory", patched(GOOD, central(GOOD), "<L", 0), "a broken directory"),
    ("a cut directory", patched(GOOD, central(GOOD) + 30, "<H", 0xFFF0), "a broken directory"),
    (
        "beyond all files",
        zip64(GOOD).replace(struct.pack("<2H", 1, 24) + zip64_values(GOOD), struct.pack("<2H", 1, 24) + b"\xff" * 24),
        "more than metadata-size",
    ),
    (
        "at an offset beyond all files",
        zip64(GOOD).replace(zip64_values(GOOD), zip64_values(GOOD)[:16] + b"\xff" * 8),
        "not where the directory says",
    ),
    ("zip64 without values", zip64(GOOD, truncated=True), "a broken zip64 field"),
]


@pytest.mark.parametrize(("data", "cause"), [pytest.param(data, cause, id=name) for name, data, cause in REFUSED])
def test_refusals(data: bytes, cause: str) -> None:
    """What is damaged, ambiguous, over a bound or of another project is refused with a sentence that says why."""
    for source in (data, io.BytesIO(data)):
        with pytest.raises(WheelError) as caught:
            extract_metadata(source, FILENAME, LIMIT)
        assert cause in str(caught.value)


def test_names_that_end_at_a_nul() -> None:
    """A second member that other readers would see under METADATA's name makes the wheel ambiguous."""
    twin = MEMBER + "_evil"
    data = archive([(MEMBER, METADATA), (twin, b"evil")]).replace(twin.encode(), twin.replace("_", "\0").encode())
    with pytest.raises(WheelError, match="2 METADATA members"):
        extract_metadata(data, FILENAME, LIMIT)


def test_entries_are_counted() -> None:
    """A directory of more entries than its end record tells is refused where the bound is reached."""
    one = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", *[0] * 18)
    directory = one * (wheel.MAX_ENTRIES + 1)
    data = directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 0, 0)
    with pytest.raises(WheelError, match="more than 100000 entries"):
        extract_metadata(data, FILENAME, LIMIT)


def test_a_bomb_is_never_unpacked() -> None:
    """Of a member that unpacks to 64 MiB no more is unpacked than it declares."""
    bomb = archive([(MEMBER, b"\0" * (64 << 20))])
    lying = patched(bomb, central(bomb) + 24, "<L", 0x10000)
    tracemalloc.start()
    try:
        with pytest.raises(WheelError, match="damaged"):
            extract_metadata(lying, FILENAME, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


BASES = (GOOD, zip64(GOOD))
CHANGES = st.lists(
    st.tuples(st.integers(-200, len(GOOD) - 1), st.sampled_from([0, 1, 0x7F, 0xFF]) | st.integers(0, 255))
)


def mutate(base: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Return a good wheel with some bytes changed."""
    data = bytearray(base)
    for position, value in changes:
        data[position] = value
    return bytes(data)


def cut(bounds: tuple[int, int]) -> bytes:
    """Return a piece of the good wheel."""
    return GOOD[min(bounds) : max(bounds)]


POSITIONS = st.integers(0, len(GOOD))
HOSTILE: st.SearchStrategy[bytes] = st.one_of(
    st.builds(mutate, st.sampled_from(BASES), CHANGES),
    st.tuples(POSITIONS, POSITIONS).map(cut),
    st.binary(max_size=300).map(lambda data: GOOD + data),
    st.binary(max_size=300),
    st.tuples(st.binary(max_size=80), st.binary(max_size=80)).map(lambda both: both[0] + b"PK\5\6" + both[1]),
)


def outcome(read: Callable[[], bytes], *expected: type[Exception]) -> bytes | None:
    """Return what was read, or None for an expected refusal."""
    try:
        return read()
    except expected:
        return None


@given(HOSTILE)
def test_whatever_the_bytes_are(data: bytes) -> None:
    """Any bytes give METADATA or a refusal; where ``zipfile`` reads METADATA too, it is the same."""
    ours = outcome(lambda: extract_metadata(data, FILENAME, LIMIT), WheelError)
    assert ours == outcome(lambda: extract_metadata(io.BytesIO(data), FILENAME, LIMIT), WheelError)
    if ours is not None:
        theirs = outcome(lambda: zipfile.ZipFile(io.BytesIO(data)).read(MEMBER), Exception)
        assert theirs in {ours, None}


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}/[a-z]{1,8}\.py", fullmatch=True), st.binary(max_size=200)), st.binary()
)
def test_every_wheel_of_zipfile(files: dict[str, bytes], metadata: bytes) -> None:
    """Whatever else is in a wheel that ``zipfile`` wrote, its METADATA comes out."""
    assert extract_metadata(archive([*files.items(), (MEMBER, metadata)]), FILENAME, LIMIT) == metadata
