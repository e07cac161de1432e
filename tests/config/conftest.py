"""Reading a configuration from text."""

from pathlib import Path

import pytest

from mirror.config import Config, load_config


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a file and load it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *, env: dict[str, str] | None = None, root: Path | None = None) -> Config:
        (tmp_path / "mirror.toml").write_text(text, encoding="utf-8")
        return load_config(None, env=env or {}, root=root)

    return load
