"""``mirror bundle create``: make a bundle for a site, or one that repairs the files of a site."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import typer

from mirror.bundle import signing
from mirror.bundle.making.drafts import total_bytes
from mirror.bundle.manifest import Head
from mirror.bundle.volumes import SMALLEST_VOLUME
from mirror.cli.arguments.bundle import BundleCreateArguments
from mirror.cli.configuration import load_tree_config
from mirror.cli.displays import bytes_display
from mirror.cli.json_output import write_json
from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.cli.running import run_async
from mirror.cli.text import counted, size
from mirror.config import Config, SiteConfig, parse_duration, parse_size
from mirror.errors import ConfigError
from mirror.exit_codes import ExitCode
from mirror.holdings.opening import check_user, opened_holdings_for_reading
from mirror.jobs.bundle_create import BundleRequest, Dialog, create_bundle, create_repair
from mirror.jobs.bundle_sites import load_bundles
from mirror.jobs.prove import require_proof
from mirror.state.frozen.draft import BundleDraft
from mirror.upkeep.snapshot import check_name

_LONGEST_S = 100 * 366 * 86400


def create(options: GlobalOptions, given: BundleCreateArguments) -> ExitCode:
    """Create a bundle with the changes since a site's last one."""
    check_name(given.site, "site")
    _check_together(
        full=given.full,
        since=given.since,
        repair=given.repair,
        snapshot=given.snapshot,
        valid_for=given.valid_for,
    )
    config = load_tree_config(options)
    table = _find_site(config, given.site)
    key = _find_key(given.key or (table.key if table else None), unsigned=given.unsigned)
    run_async(check_user, config.mirror)
    _check_target(given.to, local=given.local)
    if given.require_proof:
        run_async(_prove, config, given.snapshot)
    request = BundleRequest(
        config=config,
        site=given.site,
        to=given.to.absolute(),
        key=key,
        volume_size=_volume_size(given.volume_size),
        snapshot=given.snapshot,
        since=given.since,
        full=given.full,
        valid_for_s=_valid_for(given.valid_for),
        env=dict(os.environ),
        accepts_withdrawn=given.accept_withdrawn,
    )
    report = _make(options, request, given.repair)
    if given.json:
        write_json({"format": 1, **report})
    else:
        _show_created(report)
    if report["outcome"] == "nothing" and given.repair is None:
        _show_unacknowledged(config, given.site)
    return ExitCode.PARTIAL if report.get("not_mended") else ExitCode.OK


def _make(options: GlobalOptions, request: BundleRequest, repair: Path | None) -> dict[str, Any]:
    dialog = Dialog(
        confirm_first=partial(_confirm_first, options, request.site),
        announce_touch=_announce_touch,
        progress=partial(bytes_display, options.is_interactive),
    )
    if repair is not None:
        return create_repair(request, repair, dialog)
    return create_bundle(request, dialog, wait_s=options.wait_s)


def _check_together(
    *,
    full: bool,
    since: int | None,
    repair: Path | None,
    snapshot: str | None,
    valid_for: str | None,
) -> None:
    """Raise ``ConfigError`` for options that exclude each other."""
    if sum((full, since is not None, repair is not None)) > 1:
        raise ConfigError(where="--full, --since, --repair", problem="expected one of them")
    if repair is not None and snapshot is not None:
        raise ConfigError(
            where="--snapshot", problem="a repair mends what was sent; expected no snapshot"
        )
    if repair is not None and valid_for is not None:
        raise ConfigError(
            where="--valid-for", problem="a repair fits one state only; expected no duration"
        )


def _find_site(config: Config, site: str) -> SiteConfig | None:
    """Return the table of a site; warn where only others have one."""
    table = next((s for s in config.sites if s.name == site), None)
    if table is None and config.sites:
        known = ", ".join(s.name for s in config.sites)
        write_error(
            f"warning: the configuration has no [[site]] {site}, so it gets everything; it has:"
            f" {known}"
        )
    return table


def _find_key(key: Path | None, *, unsigned: bool) -> Path | None:
    """Return the key that signs; None where the bundle is not signed. Raises ``ConfigError``."""
    if unsigned:
        return None
    if key is None:
        raise ConfigError(
            where="--key",
            problem="missing: name a key (`mirror bundle key FILE` makes one), or --unsigned",
        )
    signing.check_tool()
    if not key.exists() and not key.with_name(f"{key.name}.pub").exists():
        raise ConfigError(
            where="--key", problem=f"{key} is not there; `mirror bundle key {key}` makes one"
        )
    return key


def _check_target(to: Path, *, local: bool) -> None:
    try:
        place, top = to.stat(), Path("/").stat()
    except OSError as exc:
        raise ConfigError(
            where="--to", problem=f"{to}: {exc.strerror}; mount the medium, or make the folder"
        ) from exc
    if not to.is_dir():
        raise ConfigError(where="--to", problem=f"{to} is no folder")
    if place.st_dev == top.st_dev and not local:
        raise ConfigError(
            where="--to",
            problem=f"{to} lies on the file system of /:"
            " is the medium mounted? --local makes the bundle there all the same",
        )


async def _prove(config: Config, snapshot: str | None) -> None:

    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        await require_proof(config, holdings, os.environ, snapshot=snapshot)


def _show_unacknowledged(config: Config, site: str) -> None:

    rows = run_async(load_bundles, config, site)
    done = max((row.sequence for row in rows if row.acknowledged_at is not None), default=None)
    waiting = [
        str(row.sequence)
        for row in rows
        if row.acknowledged_at is None and row.sequence > (done or 0)
    ]
    if waiting:
        again = "--full" if done is None else f"--since {done}"
        write_error(
            f"not acknowledged yet: {', '.join(waiting)}; if a medium was lost,"
            f" make a bundle with {again}"
        )


def _valid_for(text: str | None) -> float | None:
    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as exc:
        raise ConfigError(where="--valid-for", problem='expected a duration such as "30d"') from exc
    if seconds is not None and not 1 <= seconds <= _LONGEST_S:
        raise ConfigError(where="--valid-for", problem="expected from 1 second to 100 years")
    return seconds


def _volume_size(text: str) -> int:

    try:
        value = parse_size(text)
    except ValueError as exc:
        raise ConfigError(where="--volume-size", problem='expected a size such as "4GB"') from exc
    if value < SMALLEST_VOLUME:
        raise ConfigError(
            where="--volume-size", problem=f"expected at least {SMALLEST_VOLUME} bytes"
        )
    return value


def _announce_touch(name: str) -> None:
    write_error(f"touch the key now: it signs {name}")


def _confirm_first(options: GlobalOptions, site: str, head: Head, draft: BundleDraft) -> bool:
    """Announce the first bundle for a site, and ask for it on a terminal: a typo in its name would
    send everything.
    """
    state = head.state
    what = (
        f"{counted(state['projects'], 'project')}, {counted(state['files'], 'file')},"
        f" {size(total_bytes(draft))}"
    )
    if options.is_interactive and sys.stdin is not None and sys.stdin.isatty():
        return typer.confirm(f"first bundle for the site {site}: {what}. Make it?", err=True)
    write_error(f"warning: first bundle for the site {site}: {what}")
    return True


def _show_created(report: dict[str, Any]) -> None:
    for item in report.get("not_mended", [])[:20]:
        write_out(f"can't be mended from here: {item['path']}; send a bundle made with --full")
    if report["outcome"] == "nothing":
        write_out(f"nothing to send to {report['site']}: its last bundle leads to this state")
        return
    what = [counted(report["files"], "file"), counted(report["pages"], "page")]
    if report["projects_removed"]:
        what.append(f"{counted(report['projects_removed'], 'project')} that left")
    write_out(
        f"{report['path']}: {', '.join(what)}, {size(report['bytes'])} in"
        f" {counted(report['volumes'], 'volume')}" + ("" if report["signed"] else "; NOT SIGNED")
    )
    if report["valid_until"]:
        write_out(
            f"to be applied until {report['valid_until']};"
            " the far side needs the receive.py in it, or a newer one: older ones refuse it"
        )
    write_out(
        "carry it across; README.txt in it describes the steps there, receipt.json comes back"
    )
