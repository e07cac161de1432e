"""Prove wants: for ``mirror check``, after a cycle that changed something, and as a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread
import msgspec

from mirror.config import Config
from mirror.core.wants_progress import WantsProgress
from mirror.errors import ConfigError, MirrorError, NotProved
from mirror.holdings.holdings import Holdings
from mirror.holdings.opening import opened_holdings_for_reading
from mirror.jobs.after_cycle import is_proof_due
from mirror.logs import get_logger
from mirror.selection.proof.answers import Proof
from mirror.selection.proof.checking import (
    ProofMode,
    prove,
    questions,
    with_remembered_wants,
)
from mirror.selection.proof.published import DiskPages, PublishedPages, StorePages
from mirror.state.advisories.vulnerable import load_vulnerable
from mirror.state.advisories.withdrawn import load_withdrawn_of
from mirror.state.frozen.snapshots import FrozenKind, load_snapshot
from mirror.state.notes import WantNote, load_note, record_note
from mirror.state.store import Store
from mirror.state.wants.proofs import load_proofs, record_proofs
from mirror.sync.cycle_parts import Cycle, Phase
from mirror.tree.layout import Layout
from mirror.tree.objects.client import ObjectClient
from mirror.tree.objects.keys import snapshot_keys
from mirror.tree.objects.opening import tree_opener
from mirror.tree.snapshots import NAME, snapshot_path

_log = get_logger(__name__)

_NAMED = 5
_MAX_ADVISED = 100_000


async def prove_wants(
    config: Config,
    layout: Layout,
    store: Store | None,
    env: Mapping[str, str],
    *,
    names: Sequence[str] = (),
    target: str | None = None,
    snapshot: str | None = None,
    simple: Path | None = None,
    client: ObjectClient | None = None,
    mode: ProofMode = ProofMode.BY_HAND,
    progress: WantsProgress | None = None,
) -> list[Proof]:
    """Prove wants, or files, from the published pages or a snapshot.

    ``simple``: other pages of the same tree, on the disk. ``client``: of the object store that has
    the tree.

    ``store``: None for a tree without a state, as on the far side. Raises ``ConfigError``,
    ``TreeError``, ``StateError``.
    """
    config = await with_remembered_wants(config, store)
    asked = await anyio.to_thread.run_sync(questions, config, names, target)
    if client is not None and simple is None:
        pages: PublishedPages = await _stored_pages(client, snapshot)
    else:
        pages = DiskPages(simple or await _simple_of(layout, snapshot))
    proofs = await prove(
        asked,
        tree_opener(layout, client),
        pages,
        store,
        env=env,
        metadata_limit_bytes=config.limits.metadata_size,
        cache=layout.cache,
        mode=mode,
        progress=progress,
    )
    return proofs if store is None else await _with_advice(store, proofs, snapshot)


async def _with_advice(store: Store, proofs: Sequence[Proof], snapshot: str | None) -> list[Proof]:
    """Return the proofs with their files that advisories name, and those that are withdrawn."""
    vulnerable = await load_vulnerable(store, limit=_MAX_ADVISED)
    by_name = {(one.project, one.filename): one for one in vulnerable}
    row = None
    if snapshot is not None:
        row = await load_snapshot(store, FrozenKind.SNAPSHOT, snapshot)
    withdrawn = set() if row is None else set(await load_withdrawn_of(store, row))
    judged = []
    for proof in proofs:
        advised = (by_name.get((file.project, file.filename)) for file in proof.unique_files)
        names = (file.filename for file in proof.unique_files)
        judged.append(
            msgspec.structs.replace(
                proof,
                vulnerable=tuple(one for one in advised if one is not None),
                withdrawn=tuple(name for name in names if name in withdrawn),
            )
        )
    return judged


async def _simple_of(layout: Layout, snapshot: str | None) -> Path:
    """Return the folder of the pages of the tree, or of a snapshot."""
    if snapshot is None:
        return layout.simple
    simple = snapshot_path(layout, snapshot) / "simple"
    if not NAME.fullmatch(snapshot) or not await anyio.Path(simple).is_dir():
        raise ConfigError(where="--snapshot", problem=f"there is no snapshot {snapshot!r}")
    return simple


async def _stored_pages(client: ObjectClient, snapshot: str | None) -> StorePages:
    """Return the pages of a tree in an object store, or of a snapshot there."""
    if snapshot is not None:
        key = snapshot_keys(snapshot, None)[1]
        is_name = NAME.fullmatch(snapshot) is not None
        if not is_name or await anyio.to_thread.run_sync(client.head, key) is None:
            raise ConfigError(where="--snapshot", problem=f"there is no snapshot {snapshot!r}")
    return StorePages(client, snapshot)


async def prove_tree(
    config: Config,
    env: Mapping[str, str],
    *,
    names: Sequence[str] = (),
    target: str | None = None,
    snapshot: str | None = None,
) -> list[Proof]:
    """Prove wants from a tree, with its state where it has one."""
    layout = Layout(config.mirror.root)
    has_state = await anyio.Path(config.mirror.state).exists()
    if not has_state and await anyio.Path(layout.simple).is_dir():
        return await prove_wants(
            config, layout, None, env, names=names, target=target, snapshot=snapshot
        )
    async with opened_holdings_for_reading(config.mirror, config.limits) as holdings:
        return await prove_wants(
            config,
            layout,
            holdings.store,
            env,
            names=names,
            target=target,
            snapshot=snapshot,
            client=holdings.client,
        )


async def require_proof(
    config: Config, holdings: Holdings, env: Mapping[str, str], *, snapshot: str | None = None
) -> None:
    """Raise ``NotProved`` while a want does not install."""
    proofs = await prove_wants(
        config, holdings.layout, holdings.store, env, snapshot=snapshot, client=holdings.client
    )
    missing = [proof for proof in proofs if not proof.is_installable]
    if missing:
        names = [f"{proof.want} in {proof.target}" for proof in missing[:_NAMED]]
        gap = missing[0].gaps[0]
        raise NotProved(
            wants=tuple(names),
            more=len(missing) - len(names),
            gap=f"{gap.requirement or gap.project}: {gap.detail}".removeprefix(": "),
        )


async def prove_after_cycle(cycle: Cycle, config: Config, env: Mapping[str, str]) -> None:
    """Prove the wants after a cycle that changed something, for the report and for ``status``.

    A failure is one line in the log.
    """
    report, needs = cycle.report, cycle.wants.needs
    noted = await load_note(cycle.store, "want_proofs", tuple[WantNote, ...])
    if not is_proof_due(cycle, config, is_noted=bool(noted)):
        return
    if not config.wants:
        await record_note(cycle.store, "want_proofs", [])
        await record_proofs(cycle.store, [], (await load_proofs(cycle.store)).keys())
        return
    try:
        layout, client = cycle.holdings.layout, cycle.holdings.client
        cycle.course.phase = Phase.PROOFS
        proofs = await prove_wants(
            config,
            layout,
            cycle.store,
            env,
            mode=ProofMode.AFTER_CYCLE,
            client=client,
            progress=needs.progress if needs is not None else None,
        )
    except MirrorError as exc:
        _log.warning("wants.unproved", problem=str(exc))
        return
    report.wants = [proof.as_json() for proof in proofs]
    notes = [msgspec.convert(one, type=WantNote) for one in report.wants]
    await record_note(cycle.store, "want_proofs", notes)
    for proof in proofs:
        if not proof.is_installable:
            gaps = [f"{gap.requirement or gap.project}: {gap.reason.value}" for gap in proof.gaps]
            _log.warning("want.not_installable", want=proof.want, target=proof.target, gaps=gaps)
