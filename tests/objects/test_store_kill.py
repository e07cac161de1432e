"""The program is killed at the moment when a put was done and its answer has not come: nothing listed is missing."""

import os
import random
import signal
import subprocess
import sys

import pytest

from harness.in_process import offered
from harness.store_mirror import listed_and_missing
from simulator import build_wheel

IS_SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
_LAST = 16
MOMENTS = range(1, _LAST + 1) if IS_SOAK else (5, 8, 13, 16)
"""The puts after which the program is killed; the first ones are the judgement of the engine, and the lock."""


def killed_after(moment, mirror, front, tmp_path):
    """Run the program until so many puts are done; return whether it was killed."""
    puts, killed = [], []

    def kill_in_time(method, path):
        puts.append(path) if method == "PUT" else None
        if len(puts) < moment or killed:
            return "lose" if killed else None
        killed.append(path)
        return "kill"

    config = tmp_path / "mirror.toml"
    index = mirror.indexes["main"]["url"]
    config.write_text(
        f'[mirror]\nroot = "{mirror.root}"\ntree = "{mirror.prefix.address}"\n[limits]\ndisk-reserve = "0"\n'
        f'[[index]]\nname = "main"\nurl = "{index}"\nauth = {{ kind = "none" }}\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "mirror", "--config", str(config), "sync", "--once"],
        env=os.environ | mirror.prefix.env | {"AWS_ENDPOINT_URL": front.url},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    front.kill = lambda: os.killpg(process.pid, signal.SIGKILL)
    front.rule = kill_in_time
    code = process.wait()
    return code == -signal.SIGKILL


@pytest.mark.parametrize("moment", MOMENTS)
async def test_killed_between_put_and_answer(threaded_simulator, mirror_of, front, tmp_path, moment):
    """Whatever put was the last one, pages list only what is there, and the next cycle completes the tree."""
    index = threaded_simulator()
    for name in ("alpha", "beta"):
        index.state.publish(name, *build_wheel(name, "1.0"))
    mirror = mirror_of(index)
    was_killed = killed_after(moment, mirror, front, tmp_path)
    assert was_killed
    assert listed_and_missing(mirror.prefix) == []
    await mirror.cycle()
    assert (mirror.exit_code, mirror.files()) == (0, offered(index))


@pytest.mark.skipif(not IS_SOAK, reason="two hundred kills take long")
async def test_two_hundred_kills(threaded_simulator, mirror_of, front, tmp_path):
    """Kills of one growing mirror, one after the other, lose nothing."""
    index, chance = threaded_simulator(), random.Random(18)
    mirror = mirror_of(index)
    for number in range(200):
        index.state.publish(f"p{number % 7}", *build_wheel(f"p{number % 7}", f"1.{number}"))
        killed_after(chance.randint(1, 12), mirror, front, tmp_path)
        assert listed_and_missing(mirror.prefix) == []
    await mirror.cycle()
    assert mirror.files() == offered(index)
