"""Files of a flat page find their projects by their names."""

from __future__ import annotations

import pytest

from mirror.core.flat import ANY, group_files, project_of_filename
from mirror.core.parse_html import parse_project_page

PROJECTS = {
    "tide_tables-1.2+cpu-cp311-cp311-linux_x86_64.whl": "tide-tables",
    "Harbour.Log-0.3.tar.gz": "harbour-log",
    "harbour-log-0.3.zip": "harbour-log",
    "harbour-log-0.3.tar.gz.asc": "harbour-log",
    "tide_tables-1.0-py3.8.egg": None,
    "tide_tables-one-py3-none-any.whl": None,
    "odd.zip": None,
    "setup-1.0.exe": None,
    "x.tar.gz": None,
    "": None,
}


@pytest.mark.parametrize(("filename", "project"), PROJECTS.items(), ids=PROJECTS)
def test_project_of_filename(filename: str, project: str | None) -> None:
    """Wheels and source distributions tell it, with what lies beside them; nothing else does."""
    assert project_of_filename(filename) == project


def test_grouping() -> None:
    """Each project has its files in the page's order; what tells none is counted and named."""
    html = (
        '<a href="cpu/tide_tables-1.2%2Bcpu-cp311-cp311-linux_x86_64.whl">a</a><a href="../">Parent</a>'
        '<a href="https://other.example/cu121/tide_tables-1.2%2Bcu121-cp311-cp311-linux_x86_64.whl#sha256='
        + "0"
        * 64
        + '">b</a>'
        '<a href="harbour-log-0.3.tar.gz">c</a><a href="odd.zip">d</a><a href="help.html">e</a>'
    )
    flat = group_files(parse_project_page(html.encode(), project=ANY, url="https://index.example/whl/stable.html"))
    assert {name: [f.filename for f in page.files] for name, page in flat.projects.items()} == {
        "harbour-log": ["harbour-log-0.3.tar.gz"],
        "tide-tables": [
            "tide_tables-1.2+cpu-cp311-cp311-linux_x86_64.whl",
            "tide_tables-1.2+cu121-cp311-cp311-linux_x86_64.whl",
        ],
    }
    assert (flat.root.unread, flat.root.unread_names) == (1, ("odd.zip",))
    assert (
        flat.projects["tide-tables"]
        .files[0]
        .url.endswith("/whl/cpu/tide_tables-1.2%2Bcpu-cp311-cp311-linux_x86_64.whl")
    )
