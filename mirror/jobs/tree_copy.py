"""Copy a tree between two places, each a root or the address of an object store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from mirror.config import Limits, parse_tree
from mirror.core.store_address import StoreAddress, is_store_address
from mirror.errors import ConfigError
from mirror.tree.layout import Layout, create_root
from mirror.tree.lock import hold
from mirror.tree.objects.client import ObjectClient
from mirror.upkeep.copying.copy import CopyReport, copy_tree
from mirror.upkeep.copying.disk import DiskSource, DiskTarget
from mirror.upkeep.copying.places import CopySource, CopyTarget
from mirror.upkeep.copying.store import StoreSource, StoreTarget


def copy_between(
    source: str, target: str, *, env: Mapping[str, str], wait_s: float = 0.0
) -> CopyReport:
    """Copy a tree and return the report. Blocking. Raises ``ConfigError``, ``TreeError``,
    ``LockHeld``.
    """
    report = CopyReport()
    from_place, to_place = _place(source, where="FROM"), _place(target, where="TO")
    _check_apart(from_place, to_place)
    opened_source, opened_target = _source(from_place, env), _target(to_place, env)
    with contextlib.ExitStack() as stack:
        if isinstance(opened_target, DiskTarget):
            opened_source.check()
            opened_target.check_free(opened_source.address)
            layout = Layout(Path(opened_target.address))
            create_root(layout)
            stack.enter_context(hold(layout.tree_lock, wait_s=wait_s))
        copy_tree(opened_source, opened_target, report)
    return report


def _source(place: Path | StoreAddress, env: Mapping[str, str]) -> CopySource:
    if isinstance(place, StoreAddress):
        return StoreSource(ObjectClient(place, env))
    return DiskSource(place)


def _target(place: Path | StoreAddress, env: Mapping[str, str]) -> CopyTarget:
    if isinstance(place, StoreAddress):
        return StoreTarget(ObjectClient(place, env))
    return DiskTarget(place, disk_reserve_bytes=Limits().disk_reserve)


def _check_apart(source: Path | StoreAddress, target: Path | StoreAddress) -> None:
    """Raise ``ConfigError`` where one place lies in the other, or both are one.

    `verify` and `prune` of the outer tree would meet the files of the inner one.
    """
    from_parts, to_parts = _parts(source), _parts(target)
    shared = min(len(from_parts), len(to_parts))
    if from_parts[:shared] != to_parts[:shared]:
        return
    if len(from_parts) == len(to_parts):
        problem = f"is the same place as FROM ({source}); choose another TO"
    elif len(from_parts) < len(to_parts):
        problem = f"{target} lies in FROM ({source}); choose a TO outside of it"
    else:
        problem = f"FROM ({source}) lies in {target}; choose a TO outside of which FROM lies"
    raise ConfigError(where="TO", problem=problem)


def _parts(place: Path | StoreAddress) -> tuple[str, ...]:
    """Return the steps to a place from the outermost one; links are followed."""
    if isinstance(place, StoreAddress):
        return tuple(str(place).split("/"))
    return Path(os.path.realpath(place)).parts


def _place(text: str, *, where: str) -> Path | StoreAddress:
    if is_store_address(text):
        return parse_tree(text, where=where)
    if not text or "\0" in text:
        raise ConfigError(where=where, problem="expected a root or an address s3://bucket/prefix")
    return Path(text).absolute()
