"""A name that was public and answers with an address of our own network later leads nowhere, in whichever process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.program import Done, report_of
from harness.worker_program import Beside, log_of, needs_two_cores, used_processes
from mirror.upstream.connections.addresses import Reach, reach_of
from simulator import ThreadedSimulator, build_wheel

Simulators = Callable[..., ThreadedSimulator]

FILES = 80

REBOUND = """
import mmap, socket
from ipaddress import ip_network
from mirror.upstream.connections import addresses
addresses._LOOPBACK = (ip_network("127.0.0.1/32"), ip_network("::1/128"))
addresses._NOT_GLOBAL += (ip_network("127.0.0.3/32"),)
real, answers = socket.getaddrinfo, {answers}
asked = mmap.mmap(-1, 1)  # shared by all processes
def resolve(host, port, *arguments, **options):
    if host != "index.example":
        return real(host, port, *arguments, **options)
    address, port = answers[min(asked[0], len(answers) - 1)]
    asked[0] = 1
    return real(address, port, *arguments, **options)
socket.getaddrinfo = resolve
"""
"""127.0.0.2 plays a public address, 127.0.0.3 a private one; the index's name resolves to each answer in turn."""


class Rebound(Beside):
    """A mirror of an index whose name resolves to other addresses later."""

    def __init__(self, work: Path, public: ThreadedSimulator, answers: list[tuple[str, int]]) -> None:
        super().__init__(work, public.url.replace("127.0.0.2", "index.example"), before=REBOUND.format(answers=answers))


def port_of(simulator: ThreadedSimulator) -> int:
    return int(simulator.url.split(":")[2].partition("/")[0])


def fill(index: ThreadedSimulator) -> None:
    for number in range(FILES):
        index.state.publish(f"p{number}", *build_wheel(f"p{number}", "1.0"))


@pytest.mark.parametrize("inside_host", ["127.0.0.1", "127.0.0.3"], ids=["loopback", "private"])
@needs_two_cores
def test_own_name_in_worker_processes(threaded_simulator: Simulators, tmp_path: Path, inside_host: str) -> None:
    """Public at its first look-up, ours later: no worker asks there, each page and file says why, and nothing is taken."""
    public = threaded_simulator(host="127.0.0.2", links="root-relative")
    inside = threaded_simulator(host=inside_host, links="root-relative")
    fill(public)
    fill(inside)
    mirror = Rebound(tmp_path, public, [("127.0.0.2", port_of(public)), (inside_host, port_of(inside))])
    done = mirror.sync("--json", "--log-level", "debug")
    assert used_processes(done)
    assert not inside.requests
    assert done.returncode == 5, done.stderr
    assert_refused(done)


def test_own_name_of_an_index_that_stays_public(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """The same name at the same public address: all is read."""
    public = threaded_simulator(host="127.0.0.2", links="root-relative")
    fill(public)
    mirror = Rebound(tmp_path, public, [("127.0.0.2", port_of(public))])
    assert mirror.sync_well("--log-level", "debug")["indexes"][0]["files_new"] == FILES


def test_own_name_in_one_process(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """The same without workers: a new connection to the index's own name is judged as well."""
    public = threaded_simulator(host="127.0.0.2", links="root-relative")
    inside = threaded_simulator(links="root-relative")
    fill(public)
    fill(inside)
    mirror = Rebound(tmp_path, public, [("127.0.0.2", port_of(public)), ("127.0.0.1", port_of(inside))])
    mirror.before += "\nimport aiohttp.connector as c; c._DNSCacheTable.expired = lambda self, key: True"
    mirror.before += "\nimport os; os.sched_getaffinity = lambda pid: {0}"
    done = mirror.sync("--json")
    assert not inside.requests
    assert done.returncode == 5, done.stderr
    assert_refused(done)


@needs_two_cores
def test_two_addresses_at_once(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """A private address beside a public one is not tried, also where the public one does not answer."""
    public = threaded_simulator(host="127.0.0.2")
    inside = threaded_simulator()
    fill(inside)
    mirror = Rebound(tmp_path, public, [])
    mirror.before = REBOUND.format(answers=[("", 0)]).replace(
        "return real(address, port, *arguments, **options)",
        f'return real("127.0.0.2", 9, *arguments, **options)'
        f' + real("127.0.0.1", {port_of(inside)}, *arguments, **options)',
    )
    done = mirror.sync("--json")
    assert not inside.requests
    assert done.returncode == 4, done.stderr


@needs_two_cores
def test_listed_by_the_configuration(threaded_simulator: Simulators, tmp_path: Path) -> None:
    """Where no root is read, the name is looked up before the workers begin, and all go by that answer."""
    public = threaded_simulator(host="127.0.0.2", links="root-relative")
    inside = threaded_simulator(links="root-relative")
    fill(public)
    fill(inside)
    mirror = Rebound(tmp_path, public, [("127.0.0.2", port_of(public)), ("127.0.0.1", port_of(inside))])
    names = ", ".join(f'"p{number}"' for number in range(FILES))
    mirror.configure(f'url = "{mirror.url}"\nlist = "config"\nprojects = [{names}]\nauth = {{ kind = "none" }}')
    mirror.url = None
    done = mirror.sync("--json")
    assert not inside.requests
    assert done.returncode == 5, done.stderr
    assert_refused(done)


def assert_refused(done: Done) -> None:
    failures: list[dict[str, Any]] = report_of(done)["failures"]
    assert {f["reason"] for f in failures} == {"redirect-refused"}, done.stderr
    assert all("allow-private" in f["detail"] for f in failures)
    assert not log_of(done, "project.failed")


NEVER_PUBLIC = [
    *("fec0::1", "feff::1", "192.0.0.1", "192.0.0.9", "192.0.0.170", "192.88.99.1", "198.18.0.1", "198.19.255.255"),
    *("100.64.0.1", "100.127.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "172.31.255.255", "0.1.2.3"),
    *("2001::1", "2001:2::1", "2001:10::1", "2001:db8::1", "3fff::1", "fc00::1", "100::1", "100:0:0:1::1", "5f00::1"),
    *(
        "64:ff9b:1::1",
        "64:ff9b::c000:1",
        "::ffff:192.0.0.1",
        "2002:c000:1::",
        "::1.2.3.4",
        "::ffff:0:8.8.8.8",
        "4000::1",
    ),
]

METADATA_SERVICES = [
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "100.100.100.200", "fd00:ec2::254"),
    *("fd00:ec2:0:0::254", "fd20:ce::254", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:6464:64c8::1"),
]


@pytest.mark.parametrize("address", NEVER_PUBLIC)
def test_never_public(address: str) -> None:
    """What the registries call not globally reachable is not public, whatever the interpreter's version thinks."""
    assert reach_of(address) < Reach.GLOBAL


@pytest.mark.parametrize("address", METADATA_SERVICES)
def test_metadata_services(address: str) -> None:
    """The addresses of clouds' metadata services are never contacted, in whichever form they are written."""
    assert reach_of(address) is Reach.FORBIDDEN


@pytest.mark.parametrize("address", ["8.8.8.8", "168.63.129.17", "192.0.1.1", "100.128.0.1", "2606:4700::1", "2a00::1"])
def test_public(address: str) -> None:
    """What lies beside those networks is public."""
    assert reach_of(address) is Reach.GLOBAL
