"""Files of users in a folder, read as a want reads them, and a mirror with wants beside one index."""

from pathlib import Path

import pytest

from harness.wants import WantingMirror
from mirror.config import WantConfig
from mirror.selection.reading import read_want


@pytest.fixture
def read(tmp_path):
    """Write files, and read the first of them, or what ``files`` names."""

    def read(texts, **keys):
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        keys = {"files": (next(iter(texts)),), **keys}
        sources = read_want(WantConfig(name="w", **keys), tmp_path)
        return sources[0] if len(sources) == 1 else sources

    return read


@pytest.fixture
async def index(simulator):
    """One index that offers metadata, as PyPI does."""
    return await simulator(core_metadata=True)


@pytest.fixture
def mirror(tmp_path: Path, index) -> WantingMirror:
    """A mirror of that index; it has no wants yet."""
    return WantingMirror(tmp_path / "mirror", {"main": index})
