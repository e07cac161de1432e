"""Hostile bundles, signed by a trusted key all the same: refused, and nothing leaves its place."""

from __future__ import annotations

import copy
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.handmade_bundles import Far, File, Signer, Site, State, canonical, sha256, some_file, tar_of
from mirror.bundle.receive import FormatError, Manifest, parse_json, parse_manifest, parse_page, render_json

A, B = some_file("aa", "1.0"), some_file("bb", "1.0", 9000)
FIRST = State({"aa": [A], "bb": [B]}, 1)
SECOND = State({"bb": [B, some_file("bb", "2.0")]}, 2)
X = "0" * 64


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b'{"a":1,"a":2}', "a key stands twice in an object", id="key-twice"),
        pytest.param(b'[{"b":{"a":1,"a":1}}]', "a key stands twice in an object", id="key-twice-inside"),
        pytest.param(b"[1.5]", "1.5 is no integer", id="fraction"),
        pytest.param(b"[1e400]", "1e400 is no integer", id="exponent"),
        pytest.param(b"[NaN]", "NaN is no integer", id="nan"),
        pytest.param(b"[-Infinity]", "-Infinity is no integer", id="infinity"),
        pytest.param(b"[9007199254740993]", "an integer is too large", id="beyond-2**53"),
        pytest.param(b"[" + b"1" * 1_000_000 + b"]", "an integer is too large", id="a-million-digits"),
        pytest.param(b"[" * 17 + b"]" * 17, "nested deeper than 16", id="deep"),
        pytest.param(b'{"a":' * 17 + b"1" + b"}" * 17, "nested deeper than 16", id="deep-objects"),
        pytest.param(b"[" * 200_000, "nested deeper than 16", id="very-deep"),
        pytest.param('["é"]'.encode(), "not ASCII", id="not-ascii"),
        pytest.param(b"\xff", "not ASCII", id="not-utf-8"),
        pytest.param(b"[" + b" " * 100 + b"]", "larger than 100 bytes", id="too-large"),
    ],
)
def test_json_is_read_strictly(text: bytes, reason: str) -> None:
    """What a strict reader must refuse is refused."""
    with pytest.raises(FormatError) as caught:
        parse_json(text, 100 if text.startswith(b"[  ") else 2_000_000)
    assert str(caught.value) == reason


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"[] []", b"\xef\xbb\xbf[]"], ids=repr)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    """Broken JSON is one kind of error, whatever is wrong."""
    with pytest.raises(FormatError):
        parse_json(text)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_canonical_json_is_read_back(value: Any) -> None:
    """What is rendered is read back, equal values give equal bytes, and the bytes are those of the format."""
    data = render_json(value)
    assert (data, parse_json(data)) == (canonical(value), value)


def good() -> dict[str, Any]:
    """Return a manifest that is accepted."""
    page = {"size": 4, "sha256": "2" * 64, "parts": [[1, "pages/" + "2" * 64, 4]]}
    blob = f"files/11/11/{'1' * 64}/a-1.whl"
    split = f"files/44/44/{'4' * 64}/b-1.whl"
    parts = [[1, f"parts/{'4' * 64}/0001", 6], [2, f"parts/{'4' * 64}/0002", 4]]
    return {
        "format": 1,
        "kind": "update",
        "tool": "a tool",
        "created_at": "2026-01-02T03:04:05Z",
        "site": "lab",
        "chain": "c" * 32,
        "sequence": 5,
        "base": {"sequence": 4, "digest": X},
        "supersedes": [],
        "state": {"revision": 1, "digest": X, "projects": 1, "files": 1, "bytes": 1, "pages": 6},
        "attached": [{"name": "receive.py", "size": 3, "sha256": X}],
        "volumes": [
            {"name": "volume-0001.tar", "size": 10240, "sha256": X},
            {"name": "volume-0002.tar", "size": 10240, "sha256": X},
        ],
        "blobs": [
            {"path": blob, "size": 3, "sha256": "1" * 64, "parts": [[1, blob, 3]]},
            {"path": blob + ".metadata", "size": 0, "sha256": "3" * 64, "parts": [[1, blob + ".metadata", 0]]},
            {"path": split, "size": 10, "sha256": "4" * 64, "parts": parts},
        ],
        "pages": [
            {"path": path, **copy.deepcopy(page)}
            for path in sorted(f"simple/{n}" for n in ("aa/index.html", "aa/index.v1_html", "aa/index.v1_json"))
        ],
        "removed": ["bb"],
    }


def put(value: dict[str, Any], where: str, new: Any) -> None:
    """Set a value by its dotted path; ``-`` in front of a key removes it."""
    *path, last = where.split(".")
    place: Any = value
    for key in path:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if last.startswith("-"):
        del place[last[1:]]
    else:
        place[int(last) if isinstance(place, list) else last] = new


def test_the_manifest_of_the_table_is_good() -> None:
    """What the table below spoils is accepted as it is."""
    manifest = parse_manifest(canonical(good()))
    assert isinstance(manifest, Manifest)
    assert (manifest.label, manifest.sequence, manifest.base) == ("lab-000005", 5, (4, X))
    assert manifest.blobs[2].parts == ((1, f"parts/{'4' * 64}/0001", 6), (2, f"parts/{'4' * 64}/0002", 4))
    assert manifest.volumes[1] == ("volume-0002.tar", 10240, X)


def test_a_repair_of_one_page_is_good() -> None:
    """A repair has a base and single pages, and no sequence."""
    value = {**good(), "kind": "repair", "sequence": None, "removed": []}
    value["pages"] = value["pages"][:1]
    assert parse_manifest(canonical(value)).label == "lab-repair"


NAME = f"files/11/11/{'1' * 64}/"
LONG = "x" * 241


@pytest.mark.parametrize(
    ("where", "new"),
    [
        ("format", 2),
        ("format", "1"),
        ("more", 1),
        ("-chain", None),
        ("kind", "upgrade"),
        ("kind", ["update"]),
        ("kind", "repair"),
        ("tool", "a\x1b[31m"),
        ("tool", "x" * 300),
        ("tool", 7),
        ("created_at", "yesterday"),
        ("site", "../lab"),
        ("site", "Lab"),
        ("site", "lab\n"),
        ("chain", "c" * 31),
        ("sequence", 0),
        ("sequence", -1),
        ("sequence", True),
        ("sequence", "5"),
        ("sequence", None),
        ("base", None),
        ("base", []),
        ("base.sequence", 5),
        ("base.digest", "x" * 64),
        ("base.more", 1),
        ("supersedes", None),
        ("supersedes", [{"sequence": 6, "digest": X}]),
        ("supersedes", [{"sequence": 4, "digest": X}]),
        ("state", {}),
        ("state.digest", ""),
        ("state.bytes", -1),
        ("attached.0.name", "evil.py"),
        ("attached.0.name", "../receive.py"),
        ("attached.0.size", -1),
        ("attached", [{"name": "receive.py", "size": 3, "sha256": X}] * 2),
        ("volumes.0.name", "../volume-0001.tar"),
        ("volumes.0.name", "volume-0002.tar"),
        ("volumes.0.size", 10241),
        ("volumes.0.size", 0),
        ("volumes.0.sha256", None),
        ("volumes", []),
        ("blobs", {}),
        ("blobs.0", {}),
        ("blobs.0", "text"),
        ("blobs.0.path", "/etc/passwd"),
        ("blobs.0.path", "../../etc/passwd"),
        ("blobs.0.path", f"files/11/11/{'1' * 64}/../../../../../x"),
        ("blobs.0.path", NAME + ".."),
        ("blobs.0.path", NAME + "."),
        ("blobs.0.path", NAME),
        ("blobs.0.path", NAME + "a/b"),
        ("blobs.0.path", NAME + "a\\b"),
        ("blobs.0.path", NAME + "a\nb"),
        ("blobs.0.path", NAME + "a\0b"),
        ("blobs.0.path", NAME + "a\ud800"),
        ("blobs.0.path", NAME + "a\u202eb"),
        ("blobs.0.path", NAME + LONG),
        ("blobs.0.path", NAME + "é" * 121),
        ("blobs.0.path", NAME + ".metadata"),
        ("blobs.0.path", NAME + "x.metadata.metadata"),
        ("blobs.0.path", f"files/11/12/{'1' * 64}/a"),
        ("blobs.0.path", f"files/00/00/{'0' * 64}/a"),
        ("blobs.0.path", "simple/aa/index.html"),
        ("blobs.0.path", "x" * 2000),
        ("blobs.0.path", 1),
        ("blobs.0.sha256", "2" * 64),
        ("blobs.0.size", 1 << 50),
        ("blobs.0.size", -3),
        ("blobs.0.parts", []),
        ("blobs.0.parts", [[1]]),
        ("blobs.0.parts", [{"volume": 1}]),
        ("blobs.0.parts.0", [0, f"{NAME}a-1.whl", 3]),
        ("blobs.0.parts.0", [3, f"{NAME}a-1.whl", 3]),
        ("blobs.0.parts.0", [1, f"{NAME}a-1.whl", 4]),
        ("blobs.0.parts.0", [1, "../../x", 3]),
        ("blobs.0.parts.0", [1, f"pages/{'1' * 64}", 3]),
        ("blobs.1.path", NAME + "a-1.whl"),
        ("blobs.2.parts.1", [2, f"parts/{'4' * 64}/0003", 4]),
        ("blobs.2.parts.1", [2, f"parts/{'5' * 64}/0002", 4]),
        ("blobs.2.parts", [[1, f"parts/{'4' * 64}/0001", 10], [2, f"parts/{'4' * 64}/0002", 0]]),
        ("pages.0.path", "simple/AA/index.html"),
        ("pages.0.path", "simple/../index.html"),
        ("pages.0.path", "simple/aa/../../x/index.html"),
        ("pages.0.path", "simple/aa/evil.html"),
        ("pages.0.path", "simple/a--a/index.html"),
        ("pages.0.path", "/simple/aa/index.html"),
        ("pages.0.path", f"simple/{'a' * 201}/index.html"),
        ("pages.0.parts.0", [1, "pages/../x", 4]),
        ("pages.0.size", 5),
        ("pages.1.path", "simple/aa/index.html"),
        ("removed", ["../bb"]),
        ("removed", ["bb", "bb"]),
        ("removed", ["cc", "bb"]),
        ("removed", ["aa"]),
        ("removed", [""]),
        ("removed", "bb"),
    ],
    ids=lambda value: str(value)[:50].encode("ascii", "replace").decode(),
)
def test_a_spoilt_manifest_is_refused(where: str, new: Any) -> None:
    """Each way to spoil a good manifest is a ``FormatError`` whose text fits on a terminal."""
    value = good()
    put(value, where, new)
    with pytest.raises(FormatError) as caught:
        parse_manifest(canonical(value))
    assert str(caught.value).isprintable()


def test_a_page_that_shares_bytes_must_agree(site: Site) -> None:
    """Two pages with one sha256 and two sizes are refused, as are two split blobs with other parts."""
    value = good()
    value["pages"][0] |= {"size": 5, "parts": [[1, "pages/" + "2" * 64, 5]]}
    with pytest.raises(FormatError, match="another size than an item of equal sha256"):
        parse_manifest(canonical(value))
    value = good()
    twin = copy.deepcopy(value["blobs"][2])
    twin["path"] += ".zip"
    twin["parts"][0][0] = 2
    value["blobs"].append(twin)
    with pytest.raises(FormatError, match="other parts than another item"):
        parse_manifest(canonical(value))


def test_a_full_bundle_has_root_pages() -> None:
    """A full bundle without the root's pages, or that removes, is refused."""
    value = {**good(), "base": None, "removed": []}
    with pytest.raises(FormatError, match="a full bundle has the root's pages"):
        parse_manifest(canonical(value))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_part_of_the_manifest_may_be_anything(data: st.DataObject) -> None:
    """Whatever stands in a manifest, it is accepted or refused: no other error comes out."""
    value = good()
    place: Any = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(_VALUES)
            break
        place = place[key]
    reason = ""
    try:
        parse_manifest(canonical(value))
    except FormatError as exc:
        reason = str(exc)
    assert reason == "" or reason.isprintable()


def refused(far: Far, site: Site, reason: str, **options: Any) -> None:
    """Make and receive a hostile update that must be refused; nothing outside of staging may have changed."""
    far.receive_well(site.make(FIRST))
    around = {p: d for p, d in read_tree_without_staging(far.root.parent).items() if not p.startswith("near/")}
    done = far.receive(site.make(SECOND, **options))
    assert (done.code, done.err.splitlines()[-1]) == (7, f"receive: {reason}")
    after = {p: d for p, d in read_tree_without_staging(far.root.parent).items() if not p.startswith("near/")}
    assert after == around
    assert not any(path.is_symlink() for path in (far.root / "staging").rglob("*"))
    far.check_serves(FIRST)


def read_tree_without_staging(directory: Path) -> dict[str, bytes]:
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and "/staging/" not in str(path):
            found[path.relative_to(directory).as_posix()] = path.read_bytes()
    return found


def replaced(**labels: Any) -> Callable[[int, list[tuple[tarfile.TarInfo, bytes]]], bytes]:
    """Return a packer that sets fields of the first member."""

    def pack(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        info, data = members[0]
        for key, value in labels.items():
            setattr(info, key, value)
        return tar_of(number, [(info, data if info.isreg() else b""), *members[1:]])

    return pack


def added(*infos: tuple[tarfile.TarInfo, bytes]) -> Callable[[int, list[tuple[tarfile.TarInfo, bytes]]], bytes]:
    """Return a packer that puts more members in front."""
    return lambda number, members: tar_of(number, [*infos, *members])


def member(name: str, data: bytes = b"", **labels: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in labels.items():
        setattr(info, key, value)
    return info, data


@pytest.mark.parametrize(
    ("tarballs", "reason"),
    [
        pytest.param(
            added(member("../../../../escaped", b"x")), "../../../../escaped is not listed in it, or stands twice", id="dots"
        ),
        pytest.param(added(member("/tmp/escaped", b"x")), "/tmp/escaped is not listed in it, or stands twice", id="absolute"),
        pytest.param(
            added(member("files/link", type=tarfile.SYMTYPE, linkname="/etc")),
            "files/link is no plain file (tar type b'2')",
            id="symbolic-link",
        ),
        pytest.param(
            added(member("files/link", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
            "files/link is no plain file (tar type b'1')",
            id="hard-link",
        ),
        pytest.param(
            added(member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), "null is no plain file (tar type b'3')", id="device"
        ),
        pytest.param(
            added(member("disk", type=tarfile.BLKTYPE, devmajor=8)), "disk is no plain file (tar type b'4')", id="block-device"
        ),
        pytest.param(added(member("pipe", type=tarfile.FIFOTYPE)), "pipe is no plain file (tar type b'6')", id="pipe"),
        pytest.param(added(member("files", type=tarfile.DIRTYPE)), "files/ is no plain file (tar type b'5')", id="directory"),
        pytest.param(
            added(member("sparse", type=tarfile.GNUTYPE_SPARSE)), "sparse is no plain file (tar type b'S')", id="sparse"
        ),
        pytest.param(
            added(member("files/x", pax_headers={"GNU.sparse.name": "y"})),
            "has an extended header with 'GNU.sparse.name'",
            id="sparse-extended",
        ),
        pytest.param(
            added(member("files/x", pax_headers={"linkpath": "y"})), "has an extended header with 'linkpath'", id="link-path"
        ),
        pytest.param(
            added(member("files/x", pax_headers={"path": "y" * 70_000})),
            "an extended header that is too large or repeated",
            id="huge-name",
        ),
        pytest.param(replaced(name="pages/" + "0" * 64), f"pages/{'0' * 64} is not listed in it, or stands twice", id="other-name"),
    ],
)  # fmt: skip
def test_hostile_members(site: Site, far: Far, tarballs: Any, reason: str) -> None:
    """Members that no bundle has are refused; nothing is written outside of staging."""
    refused(far, site, f"{site.work}/lab-000002/volume-0001.tar: {reason}", tarballs=tarballs)


def twice(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return tar_of(number, [members[0], *members])


def truncated(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    data = tar_of(number, members).rstrip(b"\0")
    return data + b"\0" * (-len(data) % 512)


def without_last(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return tar_of(number, members[:-1]) + b"\0" * 10240


def longer(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    info, data = members[0]
    info.size += 1
    return tar_of(number, [(info, data + b"x"), *members[1:]])


def other_bytes(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    info, data = members[0]
    return tar_of(number, [(info, bytes(len(data))), *members[1:]])


def with_tail(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    return tar_of(number, members) + b"tail".ljust(512, b"\0")


def gnu(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def compressed(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue().ljust(20480, b"\0")


def bad_checksum(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    data = bytearray(tar_of(number, members))
    data[148:154] = b"000001"
    return bytes(data)


def negative_size(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    data = bytearray(tar_of(number, members))
    data[124:136] = b"-0000000001\0"
    return bytes(data)


NEW = some_file("bb", "2.0")
TAIL = "has something after its end"


@pytest.mark.parametrize(
    ("tarballs", "reason"),
    [
        pytest.param(twice, f"{NEW.path} is not listed in it, or stands twice", id="twice"),
        pytest.param(truncated, "ends in the middle of a member", id="truncated"),
        pytest.param(without_last, "is missing in it", id="member-missing"),
        pytest.param(longer, f"{NEW.path} has 701 bytes instead of 700", id="longer"),
        pytest.param(other_bytes, f"{NEW.path}: its sha256 is not the one in bundle.json", id="other-bytes"),
        pytest.param(with_tail, TAIL, id="tail"),
        pytest.param(gnu, "is no POSIX tar", id="gnu"),
        pytest.param(compressed, "is no POSIX tar", id="compressed"),
        pytest.param(bad_checksum, "has a damaged header", id="checksum"),
        pytest.param(negative_size, "has a damaged header", id="negative-size"),
    ],
)
def test_volumes_that_are_not_what_the_manifest_says(site: Site, far: Far, tarballs: Any, reason: str) -> None:
    """A volume with the right digest and the wrong contents is refused."""
    far.receive_well(site.make(FIRST))
    # Room for what is appended: the manifest's sizes must not be the reason.
    done = far.receive(site.make(SECOND, tarballs=tarballs))
    assert done.code == 7
    last = done.err.splitlines()[-1]
    assert last.startswith(f"receive: {site.work}/lab-000002/volume-0001.tar: ")
    assert last.endswith(reason)
    far.check_serves(FIRST)
    far.check_holds(FIRST)


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(b"30 path=x\n", id="length-too-long"),
        pytest.param(b"0 path=x\n", id="length-zero"),
        pytest.param(b"-9 path=x\n", id="length-negative"),
        pytest.param(b"path=x\n", id="no-length"),
        pytest.param(b"\xff\xff", id="no-text"),
        pytest.param(b"11 size=-1\n", id="negative-size"),
        pytest.param(b"12 size=1_0\n", id="underscore"),
        pytest.param(b"9 path=\xff\n", id="no-utf-8"),
        pytest.param(b"10 path=x\n10 path=y\n", id="twice"),
    ],
)
def test_hostile_extended_headers(site: Site, far: Far, records: bytes) -> None:
    """Damaged pax records are refused."""

    def pack(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(records)
        plain = tar_of(number, members)
        return header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0") + plain

    far.receive_well(site.make(FIRST))
    done = far.receive(site.make(SECOND, tarballs=pack))
    assert done.code == 7
    assert "volume-0001.tar: " in done.err.splitlines()[-1]
    far.check_serves(FIRST)


def test_a_huge_manifest_is_not_read(site: Site, far: Far) -> None:
    """A bundle.json above 1 GiB is refused by its size."""
    made = site.make(FIRST)
    os.truncate(made.path / "bundle.json", (1 << 30) + 1)
    done = far.receive(made)
    assert (done.code, done.err) == (
        7,
        f"receive: {made.path}/bundle.json: can't be read: is larger than 1073741824 bytes\n",
    )


def test_more_than_fits_is_refused_at_once(site: Site, far: Far) -> None:
    """A bundle larger than the free space is refused before anything is unpacked, exit code 6."""

    def swell(manifest: dict[str, Any]) -> None:
        size = 1 << 50
        (item,) = (item for item in manifest["blobs"] if item["path"] == B.path)
        item["size"] = size
        item["parts"][0][2] = size
        manifest["volumes"][0]["size"] = 2 * size

    done = far.receive(site.make(FIRST, change=swell))
    assert done.code == 6
    assert f"receive: {far.root}: " in done.err
    assert "bytes are needed" in done.err
    assert far.blobs() == {}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"url": "https://example.org/a.whl"}, id="another-host"),
        pytest.param({"url": "../../../../../etc/passwd"}, id="out-of-the-tree"),
        pytest.param({"url": f"../../files/11/11/{'1' * 64}/%2e%2e%2fx"}, id="quoted-dots"),
        pytest.param({"url": f"../../files/11/22/{'1' * 64}/a"}, id="wrong-place"),
        pytest.param({"hashes": {"sha256": "2" * 64}}, id="another-digest"),
        pytest.param({"hashes": {}}, id="no-digest"),
        pytest.param({"hashes": {"sha256": 7}}, id="digest-no-text"),
        pytest.param({"size": -1}, id="negative-size"),
        pytest.param({"size": "1"}, id="size-no-number"),
        pytest.param({"url": None}, id="no-link"),
        pytest.param({"core-metadata": {}}, id="metadata-without-digest"),
    ],
)
def test_pages_must_list_blobs(change: dict[str, Any]) -> None:
    """A page that lists anything else than a blob of the tree is refused."""
    digest = "1" * 64
    file = {"filename": "a", "url": f"../../files/11/11/{digest}/a", "hashes": {"sha256": digest}, "size": 1}
    assert parse_page(json.dumps({"files": [file]}).encode())[0].path == f"files/11/11/{digest}/a"
    with pytest.raises(FormatError):
        parse_page(json.dumps({"files": [file | change]}).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files":7}', b'{"files":[7]}', b"[" * 100_000, b"\xff"], ids=repr)
def test_pages_that_are_none(data: bytes) -> None:
    """Anything else than a page is one kind of error."""
    with pytest.raises(FormatError):
        parse_page(data)


def test_a_signed_page_that_leads_out_is_not_served(site: Site, far: Far) -> None:
    """A bundle with a page that links elsewhere is refused, and the page is named."""

    class Elsewhere(State):
        @property
        def pages(self) -> dict[str, bytes]:
            found = super().pages
            page = json.loads(found["simple/aa/index.v1_json"])
            page["files"][0]["url"] = "../../../../../../etc/passwd"
            return found | {"simple/aa/index.v1_json": json.dumps(page).encode()}

    far.receive_well(site.make(FIRST))
    done = far.receive(site.make(Elsewhere({"aa": [A, some_file("aa", "3")]}, 3)))
    assert done.code == 7
    assert "receive: simple/aa/index.v1_json: no page of an index: the link '../../../../../../etc/passwd'" in done.err
    far.check_serves(FIRST)


def test_a_link_planted_in_the_tree_is_not_followed(site: Site, far: Far, tmp_path: Path) -> None:
    """A directory of the tree that was replaced by a link leads nothing out of the tree."""
    far.receive_well(site.make(FIRST))
    outside = tmp_path / "outside"
    outside.mkdir()
    place = far.public / Path(NEW.path).parent.parent
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(outside)
    done = far.receive(site.make(SECOND))
    assert (done.code, done.err.splitlines()[-1]) == (6, f"receive: {place}: is no directory: move it away")
    assert not list(outside.iterdir())
    place.unlink()
    far.receive_well(site.made[-1])
    far.check_serves(SECOND)


@pytest.mark.parametrize("name", ["staging", "public", "public/files", "public/snapshots", "states"])
def test_a_link_in_place_of_a_directory(site: Site, far: Far, tmp_path: Path, name: str) -> None:
    """A root whose directories are links is refused."""
    (tmp_path / "outside").mkdir()
    (far.root / name).parent.mkdir(parents=True, exist_ok=True)
    (far.root / name).symlink_to(tmp_path / "outside")
    done = far.receive(site.make(FIRST))
    assert (done.code, done.err) == (
        6,
        f"receive: {far.root}/{name}: is no directory, or a link to one: move it away\n",
    )
    assert not list((tmp_path / "outside").iterdir())


def test_odd_names_travel(tmp_path: Path, signer: Signer) -> None:
    """Names at the limits of what is allowed reach the far side as they are."""
    names = ["é" * 120, "a+b 100% #1?.whl", "x" * 240, "ümlaut.tar.gz", "-rf", "~"]
    files = [File(name, name.encode() * 3, metadata=b"m" if place % 2 else None) for place, name in enumerate(names)]
    state = State({"odd": files}, 1)

    class Quoted(State):
        @property
        def pages(self) -> dict[str, bytes]:
            from urllib.parse import quote

            found = super().pages
            page = json.loads(found["simple/odd/index.v1_json"])
            for file in page["files"]:
                file["url"] = quote(file["url"], safe="/.-")
            return found | {"simple/odd/index.v1_json": json.dumps(page).encode()}

    far = Far(tmp_path / "far", signer.trust)
    done = far.receive(Site(tmp_path / "near", signer).make(Quoted(state.projects, 1)))
    assert done.code == 0, done.err
    assert far.blobs() == state.blobs
    assert sha256(far.blobs()[files[0].path]) == sha256(files[0].data)


def test_parts_that_do_not_make_the_item(site: Site, far: Far) -> None:
    """A split blob whose parts are those of the volumes, but do not make its sha256, is refused and named."""

    def spoil(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        return tar_of(number, [(i, bytes(len(d)) if i.name.endswith("/0002") else d) for i, d in members])

    made = site.make(FIRST, volume_bytes=8 * 1024, tarballs=spoil)
    for _ in range(2):
        done = far.receive(made)
        assert (done.code, done.err.splitlines()[-1]) == (
            7,
            f"receive: {B.path}: its parts do not make the sha256 in bundle.json",
        )
    assert far.blobs() == {}


def test_a_member_that_goes_beyond_the_end(site: Site, far: Far) -> None:
    """A volume that ends within a member is refused."""

    def end_early(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        size = sum(len(data) for _, data in members)
        return tar_of(number, members)[: size + -size % 512]

    done = far.receive(site.make(State({"bb": [B]}, 1), tarballs=end_early))
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        f"receive: {site.work}/lab-000001/volume-0001.tar: ends in the middle of a member",
    )


def test_a_signed_manifest_of_a_newer_format(site: Site, far: Far) -> None:
    """A bundle of a format that is not known is refused, and says what to do."""

    def renew(manifest: dict[str, Any]) -> None:
        manifest["format"] = 2

    done = far.receive(site.make(FIRST, change=renew))
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        f"receive: {site.work}/lab-000001/bundle.json: format 2: this program knows format 1; take a newer receive.py",
    )


def test_a_size_that_is_no_number(site: Site, far: Far) -> None:
    """A header with letters where its size belongs is refused."""

    def spoil(number: int, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        data = bytearray(tar_of(number, members))
        data[124:136] = b"\x80" + b"\xff" * 11
        return bytes(data)

    done = far.receive(site.make(FIRST, tarballs=spoil))
    assert (done.code, done.err.splitlines()[-1]) == (
        7,
        f"receive: {site.work}/lab-000001/volume-0001.tar: has a damaged header",
    )
