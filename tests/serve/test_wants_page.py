"""The page of wants: what installs, what is missing, and what to do."""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread

from harness.wants import WantingMirror, add
from mirror.config import TargetConfig
from mirror.serve.facts.reading import Reading
from mirror.serve.facts.tree_pages import NameList
from mirror.serve.people.views import Site, failures_page, overview_page, wants_page
from mirror.serve.state_warning import StateWarning
from mirror.tree.layout import Layout
from mirror.tree.served import ServedTree


async def pages(mirror: WantingMirror) -> tuple[str, str, str]:
    """Return the page of wants, the overview, and the page of failures."""
    layout = Layout(mirror.root)
    reading = Reading(mirror.root / "state.db", ServedTree(layout), StateWarning())
    site = Site(config=mirror.config, layout=layout, names=NameList())
    wants = await reading.run(lambda: wants_page(reading, site))
    whole = await reading.run(lambda: overview_page(reading, site))
    failed = await reading.run(lambda: failures_page(reading, site))
    await to_thread.run_sync(reading.close)
    return wants.body.decode(), whole.body.decode(), failed.body.decode()


async def test_wants_with_their_gaps_and_advice(simulator, tmp_path: Path):
    """Targets, files and bytes; a gap with its advice, and only the targets that have it; markup of an index is text."""
    index = await simulator(core_metadata=True)
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    mirror.targets += (TargetConfig(name="windows", python=("3.12.4",), platforms=("windows-x86_64",)),)
    mirror.want("app", name="web")
    mirror.wants += mirror.wanted("lib", name="small", targets=("linux",))
    await mirror.proved_cycle()
    page, overview, failed = await pages(mirror)
    assert "1 of 2 wants install in all targets" in page
    assert page.index("web") < page.index("small")  # what does not install comes first
    assert '<strong>lib</strong> <span class="tag bad">no-wheel</span>' in page
    assert "in windows/3.12.4/windows-x86_64" in page
    assert "add an overlay index that has one" in page
    assert "1 of 2 wants does not install." in overview
    assert "1 of 2 wants does not install." in failed
    assert "Nothing failed" not in failed
    mirror.wants = mirror.wanted("lib", name="small", targets=("linux",))
    await mirror.proved_cycle()
    page, overview, failed = await pages(mirror)
    assert "1 of 1 want install" in page
    assert "1 want proved in all targets." in overview
    assert "Nothing failed" in failed


async def test_a_mirror_without_wants_or_state(simulator, tmp_path: Path):
    """The page says why it is empty."""
    index = await simulator()
    add(index, "app", "1.0")
    mirror = WantingMirror(tmp_path / "mirror", {"main": index})
    await mirror.proved_cycle()
    page, overview, _ = await pages(mirror)
    assert "This mirror has no wants" in page
    assert "<h2>Wants</h2>" not in overview
    (mirror.root / "state.db").rename(tmp_path / "aside.db")
    page, *_ = await pages(mirror)
    assert "has no state here" in page
