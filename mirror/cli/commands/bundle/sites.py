"""``mirror bundle list|acknowledge|forget|abandon``: the sites beyond the gap and their bundles."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from mirror.cli.arguments.bundle import (
    BundleAbandonArguments,
    BundleAcknowledgeArguments,
    BundleForgetArguments,
    BundleListArguments,
)
from mirror.cli.configuration import load_tree_config
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, fitted_table, safe, size, stdout_width
from mirror.core.times import utc_text
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.jobs.bundle_sites import abandon as abandon_bundle
from mirror.jobs.bundle_sites import acknowledge as record_receipt
from mirror.jobs.bundle_sites import forget as forget_site
from mirror.jobs.bundle_sites import load_bundles, load_unfinished
from mirror.jobs.wishes import TakenWishes, read_list, take_wishes
from mirror.state.frozen.shipments import ShipmentRow


def show(options: GlobalOptions, given: BundleListArguments) -> ExitCode:
    """List the bundles of each site, and the unfinished ones."""
    config = load_tree_config(options)
    rows = run_async(load_bundles, config, given.site)
    begun = [
        {"site": name, "begun_at": utc_text(pin.made_at), "revision": pin.revision}
        for name, pin in run_async(load_unfinished, config, given.site)
    ]
    if given.json:
        write_json(
            {"format": 1, "bundles": [_shipment_json(row) for row in rows], "unfinished": begun}
        )
        return ExitCode.OK
    if not rows:
        write_out(
            "no bundles; make one with `mirror bundle create --site NAME --to DIR --key FILE`"
        )
    else:
        head = ("site", "bundle", "made", "builds on", "size", "acknowledged", "damage")
        lines = [
            (
                row.site,
                str(row.sequence),
                utc_text(row.made_at),
                "-" if row.base is None else str(row.base),
                size(row.bytes),
                "-" if row.acknowledged_at is None else utc_text(row.acknowledged_at),
                "-" if row.damage is None else str(row.damage),
            )
            for row in rows
        ]
        write_out(
            "\n".join(fitted_table([head, *lines], stdout_width(), right=frozenset({1, 3, 4, 6})))
        )
    for found in begun:
        write_out(
            f"begun for {found['site']} at {found['begun_at']} and not completed: `mirror bundle"
            f" create --site {found['site']} …` completes it or starts over;"
            " until then its files are kept"
        )
    return ExitCode.OK


def acknowledge(options: GlobalOptions, given: BundleAcknowledgeArguments) -> ExitCode:
    """Record a receipt of the far side, and take over wishes."""
    if given.receipt is None and given.wishes is None:
        problem = "name a receipt, a list of wishes by --wishes FILE, or both"
        raise ConfigError(where="RECEIPT", problem=problem)
    config = load_tree_config(options)
    names = read_list(given.wishes) if given.wishes is not None else ()
    report: dict[str, Any] = {"format": 1}
    lines: list[str] = []
    if given.receipt is not None:
        row, changes = run_async(
            partial(record_receipt, config, given.receipt, wait_s=options.wait_s)
        )
        report |= {"bundle": _shipment_json(row), "changes": changes}
        lines += _acknowledged_lines(row, changes, given.receipt)
    if given.wishes is not None:
        taken = run_async(take_wishes, config, names)
        no_room = list(taken.no_room)
        report["wishes"] = {"new": list(taken.new), "known": taken.known, "no_room": no_room}
        lines += _wish_lines(taken)
    if given.json:
        write_json(report)
    else:
        write_out("\n".join(lines))
    return ExitCode.OK


def _acknowledged_lines(row: ShipmentRow, changes: list[str], receipt: Path) -> list[str]:
    lines = [f"bundle {row.sequence} is acknowledged by {row.site}", *changes]
    if row.damage:
        damage = counted(row.damage, "damaged file")
        lines.append(f"it reports {damage}: mirror bundle create --repair {receipt} …")
    return lines


def _wish_lines(taken: TakenWishes) -> list[str]:
    known = f"; {taken.known:,} more were known" if taken.known else ""
    new = counted(len(taken.new), "new name")
    lines = [f"{new}{known}: see `mirror want review`"]
    if taken.no_room:
        first = ", ".join(taken.no_room[:5])
        names = counted(len(taken.no_room), "name")
        lines.append(f"no room for {names} ({first}): review the list, then take the file again")
    return lines


def forget(options: GlobalOptions, given: BundleForgetArguments) -> ExitCode:
    """Remove a site and its records: chain and bundles."""
    begun, bundles = forget_site(load_tree_config(options), given.site, wait_s=options.wait_s)
    if not begun and not bundles:
        raise ConfigError(
            where="SITE",
            problem=f"no bundle was made for {safe(given.site)};"
            " `mirror bundle list` shows all sites",
        )
    if given.json:
        write_json({"format": 1, "outcome": "forgotten", "site": given.site, "bundles": bundles})
    else:
        write_out(
            f"{given.site} is forgotten, with {counted(bundles, 'bundle')};"
            " the next bundle for it is complete and begins a new chain,"
            " which the far side takes by --new-chain"
        )
    return ExitCode.OK


def abandon(options: GlobalOptions, given: BundleAbandonArguments) -> ExitCode:
    """Drop an unfinished bundle of a site."""
    places = abandon_bundle(load_tree_config(options), given.site, wait_s=options.wait_s)
    if not places:
        raise ConfigError(
            where="SITE",
            problem=f"nothing was begun for {safe(given.site)};"
            " `mirror bundle list` shows what was",
        )
    written = [place for place in places if place]
    if given.json:
        write_json({"format": 1, "outcome": "abandoned", "site": given.site, "folders": written})
        return ExitCode.OK
    write_out(f"what was begun for {given.site} is dropped")
    for place in written:
        write_out(f"it was written to {place}: what is left of it must not be carried across")
    return ExitCode.OK


def _shipment_json(row: ShipmentRow) -> dict[str, Any]:
    return {
        "site": row.site,
        "chain": row.chain,
        "sequence": row.sequence,
        "digest": row.digest,
        "base": row.base,
        "revision": row.revision,
        "state": dict(row.state),
        "volumes": row.volumes,
        "bytes": row.bytes,
        "made_at": utc_text(row.made_at),
        "acknowledged_at": None if row.acknowledged_at is None else utc_text(row.acknowledged_at),
        "free_bytes": row.free_bytes,
        "damage": row.damage,
    }
