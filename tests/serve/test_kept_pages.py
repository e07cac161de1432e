"""Rendered pages are kept while nothing changes, and within a number of bytes."""

from __future__ import annotations

import asyncio

import pytest

from mirror.serve.facts.reading import Reading
from mirror.serve.people.kept import Rendered, RenderedCache
from mirror.serve.state_warning import StateWarning
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree


@pytest.fixture
def reading(tmp_path):
    simple = tmp_path / "public/simple"
    simple.mkdir(parents=True)
    (simple / "index.html").write_text("one")
    found = Reading(tmp_path / "state.db", ServedTree(Layout(tmp_path)), StateWarning())
    yield found
    found.close()


class Page:
    """A page that counts how often it is rendered."""

    def __init__(self, size=10):
        self.count, self.size = 0, size

    def render(self):
        self.count += 1
        return Rendered(body=b"x" * self.size, content_type="text/html")


async def test_requests_at_the_same_time_render_once(reading):
    """One rendering answers all that wait for it, and the next request within a second."""
    cache, page = RenderedCache(reading), Page()
    found = await asyncio.gather(*[cache.get("a", page.render) for _ in range(20)])
    assert page.count == 1
    assert all(one is found[0] for one in found)
    await cache.get("a", page.render)
    assert page.count == 1


async def test_the_cache_is_bounded_in_bytes_keys_included(reading):
    """The pages that were used least lately leave, also where only their keys are long."""
    cache, page = RenderedCache(reading, limit_bytes=20_000), Page(size=100)
    for number in range(50):
        await cache.get((number, "k" * 1000), page.render)
    assert page.count == 50
    await cache.get((49, "k" * 1000), page.render)
    assert page.count == 50
    await cache.get((0, "k" * 1000), page.render)
    assert page.count == 51


async def test_a_failed_rendering_is_not_kept(reading):
    """The next request tries again."""
    cache, page = RenderedCache(reading), Page()

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await cache.get("a", fail)
    await cache.get("a", page.render)
    assert page.count == 1
