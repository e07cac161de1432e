"""Finds bags: types of parameters with many fields of which the functions that get them use few.

A function uses a field where it names it, where it calls a method or property of the type that
names it, and all of them where it hands the value to ``msgspec`` or ``dataclasses``.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from modules import Module

MAX_FIELDS = 8
"""How many fields a type may have, however few of them a function uses."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_WHOLE = {"msgspec", "dataclasses"}
"""Libraries whose functions take a value whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bag:
    """A type with more fields than the functions that take it use."""

    name: str
    place: str
    fields: int
    functions: int
    used: float
    """The median over the functions."""

    def __str__(self) -> str:
        return f"{self.place}: the median of {self.functions} functions uses {self.used:g} of {self.fields} fields"


class _Type:
    """A class of the package, its fields, and the fields that its methods name."""

    def __init__(self, node: ast.ClassDef, place: str) -> None:
        self.place, self.bases = place, [ast.unparse(base).split(".")[-1] for base in node.bases]
        self.fields: set[str] = set()
        self.methods: dict[str, set[str]] = {}
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                if "ClassVar" not in ast.unparse(part.annotation):
                    self.fields.add(part.target.id)
            elif isinstance(part, _Function):
                self.methods[part.name] = _names_of(part, "self")
                if part.name == "__init__":
                    self.fields |= _assigned(part)
        self.fields = {name for name in self.fields if not name.startswith("_")}


def find_bags(modules: Sequence[Module]) -> Iterator[Bag]:
    """Yield the types over ``MAX_FIELDS`` fields of which the median function uses less than half."""
    types: dict[str, _Type] = {}
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                types[node.name] = _Type(node, f"{module.name}:{node.lineno}")
    fields = {name: _all_fields(name, types) for name in types}
    used: dict[str, list[int]] = defaultdict(list)
    for module in modules:
        for node in module.nodes:
            if isinstance(node, _Function):
                for parameter in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                    name = _type_of(parameter)
                    if name in fields and len(fields[name]) > MAX_FIELDS:
                        used[name].append(_count_used(node, parameter.arg, fields[name], types[name].methods))
    for name, counts in sorted(used.items()):
        middle = median(counts)
        if 2 * middle < len(fields[name]):
            bag = Bag(name=name, place=types[name].place, fields=len(fields[name]), functions=len(counts), used=middle)
            yield bag


def _all_fields(name: str, types: Mapping[str, _Type]) -> set[str]:
    """Return the fields of a type with those that it inherits."""
    found = types[name]
    return found.fields.union(*(_all_fields(base, types) for base in found.bases if base in types))


def _type_of(parameter: ast.arg) -> str:
    """Return the name of a parameter's type, None aside; empty where it is no single class."""
    if parameter.annotation is None:
        return ""
    text = ast.unparse(parameter.annotation).strip("'\"")
    return re.sub(r"\s*\|\s*None$", "", text).split(".")[-1]


def _count_used(function: _Function, parameter: str, fields: set[str], methods: Mapping[str, set[str]]) -> int:
    used: set[str] = set()
    for name in _names_of(function, parameter):
        used |= methods.get(name, {name})
    is_whole = any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[0] in _WHOLE
        and any(isinstance(one, ast.Name) and one.id == parameter for one in node.args)
        for node in ast.walk(function)
    )
    return len(fields) if is_whole else len(used & fields)


def _names_of(function: _Function, variable: str) -> set[str]:
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == variable
    }


def _assigned(function: _Function) -> set[str]:
    """Return the attributes that ``__init__`` sets."""
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
