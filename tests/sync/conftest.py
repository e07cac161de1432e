from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import Mirror
from simulator import Simulator


@pytest.fixture
def mirror_of(tmp_path: Path) -> Callable[..., Mirror]:
    """Make a mirror of simulators: of one, named ``main``, or of several by their names."""

    def make(main: Simulator | None = None, /, root: str = "mirror", **simulators: Any) -> Mirror:
        return Mirror(tmp_path / root, {"main": main} if main is not None else simulators)

    return make
