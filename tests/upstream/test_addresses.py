"""Which addresses an index may send us to."""

from __future__ import annotations

import socket

import pytest
from aiohttp import web

from mirror.errors import RedirectRefused, Unavailable
from mirror.upstream.connections.addresses import AddressRule, Reach, reach_of, reach_of_host
from mirror.upstream.session import RequestKind


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        pytest.param("127.0.0.1", Reach.LOOPBACK, id="loopback"),
        pytest.param("127.9.9.9", Reach.LOOPBACK, id="another loopback"),
        pytest.param("::1", Reach.LOOPBACK, id="IPv6 loopback"),
        pytest.param("::ffff:127.0.0.1", Reach.LOOPBACK, id="mapped loopback"),
        pytest.param("10.1.2.3", Reach.PRIVATE, id="private"),
        pytest.param("192.168.0.1", Reach.PRIVATE, id="home network"),
        pytest.param("100.64.0.1", Reach.PRIVATE, id="carrier-grade NAT"),
        pytest.param("fd00::1", Reach.PRIVATE, id="unique local"),
        pytest.param("::ffff:10.0.0.1", Reach.PRIVATE, id="mapped private"),
        pytest.param("64:ff9b::a00:1", Reach.PRIVATE, id="private behind NAT64"),
        pytest.param("2002:a00:1::", Reach.PRIVATE, id="private behind 6to4"),
        pytest.param("1.1.1.1", Reach.GLOBAL, id="global"),
        pytest.param("2606:4700::1111", Reach.GLOBAL, id="global IPv6"),
        pytest.param("64:ff9b::101:101", Reach.GLOBAL, id="global behind NAT64"),
        pytest.param("169.254.169.254", Reach.FORBIDDEN, id="link-local"),
        pytest.param("fe80::1%eth0", Reach.FORBIDDEN, id="link-local IPv6 with a zone"),
        pytest.param("64:ff9b::a9fe:a9fe", Reach.FORBIDDEN, id="link-local behind NAT64"),
        pytest.param("224.0.0.1", Reach.FORBIDDEN, id="multicast"),
        pytest.param("ff02::1", Reach.FORBIDDEN, id="multicast IPv6"),
        pytest.param("0.0.0.0", Reach.FORBIDDEN, id="unspecified"),
        pytest.param("::", Reach.FORBIDDEN, id="unspecified IPv6"),
        pytest.param("240.0.0.1", Reach.FORBIDDEN, id="reserved"),
        pytest.param("255.255.255.255", Reach.FORBIDDEN, id="broadcast"),
    ],
)
def test_reach_of_an_address(address, reach):
    """An address is judged by what it stands for, also inside another one."""
    assert reach_of(address) is reach


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        pytest.param("localhost", Reach.LOOPBACK, id="localhost"),
        pytest.param("LOCALHOST.", Reach.LOOPBACK, id="localhost, fully qualified"),
        pytest.param("a.localhost", Reach.LOOPBACK, id="below localhost"),
        pytest.param("[::1]", Reach.LOOPBACK, id="in brackets"),
        pytest.param("2130706433", Reach.LOOPBACK, id="as one number"),
        pytest.param("127.1", Reach.LOOPBACK, id="shortened"),
        pytest.param("index.example", None, id="a name"),
        pytest.param("", None, id="empty"),
    ],
)
def test_reach_of_a_host(host, reach):
    """A host's text is judged as far as it says something."""
    assert reach_of_host(host) is reach


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("own", [None, Reach.LOOPBACK, Reach.PRIVATE, Reach.GLOBAL, Reach.FORBIDDEN])
def test_a_foreign_host_is_at_least_as_public_as_the_index(own, allow_private):
    """Loopback may lead anywhere, private to private and global, global and unknown to global only."""
    rule = AddressRule(allow_private=allow_private)
    if own is not None:
        rule.learn_own(own)
    allowed = {reach for reach in Reach if rule.refusal(reach) is None}
    expected = {
        None: {Reach.GLOBAL},
        Reach.LOOPBACK: {Reach.LOOPBACK, Reach.PRIVATE, Reach.GLOBAL},
        Reach.PRIVATE: {Reach.PRIVATE, Reach.GLOBAL},
        Reach.GLOBAL: {Reach.GLOBAL},
        Reach.FORBIDDEN: {Reach.PRIVATE, Reach.GLOBAL},
    }[own]
    assert allowed == (set(Reach) if allow_private else expected)


def test_the_first_address_of_the_index_counts():
    """An index that answers from another address later does not loosen the rule."""
    rule = AddressRule(allow_private=False)
    rule.learn_own_address("1.1.1.1")
    rule.learn_own_address("127.0.0.1")
    rule.learn_own(Reach.LOOPBACK)
    assert rule.refusal(Reach.PRIVATE) is not None


def test_sockets_are_made_for_allowed_addresses_only():
    """The connect itself is refused, and the record of a request says so."""
    rule = AddressRule(allow_private=False)
    rule.learn_own_address("10.0.0.1")
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    with pytest.raises(OSError, match="loopback"):
        rule.connect_foreign((*info, ("127.0.0.1", 1)))
    attempts = rule.watch()
    with pytest.raises(OSError, match="link-local"):
        rule.connect_foreign((*info, ("169.254.0.1", 1)))
    rule.connect_foreign((*info, ("10.0.0.2", 1))).close()
    assert (attempts.tried, attempts.refused is not None) == (1, True)
    unwatched = AddressRule(allow_private=True)
    unwatched.connect_foreign((*info, ("127.0.0.1", 1))).close()


async def redirecting(serve, location):
    async def index(request):
        return web.Response(status=302, headers={"Location": location})

    return await serve(index)


async def test_a_public_index_does_not_lead_to_loopback(serve, open_session):
    """A host that resolves to loopback is refused at connect for an index that counts as public, unless allowed."""

    async def ok(request):
        return web.Response(body=b"inside")

    inside = await serve(ok)
    own = await redirecting(serve, f"http://127.0.0.1:{inside.port}/")
    for allow_private in (False, True):
        session = await open_session(own.url, allow_private=allow_private)
        # What a public address of the index would have taught; tests stay on loopback.
        session._transport._rule.learn_own_address("1.1.1.1")
        if allow_private:
            async with session.get(own.url, kind=RequestKind.FILE, headers={}) as response:
                assert await response.read_at_most(99) == b"inside"
        else:
            with pytest.raises(RedirectRefused, match="allow-private"):
                await session.get(own.url, kind=RequestKind.FILE, headers={}).__aenter__()
    assert len(inside.requests) == 1


async def test_a_name_is_judged_by_what_it_resolves_to(serve, open_session, monkeypatch):
    """A name that resolves to loopback is refused when it is connected to."""
    own = await redirecting(serve, "http://innocent.example:9/")
    real = socket.getaddrinfo

    def resolve(host, *arguments, **options):
        return real("127.0.0.1" if host == "innocent.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    session = await open_session(own.url)
    session._transport._rule.learn_own_address("1.1.1.1")
    with pytest.raises(RedirectRefused, match="loopback"):
        await session.get(own.url, kind=RequestKind.FILE, headers={}).__aenter__()
    allowed = await open_session(own.url)
    # The same name from an index on loopback: allowed, and nothing listens there.
    with pytest.raises(Unavailable, match="no connection"):
        await allowed.get(own.url, kind=RequestKind.FILE, headers={}).__aenter__()
