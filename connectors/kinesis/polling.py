"""Reading by GetRecords: one thread, one request at a time, a time slot for each shard.

Kinesis takes 5 requests a second and gives 2 MB a second for each shard, for all that read it this
way. So a shard that has more is asked again after `SLOT_S` or when what it gave has been paid for
at that rate, and one that had nothing more after ``poll_s``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from connectors.kinesis.client import Service
from connectors.kinesis.config import KinesisSourceConfig
from connectors.kinesis.errors import THROTTLED, code_of

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import RecordTypeDef

SLOT_S: Final = 0.25
"""Seconds between two requests to a shard that has more: 4 of its 5 a second."""

SHARD_BYTES_PER_S: Final = 2 << 20
THROTTLED_FIRST_S: Final = 0.5
THROTTLED_S_MAX: Final = 10.0
"""How long a shard is left alone that refuses for want of throughput: doubled each time."""


class Start(NamedTuple):
    """Where to begin in a shard: a type of iterator (Kinesis API reference, GetShardIterator) and
    the sequence number or the time in ms that goes with it."""

    kind: str
    at: str | int | None = None

    def position(self) -> dict[str, Any]:
        """As SubscribeToShard takes it."""
        if self.kind == "AT_TIMESTAMP":
            assert isinstance(self.at, int)
            return {"Type": self.kind, "Timestamp": self.at / 1000}
        return {"Type": self.kind} | ({"SequenceNumber": self.at} if self.at else {})

    def iterator(self) -> dict[str, Any]:
        """As GetShardIterator takes it."""
        names = {"Type": "ShardIteratorType", "SequenceNumber": "StartingSequenceNumber"}
        return {names.get(name, name): value for name, value in self.position().items()}


class Answer(NamedTuple):
    """What came of a shard, in order. ``behind``: there is more by now. ``ended``: the shard is
    closed, and these are its last records."""

    shard: str
    records: list[RecordTypeDef]
    behind: bool
    ended: bool


def ended(service: Service, stream: str, shard: str, start: Start) -> bool:
    """Whether a shard is closed and has nothing behind ``start``; False where that cannot be found
    out now."""
    try:
        iterator = service.raw.get_shard_iterator(
            StreamName=stream, ShardId=shard, **start.iterator()
        )
        found = service.raw.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    except (BotoCoreError, ClientError):
        return False
    return not found["Records"] and found.get("NextShardIterator") is None


class NothingThereError(Exception):
    """Kinesis does not know the shard, or the sequence number to begin at."""

    def __init__(self, shard: str) -> None:
        super().__init__(shard)
        self.shard = shard


@dataclass
class _Cursor:
    """Where a shard is read next. ``due_s`` is on the monotonic clock."""

    start: Start
    iterator: str | None = None
    due_s: float = 0.0
    throttled_s: float = 0.0


class Polling:
    """Reads the shards that were begun in turn. Used by the source's thread only (I1).
    ``throttled`` is told how many shards refuse at the moment whenever that changes."""

    def __init__(
        self, service: Service, config: KinesisSourceConfig, throttled: Callable[[int], None]
    ) -> None:
        self._service = service
        self._config = config
        self._cursors: dict[str, _Cursor] = {}
        self._tell_throttled = throttled
        self._told = 0

    def begin(self, shard: str, start: Start, later: Start | None = None) -> None:
        """Read a shard from ``start``. Where ``later`` is given, its iterator is got at once, and
        one that has to be got again before a record was read is one of ``later``: for the end of a
        shard, which moves, a time."""
        cursor = self._cursors[shard] = _Cursor(start)
        if later is not None:
            self._prepare(shard, cursor)
            cursor.start = later

    def drop(self, shard: str) -> None:
        """Read it no more."""
        if self._cursors.pop(shard, None) is not None:
            self._count()

    def next(self, timeout_s: float) -> Answer | None:
        """The next answer, or None after about ``timeout_s`` (I2). Raises `NothingThereError`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            now_s = time.monotonic()
            shard = min(self._cursors, key=lambda name: self._cursors[name].due_s, default=None)
            due_s = self._cursors[shard].due_s if shard is not None else deadline_s
            if shard is not None and due_s <= now_s:
                answer = self._ask(shard, self._cursors[shard])
                if answer is not None:
                    return answer
            elif now_s >= deadline_s:
                return None
            else:
                time.sleep(max(0.0, min(due_s, deadline_s) - now_s))  # I2

    def ready(self) -> bool:
        """Whether a shard may be asked at once."""
        now_s = time.monotonic()
        return any(cursor.due_s <= now_s for cursor in self._cursors.values())

    def close(self) -> None:
        self._cursors.clear()

    def _ask(self, shard: str, cursor: _Cursor) -> Answer | None:
        """One request; None where there is no answer yet."""
        if cursor.iterator is None and not self._prepare(shard, cursor):
            return None
        iterator = cursor.iterator
        assert iterator is not None
        limit = self._config.records_max
        try:
            found = self._service.raw.get_records(ShardIterator=iterator, Limit=limit)
        except (BotoCoreError, ClientError) as problem:
            code = code_of(problem)
            if code == "ExpiredIteratorException":
                cursor.iterator = None
                cursor.due_s = time.monotonic() + SLOT_S
                return None
            self._refused(shard, cursor, problem, "GetRecords")
            return None
        self._served(cursor)
        records = found["Records"]
        if records:
            cursor.start = Start("AFTER_SEQUENCE_NUMBER", records[-1]["SequenceNumber"])
        cursor.iterator = found.get("NextShardIterator")
        # A full answer may have more behind it whatever else it says.
        behind = found.get("MillisBehindLatest", 0) > 0 or len(records) >= limit
        paid_s = sum(len(record["Data"]) for record in records) / SHARD_BYTES_PER_S
        wait_s = SLOT_S if behind else self._config.poll_s
        cursor.due_s = time.monotonic() + max(wait_s, paid_s)
        ended = cursor.iterator is None
        if ended:
            self.drop(shard)
        return Answer(shard, records, behind, ended)

    def _prepare(self, shard: str, cursor: _Cursor) -> bool:
        """Get an iterator; False if Kinesis has to be left alone for a while."""
        try:
            found = self._service.raw.get_shard_iterator(
                StreamName=self._config.stream, ShardId=shard, **cursor.start.iterator()
            )
        except (BotoCoreError, ClientError) as problem:
            absent = {"ResourceNotFoundException", "InvalidArgumentException"}
            if code_of(problem) in absent:
                raise NothingThereError(shard) from None
            self._refused(shard, cursor, problem, "GetShardIterator")
            return False
        cursor.iterator = found["ShardIterator"]
        self._served(cursor)
        return True

    def _refused(self, shard: str, cursor: _Cursor, problem: Exception, action: str) -> None:
        """Leave a shard alone that refuses for want of throughput; raise all else."""
        code = code_of(problem)
        if code == "ResourceNotFoundException":
            raise NothingThereError(shard) from None
        if code not in THROTTLED:
            raise self._service.error(problem, action, self._config.stream) from None
        cursor.throttled_s = min(max(THROTTLED_FIRST_S, 2 * cursor.throttled_s), THROTTLED_S_MAX)
        cursor.due_s = time.monotonic() + cursor.throttled_s * random.uniform(0.75, 1.25)  # noqa: S311
        self._count()

    def _served(self, cursor: _Cursor) -> None:
        if cursor.throttled_s:
            cursor.throttled_s = 0.0
            self._count()

    def _count(self) -> None:
        count = sum(cursor.throttled_s > 0 for cursor in self._cursors.values())
        if count != self._told:
            self._told = count
            self._tell_throttled(count)
