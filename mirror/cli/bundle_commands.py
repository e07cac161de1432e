"""``mirror bundle key|create|list|inspect|verify|receive|acknowledge|forget|abandon``: carry changes across an air gap."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mirror.cli.options import GlobalOptions
from mirror.cli.outcome import write_error, write_out
from mirror.cli.text import counted, safe, size, table
from mirror.errors import BundleError, ConfigError, StateError, TreeError
from mirror.exit_codes import ExitCode

if TYPE_CHECKING:
    from mirror.bundle.create import Basis, Order
    from mirror.bundle.look import Look
    from mirror.bundle.manifest import Head
    from mirror.bundle.repair import Receipt
    from mirror.bundle.volumes import Told
    from mirror.config import Config
    from mirror.holdings.holdings import Holdings
    from mirror.state.frozen.plan import Plan
    from mirror.state.frozen.shipments import ShipmentRow
    from mirror.state.frozen.snapshots import SnapshotRow
    from mirror.tree.layout import Layout

_MOST_LINES = 200
_LONGEST_S = 100 * 366 * 86400
_JSON = Annotated[bool, typer.Option("--json", help="Print one report object on stdout.")]
_MEDIA = Annotated[list[Path], typer.Argument(metavar="DIR", help="The bundle; several when it is spread over media.")]


def key(
    options: GlobalOptions,  # noqa: ARG001 - every command takes them
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; made unless it is there.")],
    principal: Annotated[
        str, typer.Option("--principal", metavar="NAME", help="What the key is called on the far side.")
    ] = "mirror",
    site: Annotated[
        str | None, typer.Option("--site", metavar="NAME", help="The key signs for this site only; else for all.")
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Do not ask for one: for a key that only a service reads.")
    ] = False,
    json: _JSON = False,
) -> ExitCode:
    """Make a key to sign bundles with, and the allowed_signers file that tells the far side to trust it."""
    from mirror.bundle import signing
    from mirror.upkeep.snapshot import check_name

    signing.check_tool()
    if not principal.isascii() or not principal.isprintable() or any(c in principal for c in ' ",*?!'):
        raise ConfigError(where="--principal", problem="expected a plain word")
    if site is not None:
        check_name(site, "site")
    public = path.with_name(f"{path.name}.pub")
    is_new = not path.exists() and not public.exists()
    if is_new:
        signing.make_key(path, protect=not no_passphrase)
    line = signing.allowed_signer(path, principal, site)
    trust = path.with_name("allowed_signers")
    try:
        known = trust.read_text() if trust.exists() else ""
        if line not in known.splitlines(keepends=True):
            trust.write_text(known + line)
    except OSError as exc:
        raise BundleError(problem=f"{trust}: {exc.strerror}") from exc
    if json:
        report = {"format": 1, "key": str(path), "made": is_new, "allowed_signers": str(trust), "line": line.strip()}
        _write_json(report)
    else:
        write_out(f"{'made' if is_new else 'found'} {path}; sign with `mirror bundle create --key {path}`")
        write_out(f"carry {trust} to the far side, not on the media of the bundles: it says whom to trust there")
    return ExitCode.OK


def create(
    options: GlobalOptions,
    site: Annotated[str, typer.Option("--site", metavar="NAME", help="For which place beyond the gap.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The medium: a folder is made below it.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Signs it; else the site's key of the configuration.")
    ] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Do not sign it: the far side refuses that.")] = False,
    volume_size: Annotated[
        str, typer.Option("--volume-size", metavar="SIZE", help="The largest file; the default suits FAT media.")
    ] = "4GB",
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="NAME", help="Send this state instead of the newest.")
    ] = None,
    since: Annotated[
        int | None, typer.Option("--since", metavar="SEQUENCE", help="Build on an older bundle: media got lost.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Everything, for a new site or a new start.")] = False,
    repair: Annotated[
        Path | None, typer.Option("--repair", metavar="LIST", help="Mend what the far side's list or receipt names.")
    ] = None,
    valid_for: Annotated[
        str | None,
        typer.Option("--valid-for", metavar="DURATION", help="How long it may be applied; needs a receive.py of 0.2."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Make it on the file system of /, where no medium is mounted.")
    ] = False,
    require_proof: Annotated[
        bool, typer.Option("--require-proof", help="Refuse while a want does not install (exit code 7).")
    ] = False,
    json: _JSON = False,
) -> ExitCode:
    """Make a bundle of what leads a site from its last bundle to now."""
    import anyio

    from mirror.bundle import signing
    from mirror.holdings.opening import check_user
    from mirror.upkeep.snapshot import check_name

    check_name(site, "site")
    if sum((full, since is not None, repair is not None)) > 1:
        raise ConfigError(where="--full, --since, --repair", problem="expected one of them")
    if repair is not None and snapshot is not None:
        raise ConfigError(where="--snapshot", problem="a repair mends what was sent; expected no snapshot")
    if repair is not None and valid_for is not None:
        raise ConfigError(where="--valid-for", problem="a repair fits one state only; expected no duration")
    config = options.load_tree_config()
    table = next((s for s in config.sites if s.name == site), None)
    if table is None and config.sites:
        known = ", ".join(s.name for s in config.sites)
        write_error(f"warning: the configuration has no [[site]] {site}, so it gets everything; it has: {known}")
    key = key or (table.key if table else None)
    if unsigned:
        key = None
    elif key is None:
        raise ConfigError(
            where="--key", problem="missing: name a key (`mirror bundle key FILE` makes one), or --unsigned"
        )
    else:
        signing.check_tool()
        if not key.exists() and not key.with_name(f"{key.name}.pub").exists():
            raise ConfigError(where="--key", problem=f"{key} is not there; `mirror bundle key {key}` makes one")
    anyio.run(check_user, config.mirror)
    _check_target(to, local=local)
    if require_proof:
        anyio.run(_prove, config, snapshot)
    wanted = _Wanted(
        config, site, to.absolute(), key, _volume_size(volume_size), snapshot, since, full, _valid_for(valid_for)
    )
    report = _repair(options, wanted, repair) if repair is not None else _create(options, wanted)
    if json:
        _write_json({"format": 1, **report})
    else:
        _show_created(report)
    if report["outcome"] == "nothing" and repair is None:
        _show_unacknowledged(config, site)
    return ExitCode.PARTIAL if report.get("not_mended") else ExitCode.OK


def _check_target(to: Path, *, local: bool) -> None:
    try:
        place, top = to.stat(), Path("/").stat()
    except OSError as exc:
        raise ConfigError(where="--to", problem=f"{to}: {exc.strerror}; mount the medium, or make the folder") from exc
    if not to.is_dir():
        raise ConfigError(where="--to", problem=f"{to} is no folder")
    if place.st_dev == top.st_dev and not local:
        raise ConfigError(
            where="--to",
            problem=f"{to} lies on the file system of /: is the medium mounted? --local makes the bundle there all the same",
        )


async def _prove(config: Config, snapshot: str | None) -> None:
    import os

    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.jobs.prove import require_proof

    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        await require_proof(config, holdings, os.environ, snapshot=snapshot)


def _show_unacknowledged(config: Config, site: str) -> None:
    import anyio

    rows = anyio.run(_load_shipments, config, site)
    done = max((row.sequence for row in rows if row.acknowledged_at is not None), default=None)
    waiting = [str(row.sequence) for row in rows if row.acknowledged_at is None and row.sequence > (done or 0)]
    if waiting:
        again = "--full" if done is None else f"--since {done}"
        write_error(f"not acknowledged yet: {', '.join(waiting)}; if a medium was lost, make a bundle with {again}")


class _Wanted(NamedTuple):
    config: Config
    site: str
    to: Path
    key: Path | None
    volume_size: int
    snapshot: str | None
    since: int | None
    full: bool
    valid_for_s: float | None = None


class _Job(NamedTuple):
    pin: SnapshotRow
    order: Order
    basis: Basis


def _valid_for(text: str | None) -> float | None:
    from mirror.config import parse_duration

    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as exc:
        raise ConfigError(where="--valid-for", problem='expected a duration such as "30d"') from exc
    if seconds is not None and not 1 <= seconds <= _LONGEST_S:
        raise ConfigError(where="--valid-for", problem="expected from 1 second to 100 years")
    return seconds


def _volume_size(text: str) -> int:
    from mirror.bundle.volumes import SMALLEST_VOLUME
    from mirror.config import parse_size

    try:
        value = parse_size(text)
    except ValueError as exc:
        raise ConfigError(where="--volume-size", problem='expected a size such as "4GB"') from exc
    if value < SMALLEST_VOLUME:
        raise ConfigError(where="--volume-size", problem=f"expected at least {SMALLEST_VOLUME} bytes")
    return value


def _create(options: GlobalOptions, wanted: _Wanted) -> dict[str, Any]:
    import anyio

    from mirror.bundle import create as work
    from mirror.bundle.agent import unlocked_key
    from mirror.holdings.opening import check_user
    from mirror.state.frozen.plan import open_plan
    from mirror.tree.layout import Layout
    from mirror.tree.lock import hold

    layout = Layout(wanted.config.mirror.root)
    if not layout.root.is_dir():
        raise ConfigError(where="--root", problem=f"{layout.root} is not there")
    anyio.run(check_user, wanted.config.mirror)
    # One bundle at a time: the tree's own lock is only held to freeze and to enter.
    with hold(layout.root / "bundle.lock", wait_s=options.wait_s):
        job = anyio.run(_prepare, options, wanted, layout)
        if job is None:
            return {"outcome": "nothing", "site": wanted.site}
        with open_plan(work.plan_path(layout, job.pin.name)) as plan:
            head = work.head_of(plan)
            directory = work.bundle_directory(wanted.to, head)
            if (
                job.basis.sequence == 1
                and not plan.meta("directory")
                and not _confirm_first(options, wanted, head, plan)
            ):
                anyio.run(_abandon, options, wanted.config, wanted.site)
                raise ConfigError(where="--site", problem=f"{wanted.site} was not confirmed, and no bundle was made")
            progress = _shown(options, work.total_bytes(plan), f"writing {directory.name}")
            key = work.Signing(key=wanted.key, announce=_announce_touch)
            with unlocked_key(wanted.key):
                digest = work.write_bundle(plan, work.sources_of(layout, job.pin.name), directory, key, progress)
            report = {
                "outcome": "made",
                **work.summary(head, plan, directory),
                "digest": digest,
                "signed": wanted.key is not None,
            }
        anyio.run(_enter, options, wanted, job, digest)
    return report


def _announce_touch(name: str) -> None:
    write_error(f"touch the key now: it signs {name}")


def _confirm_first(options: GlobalOptions, wanted: _Wanted, head: Head, plan: Plan) -> bool:
    """Announce the first bundle for a site, and ask for it on a terminal: a typo in its name would send everything."""
    from mirror.bundle.create import total_bytes

    state = head.state
    what = f"{counted(state['projects'], 'project')}, {counted(state['files'], 'file')}, {size(total_bytes(plan))}"
    if options.is_interactive and sys.stdin is not None and sys.stdin.isatty():
        return typer.confirm(f"first bundle for the site {wanted.site}: {what}. Make it?", err=True)
    write_error(f"warning: first bundle for the site {wanted.site}: {what}")
    return True


async def _abandon(options: GlobalOptions, config: Config, site: str) -> list[str]:
    """Drop the unfinished bundle of a site; return the folders that were written to."""
    from mirror.bundle import create as work
    from mirror.state.frozen.plan import open_plan
    from mirror.state.frozen.snapshots import Kind, load_snapshots
    from mirror.upkeep import snapshot as frozen

    places = []
    async with _opened(options, config) as holdings:
        for pin in await load_snapshots(holdings.store, Kind.PIN):
            if pin.name.rpartition("-")[0] != site:
                continue
            with open_plan(work.plan_path(holdings.layout, pin.name)) as plan:
                places.append(str(plan.meta("directory") or ""))
                work.clear_begun(plan, is_abandoned=True)
            await frozen.remove(holdings, pin)
    return places


def abandon(
    options: GlobalOptions,
    site: Annotated[str, typer.Argument(metavar="SITE", help="For which place beyond the gap.")],
    json: _JSON = False,
) -> ExitCode:
    """Drop a bundle that was begun for a site and not completed."""
    import anyio

    from mirror.tree.lock import hold

    config = options.load_tree_config()
    with hold(config.mirror.root / "bundle.lock", wait_s=options.wait_s):
        places = anyio.run(_abandon, options, config, site)
    if not places:
        raise ConfigError(
            where="SITE", problem=f"nothing was begun for {safe(site)}; `mirror bundle list` shows what was"
        )
    written = [place for place in places if place]
    if json:
        _write_json({"format": 1, "outcome": "abandoned", "site": site, "folders": written})
        return ExitCode.OK
    write_out(f"what was begun for {site} is dropped")
    for place in written:
        write_out(f"it was written to {place}: what is left of it must not be carried across")
    return ExitCode.OK


def forget(
    options: GlobalOptions,
    site: Annotated[str, typer.Argument(metavar="SITE", help="The place beyond the gap.")],
    json: _JSON = False,
) -> ExitCode:
    """Remove a site and all that is kept for it: its chain, its bundles, and what was begun."""
    import anyio

    from mirror.bundle.create import forget_site
    from mirror.tree.lock import hold

    config = options.load_tree_config()

    async def run() -> int:
        async with _opened(options, config) as holdings:
            return await forget_site(holdings.store, holdings.layout, site)

    with hold(config.mirror.root / "bundle.lock", wait_s=options.wait_s):
        begun = anyio.run(_abandon, options, config, site)
        bundles = anyio.run(run)
    if not begun and not bundles:
        raise ConfigError(
            where="SITE", problem=f"no bundle was made for {safe(site)}; `mirror bundle list` shows all sites"
        )
    if json:
        _write_json({"format": 1, "outcome": "forgotten", "site": site, "bundles": bundles})
    else:
        write_out(
            f"{site} is forgotten, with {counted(bundles, 'bundle')}; the next bundle for it is complete and begins a new chain,"
            " which the far side takes by --new-chain"
        )
    return ExitCode.OK


async def _prepare(options: GlobalOptions, wanted: _Wanted, layout: Layout) -> _Job | None:
    """Freeze and plan a bundle, or find the one that an interrupted run has planned; None: there is nothing to send."""
    import time

    from mirror.bundle import create as work
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.state.frozen.plan import open_plan
    from mirror.upkeep import snapshot as frozen

    async with _opened(options, wanted.config) as holdings:
        order = _order(wanted)
        site = next((s for s in wanted.config.sites if s.name == wanted.site), None)
        if site is None:
            await work.check_known(holdings.store, wanted.site)
        basis = await work.find_basis(holdings.store, wanted.site, since=wanted.since, full=wanted.full)
        pin = await _continued_pin(holdings, wanted.site, order, basis)
        if pin is not None:
            return _Job(pin, order, basis)
        pin = await frozen.freeze_pin(
            holdings,
            f"{wanted.site}-{basis.sequence:06d}",
            wants=None if site is None or site.takes_all else site.wants(),
            snapshot=wanted.snapshot,
        )
    settings, limits = wanted.config.mirror, wanted.config.limits
    with open_plan(work.plan_path(layout, pin.name)) as plan:
        async with opened_holdings_for_reading(settings, limits) as holdings:
            has_news = await work.make_plan(plan, holdings.store, layout, pin, order, basis, now=time.time())
    if has_news:
        return _Job(pin, order, basis)
    async with _opened(options, wanted.config) as holdings:
        await frozen.remove(holdings, pin)
    return None


async def _continued_pin(holdings: Holdings, site: str, order: Order, basis: Basis) -> SnapshotRow | None:
    """Return the pin of an interrupted run with this order; pins of other orders for the site are
    removed.
    """
    from mirror.bundle import create as work
    from mirror.state.frozen.plan import open_plan
    from mirror.state.frozen.snapshots import Kind, load_snapshots
    from mirror.upkeep import snapshot as frozen

    await frozen.clear_interrupted(holdings)
    newest = await frozen.load_revision_to_freeze(holdings.store, order.snapshot)
    for pin in await load_snapshots(holdings.store, Kind.PIN):
        if pin.name.rpartition("-")[0] != site:
            continue
        with open_plan(work.plan_path(holdings.layout, pin.name)) as plan:
            if work.is_continued(plan, order, basis, is_newest=pin.revision == newest):
                return pin
            work.clear_begun(plan)
        await frozen.remove(holdings, pin)
    return None


def _order(wanted: _Wanted) -> Order:
    from mirror.bundle.create import Order

    site = next((s for s in wanted.config.sites if s.name == wanted.site), None)
    selection = "" if site is None else " ".join([*site.projects, "-", *site.exclude_projects])
    return Order(
        site=wanted.site,
        target=str(wanted.to),
        volume_size=wanted.volume_size,
        selection=selection,
        snapshot=wanted.snapshot,
        since=wanted.since,
        full=wanted.full,
        valid_for_s=wanted.valid_for_s,
    )


async def _enter(options: GlobalOptions, wanted: _Wanted, job: _Job, digest: str) -> None:
    from mirror.bundle import create as work
    from mirror.logs import get_logger
    from mirror.state.frozen.plan import open_plan
    from mirror.upkeep import snapshot as frozen

    async with _opened(options, wanted.config) as holdings:
        with open_plan(work.plan_path(holdings.layout, job.pin.name)) as plan:
            await work.commit(holdings.store, holdings.layout, plan, digest, bases=job.basis.bases)
        try:
            await frozen.remove(holdings, job.pin)
        except (StateError, TreeError) as exc:
            # The bundle is entered, and whole: another run would make a second one.
            get_logger(__name__).warning("pin.left", site=wanted.site, problem=str(exc))


def _repair(options: GlobalOptions, wanted: _Wanted, path: Path) -> dict[str, Any]:
    import tempfile

    import anyio

    from mirror.bundle import create as work
    from mirror.bundle import repair
    from mirror.bundle.agent import unlocked_key
    from mirror.state.frozen.plan import open_plan
    from mirror.tree.layout import Layout

    receipt = repair.read_receipt(path)
    if receipt.site != wanted.site:
        raise ConfigError(where="--repair", problem=f"the list is of the site {safe(receipt.site)!r}")
    row = repair.find_shipment(receipt, anyio.run(_load_shipments, wanted.config, wanted.site))
    withheld = anyio.run(_find_withheld, wanted, receipt)
    layout = Layout(wanted.config.mirror.root)
    with tempfile.TemporaryDirectory() as temporary, open_plan(Path(temporary) / "plan.db") as plan:
        left = repair.plan_repair(plan, layout, Path(temporary), receipt, row, wanted.volume_size, withheld)
        head = work.head_of(plan)
        report: dict[str, Any] = {"outcome": "nothing", "site": wanted.site, "not_mended": repair.unmended(left)}
        if plan.volumes():
            directory = work.bundle_directory(wanted.to, head)
            progress = _shown(options, work.total_bytes(plan), f"writing {directory.name}")
            key = work.Signing(key=wanted.key, announce=_announce_touch)
            with unlocked_key(wanted.key):
                digest = work.write_bundle(plan, (layout.public, Path(temporary)), directory, key, progress)
            report |= {"outcome": "made", **work.summary(head, plan, directory), "digest": digest}
            report["signed"] = wanted.key is not None
    return report


async def _find_withheld(wanted: _Wanted, receipt: Receipt) -> frozenset[str]:
    from mirror.bundle.create import check_known
    from mirror.bundle.repair import find_withheld
    from mirror.holdings.opening import opened_holdings_for_reading

    site = next((s for s in wanted.config.sites if s.name == wanted.site), None)
    async with opened_holdings_for_reading(wanted.config.mirror, wanted.config.limits) as holdings:
        if site is None:
            await check_known(holdings.store, wanted.site)
        if site is None or site.takes_all:
            return frozenset()
        return await find_withheld(holdings.store, receipt, site.wants())


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
        f"{report['path']}: {', '.join(what)}, {size(report['bytes'])} in {counted(report['volumes'], 'volume')}"
        + ("" if report["signed"] else "; NOT SIGNED")
    )
    if report["valid_until"]:
        write_out(
            f"to be applied until {report['valid_until']}; the far side needs the receive.py in it, or a newer one:"
            " older ones refuse it"
        )
    write_out("carry it across; README.txt in it tells what to do there, receipt.json is what comes back")


def show(
    options: GlobalOptions,
    site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Only this one.")] = None,
    json: _JSON = False,
) -> ExitCode:
    """List what was made for each site, what the far side has acknowledged, and what was begun and not completed."""
    import anyio

    config = options.load_tree_config()
    rows, begun = anyio.run(_load_shipments, config, site), anyio.run(_load_begun, config, site)
    if json:
        _write_json({"format": 1, "bundles": [_shipment_json(row) for row in rows], "unfinished": begun})
        return ExitCode.OK
    if not rows:
        write_out("no bundles; make one with `mirror bundle create --site NAME --to DIR --key FILE`")
    else:
        head = ("site", "bundle", "made", "builds on", "size", "acknowledged", "damage")
        lines = [
            (
                row.site,
                str(row.sequence),
                _time(row.made_at),
                "-" if row.base is None else str(row.base),
                size(row.bytes),
                "-" if row.acknowledged_at is None else _time(row.acknowledged_at),
                "-" if row.damage is None else str(row.damage),
            )
            for row in rows
        ]
        write_out("\n".join(table([head, *lines], right=frozenset({1, 3, 4, 6}))))
    for found in begun:
        write_out(
            f"begun for {found['site']} at {found['begun_at']} and not completed: `mirror bundle create --site {found['site']} …`"
            " completes it or begins anew; until then its files are kept"
        )
    return ExitCode.OK


def inspect(
    options: GlobalOptions,  # noqa: ARG001 - every command takes them
    directories: _MEDIA,
    json: _JSON = False,
) -> ExitCode:
    """Say what is in a bundle, for which site, and who signed it, without reading the volumes; 7 for a bad signature."""
    from mirror.bundle import look, signing

    signing.check_tool()
    media = look.find_bundles(directories)
    found = look.inspect(media)
    if json:
        _write_json(found.as_json())
    else:
        _show_look(found)
        for problem in found.problems:
            write_error(f"error: {problem}" if found.is_signed else f"warning: {problem}")
    return ExitCode.DAMAGED if found.problems and found.is_signed else ExitCode.OK


def verify(
    options: GlobalOptions,
    directories: _MEDIA,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="ALLOWED_SIGNERS", help="The keys that are trusted.")
    ] = None,
    json: _JSON = False,
) -> ExitCode:
    """Hash everything in a bundle and check its signature; exit code 7 for damage, 5 for volumes that are not there."""
    from mirror.bundle import look, signing

    signing.check_tool()
    media = look.find_bundles(directories)
    found = look.inspect(media, trust=trust)
    with _shown(options, sum(volume.size for volume in found.manifest.volumes), "hashing") as told:
        found = look.verify(found, media, told)
    if json:
        _write_json(found.as_json())
    else:
        _show_look(found)
        for problem in found.problems:
            write_error(f"error: {problem}")
        if not found.problems:
            write_out("everything that lies here is whole" + ("" if found.is_trusted else "; trust was not checked"))
    if found.problems:
        return ExitCode.DAMAGED
    return ExitCode.PARTIAL if found.volumes_missing else ExitCode.OK


def _show_look(found: Look) -> None:
    m = found.manifest
    write_out(f"{m.label}: {m.kind} for the site {m.site}, made {m.created_at} by {m.tool}, chain {m.chain[:8]}…")
    if m.valid_until is not None:
        write_out(f"to be applied until {m.valid_until}")
    if m.base is None:
        write_out("complete: needs nothing from before")
    else:
        write_out(f"builds on {', '.join(str(r.sequence) for r in (m.base, *m.supersedes))}")
    total = sum(item.size for item in m.blobs)
    write_out(f"brings {counted(len(m.blobs), 'file')} ({size(total)}), {counted(len(m.pages), 'page')}")
    if m.removed:
        write_out(f"takes away {counted(len(m.removed), 'project')}: {', '.join(m.removed[:20])}")
    changes = found.changes()
    for project, versions in list(changes.comes.items())[:_MOST_LINES]:
        write_out(f"  comes    {safe(project)} {safe(', '.join(versions))}")
    for project in changes.relabelled[:_MOST_LINES]:
        write_out(f"  changes  {safe(project)}: other labels, or versions that leave")
    for project in m.removed[:_MOST_LINES]:
        write_out(f"  goes     {project}")
    more = sum(max(len(names) - _MOST_LINES, 0) for names in (changes.comes, changes.relabelled, m.removed))
    if more:
        write_out(f"  … and {counted(more, 'more line')}: --json lists all")
    state = m.state
    write_out(f"leads to {counted(state.projects, 'project')}, {counted(state.files, 'file')} ({size(state.bytes)})")
    trusted = "" if found.is_trusted else " (not compared with a trust file)"
    unsigned = "THE SIGNATURE IS NOT GOOD" if found.is_signed else "NOT SIGNED"
    write_out(f"signed by {safe(found.signer)}{trusted}" if found.signer else unsigned)
    missing = f"; not here: {', '.join(found.volumes_missing)}" if found.volumes_missing else ""
    write_out(f"{counted(len(m.volumes), 'volume')}{missing}")


def receive(
    options: GlobalOptions,
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="DIR… [OPTIONS]", help="As of receive.py: see `mirror bundle receive -- --help`."),
    ],
) -> ExitCode:
    """Apply a bundle on the far side; the same as receive.py, for hosts where this program is installed."""
    from mirror.bundle.receive import main

    root = ["--root", str(options.root)] if options.root is not None else []
    try:
        return ExitCode(main([*arguments, *root]))
    except SystemExit as exc:  # its own parser has printed the error
        return ExitCode(int(exc.code or 0))


def acknowledge(
    options: GlobalOptions,
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="receipt.json from the far side.")],
    json: _JSON = False,
) -> ExitCode:
    """Enter in the ledger what the far side has received."""
    import time

    import anyio
    import anyio.to_thread

    from mirror.bundle.repair import acknowledged_changes, find_shipment, read_receipt
    from mirror.state.frozen.shipments import load_shipments, record_acknowledged

    async def run() -> tuple[ShipmentRow, list[str]]:
        async with _opened(options, options.load_tree_config()) as holdings:
            found = await anyio.to_thread.run_sync(read_receipt, receipt)
            before = await load_shipments(holdings.store, found.site)
            row = find_shipment(found, before, is_receipt=True)
            await record_acknowledged(
                holdings.store, row, now=time.time(), free_bytes=found.free_bytes, damage=len(found.damage)
            )
            after = await load_shipments(holdings.store, found.site)
        row = next(r for r in after if r.sequence == row.sequence)
        return row, acknowledged_changes(before, after, row.sequence)

    row, changes = anyio.run(run)
    if json:
        _write_json({"format": 1, "bundle": _shipment_json(row), "changes": changes})
    else:
        write_out(f"bundle {row.sequence} is acknowledged by {row.site}")
        for line in changes:
            write_out(line)
        if row.damage:
            write_out(f"it reports {counted(row.damage, 'damaged file')}: mirror bundle create --repair {receipt} …")
    return ExitCode.OK


async def _load_begun(config: Config, site: str | None) -> list[dict[str, Any]]:
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.state.frozen.snapshots import Kind, load_snapshots

    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        pins = [(pin.name.rpartition("-")[0], pin) for pin in await load_snapshots(holdings.store, Kind.PIN)]
    return [
        {"site": name, "begun_at": _time(pin.made_at), "revision": pin.revision}
        for name, pin in pins
        if site in {None, name}
    ]


async def _load_shipments(config: Config, site: str | None) -> list[ShipmentRow]:
    from mirror.holdings.opening import opened_holdings_for_reading
    from mirror.state.frozen.shipments import load_shipments

    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        return await load_shipments(holdings.store, site)


def _opened(options: GlobalOptions, config: Config) -> Any:
    from mirror.holdings.opening import opened_holdings

    return opened_holdings(config.mirror, config.limits, wait_s=options.wait_s)


def _shown(options: GlobalOptions, total: int, what: str) -> AbstractContextManager[Told]:
    if not options.is_interactive:
        return nullcontext(lambda _count: None)
    from mirror.cli.byte_progress import shown_bytes

    return shown_bytes(total, what)


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
        "made_at": _time(row.made_at),
        "acknowledged_at": None if row.acknowledged_at is None else _time(row.acknowledged_at),
        "free_bytes": row.free_bytes,
        "damage": row.damage,
    }


def _time(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _write_json(value: dict[str, Any]) -> None:
    import msgspec

    write_out(msgspec.json.encode(value).decode())
