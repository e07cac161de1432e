"""Random changes to the SQL of ``mirror.state``, each of which a test of ``tests/state`` has to find.

By hand: ``PYTHONPATH=tests python -m soak.statements [number] [seed]``; ``--all`` tries each known change, ``--module``
only those of one module. Each change is made in a copy of the package, and ``tests/state`` runs against the copy.

Not changed: the tables themselves (``schema``), pragmas, and what decides only about speed, such as the size of a batch.
``EQUIVALENT`` lists the changes that no test can find.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiosqlite  # noqa: F401
import anyio.to_thread  # noqa: F401
import msgspec  # noqa: F401
import pytest
import pytest_asyncio.plugin  # noqa: F401

from harness.quick_disk import QUICK_DISK

_PROJECT = Path(__file__).parent.parent.parent
_STATE = Path("mirror/state")
_TESTS = Path("tests/state")
_LONGEST_S = 300
"""A change that makes a test run for longer is found: the statement's loop does not end."""
_Change = TypeVar("_Change", "Change", None)

EQUIVALENT = (
    # What is newer than the last finished cycle is not finished.
    "id [[> -> >=]] coalesce((SELECT max(id) FROM cycle",
    "SELECT max(id) FROM cycle WHERE [[finished_at IS NULL -> (1 )]] AND id < (",
    # In a list for IN it counts for nothing how often a value is there; UNION drops what both halves return.
    "valid_from <= ? [[UNION -> UNION ALL]] SELECT project FROM entry",
    "{} AND e.valid_to IS NULL UNION {} AND [[e.valid_to IS NOT NULL -> (1 )]]",
    "{} AND [[e.valid_to IS NULL -> (1 )]] UNION {} AND e.valid_to IS NOT NULL",
)
"""Changes, as they are printed, that lead to the same result by definition."""

_IS_SQL = re.compile(
    r"\b(SELECT|UPDATE|DELETE|INSERT|WHERE|EXISTS|IS NULL|NOT NULL|ORDER BY)\b"
    r"| (=|!=|<|<=|>|>=|IN|NOT IN) (\?|:\w|\(|'|\d|[a-z_]+\.[a-z])"
)
_IS_OUTSIDE = re.compile(r"\s*(PRAGMA|CREATE|VACUUM)\b")
_EXPRESSION = "\0"
"""Stands in a statement for an expression in braces of an f-string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The text of adjacent string literals, with the place of each character in the module."""

    module: str
    text: str
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change to one statement."""

    statement: Statement
    start: int
    end: int
    new: str

    def __str__(self) -> str:
        text = self.statement.text
        before, after = text[max(0, self.start - 60) : self.start], text[self.end : self.end + 40]
        shown = f"{before}[[{text[self.start : self.end]} -> {self.new}]]{after}"
        return f"{self.statement.module}: {shown.replace(_EXPRESSION, '{}')}"

    @property
    def is_equivalent(self) -> bool:
        """Whether no test can find it."""
        described = str(self)
        return any(place in described for place in EQUIVALENT)

    def applied(self, source: str) -> str:
        """Return the module's source with this change."""
        gone: set[int] = set()
        for start, end in self.statement.places[self.start : self.end]:
            gone.update(range(start, end))
        at = self.statement.places[self.start][0]
        kept = [character if place not in gone else "" for place, character in enumerate(source)]
        return "".join(kept[:at]) + self.new + "".join(kept[at:])


def find_statements(module: str, source: str) -> Iterator[Statement]:
    """Yield the SQL of a module."""
    for literals in _adjacent_literals(source):
        characters = [one for start, end in literals for one in _characters(source, start, end)]
        text = "".join(character for character, _ in characters)
        if _IS_SQL.search(text) and not _IS_OUTSIDE.match(text):
            yield Statement(module=module, text=text, places=tuple(place for _, place in characters))


def _adjacent_literals(source: str) -> Iterator[list[tuple[int, int]]]:
    """Yield the (start, end) of string literals that Python joins; no docstring."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    literals: list[tuple[int, int]] = []
    is_docstring = False
    before = tokenize.NEWLINE
    depth = begin = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        first, last = (starts[row - 1] + column for row, column in (token.start, token.end))
        if depth or name in ("STRING", "FSTRING_START"):
            if not depth:
                begin = first
                if not literals:
                    is_docstring = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
            depth += (name == "FSTRING_START") - (name == "FSTRING_END")
            if not depth:
                literals.append((begin, last))
        elif name not in ("NL", "COMMENT"):
            if literals and not is_docstring:
                yield literals
            literals = []
            before = token.type


def _characters(source: str, start: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the characters of a literal with their places; an expression in braces is one character."""
    literal = source[start:end]
    opening = re.match(r"""([a-zA-Z]*)('{3}|"{3}|'|")""", literal)
    assert opening is not None
    is_format = "f" in opening[1].lower()
    place, stop = start + opening.end(), end - len(opening[2])
    while place < stop:
        width, character = 1, source[place]
        if is_format and character == "{":
            width = _width_of_braces(source[place:stop])
            character = _EXPRESSION
        yield character, (place, place + width)
        place += width


def _width_of_braces(text: str) -> int:
    """Return the length of the expression in braces that a text begins with."""
    depth = 0
    for width, one in enumerate(text, 1):
        depth += (one == "{") - (one == "}")
        if not depth:
            return width
    raise ValueError(text)


_SIMPLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(?<= )=(?= )", ("!=",)),
    (r"(?<= )!=(?= )", ("=",)),
    (r"(?<= )<(?= )", ("<=", ">")),
    (r"(?<= )<=(?= )", ("<", ">=")),
    (r"(?<= )>(?= )", (">=", "<")),
    (r"(?<= )>=(?= )", (">", "<=")),
    (r"\bIS NULL\b", ("IS NOT NULL",)),
    (r"\bIS NOT\b(?! NULL)", ("IS",)),
    (r"\bIS NOT NULL\b", ("IS NULL",)),
    (r"\bIS\b(?! (NOT|NULL))", ("IS NOT",)),
    (r"\bNOT EXISTS\b", ("EXISTS",)),
    (r"(?<!NOT )(?<!IF )\bEXISTS\b", ("NOT EXISTS",)),
    (r"\bNOT IN\b", ("IN",)),
    (r"(?<!NOT )\bIN\b", ("NOT IN",)),
    (r" AND ", (" OR ",)),
    (r" OR (?!IGNORE|REPLACE)", (" AND ",)),
    (r" OR (IGNORE|REPLACE)", ("",)),
    (r" DESC\b", ("",)),
    (r"(?<=ORDER BY )[\w.]+(?![\w.(])(?! DESC)", (r"\g<0> DESC",)),
    (r"\bDISTINCT ", ("",)),
    (r"\bUNION\b(?! ALL)", ("UNION ALL",)),
    (r"\bUNION ALL\b", ("UNION",)),
    (r"\bmin\(", ("max(",)),
    (r"\bmax\((?!\?)", ("min(",)),
    (r"\bsum\(", ("count(",)),
    (r"\bcoalesce\(excluded\.", ("nullif(excluded.",)),
    (r"'(\w+)'", (r"'\1x'",)),
    (r"(?<=[ (])''(?=[ ,)]|$)", ("'x'",)),
    (r"(?<![\w.?'])(?<!LIMIT )(?<!SELECT )(?<!BY )(?<!BY 1, )(?<!2, )(?<!3, )(?<!4, )\d+(?![\w.'])", ("7",)),
)


def find_changes(statement: Statement) -> Iterator[Change]:
    """Yield the single changes that are made to a statement."""
    text = statement.text
    for pattern, replacements in _SIMPLE:
        for found in re.finditer(pattern, text):
            for replacement in replacements:
                new = found.expand(replacement)
                if not _is_assignment(text, found.start()) and new != found[0]:
                    yield Change(statement=statement, start=found.start(), end=found.end(), new=new)
    for start, end in _terms(text):
        yield Change(statement=statement, start=start, end=end, new=_always_true(text[start:end]))
    for found in re.finditer(r"(\w+) = (\?\d*|NULL|\d+)(?=, | WHERE|$)", text):
        if _is_assignment(text, found.start() + len(found[1]) + 1):
            kept = f"{found[1]} = CASE WHEN {found[2]} THEN {found[1]} ELSE {found[1]} END"
            yield Change(statement=statement, start=found.start(), end=found.end(), new=kept)


def _is_assignment(text: str, place: int) -> bool:
    """Tell whether an ``=`` assigns in a SET clause."""
    before = text[:place]
    begun = max(before.rfind(" SET "), before.rfind("SET", 0, 3))
    if text[place : place + 1] != "=" or begun < 0:
        return False
    clause = before[begun:]
    return " WHERE " not in clause and clause.count("(") == clause.count(")")


def _terms(text: str) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of the terms of each condition, on each level of parentheses."""
    for found in re.finditer(r"\b(WHERE|ON|AND) (?!CONFLICT)", text):
        depth, end = 0, found.end()
        if found[1] == "ON" and "CONFLICT" in text[max(0, found.start() - 4) : found.end() + 10]:
            continue
        while end < len(text):
            if text[end] == "(":
                depth += 1
            elif text[end] == ")":
                depth -= 1
                if depth < 0:
                    break
            elif depth == 0 and re.match(
                r" (AND|OR|ORDER|GROUP|LIMIT|UNION|WHERE|JOIN|CROSS|LEFT)\b", text[end : end + 9]
            ):
                break
            end += 1
        if text[found.end() : end].strip(_EXPRESSION + " "):
            yield found.end(), end


def _always_true(term: str) -> str:
    """Return a condition that holds and takes the same parameters."""
    parameters = re.findall(r"\?\d*|(?<![:\w]):[a-z_]+", term)
    return f"(1 {''.join(f'OR {one} ' for one in parameters)})"


def list_changes() -> list[Change]:
    """Return each known change of each module, those left out that no test can find."""
    changes = []
    for path in sorted((_PROJECT / _STATE).rglob("*.py")):
        module = str(path.relative_to(_PROJECT / _STATE))
        if module == "schema.py":
            continue
        for statement in find_statements(module, path.read_text()):
            changes += find_changes(statement)
    return [change for change in changes if not change.is_equivalent]


def own_tests(module: str) -> Path:
    """Return the tests of a module's package, or of the module where it is in no package."""
    path = Path(module)
    return _TESTS / (path.parent if path.parent.name else f"test_{module}")


def find_failure(change: Change | None, tests: Sequence[Path] = (_TESTS,)) -> bool:
    """Run tests against a copy of the package with one change; return whether any fails.

    The caller's process is used up: the copy is imported in it.
    """
    with tempfile.TemporaryDirectory(dir=QUICK_DISK) as directory:
        copy = Path(directory)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_PROJECT / "mirror", copy / "mirror", ignore=ignored)
        shutil.copytree(_PROJECT / _TESTS, copy / _TESTS, ignore=ignored)
        shutil.copy(_PROJECT / "pyproject.toml", copy)
        if change is not None:
            module = copy / _STATE / change.statement.module
            module.write_text(change.applied(module.read_text()))
            own = own_tests(change.statement.module)
            if (copy / own).exists() and own not in tests:
                # The tests of the changed module first; the others only where those find nothing.
                tests = (own, *tests)
        return any(_fails(copy, one) for one in tests)


def _fails(copy: Path, tests: Path) -> bool:
    os.chdir(copy)
    sys.path[0] = str(copy)
    sys.dont_write_bytecode = True
    output = io.StringIO()
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_LONGEST_S)
    # Nothing but what the tests need: each change costs the start of a pytest.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "--assert=plain"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "--basetemp", str(copy / "temporary")]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main([*options, str(tests)])
    signal.alarm(0)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise AssertionError(output.getvalue())
    return code != pytest.ExitCode.OK


def _give_up(*_: object) -> None:
    raise TimeoutError


def try_changes(changes: Sequence[_Change], workers: int, tests: Path = _TESTS) -> list[_Change]:
    """Return the changes that no test finds."""
    # A process for each change, forked from this one, which has imported what they all need but the package.
    with multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=1) as pool:
        results = pool.imap(functools.partial(find_failure, tests=(tests,)), changes, chunksize=1)
        return [change for change, found in zip(changes, results, strict=True) if not found]


def main() -> int:
    """Try some changes, print the figures and what survived, and return the exit code."""
    parser = argparse.ArgumentParser(prog="soak.statements", description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=50)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--all", action="store_true", help="try each known change; takes long")
    parser.add_argument("--module", help="only those of one module, such as entries/held, and only by its own tests")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    changes = [c for c in list_changes() if not options.module or c.statement.module == f"{options.module}.py"]
    if not options.all:
        changes = random.Random(options.seed).sample(changes, min(options.number, len(changes)))
    tests = own_tests(f"{options.module}.py") if options.module else _TESTS
    if not try_changes([None], 1, tests):
        print("the tests of the state fail without any change")
        return 1
    survived = try_changes(changes, options.workers, tests)
    for change in survived:
        print(f"  survived: {change}")
    print(f"seed: {options.seed}")
    print(f"changes to statements tried: {len(changes)}")
    print(f"changes found: {len(changes) - len(survived)}")
    print(f"changes survived: {len(survived)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
