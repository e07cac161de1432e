"""The process that stands for a start of Python: what a test sees of it is what ``subprocess`` would show."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from harness import forked_program
from harness.program import GUARD_S, clean_environment
from simulator import build_sdist, build_wheel

LEAD = "from mirror.cli import main\nimport atexit, os, signal, sys, threading, time\n"
"""Of a ``-c`` that is forked; what follows is run instead of the program."""

LOOK = """
import json, locale
umask = os.umask(0)
os.umask(umask)
print(json.dumps({
    "arguments": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0], "umask": umask,
    "stdin": sys.stdin.read(), "descriptors": sorted(os.listdir("/proc/self/fd")),
    "encodings": [s.encoding for s in (sys.stdin, sys.stdout, sys.stderr)], "locale": locale.getlocale(),
    "errors": [s.errors for s in (sys.stdin, sys.stdout, sys.stderr)], "zone": time.tzname,
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "threads": threading.active_count(),
    "group": os.getpgid(0) == os.getpgid(PARENT), "name": __name__, "tracing": sys.gettrace() is not None,
}))
"""

ENDS = {
    "return": "pass",
    "exit": "sys.exit(7)",
    "exit-none": "sys.exit()",
    "exit-beyond-a-byte": "sys.exit(258)",
    "exit-negative": "sys.exit(-1)",
    "exit-words": "sys.exit('what went wrong')",
    "error": "raise ValueError('what went wrong')",
    "interrupt": "raise KeyboardInterrupt",
    "sigterm": "os.kill(os.getpid(), signal.SIGTERM)",
    "sigkill": "os.kill(os.getpid(), signal.SIGKILL)",
    "abrupt": "print('lost', end=''); os._exit(3)",
    "unflushed": "sys.stdout.write('out'); sys.stderr.write('err')",
    "not-ascii": "print('ä'); print('ö', file=sys.stderr)",
    "stdout-closed": "sys.stdout.close(); sys.exit(4)",
    "stdout-gone": "sys.stdout = None; sys.exit(4)",
    "stdout-broken": "print('x'); r, w = os.pipe(); os.close(r); os.dup2(w, 1)",
    "stderr-broken": "r, w = os.pipe(); os.close(r); os.dup2(w, 2); sys.stderr.write('x'); sys.exit(4)",
    "at-exit": "atexit.register(print, 'first'); atexit.register(print, 'second'); sys.exit(5)",
    "at-exit-error": "atexit.register(lambda: 1 / 0); sys.exit(5)",
    "thread": "main = threading.main_thread()\n"
    "threading.Thread(target=lambda: (main.join(), print('thread'))).start(); print('main'); sys.exit(6)",
    "thread-error": "threading.Thread(target=lambda: 1 / 0, name='worker').start(); sys.exit(6)",
    "finalizer": "class Left:\n def __del__(self): print('freed')\nleft = Left(); left.itself = left; del left; sys.exit(8)",
    "finalizer-error": "class Left:\n def __del__(self): 1 / 0\nleft = Left(); left.itself = left; del left; sys.exit(8)",
    "coroutine": "async def work(): pass\nwork(); sys.exit(9)",
    "exit-in-exit": "atexit.register(sys.exit, 11); sys.exit(5)",
}


def real(code: str, *arguments: str, env: Mapping[str, str], cwd: Path) -> forked_program.Done:
    """Start Python for it."""
    return subprocess.run(
        [sys.executable, "-c", LEAD + code, *arguments],
        env=env,
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def forked(code: str, *arguments: str, env: Mapping[str, str], cwd: Path) -> forked_program.Done:
    """Fork for it."""
    with forked_program.start([sys.executable, "-c", LEAD + code, *arguments], env=env, cwd=cwd) as process:
        assert isinstance(process, forked_program.Forked)
        stdout, stderr = process.communicate(GUARD_S)
        return forked_program.Done(process.args, process.returncode, stdout, stderr)


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_end(code: str, tmp_path: Path, unmeasured: None) -> None:
    """Exit code, output and traceback are those of a start of Python."""
    env = clean_environment(tmp_path)
    wanted, found = real(code, env=env, cwd=tmp_path), forked(code, env=env, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (wanted.returncode, wanted.stdout)
    # A traceback ends with the program's own lines, and those that it begins with are the forking file's.
    assert found.stderr.splitlines()[-1:] == wanted.stderr.splitlines()[-1:]
    assert bool(found.stderr) == bool(wanted.stderr)


def test_surroundings(tmp_path: Path, unmeasured: None) -> None:
    """Arguments, environment, working directory, descriptors, signals and language are those of a start of Python."""
    env = clean_environment(tmp_path, ONE="1", TZ="Asia/Tokyo", EMPTY="")
    code = LOOK.replace("PARENT", str(os.getpid()))
    wanted, found = (json.loads(by(code, "a b", "ü", "", env=env, cwd=tmp_path).stdout) for by in (real, forked))
    assert wanted.pop("path") == ""
    assert found.pop("path") == str(tmp_path), "the same folder, by its name: the parent has another one"
    assert found == wanted
    assert found["env"]["ONE"] == "1"


@pytest.mark.parametrize("by", [real, forked])
def test_nothing_stays(by: Callable[..., forked_program.Done], tmp_path: Path, unmeasured: None) -> None:
    """What one process changes of itself is not seen by the next one."""
    changes = (
        "os.environ['LEFT'] = 'x'; os.umask(0o007); os.chdir('/'); signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "sys.modules['left'] = sys; import mirror; mirror.left = 1; signal.pthread_sigmask(signal.SIG_BLOCK, [10])"
    )
    look = (
        "import mirror; umask = os.umask(0); print('LEFT' in os.environ, umask == 0o007, os.getcwd() == '/',"
        "signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, 'left' in sys.modules, hasattr(mirror, 'left'),"
        "signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    env = clean_environment(tmp_path)
    assert by(changes, env=env, cwd=tmp_path).returncode == 0
    done = by(look, env=env, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("False False False False False False set()\n", "")


def test_signal_and_poll(tmp_path: Path) -> None:
    """A process that runs is seen to run, takes a signal, and is one of its own beside another."""
    # No single wait without an end: a signal that comes just before it would not interrupt it.
    code = f"{LEAD}print(os.getpid(), flush=True)\nwhile True:\n    time.sleep(0.01)"
    command = [sys.executable, "-c", code]
    with (
        forked_program.start(command, env=clean_environment(tmp_path), cwd=tmp_path) as one,
        forked_program.start(command, env=clean_environment(tmp_path), cwd=tmp_path) as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        assert (int(one.stdout.readline()), int(other.stdout.readline())) == (one.pid, other.pid)
        assert (one.poll(), other.poll()) == (None, None)
        one.send_signal(signal.SIGINT)
        assert one.wait(GUARD_S) == -signal.SIGINT
        assert other.poll() is None
        other.kill()
        assert other.wait(GUARD_S) == -signal.SIGKILL
        other.terminate()


def test_output_to_a_reader_that_left(tmp_path: Path) -> None:
    """A closed pipe is what it is for a start of Python."""
    # Polled for nothing, a pipe reports that its reader has closed it.
    wait = "import select\nreader = select.poll()\nreader.register(1, 0)\nprint(1, flush=True)\nreader.poll()\n"
    command = [sys.executable, "-c", f"{LEAD}{wait}print(2, flush=True)"]
    ends = []
    for is_forked in (False, True):
        with forked_program.start(
            command, env=clean_environment(tmp_path), cwd=tmp_path, is_forked=is_forked
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
            process.stdout.close()
            assert process.stderr is not None
            ends.append((process.stderr.read().splitlines()[-1], process.wait(GUARD_S)))
    assert ends == [("BrokenPipeError: [Errno 32] Broken pipe", 120)] * 2


def told_by_pip(words: Sequence[str], work: Path, *, is_forked: bool, **variables: str) -> tuple[object, ...]:
    """Run pip in a folder of its own; return its exit code, its output, and what it has left."""
    work.mkdir()
    (work / ".config/pip").mkdir(parents=True)
    (work / ".config/pip/pip.conf").write_text("[install]\nfind-links = ..\nno-index = yes\n")
    env = clean_environment(work, PIP_NO_CACHE_DIR="1", PIP_DISABLE_PIP_VERSION_CHECK="1", **variables)
    command = [sys.executable, "-m", "pip", *words]
    with forked_program.start(command, env=env, cwd=work, is_forked=is_forked) as process:
        assert isinstance(process, forked_program.Forked) == is_forked
        stdout, stderr = process.communicate(GUARD_S)
    left = {str(path.relative_to(work)): path.is_file() for path in sorted(work.rglob("*"))}
    return process.returncode, *[re.sub("sha256=.*|/tmp/.*", "…", text) for text in (stdout, stderr)], left


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["install", "--target", "there", "one"], 0),
        (["install", "--target", "there", "absent"], 1),
        (["config", "debug"], 0),
        (["no-command"], 1),
    ],
    ids=lambda words: words if isinstance(words, int) else " ".join(words),
)
def test_pip(words: list[str], code: int, tmp_path: Path) -> None:
    """Pip reads the configuration of its home and installs, a wheel and an sdist, as it does when it is started."""
    for name, data in (build_wheel("one", "1.0", requires=["two"]), build_sdist("two", "1.0")):
        (tmp_path / name).write_bytes(data)
    wanted = told_by_pip(words, tmp_path / "work", is_forked=False)
    (tmp_path / "work").rename(tmp_path / "before")
    found = told_by_pip(words, tmp_path / "work", is_forked=True)
    assert found == wanted
    assert found[0] == code


@pytest.mark.parametrize(
    ("command", "env"),
    [
        pytest.param([sys.executable, "-m", "pip", "--version"], {}, id="pip with a cache"),
        pytest.param([sys.executable, "-m", "mirror"], {"PYTHONPATH": "/nowhere"}, id="an option of Python"),
        pytest.param([sys.executable, "-m", "mirror"], {"LANG": "C"}, id="another language"),
        pytest.param([sys.executable, "-m", "mirror"], {"LD_PRELOAD": ""}, id="an option of the linker"),
        pytest.param([sys.executable, "-m", "mirror"], {"MALLOC_ARENA_MAX": "1"}, id="an option of the allocator"),
        pytest.param([sys.executable, "-m", "mirror"], {"_MIRROR_COMPLETE": "source_bash"}, id="a completion"),
        pytest.param([sys.executable, "-I", "-m", "mirror"], {}, id="an option on the command line"),
        pytest.param([sys.executable, "-m", "json.tool"], {}, id="another module"),
        pytest.param([sys.executable, "-c", "print()"], {}, id="another program"),
        pytest.param(["true"], {}, id="no Python"),
    ],
)
def test_start_after_all(command: list[str], env: dict[str, str], tmp_path: Path) -> None:
    """What a fork would change is a start."""
    environment = clean_environment(tmp_path, **env)
    with forked_program.start(command, env=environment, cwd=tmp_path) as process:
        assert isinstance(process, subprocess.Popen)
        process.kill()
        process.communicate()
