"""The source ``kinesis``: all shards of a stream, parents before their children.

The position holds the place in every shard, also within a record that the Kinesis Producer Library
has aggregated, so that it resumes exactly (I3). What a shard's answer brought is turned into events
step by step; each step moves the shard's place, and a batch may end after any of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.kinesis.aggregated import HASH_MAX
from connectors.kinesis.client import Service
from connectors.kinesis.config import KinesisSourceConfig
from connectors.kinesis.errors import error
from connectors.kinesis.fanout import Fanout, describe, register
from connectors.kinesis.polling import Answer, NothingThereError, Polling, Start, ended
from connectors.kinesis.position import Place, Standing, decode
from connectors.kinesis.records import (
    Entry,
    arrived_ms,
    entries,
    gap_body,
    gap_schema,
    stream_schema,
)
from connectors.kinesis.retention import Retention
from connectors.kinesis.shards import Shard, leaves, listed, spent, startable
from ensign_core.change import Batch, BatchBuilder, Op, Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import StreamDescriptionSummaryTypeDef

HEARTBEAT_S: Final = 60.0
"""How often the position of a quiet stream moves on: it says until when everything was read, which
is what tells later whether retention removed something that was not."""

GATHER_S_MAX: Final = 0.05
"""How long events wait for those of other shards before they are given as a batch."""

SETTLED_MS: Final = 2000
"""Kinesis' clock is known to about a second: an answer with nothing behind it says that all was
read that arrived so much before."""


@dataclass
class _Track:
    """A shard that is being read. ``seeking``: the first record that comes should be the last one
    that was taken. ``caught``: an answer has reached the shard's end as it was then."""

    shard: Shard
    place: Place
    seeking: bool = False
    caught: bool = False


class KinesisSource:
    """Made by the registry, called by the ingest loop's thread (I1)."""

    def __init__(self, config: KinesisSourceConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._schema = stream_schema(config.stream)
        self._builder = BatchBuilder()
        self._tracks: dict[str, _Track] = {}
        self._ended: dict[str, int | None] = {}
        self._waiting: list[str] = []
        self._shards: dict[str, Shard] = {}
        self._steps: Iterator[Entry | None] | None = None
        self._reading: _Track | None = None
        self._moved = False
        self._shown = ""
        self._from_ms: int | None = None
        self._created_ms = 0
        self._service: Service | None = None
        self._reader: Polling | Fanout | None = None

    def open(self, resume: Position | None) -> None:
        config = self._config
        standing = decode(resume) if resume else None
        self._service = service = Service(config, pushed=config.mode == "fanout")
        summary = service.summary(config.stream)
        if summary["StreamStatus"] not in ("ACTIVE", "UPDATING"):
            raise error("stream.busy", stream=config.stream, state=summary["StreamStatus"])
        self._created_ms = round(summary["StreamCreationTimestamp"].timestamp() * 1000)
        self._by_key = summary.get("RecordDistributionStrategy") != "AUTO"
        self._retention = Retention(service, summary["RetentionPeriodHours"])
        self._reader = self._make_reader(summary)
        self._shards = listed(service, config.stream)
        self._discover_at_s = time.monotonic() + config.discover_s
        self._beat_at_s = time.monotonic() + HEARTBEAT_S
        if standing is not None and standing.stream != config.stream:
            raise error("stream_changed", before=standing.stream, stream=config.stream)
        if standing is not None and standing.created_ms != self._created_ms:
            self._gap("stream_recreated", None, Place())
            standing = None
        if standing is None:
            self._start_anew(anew=resume is None)
        else:
            self._resume(standing)
        self._context.progress(state="streaming")

    def read(self, timeout_s: float) -> Batch | None:
        deadline_s = time.monotonic() + timeout_s
        assert self._reader is not None
        full_at = self._config.batch_bytes_max
        gathered_at_s = 0.0
        while True:
            self._step(full_at)
            now_s = time.monotonic()
            if self._builder.bytes >= full_at:
                return self._take()
            if self._moved or len(self._builder):
                gathered_at_s = gathered_at_s or now_s + GATHER_S_MAX
                if not self._reader.ready() or now_s >= min(gathered_at_s, deadline_s):
                    return self._take()
            if now_s >= self._discover_at_s:
                self._discover()
                continue
            wait_s = 0.0 if self._moved else max(0.0, min(deadline_s, self._discover_at_s) - now_s)
            answer = self._next(wait_s)
            if answer is not None:
                self._arrived(answer)
            elif not self._moved and time.monotonic() >= deadline_s:  # I2
                return self._take() if time.monotonic() >= self._beat_at_s else None

    def ack(self, position: Position) -> None:
        """Nothing to do: a stream forgets nothing on our word (I4)."""

    def caught_up(self) -> bool:
        return (
            self._reader is not None
            and self._steps is None
            and not self._moved
            and not self._waiting
            and all(track.caught for track in self._tracks.values())
        )

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._service is not None:
            self._service.close()
        self._reader = self._service = None

    def _make_reader(self, summary: StreamDescriptionSummaryTypeDef) -> Polling | Fanout:
        assert self._service is not None
        config = self._config
        if config.mode == "polling":
            return Polling(self._service, config, self._throttled)
        name = config.consumer_name(self._context.pipeline)
        self._arn = summary["StreamARN"]
        return Fanout(
            self._service, config, name, register(self._service, self._arn, config.stream, name)
        )

    def _throttled(self, count: int) -> None:
        self._context.progress(detail=f"throttled on {count} shards" if count else "")

    def _start_anew(self, *, anew: bool) -> None:
        """Without a position, or with that of a stream that is gone: then from its start."""
        assert self._service is not None
        self._moved = True
        self._from_ms = self._config.start_ms() if anew else None
        if not anew or self._config.start != "latest":
            self._begin_new()
            return
        now_ms = self._from_ms = self._service.now_ms()
        for name in leaves(self._shards):
            later = Start("AT_TIMESTAMP", now_ms)
            self._begin(name, Place(through_ms=now_ms), Start("LATEST"), later)

    def _resume(self, standing: Standing) -> None:
        self._from_ms = standing.from_ms
        self._ended = dict(standing.ended)
        for name, place in standing.places.items():
            if name not in self._shards:
                self._gap("shard_removed", name, place)
            elif place.sequence is None:
                self._begin(name, place, self._first())
            else:
                self._begin(name, place, Start("AT_SEQUENCE_NUMBER", place.sequence))
        self._begin_new()

    def _first(self) -> Start:
        """Where shards begin of which nothing has been read."""
        if self._from_ms is None:
            return Start("TRIM_HORIZON")
        return Start("AT_TIMESTAMP", self._from_ms)

    def _begin(self, name: str, place: Place, start: Start, later: Start | None = None) -> None:
        assert self._reader is not None
        seeking = place.sequence is not None
        self._tracks[name] = _Track(self._shards[name], place, seeking)
        self._reader.begin(name, start, later)

    def _begin_new(self) -> None:
        """Begin the shards whose parents are done, and forget the parents whose children all
        have begun."""
        ready, self._waiting = startable(self._shards, self._tracks, self._ended)
        for name in ready:
            known = [self._ended.get(parent) for parent in self._shards[name].parents]
            through = [at for at in known if at is not None]
            place = Place(through_ms=min(through) if len(through) == len(known) > 0 else None)
            self._begin(name, place, self._first())
        gone = spent(self._shards, self._tracks, self._ended)
        for name in gone:
            del self._ended[name]
        self._moved |= bool(ready or gone)

    def _discover(self) -> None:
        assert self._service is not None
        self._shards = listed(self._service, self._config.stream)
        self._discover_at_s = time.monotonic() + self._config.discover_s
        self._begin_new()

    def _next(self, timeout_s: float) -> Answer | None:
        assert self._reader is not None
        try:
            return self._reader.next(timeout_s)
        except NothingThereError as found:
            self._nothing_there(found.shard)
            return None

    def _nothing_there(self, name: str) -> None:
        """A shard is gone, or its sequence number is: then what is left of it comes after that."""
        assert self._service is not None
        assert self._reader is not None
        config = self._config
        if config.mode == "fanout":
            consumer = config.consumer_name(self._context.pipeline)
            if describe(self._service, self._arn, config.stream, consumer) is None:
                raise error("consumer.busy", consumer=consumer, stream=config.stream)
        self._discover()
        track = self._tracks[name]
        self._reader.drop(name)
        if name not in self._shards:
            del self._tracks[name]
            self._gap("shard_removed", name, track.place)
            self._begin_new()
        elif track.place.sequence is None:
            raise error("refused", code="ResourceNotFoundException", doing="reading a shard",
                        action="GetShardIterator")  # fmt: skip
        else:
            track.seeking = True
            self._reader.begin(name, Start("TRIM_HORIZON"))

    def _arrived(self, answer: Answer) -> None:
        """Take over an answer: look whether something is missing before it."""
        track = self._tracks[answer.shard]
        records, behind_sub = answer.records, None
        first = records[0]["SequenceNumber"] if records else None
        if track.seeking and first == track.place.sequence:
            track.seeking = False
            behind_sub = track.place.sub
            records = records[1:] if behind_sub is None else records
        elif first is not None or not answer.behind:
            if self._retention.removed(track.place, sought=track.seeking):
                self._gap("records_removed", answer.shard, track.place, first)
                arrived = arrived_ms(records[0]) if records else self._retention.now_ms()
                track.place = Place(through_ms=arrived)
            track.seeking = False
        settled_ms = self._retention.now_ms() - SETTLED_MS
        self._reading = track
        self._steps = self._unpacked(
            track, answer._replace(records=records), behind_sub, settled_ms
        )

    def _unpacked(
        self, track: _Track, answer: Answer, behind_sub: int | None, settled_ms: int
    ) -> Iterator[Entry | None]:
        """The steps of an answer; None at its end, when the shard's state has been brought on."""
        hashes = None
        if self._config.aggregated == "split":
            hashes = track.shard.hashes if self._by_key else (0, HASH_MAX)
        for record in answer.records:
            yield from entries(record, answer.shard, hashes, behind_sub)
            behind_sub = None
        if not answer.behind and not track.seeking:
            track.caught = True
            if not answer.ended:
                through = max(settled_ms, track.place.through_ms or 0)
                track.place = track.place._replace(through_ms=through)
        if answer.ended or (isinstance(self._reader, Fanout) and self._is_over(track, answer)):
            self._finish(track)
        yield None

    def _is_over(self, track: _Track, answer: Answer) -> bool:
        """Whether a shard that is pushed has nothing more to come, though its subscription has not
        said so: it is listed as closed, and an iterator finds nothing behind what was read."""
        assert self._service is not None
        shard, place = self._shards.get(track.shard.name), track.place
        if shard is None or not shard.closed or answer.records or answer.behind:
            return False
        behind = Start("AFTER_SEQUENCE_NUMBER", place.sequence) if place.sequence else self._first()
        return ended(self._service, self._config.stream, shard.name, behind)

    def _step(self, bytes_max: int) -> None:
        """Make events of what is at hand, until the batch is full."""
        track = self._reading
        while self._steps is not None and self._builder.bytes < bytes_max:
            entry = next(self._steps)
            if entry is None:
                self._steps = self._reading = None
                return
            assert track is not None
            through = max(entry.arrived_ms, track.place.through_ms or 0)
            track.place = Place(entry.sequence, entry.sub, entry.arrived_ms, through)
            self._shown = f"{track.shard.name}:{entry.sequence}"
            self._moved = True
            if entry.body is not None:
                self._builder.add(Op.EVENT, self._schema, entry.body)

    def _finish(self, track: _Track) -> None:
        """A shard has been read to its end: its children may begin."""
        assert self._reader is not None
        name = track.shard.name
        self._reader.drop(name)
        del self._tracks[name]
        self._ended[name] = track.place.through_ms
        self._moved = True
        self._discover()

    def _gap(
        self, word: str, shard: str | None, place: Place, following: str | None = None
    ) -> None:
        """Something is missing: stop, or say so in the topic and go on."""
        problem: EnsignError = error(
            word, stream=self._config.stream, shard=shard, hours=self._retention.hours,
            since=_time(place.through_ms),
        )  # fmt: skip
        if self._config.on_removed == "stop":
            raise problem
        body = gap_body(
            code=problem.code, stream=self._config.stream, shard=shard, after=place.sequence,
            before=following, after_ms=place.through_ms,
        )  # fmt: skip
        self._builder.add(Op.MESSAGE, gap_schema(self._config.stream), body)
        self._moved = True

    def _take(self) -> Batch:
        self._moved = False
        self._beat_at_s = time.monotonic() + HEARTBEAT_S
        places = {name: track.place for name, track in self._tracks.items()}
        standing = Standing(
            self._config.stream, self._created_ms, self._from_ms, places, self._ended
        )
        if self._shown:
            self._context.progress(position=self._shown)
        return self._builder.take(standing.encode())


def _time(ms: int | None) -> str:
    if ms is None:
        return "unknown"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))
