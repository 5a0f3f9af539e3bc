"""Batches, chains and answers for the tests of transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from ensign_core.change import Batch, BatchBuilder, Change, Column, Logical, Op, Schema, Tx
from ensign_core.config.transforms import AnyTransform
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, Value, decode, encode, new_image
from ensign_core.transforms import Chain

_CONFIG: TypeAdapter[Any] = TypeAdapter(AnyTransform)

TX = Tx("742", "0/16B3748", 1_795_439_430_661_374)


def config(**options: Any) -> AnyTransform:
    """A transform's validated options."""
    found: AnyTransform = _CONFIG.validate_python(options)
    return found


def table(name: str, *columns: tuple[str, Logical] | str, key: Sequence[str] = ("id",)) -> Schema:
    """A table of the schema ``public``; a column without a type is text."""
    made = [
        Column(column, "text", "text", True, column in key) if isinstance(column, str)
        else Column(column[0], column[1], column[1], True, column[0] in key)
        for column in columns
    ]  # fmt: skip
    names = (("database", "shop"), ("schema", "public"), ("table", name))
    return Schema(f"public.{name}", names, tuple(made))


ORDERS = table(
    "orders", ("id", "int"), "status", ("amount", "decimal"), ("paid", "bool"),
    ("placed", "timestamptz"), "note",
)  # fmt: skip

Event = tuple[Op, Schema, bytes]


def order(
    number: int, status: Value = "new", amount: Value = "10.00", paid: Value = "t",
    placed: Value = "2026-11-23 13:10:30+00", note: Value = "",
) -> list[Value]:  # fmt: skip
    """The columns of a row of ORDERS."""
    return [str(number), status, amount, paid, placed, note]


def insert(row: Sequence[Value], schema: Schema = ORDERS) -> Event:
    return Op.INSERT, schema, new_image(row)


def update(
    row: Sequence[Value], old: Sequence[Value] | None = None, schema: Schema = ORDERS,
    marker: bytes = b"O",
) -> Event:  # fmt: skip
    before = b"" if old is None else marker + encode(old)
    return Op.UPDATE, schema, before + new_image(row)


def delete(old: Sequence[Value], schema: Schema = ORDERS, marker: bytes = b"O") -> Event:
    return Op.DELETE, schema, marker + encode(old)


def key_of(number: int) -> list[Value]:
    """A row of ORDERS in an image of the key only."""
    return [str(number), *[None] * 5]


def batch_of(*events: Event, topic: str = "", offset: int = 0, ordinal: int = 0) -> Batch:
    builder = BatchBuilder().begin(TX, ordinal)
    for event in events:
        builder.add(*event)
    batch = builder.take(None)
    batch.topic, batch.offset = topic, offset
    return batch


class Letters(list[tuple[Change, EnsignError]]):
    """What a chain set aside."""

    def __call__(self, change: Change, error: EnsignError) -> None:
        self.append((change, error))

    @property
    def codes(self) -> list[str]:
        return [error.code for _, error in self]


def changed(batch: Batch, *configs: Mapping[str, Any], letters: Letters | None = None) -> Batch:
    """What a chain makes of a batch. Whatever it does, the events keep their places."""
    aside = Letters() if letters is None else letters
    found = Chain([config(**one) for one in configs], aside)(batch)
    assert len(found) == len(batch) == len(found.ends) == len(found.schema_ids)
    assert (found.runs, found.topic, found.offset) == (batch.runs, batch.topic, batch.offset)
    assert (found.position, found.stage, found.kept) == (batch.position, batch.stage, batch.kept)
    assert len(found.routes) in (0, len(found.schemas))
    assert letters is not None or not aside
    return found


def images(batch: Batch) -> list[tuple[list[Value] | None, list[Value] | None]]:
    """The old and the new row of each event."""
    return [
        (None if old is None else decode(old), None if new is None else decode(new))
        for old, new, _ in (change.images() for change in batch)
    ]


def values(batch: Batch, column: int = 0) -> list[Value]:
    """The values of a column in the new rows that were not taken out."""
    return [
        new[column]
        for (_, new), op in zip(images(batch), batch.ops, strict=True)
        if op != Op.REMOVED and new is not None
    ]


__all__ = ["ABSENT", "Op"]
