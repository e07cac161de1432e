"""Where memory runs out the program ends with exit code 6 and one line that names the limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from beside_program import Beside

from simulator import ThreadedSimulator, build_wheel


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
