"""Whose connection it is, as the limits count it. Pure."""

from __future__ import annotations

import ipaddress

_IPV6_PREFIX = 64
"""What one customer of a network has."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """Return an address; one of IPv4 that is written as IPv6 is that of IPv4. None for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def client_key(address: Address) -> str:
    """Return what is counted together: an address of IPv4, a network of IPv6."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
