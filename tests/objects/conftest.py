from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.faulty_front import FaultyFront
from harness.store_mirror import StoreMirror
from harness.storing import ObjectStore
from simulator import Simulator


@pytest.fixture
def mirror_of(tmp_path: Path, object_store: ObjectStore) -> Callable[..., StoreMirror]:
    """Make a mirror of one simulator whose tree lies in the object store."""

    def make(main: Simulator, /, root: str = "mirror", **options: Any) -> StoreMirror:
        place = object_store.prefix()
        return StoreMirror(tmp_path / root, {"main": main}, place, **options)

    return make


@pytest.fixture
def front(object_store: ObjectStore) -> Iterator[FaultyFront]:
    """A front of the object store."""
    started = FaultyFront(object_store.endpoint)
    thread = threading.Thread(target=started.serve_forever)
    thread.start()
    yield started
    started.stopped.set()
    started.shutdown()
    thread.join()
    started.server_close()
