"""Records of Kafka to bodies, message by message in plain Python: what the compiled version is held
against."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Message

from ensign_core.formats.headers import headers_text
from ensign_core.rows import new_image


def bodies(
    messages: list[Message], start: int, bytes_max: int, nexts: dict[str, dict[int, int]]
) -> tuple[int, list[tuple[str, bytes]]]:
    """The index of the first message not taken, and topic and body of each record."""
    found: list[tuple[str, bytes]] = []
    size = 0
    for at in range(start, len(messages)):
        message = messages[at]
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        failed = message.error()
        ends = failed is not None and failed.code() == KafkaError._PARTITION_EOF
        if size >= bytes_max or (failed is not None and not ends):
            return at, found
        if offset < nexts[topic][partition]:
            return at, found
        nexts[topic][partition] = offset if ends else offset + 1
        if not ends:
            found.append((topic, body(message)))
            size += len(found[-1][1])
    return len(messages), found


def body(message: Message) -> bytes:
    given: Any = message.headers() or []
    headers = [(name, _bytes(value)) for name, value in given]
    kind, timestamp_ms = message.timestamp()
    known = kind != 0 and timestamp_ms != -1
    return new_image(
        [
            message.key(), message.value(), None, _mimetype(headers), None,
            headers_text(headers) if headers else None, str(message.partition()),
            str(message.offset()), str(timestamp_ms) if known else None,
        ]
    )  # fmt: skip


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _mimetype(headers: list[tuple[str, bytes | None]]) -> str | None:
    for name, value in headers:
        if name.lower() == "content-type" and value is not None:
            try:
                return value.decode()
            except UnicodeDecodeError:
                continue
    return None
