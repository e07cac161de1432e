"""A signer for all tests, and a site with a far side for each, on the machine's own disk."""

from __future__ import annotations

from harness.handmade_bundles import far, signer, site
from harness.own_disk import tmp_path_factory

__all__ = ["far", "signer", "site", "tmp_path_factory"]
