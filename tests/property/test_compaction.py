"""Compaction against readers that fold a topic in plain Python: whatever was written, rotated,
interrupted and limited, who reads from the start ends up with the same, and so does who had read a
part before."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from ensign_core.broker import Broker, Retention, TopicPolicy, Writer, compaction
from ensign_core.broker.compaction import Pass, StoppedError
from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx, event_schema
from ensign_core.rows import ABSENT, Value, encode, new_image
from tests.folding import Reader, changes

COMPACT = TopicPolicy(Retention(compact=True, tombstone_s=1e10))
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

HISTORIES = 150
STEPS_MAX = 60
WEIGHTS = {
    "put": 3, "update": 6, "full": 2, "rekey": 4, "delete": 2, "event": 2, "truncate": 0.3,
    "log": 1, "structure": 0.3, "alter": 0.7, "frame": 5, "rotate": 0.7, "read": 1, "compact": 2,
}  # fmt: skip


def drawn(random: Random) -> list[tuple[str, tuple[object, ...]]]:
    """Steps of a history, with what they take."""

    def row() -> int:
        return random.randrange(3)

    def kept(*names: str) -> set[str]:
        return {name for name in names if random.random() < 0.5}

    takes: dict[str, Callable[[], tuple[object, ...]]] = {
        "put": lambda: (row(), random.choice(["snapshot", "insert", "update"])),
        "update": lambda: (row(), kept("note", "raw", "extra")),
        "full": lambda: (row(), kept("note", "raw", "extra")),
        "rekey": lambda: (row(), row(), kept("note", "raw")),
        "delete": lambda: (row(), random.random() < 0.5),
        "event": lambda: (random.choice([None, b"a", b"b"]), random.random() < 0.4),
        "alter": lambda: (random.randrange(3),),
        "compact": lambda: (random.randrange(40), random.random() < 0.5),
    }
    kinds = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=random.randrange(STEPS_MAX))
    return [(kind, takes[kind]() if kind in takes else ()) for kind in kinds]


@dataclass
class History:
    """Writes a topic, with a table that says what a change's images must hold."""

    broker: Broker
    topic: str
    builder: BatchBuilder = field(default_factory=lambda: BatchBuilder().begin(Tx("1", "0/1", 1)))
    rows: dict[int, dict[str, Value]] = field(default_factory=dict)
    schema: Schema = SCHEMAS[0]
    made: int = 0
    readers: list[tuple[Reader, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer: Writer = self.broker.writer()
        self.broker.create_topic(self.topic, COMPACT)

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
            self.writer.append([(self.topic, self.builder.take(None))])

    def put(self, row: int, op: str) -> None:
        self.rows[row] = self.fresh(row)
        self.add(Op[op.upper()], b"N" + self.image(self.rows[row], set()))

    def update(self, row: int, kept: set[str]) -> None:
        if row in self.rows:
            kept = kept & self.rows[row].keys()
            self.rows[row] |= {k: v for k, v in self.fresh(row).items() if k not in kept}
            self.add(Op.UPDATE, b"N" + self.image(self.rows[row], kept))

    def full(self, row: int, kept: set[str]) -> None:
        if row in self.rows:
            old = b"O" + self.image(self.rows[row], set())
            kept = kept & self.rows[row].keys()
            self.rows[row] |= {k: v for k, v in self.fresh(row).items() if k not in kept}
            self.add(Op.UPDATE, old + b"N" + self.image(self.rows[row], kept))

    def rekey(self, row: int, to: int, kept: set[str]) -> None:
        if row in self.rows and to not in self.rows:
            kept = kept & self.rows[row].keys()
            before = self.rows.pop(row)
            self.rows[to] = before | {k: v for k, v in self.fresh(to).items() if k not in kept}
            self.add(Op.UPDATE, self.key_image(row) + b"N" + self.image(self.rows[to], kept))

    def delete(self, row: int, full: bool) -> None:
        if row in self.rows:
            values = self.rows.pop(row)
            old = b"O" + self.image(values, set()) if full else self.key_image(row)
            self.add(Op.DELETE, old)

    def event(self, key: bytes | None, gone: bool) -> None:
        data = None if gone else self.value("raw")
        self.add(Op.EVENT, new_image([key, data, None, None, None]), event_schema(self.topic))

    def truncate(self) -> None:
        self.rows.clear()
        self.add(Op.TRUNCATE, b"")

    def log(self) -> None:
        self.add(Op.INSERT, new_image([self.value("note")]), KEYLESS)

    def structure(self) -> None:
        self.add(Op.SCHEMA, b"")

    def alter(self, number: int) -> None:
        self.schema = SCHEMAS[number]

    def frame(self) -> None:
        self.flush()

    def rotate(self) -> None:
        self.flush()
        if self.broker.topic(self.topic).events:
            self.broker.keys.rotate(self.topic)

    def read(self) -> None:
        """Somebody reads up to here, and goes on when all is over."""
        self.flush()
        end = self.broker.topic(self.topic).next_offset
        self.readers.append((self.folded(), end))

    def folded(self) -> Reader:
        return Reader().take(changes(self.broker, self.topic))

    def compact(self, steps: int, bury: bool) -> bool:
        """A pass that is stopped after so many frames, if it takes as many; whether all is the same
        for who reads from the start."""
        self.flush()
        before = self.folded().state
        (topic,) = self.broker._engine.topics([self.topic])
        seen = topic.next_offset if bury and not self.readers else 0
        left = iter(range(steps))
        with contextlib.suppress(StoppedError):
            Pass(self.broker._vault, topic, seen, lambda _: next(left, None) is None).run()
        return self.folded().state == before

    def ended(self) -> list[str]:
        """What is wrong at the end."""
        state = self.folded().state
        late = [reader.take(changes(self.broker, self.topic, at)) for reader, at in self.readers]
        wrong = ["a reader" for reader in late if reader.state[:2] != state[:2]]
        there = len(list(changes(self.broker, self.topic)))
        return wrong + ["events"] * (self.broker.topic(self.topic).events != there)

    def superfluous(self, rotated: bool) -> list[object]:
        """Keys of which there is more than one event."""
        left: Counter[object] = Counter()
        for change in changes(self.broker, self.topic):
            alone = Reader().take([change])
            left.update(list(alone.events))
            if not rotated:
                left.update(list(alone.rows["public.orders"]))
        return [key for key, count in left.items() if count > 1]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker.open(tmp_path_factory.mktemp("compaction") / "b") as made:
        yield made


@pytest.mark.parametrize("number", range(8))
def test_who_folds_a_compacted_topic_ends_up_with_the_same(broker: Broker, number: int) -> None:
    for seed in range(number * HISTORIES, (number + 1) * HISTORIES):
        random = Random(seed)
        history = History(broker, f"t{seed}")
        limits = {
            "KEYS_MAX": random.choice([1, 3, 1000]),
            "EVENTS_MAX": random.choice([1, 5, 1000, 1000]),
            "CARRY_BYTES_MAX": random.choice([0, 900, 1 << 20]),
        }
        steps = drawn(random)
        told = f"seed {seed}: {steps}"
        with pytest.MonkeyPatch.context() as patch:
            for name, limit in limits.items():
                patch.setattr(compaction, name, limit)
            for kind, what in steps:
                assert getattr(history, kind)(*what) is not False, told
            assert history.compact(1 << 30, False), told
        assert history.ended() == [], told
        if limits["CARRY_BYTES_MAX"] > 900:
            for _ in range(3):
                history.compact(1 << 30, False)
            rotated = any(kind == "rotate" for kind, _ in steps)
            assert history.superfluous(rotated) == [], told
