"""A mirror whose tree lies in an object store, for the tests that know trees on a disk.

After each cycle the objects are copied below ``ROOT/public``, in the layout of a tree on the disk: what
reads and checks such a tree then reads and checks the store. The program never looks there.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.in_process import Mirror, check_tree, in_another_thread
from harness.storing import Prefix
from mirror.sync.report import Report
from simulator import Simulator


class StoreMirror(Mirror):
    """One mirror with its tree below one prefix."""

    def __init__(self, root: Path, simulators: dict[str, Simulator], prefix: Prefix, **options: Any) -> None:
        self.prefix = prefix
        super().__init__(root, simulators, **options)
        self.settings["tree"] = prefix.address
        self._copied: dict[str, tuple[str, Any]] = {}

    @property
    def env(self) -> dict[str, str]:
        """The variables of a test, and those of the store."""
        return self.prefix.env | self._env

    @env.setter
    def env(self, env: dict[str, str]) -> None:
        self._env = env

    async def unchecked_cycle(self, **options: Any) -> Report:
        """Run one cycle, and copy its result."""
        report = await super().unchecked_cycle(**options)
        self.copy_out()
        return report

    @in_another_thread
    def copy_out(self) -> None:
        """Bring the copy of the tree up to the objects; what did not change is not touched."""
        objects = self.prefix.versions()
        for key in self._copied.keys() - objects.keys():
            for path in self._paths(key):
                path.unlink(missing_ok=True)
                if path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()
        for key, version in objects.items():
            if self._copied.get(key) == version or key == ".lock":
                continue
            data = self.prefix.read(key)
            for path in self._paths(key):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                path.write_bytes(data)
        self._copied = objects
        for folder in ("simple", "files"):
            (self.root / "public" / folder).mkdir(parents=True, exist_ok=True)

    def forget_copy(self) -> None:
        """Copy all again the next time."""
        shutil.rmtree(self.root / "public", ignore_errors=True)
        self._copied = {}

    def execute(self, sql: str) -> None:
        """Change the state, as no program does."""
        with closing(sqlite3.connect(self.root / "state.db", isolation_level=None)) as connection:
            connection.execute(sql)

    def check(self) -> None:
        """Check the tree as it is now."""
        self.copy_out()
        check_tree(self.root)

    def _paths(self, key: str) -> list[Path]:
        public = self.root / "public"
        if key.startswith("simple-json/"):
            page = public / "simple" / key.removeprefix("simple-json/")
            return [page.with_name("index.v1_json")]
        page = public / key
        return [page, page.with_name("index.v1_html")] if key.startswith("simple/") else [page]


def listed_and_missing(prefix):
    """Return the links of all pages that lead nowhere, and the projects of the root without a page."""
    keys, missing = set(prefix.keys()), []
    for key in keys:
        if not key.startswith("simple-json/"):
            continue
        page = json.loads(prefix.read(key))
        missing += [p["name"] for p in page.get("projects", ()) if f"simple/{p['name']}/index.html" not in keys]
        for file in page.get("files", ()):
            blob = file["url"].removeprefix("../../")
            missing += [blob] if blob not in keys else []
            if file.get("core-metadata") and f"{blob}.metadata" not in keys:
                missing.append(f"{blob}.metadata")
    return missing
