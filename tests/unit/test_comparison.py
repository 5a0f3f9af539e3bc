"""A topic compared with its table, against a plain dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensign_core.broker import Broker
from ensign_core.change import BatchBuilder, Column, Op, Schema
from ensign_core.rows import ABSENT, Value, decode, encode, new_image
from ensign_core.run.comparison import TopicComparison

NAMES = (("schema", "public"), ("table", "orders"))
COLUMNS = {
    "id": Column("id", "bigint", "int", False, True),
    "note": Column("note", "text", "text"),
    "raw": Column("raw", "bytea", "bytes"),
    "extra": Column("extra", "text", "text"),
}


def schema(*names: str, table: str = "orders") -> Schema:
    return Schema(f"public.{table}", (NAMES[0], ("table", table)), tuple(map(COLUMNS.get, names)))  # type: ignore[arg-type] # all are there


SCHEMAS = (
    schema("id", "note", "raw"),
    schema("raw", "id", "extra", "note"),
    schema("note", "id"),
)
NOW = SCHEMAS[1]
OTHER = schema("id", "note", table="lines")

Row = dict[str, Value]


@dataclass
class Table:
    """The topic's events, and what a reader of them holds."""

    events: list[tuple[Op, Schema, bytes]] = field(default_factory=list)
    rows: dict[Value, Row] = field(default_factory=dict)
    schema: Schema = SCHEMAS[0]
    touched: set[Value] = field(default_factory=set)

    def image(self, row: Row) -> bytes:
        return encode([row[column.name] for column in self.schema.columns])

    def whole(self, row: Row) -> Row:
        """A row as an old image of the schema of now has it."""
        return {column.name: row.get(column.name) for column in self.schema.columns}

    def key_image(self, key: Value) -> bytes:
        names = [column.name for column in self.schema.columns]
        return b"K" + encode([key if name == "id" else None for name in names])

    def put(self, row: Row, old: str, before: Value, op: Op) -> None:
        """An insert, or an update with the old image ``old``: none, key or full."""
        row = {column.name: row[column.name] for column in self.schema.columns}
        body = b"N" + self.image(row)
        held = self.rows.get(before, {}) if op is Op.UPDATE else {}
        if op is Op.UPDATE and old == "full":
            full = self.whole(held | {"id": before})
            body = b"O" + self.image(full) + body
            held = held | full
        elif op is Op.UPDATE and (old == "key" or before != row["id"]):
            body = self.key_image(before) + body
        self.events.append((op, self.schema, body))
        if op is Op.UPDATE and body[:1] != b"N":
            self.rows.pop(before, None)
        kept = {
            name: held.get(name, ABSENT) if value is ABSENT else value
            for name, value in row.items()
        }
        self.rows[row["id"]] = {name: v for name, v in kept.items() if v is not ABSENT}
        self.touched.add(row["id"])

    def delete(self, key: Value, old: str) -> None:
        image = b"O" + self.image(self.whole(self.rows.get(key, {}) | {"id": key}))
        self.events.append(
            (Op.DELETE, self.schema, image if old == "full" else self.key_image(key))
        )
        self.rows.pop(key, None)

    def truncate(self) -> None:
        self.events.append((Op.TRUNCATE, self.schema, b""))
        self.rows.clear()

    def act(self, what: tuple[object, ...]) -> None:
        kind, key, other, note, raw, old, number = what
        assert isinstance(number, int)
        row: Row = {"id": key, "note": note, "raw": raw, "extra": note}  # type: ignore[dict-item] # drawn so
        if kind == "schema":
            self.schema = SCHEMAS[number]
        elif kind == "insert":
            self.put(row | {k: None for k, v in row.items() if v is ABSENT}, "", None, Op.INSERT)
        elif kind == "update":
            self.put(row, str(old), key, Op.UPDATE)  # type: ignore[arg-type] # drawn so
        elif kind == "rekey":
            self.put(row, str(old), other, Op.UPDATE)  # type: ignore[arg-type] # drawn so
        elif kind == "delete":
            self.delete(key, str(old))  # type: ignore[arg-type] # drawn so
        elif kind == "truncate":
            self.truncate()
        elif kind == "other":
            self.events.append((Op.INSERT, OTHER, new_image([str(key), "x"])))
        else:
            self.events.append((Op.SCHEMA, self.schema, b""))


KEYS = st.sampled_from(["1", "2", "3", "4", "5"])
ACTIONS = st.tuples(
    st.sampled_from(
        ["insert"] * 4 + ["update"] * 3 + ["rekey", "delete", "truncate", "other", "schema", "note"]
    ),
    KEYS,
    KEYS,
    st.sampled_from([None, "", "a", "b", ABSENT]),
    st.sampled_from([None, b"a", b"b", "a", ABSENT]),
    st.sampled_from(["", "key", "full"]),
    st.integers(0, 2),
)
ROWS = st.fixed_dictionaries(
    {
        "note": st.sampled_from([None, "", "a", "b"]),
        "raw": st.sampled_from([None, b"a", b"b", "a"]),
        "extra": st.sampled_from([None, "", "a", "b"]),
    }
)


def append(broker: Broker, events: list[tuple[Op, Schema, bytes]], size: int) -> None:
    writer = broker.writer()
    for start in range(0, len(events), size):
        builder = BatchBuilder()
        for op, of, body in events[start : start + size]:
            builder.add(op, of, body)
        writer.append([("orders", builder.take(None))])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ensign-comparison-") as made:
        yield Path(made)


def body_of(key: Value, row: Row) -> bytes:
    return new_image([(row | {"id": key})[column.name] for column in NOW.columns])


def columns(body: bytes) -> Row:
    return dict(zip((column.name for column in NOW.columns), decode(body[1:]), strict=True))


def absent_keys(comparison: TopicComparison, rows_max: int) -> list[Value]:
    """The keys of all rows that are absent; each image holds its key and nothing else."""
    gone: list[bytes] = []
    while found := comparison.absent(rows_max):
        assert len(found) <= rows_max
        gone += found
    comparison.close()
    assert all(image[:1] == b"K" for image in gone)
    named = [columns(image) for image in gone]
    assert all(row == dict.fromkeys(COLUMNS) | {"id": row["id"]} for row in named)
    return [row["id"] for row in named]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(ACTIONS, max_size=25),
    st.lists(ACTIONS, max_size=6),
    st.dictionaries(KEYS, ROWS),
    st.sets(KEYS),
    st.integers(1, 7),
    st.integers(1, 3),
)
def test_what_differs_and_what_is_absent_make_the_table_of_the_topic(
    folder: Path, before: list[tuple[object, ...]], later: list[tuple[object, ...]],
    table: dict[Value, Row], same: set[Value], size: int, rows_max: int,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as path, Broker.open(Path(path) / "b") as broker:
        model = Table()
        for action in before:
            model.act(action)
        append(broker, model.events, size)
        comparison = TopicComparison(broker, "orders", NOW)
        model.events, model.touched = [], set()
        for action in later:
            model.act(action)
        append(broker, model.events, size)
        for key in same:
            held = model.rows.get(key, {})
            if held.keys() >= {"note", "raw", "extra"}:
                table[key] = {name: held[name] for name in ("note", "raw", "extra")}

        bodies = [body_of(key, row) for key, row in table.items()]
        differing = [
            b for at in range(len(bodies)) for b in comparison.differing(NOW, [bodies[at]])
        ]
        expected = [
            body_of(key, row)
            for key, row in table.items()
            if model.rows.get(key) != row | {"id": key}
        ]
        assert differing == expected

        keys = absent_keys(comparison, rows_max)
        assert sorted(map(str, keys)) == sorted(
            map(str, model.rows.keys() - table.keys() - model.touched)
        )

        for body in differing:
            row = columns(body)
            model.rows[row["id"]] = row
        for key in keys:
            del model.rows[key]
        assert {
            key: row for key, row in model.rows.items() if key in table or key not in model.touched
        } == {key: row | {"id": key} for key, row in table.items()}


def test_a_topic_that_there_is_not_yet_lacks_every_row(broker: Broker) -> None:
    comparison = TopicComparison(broker, "orders", NOW)
    body = new_image([None, "1", None, "a"])
    assert comparison.advance(0.0)
    assert comparison.differing(NOW, [body]) == [body]
    assert comparison.absent(10) == []
    append(broker, [(Op.SNAPSHOT, NOW, body)], 1)
    assert comparison.differing(NOW, [body]) == []
    assert comparison.absent(10) == []
    comparison.close()


def test_a_large_topic_is_taken_in_bit_by_bit(broker: Broker) -> None:
    bodies = [new_image([None, str(number), None, "a" * 50]) for number in range(30_000)]
    append(broker, [(Op.SNAPSHOT, NOW, body) for body in bodies], 1000)
    comparison = TopicComparison(broker, "orders", NOW)
    turns = 1
    while not comparison.advance(0.0):
        turns += 1
    assert turns > 1
    assert comparison.differing(NOW, bodies[:-7]) == []
    assert [decode(image[1:])[1] for image in comparison.absent(100)] == [
        str(number) for number in range(29_993, 30_000)
    ]
    comparison.close()


def test_rows_of_another_structure_all_differ_and_are_not_absent(broker: Broker) -> None:
    append(broker, [(Op.INSERT, NOW, new_image([None, "1", None, "a"]))], 1)
    comparison = TopicComparison(broker, "orders", NOW)
    body = new_image(["1", "a", None])
    assert comparison.differing(SCHEMAS[0], [body]) == [body]
    assert comparison.absent(10) == []
    comparison.close()


def test_a_column_that_the_comparison_does_not_know_differs(broker: Broker) -> None:
    append(broker, [(Op.INSERT, SCHEMAS[2], new_image(["a", "1"]))], 1)
    comparison = TopicComparison(broker, "orders", SCHEMAS[2])
    assert comparison.differing(SCHEMAS[2], [new_image(["a", "1"])]) == []
    body = new_image([None, "1", None, "a"])
    assert comparison.differing(NOW, [body]) == [body]
    comparison.close()


def test_unchanged_columns_come_from_the_old_image_before_the_older_event(broker: Broker) -> None:
    old = b"O" + encode([b"raw", "1", "old", "a"])
    append(broker, [(Op.UPDATE, NOW, old + new_image([ABSENT, "1", "new", ABSENT]))], 1)
    append(broker, [(Op.INSERT, NOW, new_image([b"raw", "2", "old", "a"]))], 1)
    append(broker, [(Op.UPDATE, NOW, new_image([ABSENT, "2", "new", ABSENT]))], 1)
    comparison = TopicComparison(broker, "orders", NOW)
    bodies = [new_image([b"raw", key, "new", "a"]) for key in "12"]
    assert comparison.differing(NOW, bodies) == []
    assert comparison.absent(1) == []
    comparison.close()


def test_bytes_are_not_the_text_that_reads_the_same(broker: Broker) -> None:
    append(broker, [(Op.INSERT, NOW, new_image([b"a", "1", None, None]))], 1)
    comparison = TopicComparison(broker, "orders", NOW)
    bodies = [new_image([raw, "1", None, None]) for raw in ("a", b"a", "", None)]
    assert comparison.differing(NOW, bodies) == [bodies[0], bodies[2], bodies[3]]
    comparison.close()


def test_the_temporary_state_holds_nothing_readable(broker: Broker) -> None:
    body = new_image([b"conspicuous", "4242424242", "conspicuous", "conspicuous"])
    append(broker, [(Op.INSERT, NOW, body)], 1)
    comparison = TopicComparison(broker, "orders", NOW)
    assert comparison.differing(NOW, [body]) == []
    ((key, digests),) = comparison._db.execute("SELECT key, digests FROM rows")
    assert b"conspicuous" not in key + digests
    assert b"4242424242" not in key + digests
    comparison.close()
