"""Checks that bytes have the form that their file's name requires, for files without a listed
digest.

A proxy, a captive portal or a cache answers 200 with an error page or with nothing. Only the
outermost form is checked: a zip archive opens, a wheel has its ``.dist-info``, a compressed archive
has its magic number. A file whose name has no known form must not be empty or HTML.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from mirror.tree.disk.writing import Buffer
from mirror.tree.wheel import ArchiveLimitError, WheelError, open_bytes, read_dist_infos

_HEAD_BYTES: Final = 64 * 1024
_TAR_BLOCK: Final = 512
_CHECKSUM: Final = slice(148, 156)

_MAGIC: Final[tuple[tuple[tuple[str, ...], tuple[bytes, ...], str], ...]] = (
    ((".tar.gz", ".tgz"), (b"\x1f\x8b",), "gzip"),
    ((".tar.bz2", ".tbz"), (b"BZh",), "bzip2"),
    ((".tar.xz", ".txz"), (b"\xfd7zXZ\0",), "xz"),
    ((".tar.z",), (b"\x1f\x9d", b"\x1f\xa0"), "compress"),
    (
        (".tar.zst",),
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))),
        "zstd",
    ),
    ((".exe",), (b"MZ",), "Windows program"),
    ((".msi",), (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",), "Windows installer"),
    ((".rpm",), (b"\xed\xab\xee\xdb",), "RPM package"),
    ((".deb",), (b"!<arch>\n",), "Debian package"),
)
_HTML: Final = re.compile(
    rb"(?:\s|<!--.*?-->|<\?xml[^>]*\?>)*"
    rb"<(?:!doctype\s+html|html|head|body|title|meta|link|script|style|h[1-6]|p|div|center|table|form|a|b|br|hr)[\s>/]",
    re.IGNORECASE | re.DOTALL,
)


def form_problem(source: Buffer | BinaryIO, filename: str) -> str:
    """Return how the bytes differ from the form that the name requires; empty where they don't.

    ``source`` is all of the file. Raises ``OSError`` of the file.
    """
    opened = open_bytes(source)
    name = filename.lower()
    head = opened.read(0, _HEAD_BYTES)
    if not head.strip():
        return "nothing came"
    problem = _archive_problem(source, name, head)
    if problem and _is_html(head):
        return "an HTML page came"
    return problem


def _archive_problem(source: Buffer | BinaryIO, name: str, head: bytes) -> str:
    if name.endswith((".whl", ".zip", ".egg")):
        return _zip_problem(source, name)
    for endings, magic, kind in _MAGIC:
        if name.endswith(endings):
            return "" if head.startswith(magic) else f"the bytes are not a {kind} file"
    if name.endswith(".tar"):
        return "" if _is_tar(head) else "the bytes are not a tar archive"
    return "an HTML page came" if _is_html(head) else ""


def _zip_problem(source: Buffer | BinaryIO, name: str) -> str:
    try:
        directories = read_dist_infos(source)
    except ArchiveLimitError:
        return ""  # it opens as an archive, and its directory is over the read limit
    except WheelError as exc:
        return f"the bytes are not a zip archive ({exc})"
    if not name.endswith(".whl"):
        return ""
    project = _normalized(name.partition("-")[0])
    if any(_normalized(directory).startswith(project) for directory in directories):
        return ""
    return "the bytes are not a wheel of this project: it has no .dist-info directory of its own"


def _is_tar(head: bytes) -> bool:
    """Return whether the first block is a header with the right checksum, or the empty block that
    ends an archive.
    """
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK:
        return False
    if not any(block):
        return True
    try:
        expected = int(block[_CHECKSUM].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    rest = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    signed = sum(byte - 256 if byte > 127 else byte for byte in rest)
    return expected in {sum(rest), signed}


def _is_html(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode()
    return _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
