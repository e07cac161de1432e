"""A disk in memory for directories of tests, where this machine has one with enough room.

The program makes each file and each directory durable before it goes on; on a disk that is half of
a test's time. The calls are the same here, and tests that look at their order look at the calls.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 2 << 30


def _find_quick_disk() -> str | None:
    is_there = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    return str(_MEMORY) if is_there and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES else None


QUICK_DISK = _find_quick_disk()
"""Where temporary directories are made; None: where the system makes its own."""
