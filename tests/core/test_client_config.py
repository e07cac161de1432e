"""Configurations for clients: what is in them, whichever the client; what the clients do with them is tested by them."""

from __future__ import annotations

import pytest

from mirror.core.words.client_config import CLIENTS, ClientAddress, render_client_config

URL = "http://mirror.example:8080/simple/"
TRUST = {
    "pip": "trusted-host = mirror.example:8080",
    "pdm": "verify_ssl = false",
    "hatch": 'PIP_TRUSTED_HOST = "mirror.example:8080"',
    "pipenv": "verify_ssl = false",
}
"""The setting by which a client accepts plain http."""


@pytest.mark.parametrize("is_exposed", [False, True], ids=["safe", "exposed"])
@pytest.mark.parametrize("client", CLIENTS)
def test_client_config(client: str, is_exposed: bool) -> None:
    """Each has the address and says where a password comes from; a warning, and trust, only where it is needed."""
    address = ClientAddress(url=URL, host="mirror.example:8080", is_exposed=is_exposed)
    lines = render_client_config(client, address).splitlines()
    assert any(URL in line for line in lines)
    assert any("password" in line.lower() or "configure these too" in line for line in lines)
    assert any(line.startswith("# WARNING: http to mirror.example:8080") for line in lines) is is_exposed
    assert (TRUST.get(client, "") in lines) is (is_exposed and client in TRUST)
