"""What every test gets: an index simulator, and guards that make a test fail for what it must not do.

The guards: nothing but loopback is connected to or looked up, and a coroutine of ``mirror`` must not block the event
loop. Neither needs anything from a test; what a test starts in other processes is beyond them.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from harness import blocking
from harness.ceph import start_radosgw
from harness.coverage_scope import Measuring
from harness.quick_disk import QUICK_DISK
from harness.storing import IS_CEPH, ObjectStore, Prefix, start_seaweedfs
from mirror import logs
from simulator import Simulator, ThreadedSimulator

# The same examples each time, so that a change is judged by what it changes; `make soak` plays ever new ones.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.register_profile(
    "soak", deadline=None, print_blob=True, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

if QUICK_DISK is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", QUICK_DISK)

# A shell that starts the tests in the background has them ignore an interrupt, and so each program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MEASURING = pytest.StashKey[Measuring]()


# As the program does: the usual collection after every 700 new objects takes a twentieth of the time, and a fifth of that
# in which the tests are collected.
gc.set_threshold(20_000, 20, 50)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Learn whether the tests of this process are measured; the garbage collector leaves what they are made of alone."""
    session.config.stash[MEASURING] = Measuring()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure the tests that count for coverage, with all that they set up."""
    with item.config.stash[MEASURING].of_test(item.path):
        return (yield)


@pytest.fixture(autouse=True)
def own_log(no_blocking: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what one test does to the log from another: the secrets that it registers, the level and form that it sets.

    After the guard: what a test replaces is put back before the guard ends, which then puts back the real functions.
    """
    monkeypatch.setattr(logs, "_SECRETS", logs._Secrets())
    monkeypatch.setattr(logs, "_OUTPUT", logs._Output())
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, logs._IntoEvents)]:
        root.removeHandler(handler)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs run without coverage, which doubles their time; for tests that run what others cover."""
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)


def _is_loopback(host: Any) -> bool:
    if host is None or host in ("", b"", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return text.endswith(".localhost")


def _is_address(host: Any) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host)
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text.partition("%")[0]))
    return False


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise ``OSError`` where this process would leave loopback; an audit hook sees every socket of every library."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise OSError(f"tests must stay on loopback, not connect to {address[0]}")
    elif event == "socket.getaddrinfo" and not (_is_loopback(arguments[0]) or _is_address(arguments[0])):
        raise socket.gaierror(socket.EAI_NONAME, f"tests look up no names, such as {arguments[0]}")


sys.addaudithook(refuse_network)


@pytest.fixture(autouse=True)
def no_blocking(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose event loop is blocked by a call made from a module of ``mirror``."""
    if request.node.get_closest_marker("asyncio") is None:
        yield
        return
    with blocking.no_blocking():
        yield


SimulatorFactory = Callable[..., Awaitable[Simulator]]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorFactory]:
    """Start simulators for a test, with the arguments of the class, and stop them at its end."""
    async with contextlib.AsyncExitStack() as running:

        async def start(*arguments: Any, **options: Any) -> Simulator:
            return await running.enter_async_context(Simulator(*arguments, **options))

        yield start


@pytest.fixture
def threaded_simulator() -> Iterator[Callable[..., ThreadedSimulator]]:
    """Start simulators in threads, for tests that block, and stop them at the test's end."""
    with contextlib.ExitStack() as running:

        def start(*arguments: Any, **options: Any) -> ThreadedSimulator:
            return running.enter_context(ThreadedSimulator(*arguments, **options))

        yield start


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real object store, shared by all tests of this process; ``make soak`` also takes another one."""
    store = start_radosgw() if IS_CEPH else start_seaweedfs(tmp_path_factory.mktemp("store"))
    yield store
    store.stop()


@pytest.fixture
def prefix(object_store: ObjectStore) -> Prefix:
    """The place of one test in the object store."""
    return object_store.prefix()
