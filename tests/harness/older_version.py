"""A mirror as version 0.1 left it: its pages, and a state that knows nothing of the rules that came after it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from harness.in_process import Mirror


def write_old_pages(mirror: Mirror, directory: str, metadata: Mapping[str, bytes]) -> None:
    """Write a project's pages as version 0.1 did, with other metadata for some of its files."""
    place = mirror.root / directory
    page = json.loads((place / "index.v1_json").read_bytes())
    lines = (place / "index.html").read_text().splitlines(keepends=True)
    for file in page["files"]:
        name = file["filename"]
        at = next(i for i, line in enumerate(lines) if f">{name}</a>" in line)
        old = file.get("core-metadata")
        if old:
            lines[at] = lines[at].replace(f' data-core-metadata="sha256={old["sha256"]}"', "")
        if name in metadata:
            file["core-metadata"] = {"sha256": hashlib.sha256(metadata[name]).hexdigest()}
        if new := file.get("core-metadata"):
            value = f"sha256={new['sha256']}"
            both = f' data-core-metadata="{value}" data-dist-info-metadata="{value}"'
            lines[at] = lines[at].replace(f">{name}</a>", f"{both}>{name}</a>")
    html = "".join(lines).encode()
    text = json.dumps(page, separators=(",", ":")).encode()
    for name, data in (("index.v1_json", text), ("index.html", html), ("index.v1_html", html)):
        (place / name).unlink()
        (place / name).write_bytes(data)


def make_old_state(mirror: Mirror) -> None:
    """Have the state say that an older version was the last to write it."""
    with closing(sqlite3.connect(mirror.root / "state.db")) as db, db:
        db.execute("UPDATE meta SET value = '1' WHERE key = 'renderer'")
        db.execute("DELETE FROM meta WHERE key IN ('metadata_rules', 'foreign_names')")
        db.execute("UPDATE blob SET metadata_project = NULL")
        db.execute("DELETE FROM first_metadata")
        db.execute("UPDATE snapshot SET renderer = 1")


def plant(mirror: Mirror, filename: str, metadata: bytes, *, project: str) -> None:
    """Let the state say that a file has this metadata, and that another project lists it too, as a planted one did."""
    with closing(sqlite3.connect(mirror.root / "state.db")) as db, db:
        db.execute(
            "UPDATE blob SET metadata_sha256 = ? WHERE filename = ?",
            (hashlib.sha256(metadata).hexdigest(), filename),
        )
        db.execute(
            "INSERT INTO entry (project, source, filename, sha256, size, digests, url, valid_from)"
            " SELECT p.id, p.source, e.filename, e.sha256, e.size, e.digests, e.url, e.valid_from"
            " FROM entry e, project p WHERE e.filename = ? AND e.valid_to IS NULL AND p.name = ?",
            (filename, project),
        )
        ((sha256,),) = db.execute("SELECT DISTINCT sha256 FROM entry WHERE filename = ?", (filename,)).fetchall()
    blob = mirror.root / "public/files" / sha256[:2] / sha256[2:4] / sha256 / filename
    blob.with_name(f"{filename}.metadata").write_bytes(metadata)
