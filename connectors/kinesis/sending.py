"""Puts records into one stream, in order for each partition key.

PutRecords promises no order among the records of a request, and may refuse one and take the next.
So no request has two records of a key, and a key's next record is sent when the one before has been
taken: what the stream has of a key is in order as it stands, for every reader. Other keys go on
meanwhile, in requests of up to 500, several under way at a time.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from connectors.kinesis.client import Service
from connectors.kinesis.errors import THROTTLED, code_of, error

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import PutRecordsOutputTypeDef

REQUEST_RECORDS_MAX: Final = 500
REQUEST_BYTES_MAX: Final = 5 << 20
"""Bytes of a request, keys included; a record that is larger goes alone. AWS takes 10 MiB by now,
others that speak its protocol took 5, and two requests cost the same as one twice as large."""

KEY_RECORDS_MAX: Final = 500
"""Records of one key that wait: each takes a round trip, so they say how long a flush may take."""

KEY_BYTES: Final = 900
RECORD_BYTES: Final = 60
"""What the queue of a key takes in memory, and a record in it, beside key and data."""

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
"""How long a key waits whose record was refused: doubled each time."""


class Sender:
    """The records of one stream that wait or are under way, and ``bytes``, the memory that they
    take. Used by the sink's thread only (I1); ``executor``'s threads make requests and nothing
    else. ``waiting`` is told how many keys wait after a refusal whenever that changes."""

    def __init__(
        self, service: Service, stream: str, record_bytes_max: int, executor: Executor,
        requests_max: int, throttled_s_max: float, waiting: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.record_bytes_max = record_bytes_max
        self.bytes = 0
        self._service = service
        self._stream = stream
        self._executor = executor
        self._requests_max = requests_max
        self._throttled_s_max = throttled_s_max
        self._tell_waiting = waiting
        self._queues: dict[str, deque[bytes]] = {}
        self._long: set[str] = set()
        self._ready: deque[str] = deque()
        self._flying: dict[Future[PutRecordsOutputTypeDef], list[str]] = {}
        self._refused: dict[str, int] = {}
        self._resting: list[tuple[float, str]] = []
        self._stuck_since_s: float | None = None

    def add(self, key: str, data: bytes) -> None:
        """Take over a record."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            self._ready.append(key)
            self.bytes += KEY_BYTES + len(key)
        queue.append(data)
        self.bytes += RECORD_BYTES + len(data)
        if len(queue) > KEY_RECORDS_MAX:
            self._long.add(key)

    def pump(self, bytes_max: int) -> None:
        """Send until no more than ``bytes_max`` bytes wait, and no more than `KEY_RECORDS_MAX` of a
        key (0: until all have been taken). Raises ``kinesis.throttled`` or ``kinesis.busy`` when
        nothing at all is taken for too long, and what requests fail with."""
        while self._queues and (not bytes_max or self.bytes > bytes_max or self._long):
            now_s = time.monotonic()
            while self._resting and self._resting[0][0] <= now_s:
                self._ready.append(heapq.heappop(self._resting)[1])
            while self._ready and len(self._flying) < self._requests_max:
                self._send()
            until_s = self._resting[0][0] - now_s if self._resting else None
            if self._flying:
                done, _ = wait(self._flying, until_s, FIRST_COMPLETED)
                for future in done:
                    self._settle(future, self._flying.pop(future))
            elif until_s is not None:
                time.sleep(until_s)

    def _send(self) -> None:
        """Start a request: the first record of each key that is ready, as many as fit."""
        keys: list[str] = []
        records: list[Any] = []
        room = REQUEST_BYTES_MAX
        while self._ready and len(keys) < REQUEST_RECORDS_MAX:
            key = self._ready[0]
            data = self._queues[key][0]
            room -= len(data) + len(key.encode())
            if room < 0 and keys:
                break
            self._ready.popleft()
            keys.append(key)
            records.append({"PartitionKey": key, "Data": data})
        future = self._executor.submit(
            self._service.raw.put_records, StreamName=self._stream, Records=records
        )
        self._flying[future] = keys

    def _settle(self, future: Future[PutRecordsOutputTypeDef], keys: list[str]) -> None:
        """Take in the answer of a request."""
        before = len(self._refused)
        try:
            answer = future.result()
        except (BotoCoreError, ClientError) as problem:
            code = code_of(problem)
            if code not in THROTTLED:
                raise self._service.error(problem, "PutRecords", self._stream) from None
            for key in keys:
                self._rest(key, code)
        else:
            for key, result in zip(keys, answer["Records"], strict=True):
                if refused := result.get("ErrorCode"):
                    self._rest(key, refused)
                else:
                    self._taken(key)
        if len(self._refused) != before:
            self._tell_waiting(len(self._refused))

    def _taken(self, key: str) -> None:
        self._stuck_since_s = None
        self._refused.pop(key, None)
        queue = self._queues[key]
        self.bytes -= RECORD_BYTES + len(queue.popleft())
        if len(queue) <= KEY_RECORDS_MAX:
            self._long.discard(key)
        if queue:
            self._ready.append(key)
        else:
            del self._queues[key]
            self.bytes -= KEY_BYTES + len(key)

    def _rest(self, key: str, code: str) -> None:
        """Leave a key alone for a while whose record was refused. What is pacing is waited out
        here, within a limit."""
        now_s = time.monotonic()
        if self._stuck_since_s is None:
            self._stuck_since_s = now_s
        elif now_s - self._stuck_since_s > self._throttled_s_max:
            word = "throttled" if code in THROTTLED else "busy"
            raise error(word, code=code, stream=self._stream)
        times = self._refused[key] = self._refused.get(key, 0) + 1
        rest_s = min(BACKOFF_FIRST_S * 2 ** (times - 1), BACKOFF_S_MAX)
        heapq.heappush(self._resting, (now_s + rest_s * random.uniform(0.75, 1.25), key))  # noqa: S311
