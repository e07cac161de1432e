"""The order of a bundle, and the states of its site that it builds on."""

from __future__ import annotations

import secrets

import msgspec

from mirror.errors import ConfigError
from mirror.state.frozen.shipments import ShipmentRow, load_chain, load_shipments
from mirror.state.frozen.snapshots import count_projects_at
from mirror.state.store import Store


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a bundle: a killed run is continued by the same order."""

    site: str
    target: str
    volume_size: int
    selection: str
    """Identifies the selection of the site's projects, to notice another configuration."""
    snapshot: str | None = None
    since: int | None = None
    full: bool = False
    valid_for_s: float | None = None
    """How long after it was made it should be applied; None: no end."""


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The position of a bundle in its site's chain."""

    chain: str
    sequence: int
    bases: tuple[ShipmentRow, ...]
    """The states that it applies on, the oldest first; none: it is complete."""


async def find_basis(store: Store, site: str, *, since: int | None, full: bool) -> Basis:
    """Return the states that the next bundle of a site builds on; the first one is complete.

    Raises ``ConfigError``.
    """
    chain = await load_chain(store, site)
    made = await load_shipments(store, site)
    sequence = made[-1].sequence + 1 if made else 1
    if full or (not made and since is None):
        return Basis(chain=chain or secrets.token_hex(16), sequence=sequence, bases=())
    first = made[-1].sequence if since is None and made else since
    bases = tuple(row for row in made if first is not None and row.sequence >= first)
    if not bases or bases[0].sequence != first:
        known = ", ".join(str(row.sequence) for row in made if row.needed) or "none"
        raise ConfigError(
            where="--since", problem=f"no bundle {first} was made for {site}; known are: {known}"
        )
    if not bases[0].needed:
        raise ConfigError(
            where="--since",
            problem=f"the history since bundle {first} was pruned (keep-history);"
            " make it with --full",
        )
    assert chain is not None
    return Basis(chain=chain, sequence=sequence, bases=bases)


async def check_known(store: Store, site: str) -> None:
    """Raise ``ConfigError`` where a site without a table in the configuration was sent less than
    everything before.
    """
    made = await load_shipments(store, site)
    if not made or not made[-1].needed:
        return
    sent, total = int(made[-1].state["projects"]), await count_projects_at(store, made[-1].revision)
    if sent < total:
        raise ConfigError(
            where="--site",
            problem=f"{site} was sent {sent} of {total} projects last, and this configuration has"
            f" no [[site]] {site}, so that it would get everything:"
            " name the right one by --config, or add the table",
        )
