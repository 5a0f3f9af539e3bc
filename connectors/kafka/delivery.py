"""The producer of a sink: messages into librdkafka's queue, and the wait for their delivery.

Idempotent always, with at most five requests under way, so the broker drops what a retry sends
twice and keeps the order of each partition. Messages have no time of their own after which
librdkafka would leave them out and send the next ones: a message that cannot be delivered ends the
producer (``enable.gapless.guarantee``), and so does `Delivery` when nothing has been delivered for
``delivery_timeout_s``. So what is delivered of a partition is always a beginning of what was
written.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from operator import length_hint
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.kafka.config import Setting
from connectors.kafka.connection import Reports, client, settings
from connectors.kafka.errors import error
from connectors.kafka.outgoing import ANY_PARTITION, BATCH_HEAD_BYTES, NOW, Outgoing
from connectors.kafka.sink_config import KafkaSinkConfig
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

T = TypeVar("T")

BATCH_BYTES_MAX: Final = 1_000_000
"""Bytes of messages in one batch for one partition, before compression, unless the topic or
``batch.size`` among the options has less; the default of librdkafka."""

STEP_S: Final = 0.1
"""After such a time the wait for deliveries looks at what was reported."""

REPORTS_WAITED_FOR: Final = 3

TRANSACTION_STEP_S: Final = 1.0

CLOSE_S_MAX: Final = 2.0
"""How long a close waits for the brokers, to let them know that a transaction is void."""

ENDS: Final = frozenset(
    {"kafka.authentication_failed", "kafka.mechanism_unsupported", "kafka.tls_failed"}
)
"""What librdkafka would go on with for ever, and waiting does not mend."""

FENCED: Final = (
    KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_TXN_STATE,
)  # fmt: skip
"""What a producer hears whose transactional id another one has taken over."""

_SILENT: Final = logging.Logger("librdkafka", logging.CRITICAL + 1)
"""What kills a producer would be written to the standard error, whatever the level."""

_PURGED: Final = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
_FATAL: Final = (KafkaError._FATAL, KafkaError._GAPLESS_GUARANTEE, KafkaError._STATE)


class Delivery:
    """A producer. Belongs to the sink's thread; after an exception only `close` may be called (I9).
    ``transactional_id``: everything is written in transactions."""

    def __init__(
        self,
        config: KafkaSinkConfig,
        context: Context,
        transactional_id: str | None,
        batch_bytes_max: int,
    ) -> None:
        self._config = config
        self._context = context
        self._reports = Reports(config)
        self._facts: dict[str, object] = {"transactional_id": transactional_id}
        self._failed = False
        self._cause: KafkaError | None = None
        self._failed_topic: str | None = None
        self._transactional = transactional_id is not None
        self._begun_s: float | None = None
        self._warned = False
        self.batch_bytes_max = batch_bytes_max
        fixed: dict[str, Setting] = {
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,
            "message.max.bytes": 1_000_000_000,
            "batch.size": batch_bytes_max - BATCH_HEAD_BYTES,
            "queue.buffering.max.kbytes": config.queue_bytes_max >> 10,
            "queue.buffering.max.messages": 0,
            "linger.ms": config.linger_ms,
            "compression.type": config.compression,
            "delivery.report.only.error": True,
        }
        if transactional_id is not None:
            timeout_ms = int(config.delivery_timeout_s * 1000)
            fixed |= {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
            }
        given = settings(config, {}, fixed)
        self._producer: Producer = client(
            lambda made: Producer({**made, "on_delivery": self._delivered}, logger=_SILENT),
            given,
            self._reports,
        )

    def _delivered(self, failed: KafkaError | None, message: Message) -> None:
        """Called by librdkafka from `poll` and `flush`, for failures only."""
        if failed is None or failed.code() in _PURGED:
            return
        # What follows a failure fails for its sake.
        self._failed = True
        if self._cause is None and failed.code() not in _FATAL:
            self._cause, self._failed_topic = failed, message.topic()

    def open(self) -> None:
        """For transactions: take the id over, which fences whoever has it and ends what they had
        begun. Else nothing: a producer connects when it has something to send."""
        if self._transactional:
            self._until_done(
                self._producer.init_transactions, "starting transactions", self._config.timeout_s
            )

    def send(self, topic: str, out: Outgoing) -> None:
        """Queue messages, in order. Blocks while the queue is full (I8)."""
        if self._transactional and self._begun_s is None:
            self._call(self._producer.begin_transaction)
            self._begun_s = time.monotonic()
        start = 0
        while start < len(out):
            start = self._queued(topic, out, start)
            if start < len(out):
                self._wait_for_room()
        self._serve(0)

    def _queued(self, topic: str, out: Outgoing, start: int) -> int:
        """Queue messages from ``start`` on; the first that there was no room for, or their end."""
        values = iter(out.values[start:] if start else out.values)
        columns = (
            repeat(topic),
            values,
            out.keys[start:] if start else out.keys,
            out.partitions[start:] if out.partitions else repeat(ANY_PARTITION),
            repeat(None),
            repeat(None),
            out.timestamps[start:] if out.timestamps else repeat(NOW),
            out.headers[start:] if out.headers else repeat(None),
        )
        try:
            # One call per message without a step of Python for each. (`produce_batch` knows no
            # headers, and goes on behind a message that it had no room for.)
            deque(map(self._producer.produce, *columns), maxlen=0)
        except BufferError:
            return len(out) - length_hint(values) - 1
        except KafkaException as failed:
            raise self._reason(failed.args[0], topic=topic, doing="writing") from None
        return len(out)

    def _wait_for_room(self) -> None:
        left = len(self._producer)
        deadline_s = time.monotonic() + self._config.delivery_timeout_s
        while len(self._producer) >= left:
            self._serve(STEP_S)
            self._watch(deadline_s)

    def flush(self) -> None:
        """Return when all messages are delivered (I6); in a transaction they are not visible
        yet."""
        left = len(self._producer)
        deadline_s = time.monotonic() + self._config.delivery_timeout_s
        while True:
            now_left = self._call(lambda: self._producer.flush(STEP_S))
            self._check()
            if not now_left:
                self._well()
                return
            if now_left < left:
                left = now_left
                deadline_s = time.monotonic() + self._config.delivery_timeout_s
            self._watch(deadline_s)

    def commit(self) -> None:
        """Make all of a transaction visible; nothing, where none was begun."""
        if self._begun_s is not None:
            limit_s = self._config.delivery_timeout_s
            self._until_done(self._producer.commit_transaction, "committing", limit_s)
            self._begun_s = None
            self._well()

    def close(self) -> None:
        """Drop what is not delivered. What a broker has received of it may yet be written, in a
        transaction never visibly."""
        begun, self._begun_s = self._begun_s is not None, None
        # What it calls back holds it: its threads would live until Python looks for such rings.
        producer = self.__dict__.pop("_producer", None)
        if producer is None:
            return
        try:
            if begun:
                producer.abort_transaction(CLOSE_S_MAX)
            producer.purge()
            producer.flush(0)
        except KafkaException:
            return  # it cannot be told to the brokers: the next producer of this id does it

    def _serve(self, timeout_s: float) -> None:
        self._call(lambda: self._producer.poll(timeout_s))
        self._check()

    def _check(self) -> None:
        """Raise what was reported."""
        if self._cause is not None:
            raise self._error(self._cause, topic=self._failed_topic)
        if self._failed:
            raise self._reason(KafkaError(KafkaError._FATAL))
        trouble = self._reports.trouble()
        if trouble is not None and (self._reports.fatal is not None or trouble.code in ENDS):
            raise trouble

    def _watch(self, deadline_s: float, doing: str = "writing") -> None:
        """Say so when no broker can be reached, and give up when it takes too long."""
        trouble = self._reports.trouble()
        if time.monotonic() >= deadline_s:
            raise trouble or error("timeout", doing=doing, **self._reports.facts)
        if trouble is not None and not self._warned:
            self._warned = True
            self._context.progress(warnings=[trouble])

    def _well(self) -> None:
        self._reports.answered()
        if self._warned:
            self._warned = False
            self._context.progress(warnings=[])

    def _until_done(self, step: Callable[[float], None], doing: str, timeout_s: float) -> None:
        """A step of a transaction, taken up again as long as librdkafka says that this may help."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                step(TRANSACTION_STEP_S)
                return
            except KafkaException as failed:
                report: KafkaError = failed.args[0]
            if not report.retriable():
                raise self._reason(report, doing=doing)
            self._serve(0)
            self._watch(deadline_s, doing)

    def _call(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except KafkaException as failed:
            raise self._reason(failed.args[0], doing="writing") from None

    def _reason(self, report: KafkaError, **facts: object) -> EnsignError:
        """The error for what a call raised. Where that says only that the producer is dead, the
        report of the message that it died of follows at once."""
        for _ in range(REPORTS_WAITED_FOR):
            if report.code() not in _FATAL or self._cause is not None:
                break
            with suppress(KafkaException):
                self._producer.poll(STEP_S)
        if self._cause is not None:
            return self._error(self._cause, topic=self._failed_topic)
        return self._reports.fatal or self._error(report, **facts)

    def _error(self, report: KafkaError, **facts: object) -> EnsignError:
        begun_s = self._begun_s if self._begun_s is not None else time.monotonic()
        late = time.monotonic() - begun_s >= self._config.delivery_timeout_s
        if report.code() in FENCED and late:
            # The coordinator ends a transaction whose time is over, and fences its producer.
            return error("timeout", doing="in a transaction", **self._reports.facts)
        return self._reports.by_report(report, **self._facts, **facts)
