"""Messages of the Kafka sink before any broker: columns of records, sizes, options."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from connectors.kafka import KafkaSinkConfig
from connectors.kafka.outgoing import Outgoing, raw_messages
from ensign_core.change import BatchBuilder, Op, event_schema, record_schema
from ensign_core.errors import EnsignError
from ensign_core.rows import messages, new_image

PLACES = [(0, 1, 5, 6, 8), (0, 1, -1, -1, -1)]
RECORD = [b"k", b"v", None, None, None, '[["a",null]]', "2", "9", "-7"]


def test_columns_of_records_and_of_published_events() -> None:
    builder, record, event = BatchBuilder(), record_schema("t"), event_schema("t")
    builder.add(Op.EVENT, record, new_image(RECORD))
    builder.add(Op.REMOVED, record, new_image(RECORD))
    builder.add(Op.COMMIT, record, b"")
    builder.add(Op.EVENT, record, new_image([None] * 9))
    builder.add(Op.EVENT, event, new_image([b"", b"", None, None, None]))
    out = raw_messages(builder.take(None))
    assert (out.keys, out.values) == ([b"k", None, b""], [b"v", None, b""])
    assert (out.indexes, out.deletes) == ([0, 3, 4], bytes(3))
    assert out.headers == [[("a", None)], None, None]
    assert (out.partitions, out.timestamps) == ([2, -1, -1], [-7, -1, 0])


def test_damaged_batches_are_refused_and_never_read_past() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    builder = BatchBuilder()
    for _ in range(3):
        builder.add(Op.EVENT, record_schema("t"), new_image(RECORD))
    whole = builder.take(None)
    outcomes = set()
    for _ in range(3000):
        batch = whole.part(0, 3)
        body = bytearray(batch.body)
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.choice(b"ntbuN\0\1\xff9-")
        batch.body = bytes(body[: rng.choice([len(body), rng.randrange(len(body))])])
        try:
            messages.records(batch, Op.EVENT, [PLACES[0]])
            outcomes.add("read")
        except EnsignError as error:
            outcomes.add(error.code)
    assert outcomes == {"read", "rows.damaged"}


def test_the_largest_message_is_found() -> None:
    assert messages.largest([], []) == 0
    assert messages.largest([None, b"ab", b"a"], [b"abc", None, b"abcd"]) == 5
    out = Outgoing(
        [None, b"k"], [b"x" * 100, b"x" * 99], [0, 1], bytes(2), [[("ü", b"x" * 50)], None]
    )
    assert out.too_large(180) == [0]
    assert out.too_large(160) == [0, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"topic": "a b"}, {"topic": "{tabel}"}, {"topic": "{table"}, {"ledger": "x y"},
        {"format": "raw", "headers": {"a": "b"}}, {"format": "raw", "identity_headers": True},
        {"format": "raw", "key": "none"}, {"key": "none", "tombstones": True},
        {"transactional_id": "x"}, {"topic": "same", "ledger": "same"},
        {"options": {"acks": 1}}, {"options": {"enable.idempotence": False}},
        {"options": {"partitioner": "random"}}, {"options": {"retries": 0}},
        {"options": {"message.timeout.ms": 5}}, {"options": {"transactional.id": "x"}},
        {"options": {"sasl.password": "x"}}, {"create": {"partitions": 0}},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_break_a_promise_are_refused(options: dict[str, object]) -> None:
    given = {"type": "kafka", "bootstrap": "localhost:9092", "topic": "t", "format": "json"}
    KafkaSinkConfig.model_validate(given)
    with pytest.raises(ValidationError):
        KafkaSinkConfig.model_validate(given | options)
