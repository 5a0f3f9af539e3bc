"""The generator's table: every event follows from the options and its number alone.

The keys take turns, in another order each round. Each key goes through lives of its own length: an
insert, updates, a delete, and again. An update leaves ``payload`` unchanged, as a database does
with a large value that it keeps elsewhere, so whoever folds the events into a state must take it
from the insert.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

from connectors.generator.config import GeneratorConfig
from ensign_core.change import Column, Op, Schema, Tx
from ensign_core.rows import ABSENT, Value, encode, new_image

SCHEMA = Schema(
    "public.generated",
    (("database", "generator"), ("schema", "public"), ("table", "generated")),
    (
        Column("id", "bigint", "int", nullable=False, key=True),
        Column("version", "integer", "int", nullable=False),
        Column("status", "text", "text"),
        Column("amount", "numeric(10,2)", "decimal"),
        Column("payload", "text", "text"),
    ),
)

LIFE_EVENTS_MAX = 8
"""Events of the longest life of a key, its insert and its delete included."""

_FIRST_COMMIT_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z: a fixed clock keeps the events the same at every run."""

_STATUS = ("new", "paid", "packed", "shipped", None)
_NUMBERS = struct.Struct(">QII").unpack_from


def transaction(config: GeneratorConfig, event: int) -> tuple[Tx, int]:
    """The transaction of an event, a millisecond after the one before, and its place in there."""
    number, ordinal = divmod(event, config.transaction_events)
    return Tx(str(number), str(number), _FIRST_COMMIT_US + 1000 * number), ordinal


def change(config: GeneratorConfig, event: int) -> tuple[Op, bytes]:
    """The op and the body of an event."""
    turn, place = divmod(event, config.keys)
    key = (place + turn * (config.seed + 1)) % config.keys
    life = 2 + _digest(config.seed, key)[0] % (LIFE_EVENTS_MAX - 1)
    phase = turn % life
    if phase == life - 1:
        row: list[Value] = [str(key), None, None, None, None]
        return Op.DELETE, b"K" + encode(row)
    digest = _digest(config.seed, key, turn)
    cents, status, _ = _NUMBERS(digest)
    payload = (digest.hex() * (config.payload_bytes // 64 + 1))[: config.payload_bytes]
    row = [
        str(key),
        str(phase),
        _STATUS[status % len(_STATUS)],
        f"{cents % 10_000_000 / 100:.2f}",
        ABSENT if phase else payload,
    ]
    return Op.UPDATE if phase else Op.INSERT, new_image(row)


def _digest(*numbers: int) -> bytes:
    return blake2b(struct.pack(f">{len(numbers)}Q", *numbers), digest_size=32).digest()
