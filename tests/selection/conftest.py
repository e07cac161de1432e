"""Files of users in a folder, read as a want reads them."""

import pytest

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
