"""The modules of the package as syntax trees: each is read and walked once, since walking takes the time."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module, with all nodes of its tree."""

    name: str
    """Its path in the repository."""
    source: str
    nodes: Sequence[ast.AST]
    """As ``ast.walk`` yields them, the module itself first."""


def read_module(path: Path, root: Path) -> Module:
    """Read a module of the repository that lies in ``root``."""
    source = path.read_text()
    return Module(name=str(path.relative_to(root)), source=source, nodes=list(ast.walk(ast.parse(source))))
