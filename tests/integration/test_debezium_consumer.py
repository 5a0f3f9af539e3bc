"""The format ``debezium`` as its consumers read it: Flink's own deserialiser makes the table again
from the lines of a real database's changes; so does our decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ensign_core.change import Batch, BatchBuilder
from ensign_core.formats import formatter
from ensign_core.formats.decoding import decoder
from tests.conftest import Database
from tests.services import flink
from tests.services.postgres_capture import Capture, Seen, fold

SETUP = (
    """CREATE TABLE orders (id bigint PRIMARY KEY, title text, weight float8, paid boolean,
        photo bytea, day date)""",
    "ALTER TABLE orders ALTER title SET STORAGE EXTERNAL",
    "ALTER TABLE orders REPLICA IDENTITY FULL",
    r"""INSERT INTO orders SELECT i, repeat('a', 3000 * (i % 3)), i / 7.0, i % 2 = 0,
        '\x00ff', date '1970-01-01' + i FROM generate_series(1, 20) i""",
)
"""A create for a changed key has all its columns with a full identity only."""
STATEMENTS = (
    "INSERT INTO orders (id, title) VALUES (100, E'tab? \"\\u00e9\\U0001f600')",
    "UPDATE orders SET weight = -1e-300, day = NULL WHERE id < 5",
    "UPDATE orders SET title = NULL WHERE id = 6",
    "UPDATE orders SET id = id + 1000 WHERE id IN (7, 8)",
    "UPDATE orders SET id = 7 WHERE id = 9",
    "DELETE FROM orders WHERE id IN (1, 10, 1008)",
    "INSERT INTO orders (id, paid) VALUES (1, false)",
)
SHOWN = (
    "SELECT id::text, coalesce(title, 'null'), coalesce(weight, 'NaN'), "
    "coalesce(paid::text, 'null'), coalesce(encode(photo, 'hex'), 'null'), "
    "coalesce((day - date '1970-01-01')::text, 'null') FROM orders"
)


def batches(one: Capture) -> Iterator[Batch]:
    """All there is to capture."""
    source = one.open()
    while not source.caught_up():
        batch = one.step(0.02)
        if batch is not None:
            yield batch


def columns(shown: tuple[str, ...]) -> tuple[object, ...]:
    """With the number as one."""
    weight = None if shown[2] == "null" else float(shown[2])
    return (*shown[:2], weight, *shown[3:])


@pytest.mark.skipif(not flink.available(), reason="Flink's debezium-json is not here: make flink")
def test_flink_makes_the_table_again(database: Database, capture: Callable[..., Capture]) -> None:
    """Flink wants the whole old row of an update, as of Debezium's topics."""
    database.run(*SETUP)
    one = capture()
    formed = formatter("debezium")
    lines = [text for batch in batches(one) for text in formed.lines(batch).texts]
    database.run(*STATEMENTS)
    lines += [text for batch in batches(one) for text in formed.lines(batch).texts]
    changed = flink.changes(lines)
    assert {kind for kind, _ in changed} == {"+I", "-U", "+U", "-D"}
    found = {key: columns(shown) for key, shown in flink.table(changed).items()}
    expected = {
        str(row[0]): (*row[:2], None if row[2] != row[2] else row[2], *row[3:])
        for row in database.run(SHOWN)
    }
    assert found == expected


def test_our_decoder_makes_the_table_again(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(*SETUP)
    one = capture()
    messages: list[tuple[bytes | None, bytes | None]] = []
    formed = formatter("debezium")
    for statements in ((), STATEMENTS):
        database.run(*statements)
        for batch in batches(one):
            found = formed.messages(batch)
            messages += zip(found.keys, found.values, strict=True)
    made, builder = decoder("debezium"), BatchBuilder()
    for key, value in messages:
        row = made.row("shop.orders", key, value)
        assert row is not None
        builder.add(row.op, row.schema, row.body)
    state = fold([Seen.of(change) for change in builder.take(None)])
    expected = fold(one.seen)
    assert state.keys() == expected.keys()
    for identity, row_of in expected.items():
        again = state[identity]
        assert again.keys() == row_of.keys()
        assert [again[n] for n in ("id", "title", "paid", "weight")] == [
            row_of[n] for n in ("id", "title", "paid", "weight")
        ]
