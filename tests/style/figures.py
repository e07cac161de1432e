"""Measures the style of mirror/ and fails over the limits in limits.toml: the last step of `make lint`.

Prose is what docstrings (those of attributes too) and comments hold; literals between backquotes
don't count. With --places each phrase and name that counts is printed with its place.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from local_imports import find_unmeasured
from modules import Module, read_module
from parameters import MAX_FIELDS, Bag, find_bags

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parent.parent
_PHRASES = {
    "headless clauses": re.compile(
        r"\b(?:what|who|whoever|whatever) (?:is|are|was|were|has|have|had|comes?|came|it|they|we|an?|the|stays?"
        r"|nobody|nothing|lies|stands|leaves|left|fails|follows|asks?|asked|arrived|one|other|no|some|his|its|our"
        r"|may|must|can|can't)\b",
        re.IGNORECASE,
    ),
    "so many, so long": re.compile(r"\bso (?:many|long)\b", re.IGNORECASE),
    "told, tell": re.compile(r"\b(?:told|tells?|telling)\b", re.IGNORECASE),
    "anew, beside, let go": re.compile(r"\b(?:anew|beside|let go|no more(?! than))\b", re.IGNORECASE),
}
_ROW_NAMES = {"r", "row", "rows"}
_ROW_SOURCES = {"rows", "row", "fetchone", "fetchall", "execute_fetchall"}
"""Methods whose results are read by position."""
_ROW_READERS = {"structs_of", "iter_structs", "values_of", "mapping_of"}
_ROW_HOMES = {"mirror/state/rows.py", "mirror/state/store.py", "mirror/state/live_reader.py"}
"""The module that reads rows, and the two that hand it the rows of a connection."""
_DOCUMENT = re.compile(r"[\w./-]*\w\.(?:md|rst)\b")
_FUNCTION_LINES = 70
_FOLDER_FILES = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prose:
    line: int
    text: str


@dataclass(kw_only=True, slots=True)
class _Figures:
    words: int = 0
    phrases: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    classes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    functions: dict[str, int] = field(default_factory=dict)
    folders: Counter[str] = field(default_factory=Counter)
    documents: list[str] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    bags: list[Bag] = field(default_factory=list)
    local_imports: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Print each figure beside its limit and its goal; return 1 when one is over its limit."""
    parser = argparse.ArgumentParser(description="Measure the style of mirror/.")
    parser.add_argument("--places", action="store_true", help="print where each counted phrase and name stands")
    parser.add_argument("--per-package", action="store_true", help="print the phrases of each package")
    options = parser.parse_args()
    figures = _measure(sorted((_REPOSITORY / "mirror").rglob("*.py")))
    if options.per_package:
        _print_packages()
    limits = tomllib.loads((_HERE / "limits.toml").read_text())
    return max([*_judge_rates(figures, limits, options.places), *_judge_names(figures, limits, options.places)])


def _measure(paths: list[Path]) -> _Figures:
    figures = _Figures()
    modules = [read_module(path, _REPOSITORY) for path in paths]
    for module in modules:
        for piece in (*_docstrings(module), *_comments(module.source)):
            _count_prose(figures, module.name, piece)
        _count_definitions(figures, module)
        _count_positions(figures, module)
        figures.folders[str(Path(module.name).parent)] += 1
    figures.bags = list(find_bags(modules))
    figures.local_imports = dict(find_unmeasured(modules))
    return figures


def _docstrings(module: Module) -> Iterator[_Prose]:
    """Yield each string that is a statement: docstrings of modules, classes, functions and attributes."""
    for node in module.nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield _Prose(line=node.lineno, text=node.value.value)


def _comments(source: str) -> Iterator[_Prose]:
    """Yield comments; those on consecutive lines are one piece, so that a phrase may run over a line's end."""
    lines: list[str] = []
    last = 0
    if "#" not in source:
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if lines and token.start[0] != last + 1:
            yield _Prose(line=last - len(lines) + 1, text=" ".join(lines))
            lines = []
        lines.append(token.string.lstrip("#: "))
        last = token.start[0]
    if lines:
        yield _Prose(line=last - len(lines) + 1, text=" ".join(lines))


def _count_prose(figures: _Figures, name: str, piece: _Prose) -> None:
    text = " ".join(re.sub(r"`+[^`]*`+", "``", piece.text).split())
    figures.words += len(text.split())
    for group, pattern in _PHRASES.items():
        for match in pattern.finditer(text):
            excerpt = text[max(0, match.start() - 40) : match.end() + 40]
            figures.phrases[group].append(f"{name}:{piece.line}: …{excerpt}…")
    for document in _DOCUMENT.findall(piece.text):
        if not any((place / document).exists() for place in (_REPOSITORY, _REPOSITORY / "docs")):
            figures.documents.append(f"{name}:{piece.line}: {document}")


def _count_definitions(figures: _Figures, module: Module) -> None:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            figures.classes[node.name].append(f"{module.name}:{node.lineno}")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > _FUNCTION_LINES:
                figures.functions[f"{module.name}:{node.name}"] = lines


def _count_positions(figures: _Figures, module: Module) -> None:
    """Count rows of the database that are read by the positions of their columns."""
    name = module.name
    read = {
        id(part)
        for node in module.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ROW_READERS
        for part in ast.walk(node)
    }
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_source = node.func.attr in _ROW_SOURCES and name not in _ROW_HOMES and id(node) not in read
            detail = f"{node.func.attr}(): name the columns: rows_as(), values(), mapping() or value()"
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            is_number = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
            is_source = is_number and node.value.id in _ROW_NAMES and name.startswith("mirror/state/")
            detail = f"{node.value.id}[…]: name the columns of the query and read them by their names"
        else:
            continue
        if is_source and name != "mirror/state/rows.py":
            figures.positions[f"{name}:{node.lineno}"] = detail


def _judge_rates(figures: _Figures, limits: dict[str, dict], places: bool) -> Iterator[int]:
    print(f"{figures.words:,} words of docstrings and comments")
    for group in _PHRASES:
        found = figures.phrases[group]
        if places:
            print(*found, sep="\n")
        yield _judge(group, round(1000 * len(found) / figures.words, 1), limits["rates"][group], "per 1,000 words")


def _judge(label: str, value: float, limit: dict[str, float], unit: str) -> int:
    is_over = value > limit["limit"]
    verdict = "OVER the limit" if is_over else "ok"
    print(f"{label}: {value} {unit} (limit {limit['limit']}, goal {limit['goal']}): {verdict}".replace("  ", " "))
    return int(is_over)


def _judge_names(figures: _Figures, limits: dict[str, dict], places: bool) -> Iterator[int]:
    exceptions = limits["exceptions"]
    twice = {name: ", ".join(at) for name, at in figures.classes.items() if len(at) > 1}
    yield _judge_list("class names that occur twice", twice, exceptions["class names"], places)
    functions = {name: f"{lines} lines" for name, lines in figures.functions.items()}
    yield _judge_list(f"functions over {_FUNCTION_LINES} lines", functions, exceptions["functions"], places)
    folders = {name: f"{files} files" for name, files in figures.folders.items() if files > _FOLDER_FILES}
    yield _judge_list(f"folders over {_FOLDER_FILES} files", folders, exceptions["folders"], places)
    yield _judge_list("rows read by position outside mirror/state/rows.py", figures.positions, [], places)
    bags = {bag.name: str(bag) for bag in figures.bags}
    values = [*exceptions["values"], *exceptions["bags"]]
    yield _judge_list(f"parameters of over {MAX_FIELDS} fields, mostly unused", bags, values, places)
    if places:
        print(*(f"{place}: {text}" for place, text in figures.local_imports.items()), sep="\n")
    unmeasured = limits["counts"]["imports without cost"]
    yield _judge("imports within functions without their cost", len(figures.local_imports), unmeasured, "")
    documents = dict.fromkeys(figures.documents, "not in the repository")
    yield _judge_list("references to documents that don't exist", documents, [], places)


def _judge_list(label: str, found: dict[str, str], excepted: list[str], places: bool) -> int:
    new = {name: detail for name, detail in found.items() if name not in excepted}
    print(f"{label}: {len(found)} ({len(found) - len(new)} excepted by name, goal 0): {'OVER' if new else 'ok'}")
    for name, detail in (found if places else new).items():
        print(f"  {name}: {detail}")
    for name in sorted(set(excepted) - set(found)):
        print(f"  {name} needs its exception no longer: remove it from limits.toml")
    return int(bool(new))


def _print_packages() -> None:
    packages: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((_REPOSITORY / "mirror").rglob("*.py")):
        packages[path.relative_to(_REPOSITORY / "mirror").parts[0]].append(path)
    for package, paths in packages.items():
        figures = _measure(paths)
        rates = ", ".join(f"{group} {len(figures.phrases[group])}" for group in _PHRASES)
        print(f"{package}: {figures.words} words, {rates}")


if __name__ == "__main__":
    sys.exit(main())
