"""Where memory runs out the program ends with exit code 6 and one line that names the limit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.program import Mirror, call, clean_environment
from harness.worker_program import Beside
from simulator import ThreadedSimulator, build_wheel

pytestmark = pytest.mark.usefixtures("unmeasured")  # coverage itself needs memory


def test_low_memory(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """A limit on the address space is named, without a traceback."""
    index = threaded_simulator()
    index.state.publish("p", *build_wheel("p", "1.0"))
    before = (
        "import resource, mirror.sync.cycle as cycle\n"
        "async def sweep(_):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))\n"
        "    bytearray(8 << 30)\n"
        "cycle.sweep_before = sweep"
    )
    done = Beside(tmp_path, index.url, before=before).sync()
    assert done.returncode == 6, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert "RLIMIT_AS allows 4294967296 bytes" in line
    assert "Traceback" not in done.stderr


def test_no_room_for_a_thread(threaded_simulator: Callable[..., ThreadedSimulator], tmp_path: Path) -> None:
    """Where the system starts no thread any more, in workers too, no file is at fault: the program ends."""
    index = threaded_simulator()
    index.state.publish("p", *build_wheel("p", "1.0"))
    before = (
        "import mirror.sync.fetching.downloads as here, mirror.workers.process as there\n"
        "async def broken(*_):\n"
        '    raise RuntimeError("can\'t start new thread")\n'
        "here.fetch_to_staging = there.fetch_to_staging = broken"
    )
    done = Beside(tmp_path, index.url, before=before).sync()
    assert done.returncode == 6, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("error: memory ran out")
    assert "a bug of this program" not in done.stderr


@pytest.mark.parametrize("limit_mib", [24, 34, 44, 54])
def test_low_memory_while_the_program_is_imported(tmp_path: Path, limit_mib: int) -> None:
    """A limit from before the start is named too, wherever it ends the imports."""
    mirror = Mirror(tmp_path, "http://127.0.0.1:1/simple/")
    limited = f"import os, resource, sys\nresource.setrlimit(resource.RLIMIT_AS, ({limit_mib << 20},) * 2)\n"
    started = f"{limited}os.execv(sys.executable, [sys.executable, '-m', 'mirror', *sys.argv[1:]])"
    command = [sys.executable, "-c", started, *mirror._sync(())]
    for _ in range(5):
        done = call(command, env=mirror._environment({}), cwd=tmp_path)
        if "SystemError: error return without exception set" not in done.stderr:
            break  # else the interpreter itself lost the error, where no line of the program was under way
    assert done.returncode == 6, done.stderr
    # The interpreter and its own modules may add lines, where there is no memory for them either.
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"RLIMIT_AS allows {limit_mib << 20} bytes" in line
    assert '"program.failed"' not in done.stderr


@pytest.mark.parametrize(("spare_mib", "code"), [(1, 6), (64, 1)])
def test_an_odd_error_near_the_limit(tmp_path: Path, spare_mib: int, code: int) -> None:
    """A library that got no memory may raise anything: near the limit it is that, far from it a bug."""
    odd = (
        "import resource, sys, mirror.cli\n"
        "def break_(_):\n"
        "    [peak] = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmPeak:')]\n"
        f"    resource.setrlimit(resource.RLIMIT_AS, ((int(peak) << 10) + ({spare_mib} << 20),) * 2)\n"
        "    raise ValueError('library has no ciphers')\n"
        "mirror.cli._run = break_\n"
        "sys.exit(mirror.cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", odd, "status"],
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("RLIMIT_AS allows" in done.stderr) == (code == 6)
    assert ("library has no ciphers" in done.stderr) == (code == 1)
