"""Random histories across the gap: whatever happens in between, a received bundle makes the far side equal the near side.

Near and far side are the real ones on one machine. What is drawn: publish, yank, replace, remove, lose a bundle, a killed create,
a killed receive, a changed byte. The model is small: the far side is at the state of the last bundle it took, and which
bundles it takes follows from the chain alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.bundles import SMALLEST_VOLUME, Gap, flip, make_key
from harness.program import call, clean_environment
from harness.quick_disk import QUICK_DISK
from harness.snapshots import shown
from mirror.bundle import receive as far_program
from mirror.errors import BundleError
from simulator import ThreadedSimulator, build_wheel

PROJECTS = ("alpha", "beta", "gamma")

CHANGES = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(PROJECTS), st.integers(1, 4)),
    st.tuples(st.just("yank"), st.sampled_from(PROJECTS), st.integers(1, 4)),
    st.tuples(st.just("replace"), st.sampled_from(PROJECTS), st.integers(1, 4)),
    st.tuples(st.just("remove"), st.sampled_from(PROJECTS), st.integers(1, 4)),
    st.tuples(st.just("unlist"), st.sampled_from(PROJECTS)),
    st.tuples(st.just("relist"), st.sampled_from(PROJECTS)),
)
SENDINGS = st.sampled_from(
    [
        "carry",
        "carry",
        "carry",
        "lose",
        "since",
        "full",
        "kill create",
        "kill create and leave",
        "kill receive",
        "tamper",
        "again",
        "repair",
    ]
)
HISTORIES = st.lists(st.tuples(st.lists(CHANGES, min_size=1, max_size=4), SENDINGS), min_size=2, max_size=7)
EACH_WAY = [
    ([("publish", "alpha", 1), ("publish", "beta", 1)], "carry"),
    ([("publish", "gamma", 2), ("yank", "alpha", 1)], "lose"),
    ([("replace", "beta", 1)], "since"),
    ([("remove", "alpha", 1), ("publish", "alpha", 3)], "kill receive"),
    ([("unlist", "gamma")], "tamper"),
    ([("relist", "gamma"), ("publish", "beta", 4)], "again"),
    ([("publish", "beta", 2), ("publish", "gamma", 1)], "full"),
    ([("publish", "alpha", 2)], "kill create and leave"),
    ([("yank", "beta", 2), ("remove", "gamma", 1)], "kill create"),
    ([("replace", "alpha", 2)], "repair"),
    ([("publish", "alpha", 4), ("unlist", "beta")], "carry"),
]
"""Each change and each way of sending once, in two histories that every run plays."""

STOPPING = """
import os, signal, sys
sys.path.insert(0, {directory!r})
import receive
left = int(sys.argv[1])
def count(event, arguments):
    global left
    if event in {{"os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove"}}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
sys.exit(receive.main(sys.argv[2:]))
"""


class History:
    """One history, with what the far side is expected to hold."""

    def __init__(self, work: Path, upstream: ThreadedSimulator, key: Path) -> None:
        self.gap = Gap(work, upstream, key)
        self.applied = 0
        self.bundles: list[dict] = []
        self.expected: dict[str, dict[str, str]] = {}
        self.shows: dict[int, dict[str, dict[str, str]]] = {}
        self.number = 0

    def change(self, kind: str, project: str, version: int = 0) -> None:
        """Change the index, where that is possible."""
        state = self.gap.upstream.state
        self.number += 1
        filename, data = build_wheel(project, f"{version}.0", extra_files={"n.txt": str(self.number)})
        known = state.projects.get(project)
        if kind == "publish":
            state.publish(project, filename, data)
        elif known is None:
            return
        elif kind == "unlist":
            state.unlist_project(project)
        elif kind == "relist":
            state.relist(project)
        elif filename in known.files:
            if kind == "yank":
                state.yank(project, filename, f"reason {self.number}")
            elif kind == "replace":
                state.replace(project, filename, data)
            else:
                state.remove_file(project, filename)

    def make(self, **options) -> dict | None:
        """Make a bundle; None where there was nothing to send."""
        self.remember()
        try:
            report = self.gap.create(volume_size=SMALLEST_VOLUME, **options)
        except BundleError as exc:
            if "move it away" not in str(exc):
                raise
            # Signed, not entered, and now something else was ordered: the operator does what the message says.
            shutil.rmtree(max(self.gap.medium.glob("plant-[0-9]*")))
            report = self.gap.create(volume_size=SMALLEST_VOLUME, **options)
        if report["outcome"] == "nothing":
            return None
        # It may be the one of an older state, which was killed when it was signed.
        report["shows"] = self.shows[report["state"]["revision"]]
        self.bundles.append(report)
        return report

    def remember(self) -> None:
        """Note what the near side shows at its revision."""
        ((revision,),) = self.gap.mirror.query("SELECT max(id) FROM revision")
        self.shows[revision] = shown(self.gap.mirror.root / "public")

    def kill_create(self) -> None:
        """The near side's command is killed at some step; where it came to its end, the bundle is lost."""
        self.remember()
        done = killed_create(self.gap, self.number * 7 % 60)
        assert done.returncode in {0, -9}, done.stderr

    def receive(self, report: dict) -> None:
        """Apply a bundle and compare the answer with the model's."""
        fits = {report["base"]["sequence"], *(r["sequence"] for r in report["supersedes"])} if report["base"] else None
        before = self.applied
        code, told = self.gap.receive(report["path"])
        if report["sequence"] == before:
            assert (code, told["outcome"]) == (0, "unchanged")
        elif report["sequence"] > before and (fits is None or before in fits):
            assert code == 0, told
            self.applied, self.expected = report["sequence"], report["shows"]
        else:
            assert code == 7, told
        self.check()

    def check(self) -> None:
        """What is served is whole and what was applied last."""
        if self.applied:
            assert shown(self.gap.far / "public") == self.expected

    def send(self, how: str) -> None:
        """Make and carry a bundle in one of the ways."""
        if how.startswith("kill create"):
            self.kill_create()
        if how == "kill create and leave":
            return
        options = {"since": {"since": self.applied}, "full": {"full": True}}.get(how, {})
        report = self.make(**(options if self.applied else {}))
        if report is None or how == "lose":
            return
        if how == "tamper":
            self.tamper(report)
        if how == "kill receive":
            self.stop(report)
        if how == "repair" and self.applied:
            self.repair()
        self.receive(report)
        if how == "again":
            self.receive(report)

    def tamper(self, report: dict) -> None:
        """A changed byte is refused and what is served stays; the byte is put back."""
        place = Path(report["path"])
        names = sorted(p.name for p in place.iterdir() if p.name != "SHA256SUMS")
        path = place / names[self.number % len(names)]
        data = path.read_bytes()
        flip(path, self.number * 37 % len(data))
        code, _ = self.gap.receive(place)
        assert code == 7 or (code == 0 and path.name == "bundle.json.sig")  # a blank in its armour means nothing
        path.write_bytes(data)
        if code == 0:
            self.applied, self.expected = report["sequence"], report["shows"]
        self.check()

    def stop(self, report: dict) -> None:
        """The receiver is killed at some step: what is served is the old state or the new one, whole."""
        script = self.gap.work / "stopping.py"
        script.write_text(STOPPING.format(directory=str(Path(far_program.__file__).parent)))
        words = [sys.executable, str(script), str(self.number * 7 % 60), report["path"], "--root", str(self.gap.far)]
        subprocess.run([*words, "--trust", str(self.gap.trust)], capture_output=True, check=False)
        if (self.gap.far / "public/simple").exists():
            now = shown(self.gap.far / "public")
            assert now in (self.expected, report["shows"])
            if now == report["shows"] != self.expected:
                # Switched, though perhaps not recorded yet: the same bundle again completes it.
                code, told = self.gap.receive(report["path"])
                assert code == 0, told
                self.applied, self.expected = report["sequence"], report["shows"]

    def repair(self) -> None:
        """A damaged blob is mended by a repair."""
        files = sorted((self.gap.far / "public/files").rglob("*.whl"))
        flip(files[self.number % len(files)])
        assert self.gap.check()[0] == 7
        report = self.gap.create(repair=self.gap.work / "damage.json")
        assert (report["outcome"], report["not_mended"]) == ("made", [])
        shutil.rmtree(self.gap.medium / "mend", ignore_errors=True)
        # Its folder is named by the second: move it where the next repair is not in its way.
        place = Path(report["path"]).rename(self.gap.medium / "mend")
        assert self.gap.receive(place)[0] == 0
        assert self.gap.check()[0] == 0


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys"))


@settings(
    max_examples=3 if settings.default.derandomize else settings.default.max_examples // 50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(history=HISTORIES)
@example(history=EACH_WAY[:6])
@example(history=EACH_WAY[6:])
def test_any_history_ends_with_two_equal_trees(history, key):
    """After any history, one more bundle that starts where the far side is makes it equal the near side, byte for byte."""
    work = Path(tempfile.mkdtemp(dir=QUICK_DISK))
    try:
        with ThreadedSimulator() as upstream:
            upstream.state.publish("keeper", *build_wheel("keeper", "1.0"))
            told = History(work, upstream, key)
            for changes, how in history:
                for change in changes:
                    told.change(*change)
                told.gap.settle()
                told.send(how)
            upstream.state.publish("last", *build_wheel("last", "1.0"))
            told.gap.settle()
            since = {"since": told.applied} if told.applied else {"full": True}
            report = told.make(**since)
            assert report is not None
            told.receive(report)
            if report["shows"] != shown(told.gap.mirror.root / "public"):
                report = told.make()
                assert report is not None
                told.receive(report)
            assert told.applied == report["sequence"]
            told.gap.check_equal()
            needed = {f"{s[:2]}/{s[2:4]}/{s}/{n}" for files in told.expected.values() for n, s in files.items()}
            assert needed <= told.gap.far_blobs()
            code, found = told.gap.check()
            assert (code, found.get("damage")) == (0, []), found
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_a_create_killed_anywhere_is_completed_by_the_same_command(quick_path, threaded_simulator, key):
    """SIGKILL at each of many steps of the near side's work: the command run again makes a bundle that is taken."""
    gap = Gap(quick_path, threaded_simulator(), key)
    for name in PROJECTS:
        gap.upstream.state.publish(name, *build_wheel(name, "1.0", size_pad=SMALLEST_VOLUME // 2))
    gap.cycle()
    killed, step = 0, 0
    while True:
        done = killed_create(gap, step)
        if done.returncode != -9:
            break
        killed += 1
        step += 3
    assert (done.returncode, killed > 10) == (0, True), done.stderr
    # Killed right after it was entered, there is nothing more to make.
    assert json.loads(done.stdout)["outcome"] in {"made", "nothing"}
    assert gap.mirror.query("SELECT sequence FROM shipment") == [(1,)]
    code, told = gap.receive(gap.medium)
    assert code == 0, told
    gap.check_equal()
    assert gap.mirror.query("SELECT kind FROM snapshot") == []
    assert list((gap.mirror.root / "pins").iterdir()) == []


def killed_create(gap: Gap, step: int) -> subprocess.CompletedProcess[str]:
    """Make a bundle by the command in a process of its own, which is killed at a step, unless it ends before."""
    config = gap.work / "mirror.toml"
    config.write_text(f'[mirror]\nroot = "{gap.mirror.root}"\n[[index]]\nname = "main"\nurl = "{gap.upstream.url}"\n')
    words = [sys.executable, "-c", KILLING, str(step), "bundle", "create", "--config", str(config), "--site", "plant"]
    words += [
        "--local",
        "--to",
        str(gap.medium),
        "--key",
        str(gap.key),
        "--volume-size",
        str(SMALLEST_VOLUME),
        "--json",
    ]
    return call(words, env=clean_environment(gap.work), cwd=gap.work)


KILLING = """
import os, signal, sys
left = int(sys.argv.pop(1))
def count(event, arguments):
    global left
    is_step = event in {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "subprocess.Popen"}
    is_step = is_step or (event == "open" and isinstance(arguments[1], str) and "w" in arguments[1])
    if is_step:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
from mirror.cli import main
sys.addaudithook(count)
sys.exit(main())
"""
