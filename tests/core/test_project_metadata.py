"""METADATA as a person reads it: its values, and whatever bytes come in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.files.project_metadata import (
    Dependency,
    ProjectMetadata,
    is_web_address,
    parse_project_metadata,
)
from mirror.core.files.summary import MAX_SUMMARY, parse_summary
from mirror.core.names import ProjectName

WHOLE = """\
Metadata-Version: 2.4
Name: demo
Version: 1.0
Summary: A demo,
  on two lines
License-Expression: MIT
Author: Ada Lovelace <ada@example.org>
Requires-Python: >=3.9
Keywords: a,b
Classifier: Framework :: Trio
Home-page: https://demo.example/
Project-URL: Source, https://code.example/demo
Project-URL: Bad, javascript:alert(1)
Requires-Dist: Flask_Login>=1
Requires-Dist: numpy; extra == "arrays"
Requires-Dist: ???

The description.
Summary: not this
"""


def test_a_whole_file_is_read() -> None:
    """Each value is there; links are those of the web; a requirement that can't be read stays as text."""
    assert parse_project_metadata(WHOLE.encode()) == ProjectMetadata(
        summary="A demo,",
        license="MIT",
        author="Ada Lovelace",
        description="The description.\nSummary: not this",
        requires_python=">=3.9",
        keywords=("a", "b"),
        classifiers=("Framework :: Trio",),
        links=(("Homepage", "https://demo.example/"), ("Source", "https://code.example/demo")),
        dependencies=(
            Dependency(requirement="Flask_Login>=1", project=ProjectName("flask-login")),
            Dependency(requirement='numpy; extra == "arrays"', project=ProjectName("numpy"), extra="arrays"),
            Dependency(requirement="???", project=None),
        ),
    )


@pytest.mark.parametrize(
    ("headers", "summary"),
    [
        ("Summary: text", "text"),
        ("summary:\ttext", "text"),
        ("Name: x\r\nSummary: text\r\nVersion: 1", "text"),
        ("Summary: UNKNOWN", ""),
        ("Name: x\n\nSummary: in the description", ""),
        ("X-Summary: other", ""),
        ("Summary: " + "x" * 9_999, "x" * MAX_SUMMARY),
        ("Summary: tab\tand\x0bmore", "tab and more"),
        ("", ""),
    ],
)
def test_the_summary_is_one_bounded_line(headers: str, summary: str) -> None:
    """The summary comes from the headers alone, as one line of bounded length."""
    assert parse_summary(headers.encode()) == summary


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("License: MIT", "MIT"),
        ("License: UNKNOWN", ""),
        ("License: Long text\n  over lines\nClassifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: Long text\n  over lines", "Long text"),
        ("License-Expression: Apache-2.0\nLicense: other", "Apache-2.0"),
    ],
)
def test_a_licence_is_named_in_a_line(lines: str, expected: str) -> None:
    """The expression counts first, then a line, then the classifiers, then the first line of a whole licence."""
    assert parse_project_metadata(f"Name: x\n{lines}\n\n".encode()).license == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Author: Ada", "Ada"),
        ("Author-email: Ada <ada@x.org>", "Ada"),
        ("Author-email: ada@x.org", "ada@x.org"),
        ("Author-email: <ada@x.org>", "<ada@x.org>"),
        ("Maintainer: Grace", "Grace"),
        ("", ""),
    ],
)
def test_the_author_is_a_name_where_there_is_one(lines: str, expected: str) -> None:
    """Addresses of mail are shown only where there is no name."""
    assert parse_project_metadata(f"Name: x\n{lines}\n\n".encode()).author == expected


@pytest.mark.parametrize(
    ("url", "is_fine"),
    [
        ("https://x.org/", True),
        ("HTTP://x.org", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https:", False),
        ("//x.org/", False),
        ("https://x.org/a b", False),
        ("https://[x", False),
        ("java\nscript:x", False),
        ("", False),
    ],
)
def test_only_links_of_the_web_are_followed(url: str, is_fine: bool) -> None:
    """A link needs http or https and a host."""
    assert is_web_address(url) is is_fine


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: f"Name: x\n{text}".encode()))
def test_any_bytes_give_values(data: bytes) -> None:
    """Whatever stands in the file, values come out, and the summary is the same in both ways of reading."""
    assert parse_project_metadata(data).summary == parse_summary(data)


def test_message_within_messages() -> None:
    """Where the standard library's parser gives up, the summary is still read."""
    data = b"Name: x\nSummary: A demo\n" + b"Content-Type: message/rfc822\n\n" * 1000
    assert parse_project_metadata(data) == ProjectMetadata(summary="A demo")
