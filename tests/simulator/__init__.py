"""A simulated package index on loopback, for the tests, the demo and the benchmark.

``IndexState`` is what the index holds, ``Settings`` what kind of server it is, ``Simulator`` the server::

    async with Simulator(username="user", password="secret", second_origin=True) as simulator:
        simulator.state.publish("demo", *build_wheel("demo", "1.0"))
        simulator.inject(Cut(after=100), filename="demo-1.0-py3-none-any.whl", times=1)
        ...
        assert simulator.count(kind="root") == 1

``ThreadedSimulator`` is the same behind a plain ``with``. It checks credentials, signatures and conditions for real.
"""

from simulator.faults import (
    Announce,
    Corrupt,
    Cut,
    Drip,
    Endless,
    Fault,
    Page,
    Redirect,
    Relabel,
    Reset,
    Resize,
    Stall,
    Status,
    Unframed,
    unavailable,
    withheld,
)
from simulator.pages import HTML_TYPE, HTML_V1_TYPE, JSON_TYPE
from simulator.server import Recorded, Simulator, ThreadedSimulator
from simulator.settings import Settings
from simulator.state import AUTO, IndexState, SimulatedFile, SimulatedProject
from simulator.wheels import build_sdist, build_wheel, core_metadata, wheel_metadata

__all__ = [
    "AUTO",
    "HTML_TYPE",
    "HTML_V1_TYPE",
    "JSON_TYPE",
    "Announce",
    "Corrupt",
    "Cut",
    "Drip",
    "Endless",
    "Fault",
    "IndexState",
    "Page",
    "Recorded",
    "Redirect",
    "Relabel",
    "Reset",
    "Resize",
    "Settings",
    "SimulatedFile",
    "SimulatedProject",
    "Simulator",
    "Stall",
    "Status",
    "ThreadedSimulator",
    "Unframed",
    "build_sdist",
    "build_wheel",
    "core_metadata",
    "unavailable",
    "wheel_metadata",
    "withheld",
]
