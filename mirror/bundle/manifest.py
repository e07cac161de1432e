"""``bundle.json`` and the other files next to the volumes, written piece by piece from a draft:
never all of it in memory.

The format's rules are those of ``receive`` (its strict reader reads these files); this module only
writes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

import msgspec

from mirror import __version__
from mirror.bundle.hashing import Written
from mirror.bundle.receive import FORMAT, NAMESPACE, Manifest, render_json, volume_name
from mirror.state.frozen.draft import BundleDraft, BundleItem

README = "README.txt"
CONTENTS = "CONTENTS.json"
SUMS = "SHA256SUMS"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a bundle's manifest."""

    kind: str
    site: str
    chain: str
    sequence: int | None
    base: dict[str, Any] | None
    supersedes: list[dict[str, Any]]
    state: dict[str, Any]
    created_at: str
    valid_until: str | None = None
    """Until when it should be applied."""


def page_lines(pages: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """Yield the lines that a state's digest is taken of."""
    for sha256, path in pages:
        yield f"{sha256}  {path}\n".encode("ascii")


def state_digest(draft: BundleDraft) -> str:
    """Return the digest of the state that a draft leads to."""
    digest = hashlib.sha256()
    for line in page_lines(draft.iter_pages()):
        digest.update(line)
    return digest.hexdigest()


def render_manifest(draft: BundleDraft, head: Head, attached: list[Written]) -> Iterator[bytes]:
    """Yield ``bundle.json``: canonical JSON, keys sorted."""
    volumes = [
        Written(name=volume_name(v.number), size=v.size, sha256=v.sha256 or "")
        for v in draft.volumes()
    ]
    described = msgspec.to_builtins(head)
    if head.valid_until is None:
        # A receiver that does not know the key refuses the bundle.
        del described["valid_until"]
    values: dict[str, Any] = {
        **described,
        "format": FORMAT,
        "tool": f"offline-mirror {__version__}",
        "attached": msgspec.to_builtins(attached),
        "volumes": msgspec.to_builtins(volumes),
        "removed": draft.removed(),
        "blobs": iter_items(draft, "blob", "sidecar"),
        "pages": iter_items(draft, "page"),
    }
    return _object(values)


def render_contents(draft: BundleDraft) -> Iterator[bytes]:
    """Yield the plain list of all files for scanners: path, size, sha256, and the volumes that hold
    it.
    """
    return _contents(iter_items(draft, "blob", "page", "sidecar"))


def contents_digest(manifest: Manifest) -> str:
    """Return the sha256 that ``CONTENTS.json`` of a bundle has when it lists the same items as
    ``bundle.json``.
    """
    digest = hashlib.sha256()
    for piece in _contents(item._asdict() for item in heapq.merge(manifest.blobs, manifest.pages)):
        digest.update(piece)
    return digest.hexdigest()


def render_sums(files: list[Written]) -> bytes:
    """Return ``SHA256SUMS`` as coreutils read it."""
    return "".join(
        f"{file.sha256}  {file.name}\n" for file in sorted(files, key=lambda f: f.name)
    ).encode()


def program(name: str) -> bytes:
    """Return a program of the far side: what receives, or what serves."""
    return resources.files("mirror.bundle").joinpath(name).read_bytes()


def iter_items(draft: BundleDraft, *kinds: str) -> Iterator[dict[str, Any]]:
    """Yield the items of some kinds in the form of ``bundle.json``, by path."""
    for item, place in heapq.merge(*(draft.iter_items(kind) for kind in kinds), key=_path):
        parts = [[volume, member, size] for volume, member, size in draft.parts(place)]
        yield {"path": item.path, "size": item.size, "sha256": item.sha256, "parts": parts}


def _path(found: tuple[BundleItem, str]) -> str:
    return found[0].path


def _contents(items: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return _object({"files": map(_plain_item, items), "format": FORMAT})


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    volumes = sorted({volume_name(volume) for volume, _, _ in item["parts"]})
    return {
        "path": item["path"],
        "size": item["size"],
        "sha256": item["sha256"],
        "volumes": volumes,
    }


def _object(values: dict[str, Any]) -> Iterator[bytes]:
    """Yield an object as canonical JSON; an iterator in it becomes a list, item by item."""
    separator = b"{"
    for key in sorted(values):
        yield separator + render_json(key).rstrip() + b":"
        separator = b","
        if isinstance(values[key], Iterator):
            inner = b"["
            for item in values[key]:
                yield inner + render_json(item).rstrip()
                inner = b","
            yield b"]" if inner == b"," else b"[]"
        else:
            yield render_json(values[key]).rstrip()
    yield b"}\n"


def readme(head: Head, label: str, *, is_signed: bool) -> str:
    """Return the text that the person on the far side reads first."""
    what = "a repair of damaged files" if head.kind == "repair" else f"bundle {head.sequence}"
    if head.base is None:
        needs = "It is complete: it needs nothing from before."
    elif head.kind == "repair":
        needs = f"It fits the state of bundle {head.base['sequence']} and no other."
    else:
        older = ", ".join(str(reference["sequence"]) for reference in (head.base, *head.supersedes))
        needs = f"It fits a site whose last bundle is one of: {older}."
    return _README.format(
        label=label,
        what=what,
        site=head.site,
        created_at=head.created_at,
        needs=needs,
        until="" if head.valid_until is None else _UNTIL.format(valid_until=head.valid_until),
        namespace=NAMESPACE,
        check=_CHECK_FIRST.format(namespace=NAMESPACE, site=head.site)
        if is_signed
        else _UNSIGNED.format(site=head.site),
        trust="--trust ~/allowed_signers" if is_signed else "--unsigned",
    )


_README = """\
{label}: {what} for the site {site}, made {created_at}.
{needs}
{until}
You need Python 3.9 or newer and OpenSSH 8.2 or newer. No network, nothing to install. ROOT stands
for the directory of the far tree, such as /srv/mirror; DIR for the directory of this file.

{check}
EVERY LATER TIME

    python3 -I ROOT/receive.py DIR --root ROOT {trust}

Are the volumes spread over several media? Name all of them, or run the command again with each one:
it names the volumes that are missing. It may be stopped or killed at any time: run it again.

AFTERWARDS

Carry ROOT/receipt.json back to the near side. Clients use ROOT/public/simple/, served by any web
server, or as file://ROOT/public/simple/. For about ten people, with nothing installed, without TLS
and passwords:

    python3 -I ROOT/serve.py --listen 127.0.0.1:8080

WHEN IT SAYS NO (exit code)

    5  a volume is not there yet: insert the next medium and run it again
    6  the disk: full, read-only or without links; the message names the path
    7  rejected: a changed byte, another site, or an earlier bundle is missing; the message names it
    8  another receive.py is at work

Check the files by hand:   sha256sum -c SHA256SUMS
Look for damage later:     python3 -I ROOT/receive.py --root ROOT --check --list damage.json
Go back to an older state: python3 -I ROOT/receive.py --root ROOT --rollback
"""

_UNTIL = """\
Apply it until {valid_until}. It needs the receive.py of this bundle, or a newer one: older ones
refuse it.
"""

_CHECK_FIRST = """\
THE FIRST TIME

The program must not run from a medium that nobody has checked. Copy it, check it with this host's
own ssh-keygen, then run the copy. allowed_signers is the file of trusted keys that you were given
on another way than this medium; NAME is the first word of its line.

    cp DIR/receive.py DIR/receive.py.sig ~/
    cd ~/
    ssh-keygen -Y verify -f allowed_signers -I NAME -n {namespace} -s receive.py.sig < receive.py
    python3 -I receive.py DIR --root ROOT --trust ~/allowed_signers --site {site}
"""

_UNSIGNED = """\
THE FIRST TIME

THIS BUNDLE IS NOT SIGNED: nobody can tell who made it. Take it only if you know how it came here.

    cp DIR/receive.py ~/
    python3 -I ~/receive.py DIR --root ROOT --unsigned --site {site}
"""
