"""``make demo`` stays true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_demo_goes_as_it_says() -> None:
    """The demo runs to its end, checks what it shows, and prints no secret."""
    script = Path(__file__).with_name("demo.py")
    done = subprocess.run([sys.executable, str(script)], check=False, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hello from demo-app 1.0, with demo-lib 1.1" in done.stdout
    assert "installs: 2 files" in done.stdout
    assert "a-secret-of-the-demo" not in done.stdout
