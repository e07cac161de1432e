"""How rows become values."""

from __future__ import annotations

from enum import Enum

import msgspec
import pytest

from mirror.state.rows import Columns, structs_of
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
