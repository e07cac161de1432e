"""What a command may cost before it does anything: what is not needed is not imported, garbage is not looked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAMS = {
    "structlog without rich": (
        "from mirror.logs import configure_logging, get_logger\n"
        "configure_logging(); get_logger('x').debug('x.y')\n"
        "print('rich' in sys.modules)\n"
        "import rich.console\n"
        "print('rich' in sys.modules)",
        "False\nTrue\n",
    ),
    "rich stays where it was needed before": (
        "import rich\nfrom mirror.logs import get_logger\nget_logger('x').bind()\nprint(sys.modules['rich'] is rich)",
        "True\n",
    ),
    "no metrics without a file for them": (
        "import mirror.wiring, mirror.jobs.after_cycle\nprint('prometheus_client' in sys.modules)",
        "False\n",
    ),
    "collecting begins rarely after the start": (
        "from mirror.cli.options import collect_rarely\n"
        "gc.disable(); collect_rarely()\n"
        "print(gc.isenabled(), gc.get_threshold()[0] > 700, gc.get_freeze_count() > 1000)",
        "True True True\n",
    ),
    "a caller's own collecting is left alone": (
        "from mirror.cli.options import collect_rarely\n"
        "before = gc.get_threshold(); collect_rarely()\n"
        "print(gc.isenabled(), gc.get_threshold() == before, gc.get_freeze_count())",
        "True True 0\n",
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
