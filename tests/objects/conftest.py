from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store_mirror import StoreMirror
from simulator import Simulator
from storing import ObjectStore


@pytest.fixture
def mirror_of(tmp_path: Path, object_store: ObjectStore) -> Callable[..., StoreMirror]:
    """Make a mirror of one simulator whose tree lies in the object store."""

    def make(main: Simulator, /, root: str = "mirror", **options: Any) -> StoreMirror:
        place = object_store.prefix(f"o/{secrets.token_hex(6)}")
        return StoreMirror(tmp_path / root, {"main": main}, place, **options)

    return make
