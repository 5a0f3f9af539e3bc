"""The sink ``kinesis``: records put into a stream, or into one stream per topic.

At least once (I7): Kinesis keeps no offsets. What was not flushed is sent again by the next
instance, from the first record on, so that repeats come in order too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from connectors.kinesis.client import Service
from connectors.kinesis.config import NAME, KinesisSinkConfig
from connectors.kinesis.errors import error
from connectors.kinesis.keys import PartitionKeys
from connectors.kinesis.sending import Sender
from ensign_core.change import Batch
from ensign_core.formats import formatter
from ensign_core.plugin import Context

RECORD_KIB_MAX: Final = 1024
"""The size of a record, key included, where the stream does not say (its default)."""


class KinesisSink:
    """Made by the registry, called by the egress loop's thread (I1)."""

    def __init__(self, config: KinesisSinkConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._formatter = formatter(config.format)
        self._keys = PartitionKeys(config.partition_key)
        self._senders: dict[str, Sender] = {}
        self._service: Service | None = None
        self._executor: ThreadPoolExecutor | None = None

    def open(self) -> None:
        """Connect, and look at the stream if it is one; Kinesis keeps no offsets (I7)."""
        self._service = Service(self._config)
        self._executor = ThreadPoolExecutor(self._config.requests_max, "kinesis-put")
        if "{topic}" not in self._config.stream:
            self._sender(self._config.stream)

    def write(self, batch: Batch) -> None:
        messages = self._formatter.messages(batch)
        if not messages.indexes:
            return
        sender = self._sender(self._stream(batch.target))
        keys = self._keys.of(batch, messages)
        for place, index in enumerate(messages.indexes):
            data = messages.values[place]
            if data is None:
                if messages.deletes[place]:
                    continue  # a tombstone, which only compacted topics want
                data = b""
            size = len(data) + len(keys[place].encode())
            if size > sender.record_bytes_max:
                self._too_large(batch, index, size, sender.record_bytes_max)
                continue
            sender.add(keys[place], data)
        self._relieve(sender)

    def flush(self) -> None:
        for sender in self._senders.values():
            sender.pump(0)  # I6

    def close(self) -> None:
        """Requests under way are waited for, as long as a request may take: what they put must not
        come behind what the next instance sends."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        if self._service is not None:
            self._service.close()
        self._executor = self._service = None
        self._senders.clear()

    def _relieve(self, sender: Sender) -> None:
        """Send where too much waits (I8)."""
        limit = self._config.buffer_bytes_max
        sender.pump(limit)
        if sum(other.bytes for other in self._senders.values()) > limit:
            for other in self._senders.values():
                other.pump(max(1, limit // (2 * len(self._senders))))

    def _stream(self, topic: str) -> str:
        stream = self._config.stream.replace("{topic}", topic)
        if not NAME.fullmatch(stream):
            raise error("stream_name", topic=topic, length=len(stream))
        return stream

    def _sender(self, stream: str) -> Sender:
        sender = self._senders.get(stream)
        if sender is None:
            assert self._service is not None
            assert self._executor is not None
            summary = self._service.summary(stream)
            if summary["StreamStatus"] not in ("ACTIVE", "UPDATING"):
                raise error("stream.busy", stream=stream, state=summary["StreamStatus"])
            kib = summary.get("MaxRecordSizeInKiB", RECORD_KIB_MAX)
            sender = self._senders[stream] = Sender(
                self._service, stream, kib * 1024, self._executor, self._config.requests_max,
                self._config.throttled_s_max, self._waiting,
            )  # fmt: skip
        return sender

    def _waiting(self, keys: int) -> None:
        detail = f"throttled: {keys} partition keys wait" if keys else ""
        self._context.progress(detail=detail)

    def _too_large(self, batch: Batch, index: int, size: int, bytes_max: int) -> None:
        stream = self._stream(batch.target)
        problem = error(
            "record_too_large", topic=batch.topic, bytes=size, stream=stream, max=bytes_max
        )
        if self._config.on_refused == "stop":
            raise problem
        self._context.dead_letter(batch.change(index), problem)
