"""Configurations for clients that install from the mirror, and from nowhere else; pure.

They contain no password: a comment names the place from which the client reads one. An address of
plain http beyond this machine gets a warning, and the setting with which the client accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NAME = "mirror"
"""The index's name for clients that need one; poetry's and uv's variables contain it."""

_UPPER = NAME.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAddress:
    """How a client reaches the index."""

    url: str
    """Of the index, as it was written; it has no characters that need quoting."""
    host: str
    """Host and port, as in ``url``."""
    is_exposed: bool
    """Whether it is plain http to another machine."""


def render_client_config(client: str, address: ClientAddress) -> str:
    """Return the configuration of one client of ``CLIENTS``, with comments for the person
    installing it.
    """
    head, render = _RENDERED[client]
    lines = [*head, *(_warning(address) if address.is_exposed else ()), *render(address)]
    return "\n".join(lines) + "\n"


def _warning(address: ClientAddress) -> list[str]:
    return [
        f"# WARNING: http to {address.host} is not encrypted, and nothing proves that this is the",
        (
            "# mirror: anyone on the network path can replace the installed files."
            " Serve the mirror by https."
        ),
    ]


def _pip(address: ClientAddress) -> list[str]:
    trusted = [f"trusted-host = {address.host}"] if address.is_exposed else []
    return ["[global]", f"index-url = {address.url}", *trusted]


def _uv(address: ClientAddress) -> list[str]:
    return ["[[index]]", f'name = "{NAME}"', f'url = "{address.url}"', "default = true"]


def _poetry(address: ClientAddress) -> list[str]:
    head = ["[[tool.poetry.source]]", f'name = "{NAME}"']
    return [*head, f'url = "{address.url}"', 'priority = "primary"']


def _pdm(address: ClientAddress) -> list[str]:
    verify = ["verify_ssl = false"] if address.is_exposed else []
    return ["[[tool.pdm.source]]", 'name = "pypi"', f'url = "{address.url}"', *verify]


def _hatch(address: ClientAddress) -> list[str]:
    trusted = [f'PIP_TRUSTED_HOST = "{address.host}"'] if address.is_exposed else []
    return [
        "[tool.hatch.envs.default.env-vars]",
        f'PIP_INDEX_URL = "{address.url}"',
        *trusted,
        f'UV_DEFAULT_INDEX = "{address.url}"',
    ]


def _pipenv(address: ClientAddress) -> list[str]:
    verify = "false" if address.is_exposed else "true"
    return ["[[source]]", f'name = "{NAME}"', f'url = "{address.url}"', f"verify_ssl = {verify}"]


_RENDERED: Mapping[str, tuple[tuple[str, ...], Callable[[ClientAddress], list[str]]]] = {
    "pip": (
        (
            (
                "# pip: ~/.config/pip/pip.conf for one user, /etc/pip.conf for all."
                " Add no extra-index-url:"
            ),
            "# pip takes the highest version of all indexes.",
            "# A password is read from ~/.netrc: machine HOST login USER password PASSWORD",
        ),
        _pip,
    ),
    "uv": (
        (
            (
                "# uv: ~/.config/uv/uv.toml for one user, /etc/uv/uv.toml for all;"
                " in a pyproject.toml:"
            ),
            "# [[tool.uv.index]].",
            (
                f"# A password is read from UV_INDEX_{_UPPER}_USERNAME and"
                f" UV_INDEX_{_UPPER}_PASSWORD, or ~/.netrc."
            ),
        ),
        _uv,
    ),
    "poetry": (
        (
            "# Poetry: add this to pyproject.toml. As a primary source it replaces PyPI.",
            (
                f"# A password is read from POETRY_HTTP_BASIC_{_UPPER}_USERNAME and"
                f" POETRY_HTTP_BASIC_{_UPPER}_PASSWORD,"
            ),
            f"# or from the keyring, where `poetry config http-basic.{NAME} USER` puts it.",
        ),
        _poetry,
    ),
    "pdm": (
        (
            "# PDM: add this to pyproject.toml. With the name pypi it replaces PyPI.",
            "# A password is read from ~/.netrc: machine HOST login USER password PASSWORD",
        ),
        _pdm,
    ),
    "hatch": (
        (
            (
                "# Hatch: add this to pyproject.toml. Hatch installs by pip or uv,"
                " and its own environments"
            ),
            ("# (hatch-build, hatch-test, …) follow pip.conf and uv.toml: configure these too."),
            "# A password is read from ~/.netrc: machine HOST login USER password PASSWORD",
        ),
        _hatch,
    ),
    "pipenv": (
        (
            "# pipenv: put this into the Pipfile, in the place of the [[source]] that is there.",
            "# A password is read from ~/.netrc: machine HOST login USER password PASSWORD",
        ),
        _pipenv,
    ),
}
CLIENTS = tuple(_RENDERED)
"""The names of all clients, in the order in which they are shown."""
