"""Compaction against readers that fold a topic in plain Python: whatever was written, rotated,
interrupted and limited, who reads from the start ends up with the same, and so does who had read a
part before."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from ensign_core.broker import Broker, Retention, TopicPolicy, Writer, compaction
from ensign_core.broker.compaction import Pass, StoppedError
from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx, event_schema
from ensign_core.rows import ABSENT, Value, encode, new_image
from tests.folding import Reader, changes, rotate

TOPIC = "t"
COMPACT = TopicPolicy(Retention(compact=True, tombstone_s=1e9))
NAMES = (("schema", "public"), ("table", "orders"))
ID, NOTE, RAW, EXTRA = (
    Column("id", "bigint", "int", False, True), Column("note", "text", "text"),
    Column("raw", "bytea", "bytes"), Column("extra", "text", "text"),
)  # fmt: skip
SCHEMAS = [
    Schema("public.orders", NAMES, columns)
    for columns in ((ID, NOTE, RAW), (RAW, ID, EXTRA, NOTE), (NOTE, ID))
]
KEYLESS = Schema("public.log", (NAMES[0], ("table", "log")), (NOTE,))
EVENTS = event_schema(TOPIC)

IDS = st.integers(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), IDS, st.sampled_from(["snapshot", "insert", "update"])),
        st.tuples(st.just("update"), IDS, st.sets(st.sampled_from(["note", "raw", "extra"]))),
        st.tuples(st.just("full"), IDS, st.sets(st.sampled_from(["note", "raw", "extra"]))),
        st.tuples(st.just("rekey"), IDS, IDS, st.sets(st.sampled_from(["note", "raw"]))),
        st.tuples(st.just("delete"), IDS, st.booleans()),
        st.tuples(st.just("event"), st.sampled_from([None, b"a", b"b"]), st.booleans()),
        st.tuples(st.sampled_from(["truncate", "log", "schema", "frame", "rotate"])),
        st.tuples(st.just("alter"), st.integers(0, 2)),
        st.tuples(st.just("read")),
        st.tuples(st.just("compact"), st.integers(0, 40), st.sampled_from([0.0, 1e9])),
    ),
    max_size=60,
)
LIMITS = st.fixed_dictionaries(
    {
        "KEYS_MAX": st.sampled_from([1, 3, 1000]),
        "EVENTS_MAX": st.sampled_from([1, 5, 1000]),
        "CARRY_BYTES_MAX": st.sampled_from([0, 900, 1 << 20]),
    }
)


@dataclass
class History:
    """Writes a topic, with a table that says what a change's images must hold."""

    folder: Path
    broker: Broker
    builder: BatchBuilder = field(default_factory=lambda: BatchBuilder().begin(Tx("1", "0/1", 1)))
    rows: dict[int, dict[str, Value]] = field(default_factory=dict)
    schema: Schema = SCHEMAS[0]
    made: int = 0
    readers: list[tuple[Reader, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer: Writer = self.broker.writer()

    def value(self, name: str) -> Value:
        self.made += 1
        return b"%d" % self.made if name == "raw" else str(self.made)

    def fresh(self, row: int) -> dict[str, Value]:
        return {
            column.name: str(row) if column.name == "id" else self.value(column.name)
            for column in self.schema.columns
        }

    def image(self, values: dict[str, Value], kept: set[str]) -> bytes:
        """A row with the columns of ``kept`` unchanged."""
        return encode([
            ABSENT if column.name in kept else values.get(column.name)
            for column in self.schema.columns
        ])  # fmt: skip

    def key_image(self, row: int) -> bytes:
        return b"K" + encode([
            str(row) if column.name == "id" else None for column in self.schema.columns
        ])  # fmt: skip

    def add(self, op: Op, body: bytes, schema: Schema | None = None) -> None:
        self.builder.add(op, schema or self.schema, body)

    def flush(self) -> None:
        if len(self.builder):
            self.writer.append([(TOPIC, self.builder.take(None))])

    def step(self, kind: str, *what: object) -> None:
        getattr(self, f"do_{kind}")(*what)

    def do_set(self, row: int, op: str) -> None:
        self.rows[row] = self.fresh(row)
        self.add(Op[op.upper()], b"N" + self.image(self.rows[row], set()))

    def do_update(self, row: int, kept: set[str]) -> None:
        if row in self.rows:
            kept = kept & self.rows[row].keys()
            self.rows[row] |= {k: v for k, v in self.fresh(row).items() if k not in kept}
            self.add(Op.UPDATE, b"N" + self.image(self.rows[row], kept))

    def do_full(self, row: int, kept: set[str]) -> None:
        if row in self.rows:
            old = b"O" + self.image(self.rows[row], set())
            kept = kept & self.rows[row].keys()
            self.rows[row] |= {k: v for k, v in self.fresh(row).items() if k not in kept}
            self.add(Op.UPDATE, old + b"N" + self.image(self.rows[row], kept))

    def do_rekey(self, row: int, to: int, kept: set[str]) -> None:
        if row in self.rows and to not in self.rows:
            kept = kept & self.rows[row].keys()
            before = self.rows.pop(row)
            self.rows[to] = before | {k: v for k, v in self.fresh(to).items() if k not in kept}
            self.add(Op.UPDATE, self.key_image(row) + b"N" + self.image(self.rows[to], kept))

    def do_delete(self, row: int, full: bool) -> None:
        if row in self.rows:
            values = self.rows.pop(row)
            old = b"O" + self.image(values, set()) if full else self.key_image(row)
            self.add(Op.DELETE, old)

    def do_event(self, key: bytes | None, gone: bool) -> None:
        data = None if gone else self.value("raw")
        self.add(Op.EVENT, new_image([key, data, None, None, None]), EVENTS)

    def do_truncate(self) -> None:
        self.rows.clear()
        self.add(Op.TRUNCATE, b"")

    def do_log(self) -> None:
        self.add(Op.INSERT, new_image([self.value("note")]), KEYLESS)

    def do_schema(self) -> None:
        self.add(Op.SCHEMA, b"")

    def do_alter(self, number: int) -> None:
        self.schema = SCHEMAS[number]

    def do_frame(self) -> None:
        self.flush()

    def do_rotate(self) -> None:
        self.flush()
        rotate(self.folder, TOPIC)

    def do_read(self) -> None:
        """Somebody reads up to here, and goes on when all is over."""
        self.flush()
        end = self.broker.topic(TOPIC).next_offset
        self.readers.append((Reader().take(changes(self.broker, TOPIC)), end))

    def do_compact(self, steps: int, tombstone_s: float) -> None:
        """A pass that is stopped after so many frames, if it takes as many."""
        self.flush()
        before = Reader().take(changes(self.broker, TOPIC))
        (topic,) = self.broker._engine.topics([TOPIC])
        seen = topic.next_offset if tombstone_s == 0 and not self.readers else 0
        left = iter(range(steps))
        try:
            Pass(self.broker._vault, topic, seen, lambda _: next(left, None) is None).run()
        except StoppedError:
            pass
        assert Reader().take(changes(self.broker, TOPIC)) == before


@settings(max_examples=300)
@given(STEPS, LIMITS)
def test_who_folds_a_compacted_topic_ends_up_with_the_same(
    steps: list[tuple[object, ...]], limits: dict[str, int]
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Broker.open(Path(folder) / "b") as broker,
        mock.patch.multiple(compaction, **limits),
    ):
        broker.create_topic(TOPIC, COMPACT)
        history = History(Path(folder) / "b", broker)
        for kind, *what in steps:
            history.step(str(kind), *what)
        history.flush()
        before = Reader().take(changes(broker, TOPIC))
        for _ in range(3):
            broker.keep()
            assert Reader().take(changes(broker, TOPIC)) == before
        for reader, at in history.readers:
            assert reader.take(changes(broker, TOPIC, at)).rows == before.rows
            assert reader.events == before.events
        counted = broker.topic(TOPIC)
        assert counted.events == len(list(changes(broker, TOPIC)))
        if limits["EVENTS_MAX"] == 1000 and limits["CARRY_BYTES_MAX"] > 900 and not history.readers:
            assert_little_is_left(broker, any(kind == "rotate" for kind, *_ in steps))


def assert_little_is_left(broker: Broker, rotated: bool) -> None:
    """One event for each row and key, and once a delete."""
    left: Counter[object] = Counter()
    for change in changes(broker, TOPIC):
        if change.op is Op.EVENT and b"Nbn" not in change.body:
            (key, *_) = Reader().take([change]).events or [("", None)]
            left[key] += 1
        elif change.schema is not KEYLESS and change.op in (Op.INSERT, Op.UPDATE, Op.SNAPSHOT):
            left.update(Reader().take([change]).rows[change.schema.name].keys())
    left.pop(("", None), None)
    assert rotated or all(count == 1 for count in left.values()), left
