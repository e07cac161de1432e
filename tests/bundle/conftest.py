"""A signer for all tests, and a site with a far side for each."""

from harness.handmade_bundles import far, signer, site

__all__ = ["far", "signer", "site"]
