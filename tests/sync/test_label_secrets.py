"""No label of a file carries a secret of the mirror, whatever an index writes."""

from __future__ import annotations

import pytest

from mirror.core.model import Labels, ListedFile, ProjectPage
from mirror.core.names import ProjectName
from mirror.logs import register_secret
from mirror.sync.pages.echoes import without_own_secrets

SECRET = "secret-of-the-labels-test"


@pytest.mark.parametrize("name", Labels.__struct_fields__)
def test_each_label(name: str) -> None:
    """A label that repeats the mirror's credential is left out; the others stay."""
    register_secret(SECRET)
    others = {"requires_python": ">=3", "yanked": "y", "upload_time": "t", "provenance": "p", "extra": '{"k":"v"}'}
    echo = f'{{"k":"{SECRET}"}}'
    file = ListedFile(filename="f", url="https://index/f", labels=Labels(**{**others, name: echo}))
    page = without_own_secrets(ProjectPage(name=ProjectName("a"), files=(file,)))
    [cleaned] = page.files
    kept = {key: value for key, value in others.items() if key != name}
    assert cleaned.labels == Labels(**kept, **({"yanked": ""} if name == "yanked" else {}))
