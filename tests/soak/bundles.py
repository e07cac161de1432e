"""Bundles that a trusted key has signed over hostile pages, metadata and manifests: refused whole, or harmless.

What is accepted is read by a browser's rules (``html.parser``) and by ``json``, not by the receiver's own: both must name the
same files with the same digests, by links that lead into the tree, and no kept state may get other metadata than it lists.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from harness.handmade_bundles import PAGES, Far, File, Signer, Site, State, some_file

SDIST = File("aa-1.0.tar.gz", b"an sdist" * 100, metadata=b"Name: aa\nVersion: 1.0\n")
FIRST = {"aa": [SDIST, some_file("aa", "1.1")], "bb": [some_file("bb", "1.0")]}
SECOND = {**FIRST, "aa": [*FIRST["aa"], some_file("aa", "2.0")]}

PIECES = [
    *(
        b"<script>x</script>",
        b"<!--",
        b"-->",
        b"<title>",
        b"</title>",
        b"<base href='//evil.example/'>",
        b"\0",
        b"\xff",
    ),
    *(
        b"<a href='x'>",
        b"</a>",
        b'<a href="../../files/x">x</a>',
        b"</body>",
        b"<!DOCTYPE html>",
        b"&#115;",
        b"%2e%2e/",
    ),
    *(
        b'"files": [], ',
        b'"url": "https://evil.example/", ',
        b'"name": "bb", ',
        b'"hashes": {}, ',
        b", ",
        b"{",
        b"}",
        b"]",
    ),
    *(
        b'"core-metadata": true, ',
        b'"size": 0, ',
        b"NaN",
        b"\\u0000",
        b"\xef\xbb\xbf",
        b"#sha256=",
        b"//",
        b"../",
        b"?x",
    ),
    *(
        b' onclick="x"',
        b' data-core-metadata="true"',
        b'<meta charset="utf-7">',
        b'<meta http-equiv="refresh" content="0">',
    ),
]


class Hostile(State):
    """A state whose pages were changed by a function."""

    change: Callable[[dict[str, bytes]], dict[str, bytes]] = staticmethod(lambda pages: pages)

    @property
    def pages(self) -> dict[str, bytes]:
        return self.change(super().pages)


class Links(HTMLParser):
    """The links of a page, and whether something on it runs or leads astray."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag in {"script", "base", "iframe", "object", "style", "form"} or any(n.startswith("on") for n in names):
            self.bad.append(tag)
        if tag == "meta" and "http-equiv" in names:
            self.bad.append("refresh")
        if tag == "a":
            self.links.add(names.get("href") or "")


def tamper_many(work: Path, count: int, first_seed: int) -> Counter[str]:
    """Make and receive so many bundles; return how many were tried, and how many held and fell."""
    work.mkdir(parents=True, exist_ok=True)
    signer = Signer.make(work / "signer")
    start = Site(work / "near", signer)
    first = start.make(State(FIRST, 1))
    base = Far(work / "base", signer.trust)
    base.receive_well(first)
    figures = Counter({"tampered bundles tried": 0, "tampered bundles held": 0, "tampered bundles fell": 0})
    for number in range(count):
        rng = random.Random(first_seed + number)
        place = work / "try"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base.root, place / "far", symlinks=True)
        site = Site(place / "near", signer, made=list(start.made))
        figures["tampered bundles tried"] += 1
        try:
            _try_one(rng, site, Far(place / "far", signer.trust))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the receiver did not hold
            figures["tampered bundles fell"] += 1
            print(f"  the tampered bundle of seed {first_seed + number} was not held: {exc!r}", flush=True)
        else:
            figures["tampered bundles held"] += 1
    return figures


def _try_one(rng: random.Random, site: Site, far: Far) -> None:
    state = Hostile(_tamper_files(rng), 2)
    object.__setattr__(state, "change", _page_change(rng))
    made = site.make(state, full=rng.random() < 0.3, change=_manifest_change(rng))
    before = _contents(far.public)
    done = far.receive(made)
    assert done.code in {0, 7}, done
    if done.code == 7:
        assert _contents(far.public) == before, "a rejected bundle changed the tree"
    else:
        _check_live(far)
    assert far.run("--check").code == 0, "the check finds damage"


def _tamper_files(rng: random.Random) -> dict[str, list[File]]:
    projects = {name: list(files) for name, files in SECOND.items()}
    if rng.random() < 0.3:
        files = projects[rng.choice(["aa", "bb"])]
        place = rng.randrange(len(files))
        files[place] = replace(files[place], metadata=rng.choice([None, b"Name: evil\n"]))
    if rng.random() < 0.1:
        projects["zz"] = [replace(SDIST, metadata=b"Name: zz\n")]
    return projects


def _page_change(rng: random.Random) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    # Drawn once: pages are asked for more than once, and must be the same each time.
    draws = [(rng.random(), rng.random(), rng.random(), rng.choice(PIECES)) for _ in range(rng.choice([0, 1, 1, 2, 3]))]

    def change(pages: dict[str, bytes]) -> dict[str, bytes]:
        for which, where, how, piece in draws:
            path = sorted(pages)[int(which * len(pages))]
            pages[path] = _spoil(pages[path], where, how, piece)
        return pages

    return change


def _spoil(data: bytes, where: float, how: float, piece: bytes) -> bytes:
    at = int(where * len(data))
    if how < 0.6:
        return data[:at] + piece + data[at:]
    if how < 0.7:
        return data[:at] + data[at + len(piece) :]
    if how < 0.8:
        return data[:at] + data[at // 2 :]
    if how < 0.9:
        codec = ("utf-16", "utf-16-le", "utf-32", "utf-7", "utf-8-sig")[int(where * 5)]
        return data.decode(errors="replace").encode(codec)
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :] if data else piece


def _manifest_change(rng: random.Random) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        if rng.random() < 0.2:
            key = rng.choice(sorted(manifest))
            manifest[key] = rng.choice([None, [], {}, 0, -1, "x", 1 << 60, manifest[rng.choice(sorted(manifest))]])
        if rng.random() < 0.2:
            item = rng.choice(manifest["pages"] or [{}]) if isinstance(manifest["pages"], list) else {}
            if isinstance(item, dict) and item:
                item[rng.choice(sorted(item))] = rng.choice(["simple/../x", "0" * 64, 0, [[1, "x", 1]], "files/x"])

    return change


def _check_live(far: Far) -> None:
    simple = far.public / "simple"
    for place in [*far.public.glob("snapshots/*/simple"), simple]:
        for directory in (path for path in place.iterdir() if path.is_dir()):
            page = json.loads((directory / PAGES[2]).read_text())
            listed = {f"{file['url']}#sha256={file['hashes']['sha256']}" for file in page["files"]}
            for file in page["files"]:
                _check_file(far, file)
            for name in PAGES[:2]:
                found = Links()
                found.feed((directory / name).read_text())
                found.close()
                assert not found.bad, (directory, name, found.bad)
                assert {unquote(link) for link in found.links} == {unquote(link) for link in listed}, (directory, name)
    names = {path.name for path in simple.iterdir() if path.is_dir()}
    assert {project["name"] for project in json.loads((simple / PAGES[2]).read_text())["projects"]} == names


def _check_file(far: Far, file: dict[str, Any]) -> None:
    path = far.public / unquote(file["url"]).removeprefix("../../")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["hashes"]["sha256"], file
    metadata = file.get("core-metadata")
    if isinstance(metadata, dict):
        sidecar = path.with_name(f"{path.name}.metadata").read_bytes()
        assert hashlib.sha256(sidecar).hexdigest() == metadata["sha256"], file


def _contents(public: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in sorted(public.rglob("*")):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found
