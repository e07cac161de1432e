"""``mirror verify`` and ``mirror prune`` as a user meets them: what they say, and their exit codes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from harness.program import Mirror
from mirror.cli.progress.verification import describe_verification, shown_verification
from mirror.tree.checking.blobs import DamageKind
from mirror.upkeep.findings import Finding, Verification
from simulator import Status, ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]


@pytest.fixture
def index(threaded_simulator: Simulators) -> ThreadedSimulator:
    made = threaded_simulator(username="user", password="pass")
    for name in ("one", "two"):
        made.state.publish(name, *build_wheel(name, "1.0"))
    return made


@pytest.fixture
def mirror(tmp_path: Path, index: ThreadedSimulator) -> Mirror:
    variables = {"MIRROR_DEFAULT_USERNAME": "user", "MIRROR_DEFAULT_PASSWORD": "pass"}
    made = Mirror(tmp_path, url=index.url, variables=variables)
    made.sync_well()
    return made


def wheel(mirror: Mirror, name: str) -> Path:
    (path,) = (mirror.root / "public/files").rglob(f"{name}-*.whl")
    return path


def test_verify_and_repair(mirror: Mirror, index: ThreadedSimulator) -> None:
    """From the root alone damage is told, mended with the credential of the environment, and gone afterwards."""
    size = sum(path.stat().st_size for path in (mirror.root / "public/files").rglob("*.whl"))
    done = mirror.run("verify", "--root", mirror.root)
    whole = f"2 files ({size / 1000:.1f} kB) and 2 pages checked: all whole\n"
    assert (done.returncode, done.stdout) == (0, whole)
    path = wheel(mirror, "one")
    path.unlink()
    done = mirror.run("verify", "--root", mirror.root)
    assert done.returncode == 7
    assert done.stdout.splitlines()[0] == f"missing: {path}: the file is not there"
    assert done.stdout.splitlines()[1].endswith("1 damaged; `mirror verify --repair` mends what can be mended")
    done = mirror.run("verify", "--repair", "--json", "--root", mirror.root)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert {
        k: report[k] for k in ("format", "blobs_checked", "pages_checked", "repaired", "remaining", "lost", "damage")
    } == {
        "format": 1,
        "blobs_checked": 2,
        "pages_checked": 2,
        "repaired": 1,
        "remaining": 0,
        "lost": [],
        "damage": [{"damage": "missing", "path": str(path), "detail": "the file is not there"}],
    }
    assert mirror.run("verify", "--root", mirror.root).stdout == whole


def test_still_missing(mirror: Mirror, index: ThreadedSimulator) -> None:
    """What can't be fetched again is named with what to do; the exit code is 7, then 5 by the ledger, then 0."""
    path = wheel(mirror, "one")
    path.unlink()
    index.inject(Status(status=404), kind="file")
    done = mirror.run("verify", "--repair", "--root", mirror.root)
    assert done.returncode == 7
    lines = done.stdout.splitlines()
    assert lines[1].startswith(f"still missing: {path.name}")
    assert lines[1].endswith("see `mirror status`, or restore it from a backup and run `mirror verify --repair`")
    assert lines[2].endswith("1 damaged, 0 mended, 1 still missing")
    assert mirror.run("status", "--root", mirror.root).returncode == 5
    index.faults.clear()
    mirror.sync_well()
    assert mirror.run("verify", "--root", mirror.root).returncode == 0


def test_index_denies(mirror: Mirror, index: ThreadedSimulator) -> None:
    """Without a usable credential the rest is mended, and the loss is reported."""
    wheel(mirror, "one").unlink()
    done = mirror.run("verify", "--repair", "--root", mirror.root, MIRROR_DEFAULT_PASSWORD="wrong")
    assert done.returncode == 7
    assert "1 damaged, 0 mended, 1 still missing" in done.stdout
    mirror.sync_well()


def test_rebuilt(mirror: Mirror) -> None:
    """A lost state is refused with exit code 6 by all commands, and rebuilt by repair, which says so."""
    (mirror.root / "state.db").write_bytes(b"not a database at all, and long enough to be looked at" * 100)
    for command in (("verify",), ("prune",), ("prune", "--dry-run"), ("status",)):
        done = mirror.run(*command, "--root", mirror.root)
        assert (done.returncode, "mirror verify --repair" in done.stderr) == (6, True), (command, done.stderr)
    assert mirror.sync().returncode == 6
    done = mirror.run("verify", "--repair", "--root", mirror.root)
    assert done.returncode == 0
    assert done.stdout.startswith("the state was rebuilt from the tree; the next `mirror sync --once` claims")
    assert mirror.sync_well()["indexes"][0]["bytes_downloaded"] == 0


def test_rebuilt_with_damage(mirror: Mirror) -> None:
    """What a rebuild had to leave out is named, with exit code 7, until a cycle has fetched it."""
    wheel(mirror, "one").unlink()
    (mirror.root / "state.db").unlink()
    done = mirror.run("verify", "--repair", "--root", mirror.root)
    assert done.returncode == 7
    assert "`mirror sync --once` fetches it if an index offers it" in done.stdout
    mirror.sync_well()
    assert mirror.run("verify", "--root", mirror.root).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sample", "0%"), "--sample: expected a share"),
        (("--sample", "many"), "--sample or --older-than"),
        (("--older-than", "long"), "--sample or --older-than"),
    ],
    ids=["nothing", "no share", "no duration"],
)
def test_wrong_usage(mirror: Mirror, arguments: tuple[str, ...], told: str) -> None:
    """A share or duration that is none is wrong usage."""
    done = mirror.run("verify", *arguments, "--root", mirror.root)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_sample_and_age(mirror: Mirror) -> None:
    """A sample looks at a part of the files and no pages; what was verified lately is skipped."""
    done = mirror.run("verify", "--sample", "50%", "--json", "--root", mirror.root)
    assert (json.loads(done.stdout)["blobs_checked"], json.loads(done.stdout)["pages_checked"]) == (1, 0)
    done = mirror.run("verify", "--older-than", "1d", "--json", "--root", mirror.root)
    assert (json.loads(done.stdout)["blobs_checked"], json.loads(done.stdout)["pages_checked"]) == (0, 2)


def test_prune(mirror: Mirror) -> None:
    """Prune says what it did; with --json as one object."""
    done = mirror.run("prune", "--root", mirror.root)
    assert (done.returncode, done.stdout) == (0, "deleted: 0 files (0 B) whose retention has ended\n")
    wheel(mirror, "one").with_name("stray-1.0.zip").write_bytes(b"xyz")
    done = mirror.run("prune", "--dry-run", "--root", mirror.root)
    assert done.stdout.startswith("would go: 0 files (0 B) whose retention has ended, 1 leftover (3 B)")
    done = mirror.run("prune", "--json", "--root", mirror.root)
    report = json.loads(done.stdout)
    assert (done.returncode, report["format"], report["leftovers"], report["dry_run"]) == (0, 1, 1, False)


def test_nothing_there(tmp_path: Path) -> None:
    """Where there is no mirror, each command says so and makes nothing."""
    mirror = Mirror(tmp_path)
    mirror.root.mkdir()
    for command in (("verify",), ("verify", "--repair"), ("prune",), ("prune", "--dry-run")):
        done = mirror.run(*command, "--root", mirror.root)
        assert (done.returncode, "there is no mirror here" in done.stderr) == (6, True), done.stderr
    assert list(mirror.root.iterdir()) == []


def test_progress_words() -> None:
    """Progress names what is done, how much, how fast, and how long the rest takes."""
    found = Verification(doing="hashing files", blobs_total=1000, bytes_total=4_000_000)
    assert describe_verification(found, 0.1) == "hashing files · 0/1,000 files · 0 B of 4.0 MB"
    found.blobs_checked, found.bytes_checked = 250, 1_000_000
    found.findings.append(Finding(damage=DamageKind.MISSING, path="x", detail=""))
    words = describe_verification(found, 10)
    assert words.startswith("hashing files · 250/1,000 files · 1.0 MB of 4.0 MB · 1 damaged · 100 kB/s · ")
    assert words.endswith(" left")
    found.blobs_checked, found.pages_checked = 1000, 3
    assert "left" not in describe_verification(found, 10)


def test_progress_is_shown_and_gone() -> None:
    """The line stands while the work goes on, and nothing of it stays."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    with shown_verification(Verification(doing="hashing files"), console):
        pass
    assert "hashing files" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")
