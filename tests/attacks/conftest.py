"""A signer, and a site with a far side for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle.handmade import Far, Signer, Site


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.make(tmp_path_factory.mktemp("signer"))


@pytest.fixture
def site(tmp_path: Path, signer: Signer) -> Site:
    return Site(tmp_path / "near", signer)


@pytest.fixture
def far(tmp_path: Path, signer: Signer) -> Far:
    return Far(tmp_path / "far", signer.trust)
