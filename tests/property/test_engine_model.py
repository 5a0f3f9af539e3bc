"""The sqlite engine against a model in plain Python, reopened at any time, by two hands at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ensign_core.change import Stage
from ensign_core.crypto import DataKey
from ensign_core.engine import Beside, Epoch, Replay, StaleWriteError, Write
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError

TOPICS = ("a", "b", "c")
PIPELINES = ("p", "q")
PARTS = ("source", "bus")
OFFSETS = st.sets(st.integers(0, 9))
HANDS = st.integers(0, 1)
TIMES = st.integers(-5, 20)
START_US = -(1 << 63)

Piece = tuple[str, int, int]
"""What is appended: a topic, how many events, their last commit time."""
PIECES = st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 3), TIMES), max_size=3)
KEPT = st.dictionaries(st.sampled_from("xyz"), st.binary(max_size=2), max_size=3)


@dataclass
class Placed:
    topic: str
    base: int
    events: int
    high_us: int
    frame: bytes


@dataclass
class Topic:
    id: bytes
    next: int = 0
    high_us: int = START_US
    key: bytes = b""
    dropped: set[int] = field(default_factory=set)
    replays: dict[int, tuple[str, str, Replay]] = field(default_factory=dict)


@dataclass
class Pipeline:
    epoch: int = 0
    position: bytes | None = None
    topics: set[str] = field(default_factory=set)
    kept: dict[str, bytes] = field(default_factory=dict)
    held: list[tuple[Piece, bytes]] = field(default_factory=list)
    signals: dict[int, bytes] = field(default_factory=dict)


class EngineModel(RuleBasedStateMachine):
    """Every rule acts on one of two engines over the same folder, and on the model."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-model-"))
        self.engines = [SqliteEngine(self.folder / "b") for _ in range(2)]
        self.topics: dict[str, Topic] = {}
        self.log: list[Placed] = []
        self.pipelines = {name: Pipeline() for name in PIPELINES}
        self.groups: dict[str, dict[str, int]] = {}
        self.signalled = 0
        self.numbers = iter(range(1 << 30))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for engine in self.engines:
                engine.close()
            shutil.rmtree(self.folder)

    def _topic(self, name: str) -> Topic:
        """The topic as a writer would name it: as it is, or with a new id and a key for it."""
        topic = self.topics.get(name) or Topic(self._bytes())
        if not topic.key:
            topic.key = self._bytes()
            made = DataKey(topic.key, topic.id, b"wrapped", 0, "active")
            assert self.engines[0].keys.add([made]) == [made]
            other = DataKey(self._bytes(), topic.id, b"wrapped", 0, "active")
            assert self.engines[1].keys.add([other]) == [made]
        return topic

    def _bytes(self) -> bytes:
        return next(self.numbers).to_bytes(16, "big")

    def _place(self, piece: Piece, frame: bytes) -> int:
        name, events, last_us = piece
        topic = self.topics[name]
        topic.high_us = max(topic.high_us, last_us)
        base, topic.next = topic.next, topic.next + events
        self.log.append(Placed(name, base, events, topic.high_us, frame))
        return base

    def _writes(self, pieces: list[Piece]) -> tuple[dict[str, Topic], list[Write]]:
        topics = {name: self._topic(name) for name, _, _ in pieces}
        return topics, [
            Write(topics[name].id, name, topics[name].key, events, time, self._bytes() * 3)
            for name, events, time in pieces
        ]

    @rule(hand=HANDS, name=st.sampled_from(PIPELINES))
    def claim(self, hand: int, name: str) -> None:
        pipeline = self.pipelines[name]
        pipeline.epoch += 1
        pipeline.held.clear()
        assert self.engines[hand].pipelines.claim(name) == Epoch(name, pipeline.epoch)

    @rule(hand=HANDS, pieces=PIECES)
    def publish(self, hand: int, pieces: list[Piece]) -> None:
        topics, writes = self._writes(pieces)
        offsets = self.engines[hand].append(writes, {})
        self.topics |= topics
        assert offsets == [
            self._place(piece, write.frame) for piece, write in zip(pieces, writes, strict=True)
        ]

    @rule(
        hand=HANDS,
        name=st.sampled_from(PIPELINES),
        pieces=PIECES,
        stage=st.sampled_from(Stage),
        position=st.none() | st.binary(max_size=4),
        kept=KEPT,
    )
    def append(
        self,
        hand: int,
        name: str,
        pieces: list[Piece],
        stage: Stage,
        position: bytes | None,
        kept: dict[str, bytes],
    ) -> None:
        pipeline = self.pipelines[name]
        if not pipeline.epoch:
            self.claim(hand, name)
        topics, writes = self._writes(pieces)
        epoch = Epoch(name, pipeline.epoch)
        offsets = self.engines[hand].append(writes, {}, epoch, position, stage, kept)
        self.topics |= topics
        pipeline.topics |= set(topics)
        pipeline.kept = {n: value for n, value in (pipeline.kept | kept).items() if value}
        if position is not None:
            pipeline.position = position
        if stage is Stage.HOLD:
            pipeline.held += [(p, w.frame) for p, w in zip(pieces, writes, strict=True)]
            assert offsets == [-1] * len(pieces)
            return
        if stage is Stage.RELEASE:
            for piece, frame in pipeline.held:
                self._place(piece, frame)
            pipeline.held.clear()
        assert offsets == [
            self._place(piece, write.frame) for piece, write in zip(pieces, writes, strict=True)
        ]

    @rule(hand=HANDS, name=st.sampled_from(PIPELINES), pieces=PIECES, behind=st.integers(1, 3))
    def fenced(self, hand: int, name: str, pieces: list[Piece], behind: int) -> None:
        if not self.pipelines[name].epoch:
            self.claim(hand, name)
        old = Epoch(name, self.pipelines[name].epoch - behind)
        _, writes = self._writes(pieces)
        with pytest.raises(EnsignError) as raised:
            self.engines[hand].append(writes, {1: b"x"}, old, b"stale", kept={"x": b"", "y": b"y"})
        assert raised.value.code == "pipeline.fenced"
        assert self.engines[hand].schema(1) is None

    @rule(hand=HANDS, pieces=PIECES.filter(bool), wrong_topic=st.booleans())
    def stale(self, hand: int, pieces: list[Piece], wrong_topic: bool) -> None:
        topics, writes = self._writes(pieces)
        last = writes[-1]
        fake = self._bytes()
        if wrong_topic and last.topic in self.topics:
            key = DataKey(self._bytes(), fake, b"", 0, "active")
            self.engines[hand].keys.add([key])
            bad = Write(fake, last.topic, key.key_id, 1, 0, b"x")
        else:
            bad = Write(last.topic_id, last.topic, fake, 1, 0, b"x")
        with pytest.raises(StaleWriteError):
            self.engines[hand].append([*writes[:-1], bad], {1: b"x"})
        assert self.engines[hand].schema(1) is None
        again = self.engines[hand].append(writes, {})
        self.topics |= topics
        assert again == [
            self._place(piece, write.frame) for piece, write in zip(pieces, writes, strict=True)
        ]

    @rule(hand=HANDS, name=st.sampled_from(TOPICS))
    def delete(self, hand: int, name: str) -> None:
        topic = self.topics.pop(name, None)
        if topic is None:
            self.engines[hand].delete_topic(b"?" * 16)
            return
        self.engines[hand].delete_topic(topic.id)
        self.log = [placed for placed in self.log if placed.topic != name]
        for pipeline in self.pipelines.values():
            pipeline.topics.discard(name)
            pipeline.held = [held for held in pipeline.held if held[0][0] != name]
        for offsets in self.groups.values():
            offsets.pop(name, None)

    @rule(hand=HANDS, name=st.sampled_from(PIPELINES))
    def remove_pipeline(self, hand: int, name: str) -> None:
        self.engines[hand].pipelines.remove(name)
        pipeline = self.pipelines[name]
        pipeline.epoch += 1 if pipeline.epoch else 0
        pipeline.position = None
        pipeline.topics, pipeline.held, pipeline.signals, pipeline.kept = set(), [], {}, {}
        for topic in self.topics.values():
            for offset, (whose, part, replay) in topic.replays.items():
                asked = replay.asked and whose != name
                topic.replays[offset] = whose, part, replay._replace(asked=asked)

    @rule(hand=HANDS, name=st.sampled_from(PIPELINES), signal=st.binary(max_size=3))
    def add_signal(self, hand: int, name: str, signal: bytes) -> None:
        number = self.engines[hand].pipelines.add_signal(name, signal)
        assert number > self.signalled
        self.signalled = number
        self.pipelines[name].signals[number] = signal

    @rule(hand=HANDS, name=st.sampled_from(PIPELINES), behind=st.integers(0, 4))
    def forget_signals(self, hand: int, name: str, behind: int) -> None:
        upto = self.signalled - behind
        self.engines[hand].pipelines.forget_signals(name, upto)
        signals = self.pipelines[name].signals
        self.pipelines[name].signals = {n: s for n, s in signals.items() if n > upto}

    @rule(hand=HANDS, name=st.sampled_from(TOPICS), offsets=OFFSETS)
    def drop_events(self, hand: int, name: str, offsets: set[int]) -> None:
        topic = self.topics.get(name)
        self.engines[hand].letters.drop(topic.id if topic else b"?" * 16, offsets)
        if topic:
            self._done(topic, offsets)

    def _done(self, topic: Topic, offsets: set[int]) -> None:
        topic.dropped |= offsets
        topic.replays = {o: replay for o, replay in topic.replays.items() if o not in offsets}

    @rule(
        hand=HANDS,
        name=st.sampled_from(TOPICS),
        pipeline=st.sampled_from(PIPELINES),
        part=st.sampled_from(PARTS),
        offsets=OFFSETS,
    )
    def ask_replay(self, hand: int, name: str, pipeline: str, part: str, offsets: set[int]) -> None:
        topic = self.topics.get(name) or Topic(b"?" * 16)
        self.engines[hand].letters.ask(topic.id, pipeline, part, offsets)
        for offset in offsets - topic.dropped:
            known = topic.replays.get(offset, (pipeline, part, Replay(True, 0, None)))
            topic.replays[offset] = known[0], known[1], known[2]._replace(asked=True)

    @rule(hand=HANDS, name=st.sampled_from(TOPICS), offsets=OFFSETS)
    def fail_replays(self, hand: int, name: str, offsets: set[int]) -> None:
        topic = self.topics.get(name) or Topic(b"?" * 16)
        error = self._bytes()
        self.engines[hand].letters.fail(topic.id, dict.fromkeys(offsets, error))
        for offset in offsets & topic.replays.keys():
            whose, part, replay = topic.replays[offset]
            topic.replays[offset] = whose, part, Replay(False, replay.attempts + 1, error)

    @rule(hand=HANDS, name=st.sampled_from(TOPICS), offsets=OFFSETS, old=st.booleans())
    def append_replayed(self, hand: int, name: str, offsets: set[int], old: bool) -> None:
        topic, pipeline = self.topics.get(name) or Topic(b"?" * 16), self.pipelines["p"]
        if not pipeline.epoch:
            self.claim(hand, "p")
        epoch, replayed = Epoch("p", pipeline.epoch - old), (topic.id, sorted(offsets))
        if old:
            with pytest.raises(EnsignError):
                self.engines[hand].append([], {}, epoch, beside=Beside(replayed))
            return
        self.engines[hand].append([], {}, epoch, beside=Beside(replayed))
        self._done(topic, offsets)

    @rule(
        hand=HANDS,
        group=st.sampled_from(["g", "h"]),
        offsets=st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 9)),
    )
    def commit(self, hand: int, group: str, offsets: dict[str, int]) -> None:
        known = {name: offset for name, offset in offsets.items() if name in self.topics}
        gone = {b"?" * 16: 5}
        self.engines[hand].groups.commit(
            group, {self.topics[n].id: o for n, o in known.items()} | gone
        )
        self.groups.setdefault(group, {}).update(known)

    @rule(hand=HANDS)
    def reopen(self, hand: int) -> None:
        self.engines[hand].close()
        self.engines[hand] = SqliteEngine(self.folder / "b")

    @rule(
        hand=HANDS,
        names=st.sets(st.sampled_from(TOPICS)),
        at=st.integers(0, 30),
        bytes_max=st.integers(0, 200),
    )
    def read(self, hand: int, names: set[str], at: int, bytes_max: int) -> None:
        ids = {self.topics[name].id: name for name in names if name in self.topics}
        engine = self.engines[hand]
        everything = engine.frames([topic.id for topic in self.topics.values()], 0, 1 << 20)
        after = everything[min(at, len(everything) - 1)].sequence if everything else 0
        expected = [s for s in everything if s.topic_id in ids and s.sequence > after]
        found = engine.frames(ids, after, bytes_max)
        assert found == expected[: len(found)]
        size = sum(len(stored.frame) for stored in found)
        assert len(found) == len(expected) or size >= bytes_max
        assert not found or size - len(found[-1].frame) < max(1, bytes_max)

    @precondition(lambda self: self.topics)
    @rule(hand=HANDS, time_us=TIMES, offset=st.integers(0, 12))
    def seek(self, hand: int, time_us: int, offset: int) -> None:
        for name, topic in self.topics.items():
            mine = [placed for placed in self.log if placed.topic == name]
            reached = (placed.base for placed in mine if placed.high_us >= time_us)
            assert self.engines[hand].offset_at(topic.id, time_us) == next(reached, None)
            holds = next((p.frame for p in mine if p.base + p.events > offset), None)
            sequence = self.engines[hand].sequence_at(topic.id, offset)
            stored = self.engines[hand].frames([topic.id], (sequence or 0) - 1, 0)
            assert (stored[0].frame if sequence is not None else None) == holds

    @invariant()
    def agrees(self) -> None:
        for engine in self._engines():
            found = engine.frames([topic.id for topic in self.topics.values()], 0, 1 << 20)
            names = {topic.id: name for name, topic in self.topics.items()}
            placed = [(names[s.topic_id], s.offset, s.events, s.frame) for s in found]
            assert placed == [(p.topic, p.base, p.events, p.frame) for p in self.log]
            sequences = [stored.sequence for stored in found]
            assert sequences == sorted(set(sequences))
            assert engine.last_sequence() >= max(sequences, default=0)
            assert {
                (t.name, t.topic_id, t.next_offset, t.events, t.first_offset)
                for t in engine.topics()
            } == {
                (n, t.id, t.next, t.next, 0 if t.next else t.next) for n, t in self.topics.items()
            }
            assert engine.topic_ids([*TOPICS, "?"]) == {n: t.id for n, t in self.topics.items()}
            assert [t.name for t in engine.topics(["a", "?"])] == ["a"] * ("a" in self.topics)
            for topic in self.topics.values():
                assert engine.letters.dropped(topic.id) == topic.dropped
                replays = {offset: replay for offset, (*_, replay) in topic.replays.items()}
                assert engine.letters.replays(topic.id, 0, 9) == replays
                assert engine.letters.replays(topic.id, 3, 5).keys() == replays.keys() & {3, 4, 5}
                for part in PARTS:
                    asked = sorted(
                        o for o, (_, p, r) in topic.replays.items() if p == part if r.asked
                    )
                    assert engine.letters.asked(topic.id, part, 99) == asked
                    assert engine.letters.asked(topic.id, part, 2) == asked[:2]
            for name, pipeline in self.pipelines.items():
                assert dict(engine.pipelines.signals(name)) == pipeline.signals
                assert engine.pipelines.position(name) == pipeline.position
                assert engine.pipelines.kept(name) == pipeline.kept
                assert {names[key] for key in engine.pipelines.topics(name)} == pipeline.topics
            assert {
                group: {names[key]: offset for key, offset in offsets.items()}
                for group, offsets in engine.groups.offsets().items()
            } == {group: offsets for group, offsets in self.groups.items() if offsets}

    @invariant()
    def wastes_nothing(self) -> None:
        for engine in self._engines():
            held = sum(len(pipeline.held) for pipeline in self.pipelines.values())
            ((bodies,),) = engine.database.rows("SELECT count(*) FROM bodies")
            assert bodies == len(self.log) + held

    def _engines(self) -> Iterator[SqliteEngine]:
        yield from getattr(self, "engines", [])


TestEngineModel = EngineModel.TestCase
TestEngineModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
