"""Links as the state keeps them: without query, and relative to an address that is a secret."""

from __future__ import annotations

import pytest

from mirror.core.files.kept_links import KeptLinks, is_incomplete, is_masked, masked_root, secret_segments

ROOT = "https://index.example/t0k%2Fen/simple/"
SECRET = KeptLinks(secret_root=ROOT)


@pytest.mark.parametrize(
    ("links", "url", "kept"),
    [
        pytest.param(KeptLinks(), "https://a/b/c.whl", "https://a/b/c.whl", id="plain"),
        pytest.param(KeptLinks(), "https://a/b/c.whl?sig=1", "https://a/b/c.whl?", id="query"),
        pytest.param(KeptLinks(), "https://a/b/c.whl?", "https://a/b/c.whl?", id="empty query"),
        pytest.param(SECRET, "https://index.example/t0k%2Fen/simple/p/c.whl", "./p/c.whl", id="below the root"),
        pytest.param(SECRET, "https://index.example/t0k%2Fen/files/c.whl", "../files/c.whl", id="beside the root"),
        pytest.param(
            SECRET, "https://index.example/files/c%2B1.whl?s=1", "../../files/c%2B1.whl?", id="above the secret"
        ),
        pytest.param(SECRET, "https://store.example/b/c.whl", "https://store.example/b/c.whl", id="another origin"),
        pytest.param(SECRET, "https://store.example/t0k%2Fen/c.whl", "", id="the secret elsewhere"),
        pytest.param(SECRET, "https://index.example/x/t0k%2Fen/c.whl", "", id="the secret at another depth"),
        pytest.param(SECRET, "https://index.example/t0k/en/c.whl", "", id="the secret decoded"),
    ],
)
def test_a_link_is_kept_without_what_opens_a_door(links, url, kept):
    """What is kept has no query and no secret; read back, it is the same link, or it is known to be incomplete."""
    assert links.kept(url) == kept
    assert is_incomplete(kept) is ("?" in url or not kept)
    assert links.whole(kept) == (url.partition("?")[0] + "?" * ("?" in url) if kept else "")


def test_the_address_that_the_state_keeps_shows_no_path():
    """A secret address is kept as its host and a digest; another one is told apart."""
    assert masked_root(ROOT).startswith("https://index.example/***#")
    assert is_masked(masked_root(ROOT))
    assert not is_masked(ROOT)
    assert masked_root(ROOT) != masked_root(f"{ROOT}x/")


@pytest.mark.parametrize(
    ("url", "segments"),
    [
        ("https://a/simple/", ()),
        ("https://a/pypi/simple/", ()),
        ("https://a/k3y/simple/", ("k3y",)),
        (ROOT, ("t0k%2Fen", "t0k/en")),
    ],
    ids=["ordinary", "two ordinary ones", "one", "encoded"],
)
def test_ordinary_segments_are_no_secrets(url, segments):
    """What every index has in its path is no secret; a message without it would say nothing."""
    assert secret_segments(url) == segments


@pytest.mark.parametrize(
    ("links", "address", "kept"),
    [
        pytest.param(KeptLinks(), "other/a/", "other/a/", id="no secret"),
        pytest.param(SECRET, None, None, id="usual address"),
        pytest.param(SECRET, "/t0k%2Fen/pages/a/", "../pages/a/", id="beside the root"),
        pytest.param(SECRET, "/x/t0k%2Fen/a/", None, id="the secret elsewhere"),
    ],
)
def test_the_address_of_a_page_is_kept_without_a_secret(links, address, kept):
    """An address that would show the secret is not kept; the usual one needs none."""
    assert links.kept_address(address) == kept
