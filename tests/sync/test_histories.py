"""Random histories of indexes and their mirror, against a small model of the rules (``soak.model``)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from soak.history import History, histories, play

from harness.quick_disk import QUICK_DISK


# ``make soak`` plays many more and counts them. A history takes too long to be shrunk here: a line that plays it again is
# printed instead.
@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=histories)
def test_random_histories(history: History) -> None:
    """Whatever happens to the indexes, after each cycle the pages list what two looks, ownership and brake say."""
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as directory:
        asyncio.run(play(history, Path(directory) / "mirror"))
