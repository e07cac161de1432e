"""Finds imports within functions that name no measured cost.

Such an import starts quickly what does without it. Its cost stands on its line, on a line of the same
block of imports, or in a comment above the block: «12 ms», «0.05 s».
"""

import ast
import re
from collections.abc import Iterable, Iterator

from modules import Module

_COST = re.compile(r"#.*\b\d[\d.]* m?s\b")


def find_unmeasured(modules: Iterable[Module]) -> Iterator[tuple[str, str]]:
    """Yield place and text of each block of imports within a function without a cost."""
    for module in modules:
        lines = module.source.splitlines()
        for block in import_blocks(module):
            first, last = block[0].lineno, block[-1].end_lineno or block[-1].lineno
            if not any(_COST.search(line) for line in (*_comment_above(lines, first), *lines[first - 1 : last])):
                yield f"{module.name}:{first}", lines[first - 1].strip()


def _comment_above(lines: list[str], first: int) -> list[str]:
    found: list[str] = []
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
        found.append(lines[first - 1])
    return [" ".join(line.lstrip() for line in reversed(found))]


def import_blocks(module: Module) -> Iterator[list[ast.stmt]]:
    """Yield the imports within functions, those that follow each other as one block."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    local = [
        node
        for node in module.nodes
        if isinstance(node, ast.Import | ast.ImportFrom) and any(first <= node.lineno <= last for first, last in spans)
    ]
    block: list[ast.stmt] = []
    for node in sorted(local, key=lambda node: node.lineno):
        if block and node.lineno > (block[-1].end_lineno or block[-1].lineno) + 2:
            yield block
            block = []
        block.append(node)
    if block:
        yield block
