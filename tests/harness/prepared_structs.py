"""What a run of the program finds out about its structs, found out once for all children of a process.

The annotations of a struct are text until they are evaluated, a tenth of a short run of the program. They evaluate to
the same types each time, so a child that is forked afterwards behaves as one that evaluates them by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec


def prepare_structs() -> None:
    """Evaluate the annotations of all structs that the configuration and the state are read into, once imported."""
    fields = msgspec.structs.fields
    fields_of_type = functools.cache(fields)

    def remembered(kind: Any) -> Any:
        return fields_of_type(kind) if isinstance(kind, type) else fields(kind)

    msgspec.structs.fields = remembered
    for kind in _structs(msgspec.Struct):
        if kind.__module__.startswith(("mirror.config.", "mirror.state.")):
            remembered(kind)


def _structs(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _structs(one)
