"""How rows become values."""

from __future__ import annotations

import contextlib
import sqlite3
from enum import Enum

import msgspec
import pytest

from mirror.state.rows import Columns, Count, iter_structs, mapping_of, structs_of, values_of
from mirror.state.store import Store


class Kind(Enum):
    ONE = "one"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    number: int


class Value(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    kind: Kind
    is_set: bool
    part: Part | None
    names: tuple[str, ...] = ()
    size: int | None = None


class Pair(Columns, frozen=True):
    first: str
    second: int


def test_structs_of() -> None:
    """Fields are found by the names of the columns, and made of what is kept."""
    columns = ("is_set", "name", "kind", "part", "names")
    rows = [(1, "null", "one", '{"number":2}', '["a"]'), (0, "", "one", None, "[]")]
    assert structs_of(Value, columns, rows) == [
        Value(name="null", kind=Kind.ONE, is_set=True, part=Part(number=2), names=("a",)),
        Value(name="", kind=Kind.ONE, is_set=False, part=None),
    ]


@pytest.mark.parametrize("columns", [("first", "second"), ("second", "first")])
def test_structs_of_columns(columns: tuple[str, str]) -> None:
    """The order of the columns does not matter."""
    values = {"first": "a", "second": 2}
    assert structs_of(Pair, columns, [tuple(values[name] for name in columns)]) == [Pair("a", 2)]


@pytest.mark.parametrize("columns", [("first",), ("first", "other"), ("first", "second", "third")])
def test_structs_of_other_columns(columns: tuple[str, ...]) -> None:
    """A query with other columns is a fault of the program."""
    with pytest.raises(TypeError, match="are not the fields of Pair"):
        structs_of(Pair, columns, [])


async def test_rows_as(store: Store) -> None:
    """A statement gives the same the second time, when its columns are known; a transaction sees its own rows."""
    query = "SELECT 2 AS second, name AS first FROM source WHERE name > ? ORDER BY name"
    async with store.transaction() as tx:
        for name in "abc":
            await tx.execute("INSERT INTO source (name, url, position) VALUES (?, '', 0)", (name,))
        assert await tx.rows_as(Pair, query, ("a",)) == [Pair("b", 2), Pair("c", 2)]
    assert await store.rows_as(Pair, query, ("b",)) == [Pair("c", 2)]
    assert await store.row_as(Pair, query, ("a",)) == Pair("b", 2)
    assert await store.row_as(Pair, query, ("c",)) is None


async def test_rows_as_with_lists(store: Store) -> None:
    """Statements that differ by the length of their lists share what is known of their columns, and nothing else."""
    async with store.transaction() as tx:
        for name in "abc":
            await tx.execute("INSERT INTO source (name, url, position) VALUES (?, '', 0)", (name,))
    for names in ("", "d", "ac", "abc", "a"):
        marks, found = ",".join("?" * len(names)), [Pair(name, 2) for name in names if name != "d"]
        for columns in ("name AS first, 2 AS second", "2 AS second, name AS first"):
            query = f"SELECT {columns} FROM source WHERE position < ? AND name IN ({marks}) ORDER BY first"
            assert await store.rows_as(Pair, query, (1, *names)) == found


class Whole(Columns, frozen=True):
    number: int
    value: Value
    size: int = 3


def test_structs_of_parts() -> None:
    """A struct without a column of its own is made of the columns of its fields, all of them."""
    columns = ("names", "kind", "number", "name", "part", "is_set", "size")
    row = (None, "one", 7, "n", None, 1, 5)
    value = Value(name="n", kind=Kind.ONE, is_set=True, part=None, names=None, size=5)  # type: ignore[arg-type]
    assert structs_of(Whole, columns, [row]) == [Whole(7, value, 5)]
    with pytest.raises(TypeError, match="are not the fields of Whole"):
        structs_of(Whole, columns[:-1], [])


def test_structs_of_default() -> None:
    """A field with a default needs no column."""
    assert structs_of(WithDefault, ("last", "first"), [("c", "a")]) == [WithDefault("a", 2, "c")]


class WithDefault(Columns, frozen=True):
    first: str
    second: int = 2
    last: str = ""


def test_iter_structs() -> None:
    """The rows of a cursor are read one at a time."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        cursor = connection.execute("SELECT 1 AS second, 'a' AS first UNION SELECT 2, 'b' ORDER BY 1")
        pairs = iter_structs(Pair, cursor)
        assert next(pairs) == Pair("a", 1)
        assert cursor.fetchall() == [(2, "b")]


def test_columns_without_a_struct() -> None:
    """One column is a list, two are a mapping; any other number is a fault of the program."""
    assert values_of([("a",), (None,)]) == ["a", None]
    assert mapping_of([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    for read in (values_of, mapping_of):
        with pytest.raises(ValueError, match="unpack"):
            read([("a", 1, 2)])


async def test_values(store: Store) -> None:
    """Queries of one or two columns, and those that always have a row, need no struct of their own."""
    query = "SELECT name FROM source ORDER BY name"
    async with store.transaction() as tx:
        for name in "ba":
            await tx.execute("INSERT INTO source (name, url, position) VALUES (?, '', 0)", (name,))
        assert await tx.values(query) == ["a", "b"]
        assert await tx.value("SELECT count(*) FROM source WHERE name > ?", ("a",)) == 1
    assert await store.values(f"{query} DESC LIMIT ?", (1,)) == ["b"]
    assert await store.value("SELECT count(*) FROM source") == 2
    assert await store.mapping("SELECT name, id FROM source WHERE id > ?", (1,)) == {"a": 2}
    assert await store.only(Count, "SELECT count(*) AS number, sum(id) AS size FROM source") == Count(2, 3)
