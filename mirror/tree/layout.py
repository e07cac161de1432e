"""Names to paths: the place of every file below the root.

Responsible for directories and their modes: public ones are 0755 and readable by a web server of
another user, the others 0700. A root that can't be written is found here, before any request is
made.
"""

# Paths are plain strings: this runs for each file, and building a Path costs more than the call.

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.core.names import ProjectName, Sha256
from mirror.tree.atomic import make_directory, remove_if_there, temporary_path, tree_errors, write_new

PUBLIC_DIRECTORY: Final = 0o755
PRIVATE_DIRECTORY: Final = 0o700
PUBLIC_FILE: Final = 0o644
PRIVATE_FILE: Final = 0o600

METADATA_ENDING: Final = ".metadata"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below one root. Names and digests were checked when they were made (``core.names``)."""

    root: Path

    @property
    def state(self) -> Path:
        """The state's default path."""
        return self.root / "state.db"

    @property
    def tree_lock(self) -> Path:
        """Held by each cycle and each writing command."""
        return self.root / "tree.lock"

    @property
    def daemon_lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.root / "daemon.lock"

    @property
    def staging(self) -> Path:
        """Unfinished files; never served."""
        return self.root / "staging"

    @property
    def public(self) -> Path:
        """The directory that a web server serves."""
        return self.root / "public"

    @property
    def simple(self) -> Path:
        """The pages."""
        return self.root / "public" / "simple"

    @property
    def files(self) -> Path:
        """The blobs."""
        return self.root / "public" / "files"

    def blob_directories(self, sha256: Sha256) -> tuple[str, str, str]:
        """Return the directories of a blob below ``files``, the outermost first."""
        outer = f"{self.root}/public/files/{sha256[:2]}"
        middle = f"{outer}/{sha256[2:4]}"
        return outer, middle, f"{middle}/{sha256}"

    def blob_path(self, sha256: Sha256, filename: str) -> str:
        """Return the path of a blob."""
        return f"{self.root}/public/files/{sha256[:2]}/{sha256[2:4]}/{sha256}/{filename}"

    def sidecar_path(self, sha256: Sha256, filename: str) -> str:
        """Return the path of a blob's core metadata (PEP 658)."""
        return self.blob_path(sha256, filename) + METADATA_ENDING

    def project_dir(self, name: ProjectName) -> str:
        """Return the directory of a project's pages."""
        return f"{self.root}/public/simple/{name}"


def create_tree(layout: Layout) -> None:
    """Make the directories that are missing, and see that files can be written and moved. Raises ``TreeError``."""
    with tree_errors(layout.root):
        _make_root(layout.root)
        _make_or_follow(layout.staging, PRIVATE_DIRECTORY)
        for directory in (layout.public, layout.simple, layout.files):
            _make_or_follow(directory, PUBLIC_DIRECTORY)
            _probe(layout.staging, directory)


def _make_root(root: Path) -> None:
    """Make the root and its missing parents, whatever the umask: a web server must reach the public
    files.
    """
    missing = [place for place in (root, *root.parents) if not place.exists()]
    root.mkdir(PUBLIC_DIRECTORY, parents=True, exist_ok=True)
    for place in missing:
        place.chmod(PUBLIC_DIRECTORY)


def _make_or_follow(path: Path, mode: int) -> None:
    """Make one directory, unless it or a link to one exists: ``owner`` has checked earlier whose
    links are followed.
    """
    if not path.is_dir():
        make_directory(path, mode)


def _probe(staging: Path, directory: Path) -> None:
    """Place an empty file and remove it: only a rename shows that both are writable and on one file system."""
    temporary = temporary_path(staging)
    target = temporary_path(directory)
    write_new(temporary, (), PRIVATE_FILE)
    try:
        os.rename(temporary, target)
        os.rename(target, temporary)  # what can't be removed stays in staging, which is swept
    finally:
        remove_if_there(temporary)
        remove_if_there(target)
