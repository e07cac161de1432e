"""Whose connection it is, as the limits count it. Pure."""

from __future__ import annotations

import ipaddress

_IPV6_PREFIX = 64
"""Length of the prefix that a network assigns to one customer."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """Return an address, an IPv4 address in IPv6 form as IPv4; None for another text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def client_key(address: Address) -> str:
    """Return the key under which clients are counted: an IPv4 address, or an IPv6 network."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
