"""Offers of the indexes to somebody who needs a project."""

from __future__ import annotations

from mirror.core.names import ProjectName
from mirror.core.offers import HIDING, Hidden, MetadataRefused, ProjectOffers
from mirror.errors import Reason


def test_a_project_that_no_index_lists() -> None:
    """A project is listed where an index owns it."""
    assert not ProjectOffers(project=ProjectName("p")).is_listed
    assert ProjectOffers(project=ProjectName("p"), owner="main").is_listed


def test_metadata_that_is_refused() -> None:
    """The error reads as its detail, and has the reason; a failure that passes by itself hides no file."""
    hidden = Hidden(reason=Reason.DIGEST_MISMATCH, detail="other bytes")
    error = MetadataRefused(hidden)
    assert (str(error), error.hidden) == ("other bytes", hidden)
    assert (hidden.reason in HIDING, Reason.UNREACHABLE in HIDING) == (True, False)
