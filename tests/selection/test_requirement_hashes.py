"""The ``--hash`` of a requirement file counts like the digest of a lock; what is not followed is named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness.wants import WantingMirror, add, proofs
from mirror.config import WantConfig
from simulator import build_sdist, build_wheel

OTHER = f"sha256:{'0' * 64}"
WHEEL, SDIST = "app-1.0-py3-none-any.whl", "app-1.0.tar.gz"
DIGESTS = {
    WHEEL: f"sha256:{hashlib.sha256(build_wheel('app', '1.0', requires=('lib',))[1]).hexdigest()}",
    SDIST: f"sha256:{hashlib.sha256(build_sdist('app', '1.0')[1]).hexdigest()}",
    "none": OTHER,
}


@pytest.fixture
async def mirror(tmp_path: Path, simulator) -> WantingMirror:
    main = await simulator()
    add(main, "app", "1.0", "lib")
    add(main, "lib", "1.0")
    main.state.publish("app", *build_sdist("app", "1.0"))
    return WantingMirror(tmp_path / "mirror", {"main": main})


def want(mirror: WantingMirror, text: str, **options: str) -> None:
    """Let the mirror want one requirement file."""
    file = mirror.root.with_name("a.txt")
    file.write_text(text)
    mirror.wants = (WantConfig(name="apps", files=(str(file),), **options),)


# digests of the line, on-rebuilt -> the files of app, rebuilt ones, reasons of gaps
CASES = {
    "fits": ((WHEEL,), "refuse", {WHEEL}, [], []),
    "fits-one-of-two": ((SDIST, WHEEL), "refuse", {WHEEL}, [], []),
    "fits-another-file": ((SDIST,), "refuse", {SDIST}, [], []),
    "followed": (("none",), "follow", {WHEEL}, [WHEEL], []),
    "refused": (("none",), "refuse", set(), [], ["rebuilt"]),
}


@pytest.mark.parametrize(("digests", "on_rebuilt", "files", "rebuilt", "reasons"), CASES.values(), ids=CASES)
async def test_digests_of_a_line(mirror, digests, on_rebuilt, files, rebuilt, reasons):
    """The file that has a digest of the line is mirrored; where none has, the index has other bytes."""
    hashes = " ".join(f"--hash={DIGESTS[name]}" for name in digests)
    want(mirror, f"app==1.0 {hashes}\n", on_rebuilt=on_rebuilt)
    await mirror.cycle()
    assert {name for name in mirror.names() if name.startswith("app")} == files
    assert mirror.exit_code == 0
    [proof] = await proofs(mirror)
    assert (proof["rebuilt"], [gap["reason"] for gap in proof["gaps"]]) == (rebuilt, reasons)
    assert proof["installable"] == (not reasons)


async def test_other_digests_are_judged_again(mirror):
    """A digest that changes in the file is seen in the next cycle, without any change upstream."""
    want(mirror, f"app==1.0 --hash={OTHER}\n", on_rebuilt="refuse")
    await mirror.cycle()
    assert WHEEL not in mirror.names()
    want(mirror, f"app==1.0 --hash={DIGESTS[WHEEL]}\n", on_rebuilt="refuse")
    await mirror.cycle()
    assert WHEEL in mirror.names()


async def test_lines_that_are_not_followed_are_named(mirror):
    """A local path and an option of pip are named in the log and in the proof."""
    want(mirror, "--pre\n-e .\napp\n")
    await mirror.cycle()
    [proof] = await proofs(mirror)
    lines = [line.rpartition("a.txt:")[2] for line in proof["warnings"]]
    assert lines == ["1: --pre is not followed", "2: -e . is a local path"]
    assert proof["installable"]
