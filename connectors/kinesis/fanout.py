"""Reading by enhanced fan-out: Kinesis pushes the records of each shard to a registered consumer.

A subscription (SubscribeToShard) lasts five minutes and is then made anew behind the last event.
The driver's event streams block, so each shard has a thread that only receives; what it received
waits in a queue bounded in bytes for the source's thread, which does everything else. A full queue
is not read into, so that the connection's own flow control holds Kinesis up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from connectors.kinesis.client import Service
from connectors.kinesis.config import KinesisSourceConfig
from connectors.kinesis.errors import THROTTLED, code_of, error
from connectors.kinesis.polling import Answer, NothingThereError, Start

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import SubscribeToShardEventTypeDef

SUBSCRIBE_EVERY_S: Final = 1.0
"""Seconds between two calls of SubscribeToShard for a shard (its documentation allows that)."""

BUSY_S_MAX: Final = 30.0
"""How long a subscription left over is waited for. Kinesis lets a second one take over when the
first is 5 seconds old."""

ACTIVE_S_MAX: Final = 60.0
"""How long a consumer may take to become active."""

ACTIVE_EVERY_S: Final = 0.25
JOIN_S_MAX: Final = 2.0
"""How long `close` waits for threads. One that is not done by then ends at its next event."""


def register(service: Service, stream_arn: str, stream: str, consumer: str) -> str:
    """The ARN of the consumer, registered where it is not, when it is active."""
    deadline_s = time.monotonic() + ACTIVE_S_MAX
    while time.monotonic() < deadline_s:
        found = describe(service, stream_arn, stream, consumer)
        if found is None:
            _register(service, stream_arn, stream, consumer)
        elif found["ConsumerStatus"] == "ACTIVE":
            return str(found["ConsumerARN"])
        time.sleep(ACTIVE_EVERY_S)
    raise error("consumer.busy", consumer=consumer, stream=stream)


def describe(service: Service, stream_arn: str, stream: str, consumer: str) -> Any:
    """The consumer's description, None where there is none."""
    try:
        return service.raw.describe_stream_consumer(StreamARN=stream_arn, ConsumerName=consumer)[
            "ConsumerDescription"
        ]
    except (BotoCoreError, ClientError) as problem:
        if code_of(problem) == "ResourceNotFoundException":
            return None
        raise service.error(problem, "DescribeStreamConsumer", stream) from None


def _register(service: Service, stream_arn: str, stream: str, consumer: str) -> None:
    try:
        service.raw.register_stream_consumer(StreamARN=stream_arn, ConsumerName=consumer)
    except (BotoCoreError, ClientError) as problem:
        code = code_of(problem)
        if code == "LimitExceededException":
            raise error("consumers_exhausted", stream=stream) from None
        if code != "ResourceInUseException":
            raise service.error(problem, "RegisterStreamConsumer", stream) from None


class _Inbox:
    """What threads received, or met, bounded in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._items: deque[tuple[Answer | Exception, int]] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def put(self, item: Answer | Exception, size: int) -> bool:
        """Wait for room and add; False if nobody will read it."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._bytes < self._bytes_max)
            if self.closed:
                return False
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float) -> Answer | Exception | None:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), max(0.0, timeout_s)):
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def __bool__(self) -> bool:
        return bool(self._items)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify_all()


class Fanout:
    """Subscribes to the shards that were begun. Used by the source's thread only (I1), which gets
    what the threads met as exceptions of `next`."""

    def __init__(
        self, service: Service, config: KinesisSourceConfig, consumer: str, consumer_arn: str
    ) -> None:
        self._service = service
        self._config = config
        self._consumer = consumer
        self._arn = consumer_arn
        self._inbox = _Inbox(config.queue_bytes_max)
        self._subscriptions: dict[str, _Subscription] = {}

    def begin(self, shard: str, start: Start, later: Start | None = None) -> None:
        """Subscribe to a shard from ``start``; ``later`` as `Polling.begin` has it."""
        subscription = _Subscription(
            self._service, self._config.stream, self._consumer, self._arn, shard, start, later,
            self._inbox,
        )  # fmt: skip
        self._subscriptions[shard] = subscription
        subscription.thread.start()

    def drop(self, shard: str) -> None:
        """Its thread ends by itself; what it had received is left out."""
        subscription = self._subscriptions.pop(shard, None)
        if subscription is not None:
            subscription.stop()

    def next(self, timeout_s: float) -> Answer | None:
        """The next answer, or None after ``timeout_s`` (I2). Raises `NothingThereError`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            item = self._inbox.get(deadline_s - time.monotonic())
            if isinstance(item, NothingThereError):
                if item.shard not in self._subscriptions:
                    continue
                raise item
            if isinstance(item, Exception):
                raise item
            if item is not None and item.shard not in self._subscriptions:
                continue
            if item is not None and item.ended:
                self.drop(item.shard)
            return item

    def ready(self) -> bool:
        """Whether something has been received."""
        return bool(self._inbox)

    def close(self) -> None:
        self._inbox.close()
        subscriptions = list(self._subscriptions.values())
        self._subscriptions.clear()
        for subscription in subscriptions:
            subscription.stop()
        deadline_s = time.monotonic() + JOIN_S_MAX
        for subscription in subscriptions:
            if subscription.thread.is_alive():
                subscription.thread.join(max(0.0, deadline_s - time.monotonic()))


class _Subscription:
    """The thread that receives what one shard pushes, and nothing more."""

    def __init__(
        self, service: Service, stream: str, consumer: str, arn: str, shard: str, start: Start,
        later: Start | None, inbox: _Inbox,
    ) -> None:  # fmt: skip
        self._service = service
        self._stream = stream
        self._consumer = consumer
        self._arn = arn
        self._shard = shard
        self._start = start
        self._later = later
        self._inbox = inbox
        self._stopped = threading.Event()
        self._events: Any = None
        self._fresh = True
        self.thread = threading.Thread(target=self._run, name=f"kinesis-{shard}", daemon=True)

    def stop(self) -> None:
        """Called by the source's thread: end soon. A thread that waits for the next event is woken
        by shutting its socket down, where the driver's stream has that."""
        self._stopped.set()
        raw = getattr(self._events, "_raw_stream", None)
        shutdown = getattr(raw, "shutdown", None)
        if shutdown is not None:
            with suppress(Exception):
                shutdown()

    def _run(self) -> None:
        """Subscribe and receive, again and again. A subscription that is left over is waited for:
        Kinesis says so in its answer, or in the place of the first event."""
        deadline_s = time.monotonic() + BUSY_S_MAX
        try:
            while not self._stopped.is_set():
                began_s = time.monotonic()
                self._fresh = True
                try:
                    if self._received():
                        return
                    deadline_s = time.monotonic() + BUSY_S_MAX
                except ClientError as problem:
                    patience = {"ResourceInUseException", *THROTTLED}
                    if code_of(problem) not in patience or not self._fresh:
                        raise
                    if time.monotonic() > deadline_s:
                        raise
                self._stopped.wait(max(0.0, began_s + SUBSCRIBE_EVERY_S - time.monotonic()))
        except Exception as problem:  # noqa: BLE001  # the source's thread raises it
            if not self._stopped.is_set():
                self._inbox.put(self._met(problem), 0)

    def _received(self) -> bool:
        """Subscribe and receive until the subscription ends; whether there is no more to come."""
        answer = self._service.raw.subscribe_to_shard(
            ConsumerARN=self._arn,
            ShardId=self._shard,
            StartingPosition=self._start.position(),  # type: ignore[arg-type]  # made of the names that the driver's type lists
        )
        self._events = answer["EventStream"]
        if self._later is not None:
            self._start, self._later = self._later, None
        try:
            for event in self._events:
                self._fresh = False
                if self._stopped.is_set():
                    return True
                if "SubscribeToShardEvent" in event and self._passed_on(
                    event["SubscribeToShardEvent"]
                ):
                    return True
        finally:
            with suppress(Exception):
                self._events.close()
        return self._stopped.is_set()

    def _passed_on(self, event: SubscribeToShardEventTypeDef) -> bool:
        """Hand an event over; whether it is the last one."""
        records = event.get("Records", [])
        continuation = event.get("ContinuationSequenceNumber")
        ended = bool(event.get("ChildShards")) or continuation is None
        if continuation is not None:
            self._start = Start("AFTER_SEQUENCE_NUMBER", continuation)
        answer = Answer(self._shard, records, event.get("MillisBehindLatest", 0) > 0, ended)
        size = sum(len(record["Data"]) for record in records)
        return not self._inbox.put(answer, size) or ended

    def _met(self, problem: Exception) -> Exception:
        """What the source's thread is to raise."""
        code = code_of(problem)
        if code in ("ResourceNotFoundException", "InvalidArgumentException"):
            return NothingThereError(self._shard)
        if code == "ResourceInUseException":
            return error("consumer.busy", consumer=self._consumer, stream=self._stream)
        if isinstance(problem, (HTTPError, OSError)) and not isinstance(problem, BotoCoreError):
            return error("connection_lost")
        if isinstance(problem, (BotoCoreError, ClientError)):
            return self._service.error(problem, "SubscribeToShard", self._stream)
        return problem
