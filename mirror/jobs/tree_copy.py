"""Copy a tree between two places, each a root or the address of an object store."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from mirror.config import Limits, parse_tree
from mirror.core.store_address import StoreAddress, is_store_address
from mirror.errors import ConfigError
from mirror.tree.layout import Layout
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
    opened_source, opened_target = _source(source, env), _target(target, env)
    with contextlib.ExitStack() as stack:
        if isinstance(opened_target, DiskTarget):
            opened_source.check()
            opened_target.check_free(opened_source.address)
            root = Path(opened_target.address)
            if root.is_dir():  # of a root that has a state, and its tree in a store
                stack.enter_context(hold(Layout(root).tree_lock, wait_s=wait_s))
        copy_tree(opened_source, opened_target, report)
    return report


def _source(text: str, env: Mapping[str, str]) -> CopySource:
    place = _place(text, where="FROM")
    if isinstance(place, StoreAddress):
        return StoreSource(ObjectClient(place, env))
    return DiskSource(place)


def _target(text: str, env: Mapping[str, str]) -> CopyTarget:
    place = _place(text, where="TO")
    if isinstance(place, StoreAddress):
        return StoreTarget(ObjectClient(place, env))
    return DiskTarget(place, disk_reserve_bytes=Limits().disk_reserve)


def _place(text: str, *, where: str) -> Path | StoreAddress:
    if is_store_address(text):
        return parse_tree(text, where=where)
    if not text or "\0" in text:
        raise ConfigError(where=where, problem="expected a root or an address s3://bucket/prefix")
    return Path(text).absolute()
