"""What a command may cost before it does anything: what is not needed is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mirror import __version__

PROGRAMS = {
    "no metrics without a file for them": (
        "import mirror.wiring.cycle, mirror.jobs.after_cycle\nprint('prometheus_client' in sys.modules)",
        "False\n",
    ),
    "a caller's own collecting is left alone": (
        "from mirror.cli import main\n"
        "before = gc.get_threshold(); main(['--version'])\n"
        "print(gc.isenabled(), gc.get_threshold() == before)",
        f"mirror {__version__}\nTrue True\n",
    ),
    "a program of its own collects rarely": (
        "import mirror.cli\n"
        "sys.argv = ['mirror', '--version']; mirror.cli.main()\n"
        "print(gc.isenabled(), gc.get_threshold()[0] > 700)",
        f"mirror {__version__}\nTrue True\n",
    ),
}


@pytest.mark.parametrize(("program", "said"), PROGRAMS.values(), ids=PROGRAMS)
def test_start_cost(program, said):
    """The start of a command leaves out what it does not need, and leaves no trace of how."""
    done = subprocess.run(
        [sys.executable, "-c", f"import gc, sys\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == said
