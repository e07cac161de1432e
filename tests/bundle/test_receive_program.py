"""receive.py as a file of its own: what it needs, where it runs from, how it replaces itself, what stops it."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.handmade_bundles import PROGRAM, Far, Signer, Site, State, read_tree, run, some_file

FIRST = State({"aa": [some_file("aa", "1.0")], "bb": [some_file("bb", "1.0", 100_000)]}, 1)
SECOND = State({"aa": [some_file("aa", "1.0"), some_file("aa", "2.0")]}, 2)
OLDEST = (3, 9)


def find_oldest_python() -> str | None:
    """Return the oldest Python that must do, where it is installed."""
    name = "python{}.{}".format(*OLDEST)
    versions = sorted(Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}.*/bin/{name}"))
    for found in [shutil.which(name), *map(str, versions)]:
        if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return found
    return None


def test_it_needs_nothing_but_the_standard_library() -> None:
    """Every import, wherever it stands, is of the standard library; the syntax is that of Python 3.9."""
    tree = ast.parse(PROGRAM.read_text(), feature_version=OLDEST)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").partition(".")[0])
    assert names <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.Match | ast.TryStar) for node in ast.walk(tree))


def test_it_runs_under_the_oldest_python(site: Site, far: Far, tmp_path: Path) -> None:
    """The whole way, all commands, with a real Python 3.9 that has nothing installed, warnings being errors."""
    python = find_oldest_python()
    if python is None:
        pytest.skip("Python 3.9 is not installed")
    home = tmp_path / "host"
    home.mkdir()
    shutil.copy(PROGRAM, home / "receive.py")

    def call(*arguments: object, program: Path = home / "receive.py") -> str:
        words = [python, "-I", "-S", "-W", "error", program, *arguments, "--root", far.root, "--site", "lab"]
        done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, cwd=home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "lab-000001 is applied and served" in call(site.make(FIRST).path, "--trust", far.trust)
    installed = far.root / "receive.py"
    call(site.make(SECOND, volume_bytes=8 * 1024).path, "--trust", far.trust, program=installed)
    far.check_serves(SECOND)
    call("--check", "--list", tmp_path / "list.json", program=installed)
    call("--rollback", program=installed)
    far.check_serves(FIRST)
    assert json.loads(call("--status", "--json", program=installed))["live"] == "bundle-000001"
    call(site.repair([SECOND.projects["aa"][0].path]).path, "--trust", far.trust, program=installed)


def test_a_host_with_another_encoding_is_told(site: Site, far: Far) -> None:
    """Where Python does not write names as UTF-8, nothing is touched; what a terminal can't show is escaped."""
    made = site.make(FIRST)
    words = [
        sys.executable,
        "-X",
        "utf8=0",
        PROGRAM,
        made.path,
        "--root",
        far.root,
        "--site",
        "lab",
        "--trust",
        far.trust,
    ]
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert "run it by python3 -X utf8 -I" in done.stderr
    assert not far.root.exists()
    words[2] = "utf8=1"
    env["PYTHONIOENCODING"] = "ascii:strict"
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    words = [*words[:4], "--root", far.root, "--site", "lab", "--status"]
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, env=env)
    assert (done.returncode, "chain c0ffee00\\u2026" in done.stdout) == (0, True), done.stderr


def test_a_module_beside_it_is_not_imported(site: Site, far: Far, tmp_path: Path) -> None:
    """A json.py that lies beside the program, or in the directory that it is called from, is not run."""
    home = tmp_path / "host"
    home.mkdir()
    shutil.copy(PROGRAM, home / "receive.py")
    (home / "json.py").write_text("raise SystemExit(77)\n")
    words = [
        sys.executable,
        "receive.py",
        site.make(FIRST).path,
        "--root",
        far.root,
        "--site",
        "lab",
        "--trust",
        far.trust,
    ]
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr


def test_it_does_not_run_from_the_medium(site: Site, far: Far) -> None:
    """A copy that lies in the bundle refuses to work, and says what to do."""
    made = site.make(FIRST)
    words = [
        sys.executable,
        "-I",
        made.path / "receive.py",
        made.path,
        "--root",
        far.root,
        "--site",
        "lab",
        "--trust",
        far.trust,
    ]
    done = subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "receive: this copy of receive.py lies in the bundle: run ROOT/receive.py, or at first use copy it with its signature "
        "to a directory of this host, check it there by ssh-keygen -Y verify, and run that copy (README.txt)\n",
    )
    assert not far.root.exists()


def test_it_replaces_itself_from_verified_bundles_only(site: Site, far: Far, signer: Signer, tmp_path: Path) -> None:
    """ROOT/receive.py follows the bundles that were applied: not refused ones, not repairs."""
    installed = far.root / "receive.py"
    far.receive_well(site.make(FIRST))
    assert installed.read_bytes() == PROGRAM.read_bytes()
    newer = PROGRAM.read_bytes() + b"\n# newer\n"
    stranger = Site(tmp_path / "stranger", Signer.make(tmp_path / "keys"), made=list(site.made))
    assert far.receive(stranger.make(SECOND, receiver=newer)).code == 7
    assert installed.read_bytes() == PROGRAM.read_bytes()
    far.receive_well(site.make(SECOND, receiver=newer))
    assert installed.read_bytes() == newer
    assert far.receive(site.repair([], receiver=PROGRAM.read_bytes())).code == 0
    assert installed.read_bytes() == newer
    installed.write_bytes(b"broken")
    assert far.receive(site.made[-1]).code == 0
    assert installed.read_bytes() == newer


def test_a_bundle_without_a_program(site: Site, far: Far) -> None:
    """Where the medium has no receive.py, the running program installs itself."""
    made = site.make(FIRST)
    (made.path / "receive.py").unlink()
    far.receive_well(made)
    assert (far.root / "receive.py").read_bytes() == PROGRAM.read_bytes()


@pytest.mark.parametrize("command", [["BUNDLE"], ["--check"], ["--rollback", "1"]], ids=lambda words: words[0])
def test_one_at_a_time(site: Site, far: Far, command: list[str]) -> None:
    """While another process works on the root, exit code 8; --status works all the same."""
    made = site.make(FIRST)
    far.receive_well(made)
    trust = ["--trust", far.trust] if command == ["BUNDLE"] else []
    words = [str(made.path) if word == "BUNDLE" else word for word in command]
    with (far.root / "receive.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(*words, "--root", far.root, "--site", "lab", *trust)
        assert (done.code, done.err.splitlines()[-1]) == (
            8,
            f"receive: another process is working on {far.root}; try again when it is done",
        )
        assert far.run("--status").code == 0
    assert run(*words, "--root", far.root, "--site", "lab", *trust).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["--check", "--status"], id="two-commands"),
        pytest.param(["DIR", "--check"], id="bundle-and-check"),
        pytest.param(["--status", "--list", "x"], id="list-without-check"),
        pytest.param(["--keep", "0", "--status"], id="keep-0"),
        pytest.param(["--rollback", "-1"], id="negative"),
        pytest.param(["--rollback", "x"], id="no-number"),
        pytest.param(["--nonsense"], id="unknown"),
    ],
)
def test_wrong_usage(far: Far, arguments: list[str]) -> None:
    """Wrong usage: exit code 2, and nothing was touched."""
    assert far.run(*arguments).code == 2
    assert not far.root.exists()


def test_a_mirrors_own_root_is_refused(site: Site, far: Far) -> None:
    """A root that has a mirror's state, or pages that were not received, is left alone."""
    far.root.mkdir()
    (far.root / "state.db").write_bytes(b"")
    done = far.receive(site.make(FIRST))
    assert (done.code, done.err) == (
        2,
        f"receive: {far.root} is the root of a mirror itself: choose another directory for what is received\n",
    )
    (far.root / "state.db").unlink()
    (far.public / "simple").mkdir(parents=True)
    done = far.receive(site.made[0])
    assert (done.code, done.err) == (
        6,
        f"receive: {far.public}/simple is no link: it was not made by this program; choose another root\n",
    )


def test_what_the_operator_keeps_in_the_root_stays(site: Site, far: Far) -> None:
    """Only what has a name of this program's own is removed from ``staging``: a bundle that was copied there is whole."""
    made = site.make(FIRST)
    copied = far.root / "staging" / made.path.name
    shutil.copytree(made.path, copied)
    (far.root / "staging" / "thesis.txt").write_text("mine")
    before = read_tree(far.root / "staging")
    far.receive_well(copied)
    far.check_serves(FIRST)
    assert read_tree(far.root / "staging") == before


def test_a_root_within_the_bundle_is_refused(site: Site, far: Far) -> None:
    """Nothing is written to a medium, also when the operator names it as the root."""
    made = site.make(FIRST)
    before = read_tree(made.path)
    for root in (made.path, made.path / "tree"):
        done = run(made.path, "--root", root, "--trust", far.trust)
        assert (done.code, done.err) == (
            2,
            f"receive: --root {root} lies in the bundle: media are only read, choose another directory\n",
        )
    assert read_tree(made.path) == before


def test_the_report_as_json(site: Site, far: Far) -> None:
    """--json prints one object with the format's number, whatever happens."""
    made = site.make(FIRST)
    done = far.receive(made, options=["--json"])
    assert done.report == {
        **far.receipt,
        "outcome": "applied",
        "live": "bundle-000001",
        "signer": "near@example.org",
        "exit_code": 0,
        "reasons": [],
    }
    assert far.receive(made, options=["--json"]).report["outcome"] == "unchanged"
    (far.public / FIRST.projects["aa"][0].path).unlink()
    report = far.run("--check", "--json").report
    assert (report["format"], report["outcome"], report["exit_code"]) == (1, "failed", 7)
    assert report["reasons"][0] == f"missing: {FIRST.projects['aa'][0].path}"


def driven(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program after a script has prepared its process."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); from harness.handmade_bundles import program\n{script}\n"
    code += "sys.exit(program.main(sys.argv[2:]))"
    words = [sys.executable, "-c", code, Path(__file__).parents[1], *arguments]
    return subprocess.run([str(w) for w in words], check=False, capture_output=True, text=True)


REFUSE = """
import errno, os
def refuse(*args, **kwargs):
    raise OSError(errno.{code}, os.strerror(errno.{code}))
os.{name} = refuse
"""


@pytest.mark.parametrize(("name", "code"), [("link", "EPERM"), ("symlink", "EOPNOTSUPP"), ("link", "EXDEV")])
def test_a_file_system_without_links(site: Site, far: Far, name: str, code: str) -> None:
    """Where links are not possible it says so at the start, exit code 6."""
    made = site.make(FIRST)
    done = driven(
        REFUSE.format(name=name, code=code), made.path, "--root", far.root, "--site", "lab", "--trust", far.trust
    )
    assert done.returncode == 6
    assert f"receive: {far.root}: its file system has no hard links or symbolic links" in done.stderr
    assert far.blobs() == {}


def mounted(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace of its own, or skip."""
    command = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
    probe = [*command, "mount -t tmpfs none /mnt"]
    if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here")
    return subprocess.run([*command, script], check=False, capture_output=True, text=True)


def test_a_disk_that_is_too_small(site: Site, far: Far) -> None:
    """Free space is checked before anything is unpacked: what is needed and what is free is told."""
    made = site.make(FIRST)
    far.root.mkdir()
    program = f"{sys.executable} -I {PROGRAM} {made.path} --root {far.root} --site lab --trust {far.trust}"
    done = mounted(f"mount -t tmpfs -o size=8m none {far.root}; exec {program}")
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].startswith(f"receive: {far.root}: ")
    assert "bytes are needed" in done.stderr


def test_a_full_bundle_needs_no_room_for_what_is_held(site: Site, far: Far) -> None:
    """A full bundle over a tree that holds its files is the way out of any trouble, on a disk that is nearly full as well."""
    state = State({"aa": [some_file("aa", "1", size=20 << 20)]}, 1)
    site.make(state)
    site.make(State({**state.projects, "bb": [some_file("bb", "1")]}, 2), full=True)
    far.root.mkdir()
    program = f"{sys.executable} -I {PROGRAM} --root {far.root} --site lab --trust {far.trust}"
    script = (
        f"mount -t tmpfs -o size=44m none {far.root}\n{program} {site.made[0].path}\nexec {program} {site.made[1].path}"
    )
    done = mounted(script)
    assert done.returncode == 0, done.stderr
    assert "lab-000002 is applied and served" in done.stdout


def test_a_disk_that_becomes_full(site: Site, far: Far) -> None:
    """A disk that fills up on the way: exit code 6, one message, and the same command completes when there is room."""
    made = site.make(FIRST)
    program = f"{sys.executable} -I {PROGRAM} {made.path} --root {far.root} --site lab --trust {far.trust}"
    far.root.mkdir()
    # Another process takes the space between the check and the writing.
    driver = far.root.parent / "driver.py"
    driver.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from harness.handmade_bundles import program\n"
        "program.check_space = lambda *_: open(sys.argv[2] + '/filler', 'wb', buffering=0).write(bytes(1 << 26))\n"
        "sys.exit(program.main(sys.argv[3:]))\n"
    )
    driven_program = f"{sys.executable} {driver} {Path(__file__).parents[1]} {far.root}"
    script = (
        f"mount -t tmpfs -o size=24m none {far.root}\n"
        f"{driven_program} {made.path} --root {far.root} --site lab --trust {far.trust} && exit 1 || test $? = 6\n"
        f"test ! -e {far.public}/simple\n"
        f"rm {far.root}/filler\n"
        f"exec {program}"
    )
    done = mounted(script)
    assert done.returncode == 0, done.stderr
    reasons = [line for line in done.stderr.splitlines() if line.startswith("receive: ")]
    assert len(reasons) == 1
    assert reasons[0].endswith(
        "No space left on device; make room and run the same command again: what was unpacked is remembered"
    )


def test_a_disk_without_room_for_more_files(site: Site, far: Far) -> None:
    """A file system without inodes left is told as well."""
    made = site.make(FIRST)
    far.root.mkdir()
    program = f"{sys.executable} -I {PROGRAM} {made.path} --root {far.root} --site lab --trust {far.trust}"
    done = mounted(f"mount -t tmpfs -o size=64m,nr_inodes=20 none {far.root}; exec {program}")
    assert done.returncode == 6
    assert "new files are needed, the file system has room for" in done.stderr


def test_no_permission(site: Site, far: Far) -> None:
    """A root of another user: exit code 6, and the path."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    made = site.make(FIRST)
    far.root.mkdir(mode=0o700)
    for path in [far.root.parent, *far.root.parent.parents]:
        if not path.stat().st_mode & 0o001 and path != Path("/"):
            path.chmod(0o755)
    script = "import os; os.setgid(65534); os.setuid(65534)"
    done = driven(script, made.path, "--root", far.root / "sub", "--site", "lab", "--unsigned")
    assert done.returncode == 6
    assert f"receive: {far.root}/sub: Permission denied\n" in done.stderr


def test_stopped_by_the_operator(site: Site, far: Far) -> None:
    """Control-C: exit code 130, and the same command goes on."""
    made = site.make(FIRST)
    script = "import signal\ndef stop(*_): signal.raise_signal(signal.SIGINT)\nprogram.place_blobs = stop"
    done = driven(script, made.path, "--root", far.root, "--site", "lab", "--trust", far.trust)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        130,
        "receive: stopped; run the same command again to go on",
    )
    far.receive_well(made)


def test_progress_on_a_terminal(site: Site, far: Far) -> None:
    """On a terminal the share that was read is shown now and then."""
    made = site.make(FIRST, volume_bytes=64 * 1024)
    script = (
        "import itertools, time\n"
        "clock = itertools.count(step=3)\ntime.monotonic = lambda: next(clock)\n"
        "sys.stderr.isatty = lambda: True"
    )
    done = driven(script, made.path, "--root", far.root, "--site", "lab", "--trust", far.trust)
    assert done.returncode == 0
    assert "  100 %  " in done.stderr


def test_without_ctypes(site: Site, far: Far) -> None:
    """A Python without ctypes syncs everything instead."""
    done = driven(
        "sys.modules['ctypes'] = None", site.make(FIRST).path, "--root", far.root, "--site", "lab", "--trust", far.trust
    )
    assert done.returncode == 0
    far.check_serves(FIRST)
