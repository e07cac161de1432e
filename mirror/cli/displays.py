"""Progress displays, for a terminal alone: to import rich takes 114 ms of CPU, more than a quiet
cycle by a timer may cost, and a command without a terminal shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirror.jobs.once import Progress
    from mirror.upkeep.findings import Verification


def cycle_display(*, is_shown: bool) -> Progress | None:
    """Return the display of a cycle, or None."""
    if not is_shown:
        return None
    from mirror.cli.progress.cycle import shown_progress  # 114 ms

    return shown_progress


def verification_display(found: Verification, *, is_shown: bool) -> AbstractContextManager[object]:
    """Return the display of a verification, or nothing that is shown."""
    if not is_shown:
        return nullcontext()
    from mirror.cli.progress.verification import shown_verification  # 122 ms

    return shown_verification(found)


def bytes_display(
    is_shown: bool, total: int, what: str
) -> AbstractContextManager[Callable[[int], None]]:
    """Return a bar for ``total`` bytes, advanced by the yielded function, or nothing that is
    shown.
    """
    if not is_shown:
        return nullcontext(lambda _count: None)
    from mirror.cli.progress.byte_count import shown_bytes  # 172 ms

    return shown_bytes(total, what)
