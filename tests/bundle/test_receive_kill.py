"""Killed at any step: what is served stays whole, and the same command completes the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import Site, State, run, some_file

pytestmark = pytest.mark.usefixtures("unmeasured")

A, A2, A3 = some_file("aa", "1.0", 5000), some_file("aa", "2.0"), some_file("aa", "3.0")
B, C = some_file("bb", "1.0"), some_file("cc", "1.0")
STATES = [
    State({"aa": [A], "bb": [B]}, 1),
    State({"aa": [A, A2], "bb": [B]}, 2),
    State({"aa": [A2, A3], "cc": [C]}, 3),
]

DRIVER = """\
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from harness.handmade_bundles import Far, read_tree
from harness.bundle_kills import kill_everywhere
task = json.loads(sys.argv[2])

def live(root):
    simple = root / "public" / "simple"
    return {p: d.hex() for p, d in read_tree(simple, "simple/").items()} if simple.exists() else {}

def look(root):
    assert live(root) in task["served"], "neither the old nor the new state is served"

def check(root):
    assert live(root) == task["served"][-1]
    found = {p: d.hex() for p, d in read_tree(root / "public" / "files", "files/").items()}
    assert found == task["blobs"], sorted(set(found) ^ set(task["blobs"]))
    kept = task["kept"]
    record = json.loads((root / "receive.json").read_bytes())
    assert ([e["name"] for e in record["applied"]], record["next"], record["sweep"]) == (kept, None, False)
    assert sorted(p.name for p in (root / "public").iterdir()) == ["files", "simple", "snapshots"]
    assert sorted(p.name for p in (root / "public/snapshots").iterdir()) == kept
    assert sorted(p.name for p in (root / "states").iterdir()) == [f"{n}.sha256" for n in kept]
    assert list((root / "staging").iterdir()) == []
    receipt = json.loads((root / "receipt.json").read_bytes())
    assert (receipt["sequence"], receipt["damage"]) == (record["applied"][-1]["sequence"], [])
    assert (root / "receive.py").exists()

print(kill_everywhere(Path(task["before"]), Path(task["work"]), task["arguments"], look=look, check=check))
"""


def kill(
    work: Path, before: Path, options: list[object], served: list[State | None], holds: list[State], kept: list[int]
) -> int:
    """Kill a command everywhere; return how many steps it has."""
    task = {
        "before": str(before),
        "work": str(work),
        "arguments": [str(option) for option in options],
        "served": [{p: d.hex() for p, d in state.pages.items()} if state else {} for state in served],
        "blobs": {p: d.hex() for state in holds for p, d in state.blobs.items()},
        "kept": [f"bundle-{number:06d}" for number in kept],
    }
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parents[1]), json.dumps(task)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def unsigned(site: Path) -> Site:
    """Return a site without signatures, which would take most of the time."""
    return Site(site, None)


def test_the_first_bundle_killed_everywhere(quick_path: Path) -> None:
    """A new site: nothing is served, or everything."""
    made = unsigned(quick_path / "near").make(STATES[0], volume_bytes=8 * 1024)
    options = [made.path, "--root", "ROOT", "--site", "lab", "--unsigned"]
    steps = kill(quick_path, quick_path / "nothing", options, [None, STATES[0]], STATES[:1], [1])
    assert steps > 60


def test_an_update_that_drops_a_state_killed_everywhere(quick_path: Path) -> None:
    """An update with --keep 1: the old or the new state is served; in the end the older states and their blobs are gone."""
    site, far = unsigned(quick_path / "near"), quick_path / "far"
    for state in STATES[:2]:
        assert run(site.make(state).path, "--root", far, "--site", "lab", "--unsigned").code == 0
    options = [
        site.make(STATES[2], volume_bytes=8 * 1024).path,
        "--root",
        "ROOT",
        "--site",
        "lab",
        "--unsigned",
        "--keep",
        "1",
    ]
    steps = kill(quick_path, far, options, [STATES[1], STATES[2]], STATES[2:], [3])
    assert steps > 80


def test_an_update_after_a_rollback_killed_everywhere(quick_path: Path) -> None:
    """An update while an older state is served: that one or the new one is served."""
    site, far = unsigned(quick_path / "near"), quick_path / "far"
    for state in STATES[:2]:
        assert run(site.make(state).path, "--root", far, "--site", "lab", "--unsigned").code == 0
    assert run("--root", far, "--rollback").code == 0
    options = [site.make(STATES[2]).path, "--root", "ROOT", "--site", "lab", "--unsigned"]
    assert kill(quick_path, far, options, [STATES[0], STATES[2]], STATES, [1, 2, 3]) > 60


def test_a_repair_killed_everywhere(quick_path: Path) -> None:
    """A repair of blobs and pages: run again it mends all."""
    site, far = unsigned(quick_path / "near"), quick_path / "far"
    for state in STATES[:2]:
        assert run(site.make(state).path, "--root", far, "--site", "lab", "--unsigned").code == 0
    paths = [A.path, f"{B.path}.metadata"]
    for path in paths:
        (far / "public" / path).unlink()
    # What is missing is missing until it is mended: the pages say more than the tree has, so that is not looked at.
    (far / "public/simple/bb/index.v1_json").unlink()
    made = site.repair([*paths, "simple/bb/index.v1_json"])
    arguments = [str(made.path), "--root", "ROOT", "--site", "lab", "--unsigned"]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from harness import bundle_kills\n"
        "bundle_kills.check_public = lambda public: None\n"
        "def check(root):\n"
        "    assert bundle_kills.program.main(['--root', str(root), '--check']) == 0\n"
        "    assert list((root / 'staging').iterdir()) == []\n"
        "print(bundle_kills.kill_everywhere(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:], look=lambda root: None, check=check),"
        " file=sys.__stderr__)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), far, quick_path, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stderr.split()[-1]) > 20


def test_another_bundle_after_a_kill(quick_path: Path) -> None:
    """A bundle that was killed at any step and then lost: one that supersedes it applies, and nothing of it stays."""
    site, far = unsigned(quick_path / "near"), quick_path / "far"
    states = [STATES[0], State({"aa": [A, some_file("aa", "9.9")], "bb": [B]}, 2), STATES[2]]
    assert run(site.make(states[0]).path, "--root", far, "--site", "lab", "--unsigned").code == 0
    lost = site.make(states[1], volume_bytes=8 * 1024)
    saving = site.make(states[2], since=1)
    script = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from harness import bundle_kills\n"
        "far, root, lost, saving = (Path(a) for a in sys.argv[2:])\n"
        "for step in range(1, 1000):\n"
        "    bundle_kills.set_root(far, root)\n"
        "    if step == 1:\n"
        "        bundle_kills.rehearse([str(lost), '--root', str(root), '--unsigned'])\n"
        "        bundle_kills.set_root(far, root)\n"
        "    status = bundle_kills.in_child([str(lost), '--root', str(root), '--unsigned'], kill_at=step)\n"
        "    code = bundle_kills.in_child([str(saving), '--root', str(root), '--unsigned'], kill_at=None)\n"
        "    assert os.waitstatus_to_exitcode(code) == 0, step\n"
        "    bundle_kills.check_public(root / 'public')\n"
        "    record = json.loads((root / 'receive.json').read_bytes())\n"
        "    kept = [entry['name'] for entry in record['applied']]\n"
        "    assert sorted(p.name for p in (root / 'public/snapshots').iterdir()) == kept, step\n"
        "    found = [str(p.relative_to(root / 'public')) for p in (root / 'public/files').rglob('*') if p.is_file()]\n"
        "    print(json.dumps([kept, sorted(found)]), flush=True)\n"
        "    if not os.WIFSIGNALED(status):\n"
        "        break\n"
    )
    command = [
        sys.executable,
        "-c",
        script,
        str(Path(__file__).parents[1]),
        far,
        quick_path / "root",
        lost.path,
        saving.path,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    # After its switch it was no longer lost, but applied.
    expected = {}
    for numbers in ((1, 3), (1, 2, 3)):
        blobs = {path for number in numbers for path in states[number - 1].blobs}
        expected[json.dumps([[f"bundle-{number:06d}" for number in numbers], sorted(blobs)])] = len(numbers)
    lines = done.stdout.splitlines()
    assert set(lines) == set(expected)
    assert len(lines) > 60


def test_a_rollback_killed_everywhere(quick_path: Path) -> None:
    """A rollback is one rename."""
    site, far = unsigned(quick_path / "near"), quick_path / "far"
    for state in STATES[:2]:
        assert run(site.make(state).path, "--root", far, "--site", "lab", "--unsigned").code == 0
    options = ["--root", "ROOT", "--rollback", "1"]
    assert 2 < kill(quick_path, far, options, [STATES[1], STATES[0]], STATES[:2], [1, 2]) < 50
