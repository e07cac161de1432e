"""A malformed digest refuses its file, and every digest of sha256 or stronger is compared; what is held stays."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.in_process import Mirror, failures, requests
from simulator import Simulator, build_sdist, build_wheel

Simulators = Callable[..., Awaitable[Simulator]]
Make = Callable[..., Mirror]

PROJECT = "tide-tables"
NAME, DATA = build_wheel(PROJECT, "1.0")
RIGHT = {a: hashlib.new(a, DATA).hexdigest() for a in ("sha512", "sha384", "sha256", "sha3_256", "sha1", "md5")}
WRONG = {a: hashlib.new(a, b"other").hexdigest() for a in RIGHT}


@pytest.fixture
def mirror_of(tmp_path: Path) -> Make:
    """Make a mirror of simulators by their names."""
    return lambda **simulators: Mirror(tmp_path / "mirror", simulators)


MALFORMED: dict[str, dict[str, Any]] = {
    "short": {"sha256": "abc123"},
    "long": {"sha256": RIGHT["sha256"] + "0"},
    "no hexadecimal digits": {"sha256": "g" * 64},
    "blanks around": {"sha256": f" {RIGHT['sha256'][:62]} "},
    "number": {"sha256": 5},
    "list": {"sha256": [RIGHT["sha256"]]},
    "beside a right one": {"sha256": RIGHT["sha256"], "sha512": RIGHT["sha256"]},
    "in capitals": {"SHA-512": "X", "SHA512": "X"},
    "weak alone": {"md5": "abc"},
}


@pytest.mark.parametrize("hashes", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("role", ["owner", "overlay"])
async def test_a_malformed_digest(simulator: Simulators, mirror_of: Make, hashes: dict[str, Any], role: str) -> None:
    """The file is refused without a request, named, and held again once its digest can be read; an overlay's too."""
    owner, overlay = await simulator(), await simulator()
    owner.state.publish(PROJECT, *build_sdist(PROJECT, "1.0"))
    overlay.state.publish(PROJECT, *build_sdist(PROJECT, "2.0"))
    index = owner if role == "owner" else overlay
    index.state.publish(PROJECT, NAME, DATA, hashes=hashes)
    mirror = mirror_of(owner=owner, overlay=overlay)
    mirror.configure("overlay", overlay=True)
    report = await mirror.cycle()
    assert failures(report) == [(role, PROJECT, NAME, "bad-file")]
    assert "instead of" in report.failures[0].detail
    assert mirror.exit_code == 5
    assert index.count(kind="file", filename=NAME) == 0
    assert NAME not in mirror.files()[PROJECT]
    index.state.change(PROJECT, NAME, hashes=RIGHT)
    assert failures(await mirror.cycle()) == []
    assert mirror.files()[PROJECT][NAME] == RIGHT["sha256"]


async def test_a_held_file_stays_and_takes_its_yank(simulator: Simulators, mirror_of: Make) -> None:
    """A digest that becomes malformed costs nothing that is held, in any number of looks; a yank beside it counts."""
    index = await simulator()
    index.state.publish(PROJECT, NAME, DATA)
    mirror = mirror_of(main=index)
    await mirror.cycle()
    index.state.change(PROJECT, NAME, hashes={"sha256": "x"}, yanked="broken")
    for _ in range(3):
        report = await mirror.cycle(full=True)
        assert failures(report) == [("main", PROJECT, NAME, "bad-file")]
    assert mirror.files() == {PROJECT: {NAME: RIGHT["sha256"]}}
    assert mirror.labels(PROJECT, NAME)["yanked"] == "broken"


@pytest.mark.parametrize("fragment", ["sha256=abc", "sha512=" + "0" * 64, "md5=abc", f"sha256={'g' * 64}&egg=x"])
async def test_a_malformed_digest_in_html(simulator: Simulators, mirror_of: Make, fragment: str) -> None:
    """The same for the fragment of a link."""
    index = await simulator(formats="html")
    algorithm, _, digits = fragment.partition("=")
    index.state.publish(PROJECT, NAME, DATA, hashes={algorithm: digits})
    index.state.publish(PROJECT, *build_sdist(PROJECT, "1.0"))
    mirror = mirror_of(main=index)
    assert failures(await mirror.cycle()) == [("main", PROJECT, NAME, "bad-file")]


@pytest.mark.parametrize("hashes", [{"sha256": ""}, {"egg": "x"}, {}], ids=["empty", "egg", "none"])
@pytest.mark.parametrize("formats", ["html", "json"])
async def test_what_is_no_digest(simulator: Simulators, mirror_of: Make, hashes: dict[str, str], formats: str) -> None:
    """An empty digest and another word give none: the file is held without one."""
    index = await simulator(formats=formats)
    index.state.publish(PROJECT, NAME, DATA, hashes=hashes)
    mirror = mirror_of(main=index)
    assert failures(await mirror.cycle()) == []
    assert mirror.files() == {PROJECT: {NAME: RIGHT["sha256"]}}


def wrong(*algorithms: str, beside: tuple[str, ...]) -> dict[str, str]:
    """Return digests of which some are wrong."""
    return {**{a: RIGHT[a] for a in beside}, **{a: WRONG[a] for a in algorithms}}


MISMATCHES = {
    "sha256 beside a right sha512": wrong("sha256", beside=("sha512",)),
    "sha512 beside a right sha256": wrong("sha512", beside=("sha256",)),
    "sha3_256 of four": wrong("sha3_256", beside=("sha512", "sha384", "sha256")),
    "md5 beside a right sha1": wrong("md5", beside=("sha1",)),
}


@pytest.mark.parametrize("hashes", MISMATCHES.values(), ids=MISMATCHES.keys())
@pytest.mark.parametrize("is_held", [False, True], ids=["new", "bytes held by another project"])
async def test_every_digest_is_compared(
    simulator: Simulators, mirror_of: Make, hashes: dict[str, str], is_held: bool
) -> None:
    """One wrong digest among right ones is a digest-mismatch, also where the bytes of the sha256 are held already."""
    index = await simulator()
    mirror = mirror_of(main=index)
    if is_held:
        index.state.publish("a-copy", NAME, DATA)
        await mirror.cycle()
    index.state.publish(PROJECT, NAME, DATA, hashes=hashes)
    report = await mirror.cycle()
    assert failures(report) == [("main", PROJECT, NAME, "digest-mismatch")]
    assert PROJECT not in mirror.files()


async def test_a_weak_digest_counts_for_nothing_beside_a_strong_one(simulator: Simulators, mirror_of: Make) -> None:
    """A wrong md5 beside a right sha256 is no mismatch."""
    index = await simulator()
    index.state.publish(PROJECT, NAME, DATA, hashes=wrong("md5", "sha1", beside=("sha256",)))
    mirror = mirror_of(main=index)
    assert failures(await mirror.cycle()) == []


async def test_a_digest_that_appears_is_compared_with_the_held_bytes(simulator: Simulators, mirror_of: Make) -> None:
    """A right sha512 beside the held sha256 costs no download; a wrong one is a mismatch, and what is held stays."""
    index = await simulator()
    index.state.publish(PROJECT, NAME, DATA)
    mirror = mirror_of(main=index)
    await mirror.cycle()
    index.take_requests()
    index.state.change(PROJECT, NAME, hashes={a: RIGHT[a] for a in ("sha256", "sha512")})
    assert failures(await mirror.cycle()) == []
    assert {kind for kind, *_ in requests(index)} == {"root", "page"}
    index.state.change(PROJECT, NAME, hashes=wrong("sha3_256", beside=("sha256", "sha512")))
    assert failures(await mirror.cycle()) == [("main", PROJECT, NAME, "digest-mismatch")]
    assert mirror.files() == {PROJECT: {NAME: RIGHT["sha256"]}}
