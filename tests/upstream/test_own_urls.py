"""The short way for an index's own URLs leads to the same bytes as the careful one."""

import pytest

from mirror.upstream.connections.targets import OwnUrls, origin_of, parse_target

ROOTS = [
    "http://127.0.0.1:8080/simple/",
    "https://Index.example/simple/",
    "http://index.example:80/simple/",
    "http://[::1]:81/",
]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize(
    "path",
    ["/", "/simple/a-b/", "/files/a_b-1.0+local.1-py3-none-any.whl", "/a/../b/./c", "//host/a", "/~u/a.tar.gz"],
)
def test_a_plain_path_gives_what_the_careful_way_gives(root, path):
    """A plain path below the own origin is the URL that ``parse_target`` makes of it, byte for byte."""
    text = root.partition("//")[0] + "//" + root.split("/")[2] + path
    careful = parse_target(text, source=root)
    own = OwnUrls(parse_target(root, source=root)).parse(text)
    if own is not None:
        assert (own, str(own), own.raw_path_qs, origin_of(own)) == (
            careful,
            str(careful),
            careful.raw_path_qs,
            origin_of(careful),
        )
    else:
        assert str(careful) != text  # such as a default port, which is left out: the careful way has to look


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/a?sig=1",
        "http://127.0.0.1:8080/a#b",
        "http://127.0.0.1:8080/a%2Fb",
        "http://127.0.0.1:8080/ä",
        "http://127.0.0.1:8080/a b",
        "http://127.0.0.1:8080/a\n",
        "http://127.0.0.1:8080",
        "http://127.0.0.1:80801/a",
        "http://127.0.0.1:8080@evil.example/a",
        "http://user@127.0.0.1:8080/a",
        "https://127.0.0.1:8080/a",
        "http://evil.example/a",
        "/a",
        "",
    ],
)
def test_anything_else_is_left_to_the_careful_way(text):
    """Queries, escapes, other origins and user info are never taken for an own URL."""
    assert OwnUrls(parse_target(ROOTS[0], source=ROOTS[0])).parse(text) is None
