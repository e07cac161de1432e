"""Loads the status from an open state, the locks and the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from mirror.config import Config
from mirror.core.schedule import DiskSample
from mirror.state.notes import CredentialNote, load_notes
from mirror.state.objects import load_claim
from mirror.state.readers.overview import load_overview
from mirror.state.readers.sizes import load_sizes
from mirror.state.store import Store
from mirror.status.value import CredentialState, Status
from mirror.tree.disk.failures import disk_space
from mirror.tree.layout import Layout
from mirror.tree.lock import holder_pid, locked_since


async def load_status(store: Store, config: Config, *, max_failures: int | None) -> Status:
    """Return the status, with the credentials as the last cycle recorded them."""
    overview = await load_overview(store, max_failures=max_failures)
    notes = await load_notes(store)
    claim = await load_claim(store)
    layout, now = Layout(config.mirror.root), time.time()
    return Status(
        root=config.mirror.root,
        tree=None if claim is None else claim.address,
        config=config if config.indexes else None,
        overview=overview,
        now=now,
        pid=_working_pid(layout.tree_lock),
        credentials=_noted(notes.credentials),
        notes=notes,
        daemon_pid=_working_pid(layout.daemon_lock),
        locked_at=locked_since(layout.tree_lock),
        disk=_disk_now(config.mirror.root, now),
        sizes=await load_sizes(store),
    )


def _noted(notes: Mapping[str, CredentialNote]) -> dict[str, CredentialState]:
    return {
        name: CredentialState(source=note.source, expires_at=note.expires_at, problem=note.problem)
        for name, note in notes.items()
    }


def _working_pid(lock: Path) -> int | None:
    """Return the process that holds the tree's lock.

    A killed one left its number in it, but is not running.
    """
    pid = holder_pid(lock)
    if pid is None or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, and is another user's
    return pid


def _disk_now(root: Path, now: float) -> DiskSample | None:
    space = disk_space(root)
    return None if space is None else DiskSample(at=now, used=space[0] - space[1], free=space[1])
