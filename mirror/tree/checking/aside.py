"""Move a file or directory aside, to ``quarantine/``; nothing there is ever deleted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirror.tree.checking.single_files import mode_of
from mirror.tree.disk.durability import make_durable_directory, sync_directory
from mirror.tree.disk.failures import tree_errors
from mirror.tree.layout import PRIVATE_DIRECTORY, Layout

_NAME_BYTES = 200


def move_aside(layout: Layout, path: str, *, keep: bool = False) -> Path:
    """Move a file or directory to ``quarantine/``, under a name that contains its old path; return
    the new path.

    ``keep`` leaves a plain file in its place as well, for one that is about to be replaced.
    """
    quarantine = layout.root / "quarantine"
    flat = os.fsencode(os.path.relpath(path, layout.root).replace(os.sep, "__"))[-_NAME_BYTES:]
    name = os.fsdecode(flat)
    with tree_errors(path):
        make_durable_directory(quarantine, PRIVATE_DIRECTORY)
        target = quarantine / name
        number = 0
        while os.path.lexists(target):
            number += 1
            target = quarantine / f"{name}.{number}"
        if keep and stat.S_ISREG(mode_of(path)):
            os.link(path, target)
        else:
            os.rename(path, target)
        sync_directory(quarantine)
        sync_directory(os.path.dirname(path))
    return target
