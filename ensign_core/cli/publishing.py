"""Lines of standard input as events."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import count

from ensign_core.broker import EVENT_BYTES_MAX, Event, Publisher
from ensign_core.broker.events import checked_bodies
from ensign_core.change import Offset
from ensign_core.cli.output import out, show_json
from ensign_core.errors import EnsignError

READ_BYTES = 1 << 20


def publish_lines(
    publisher: Publisher, topic: str, source: int, key: str | None, *, as_json: bool
) -> None:
    """Publish each line that the descriptor ``source`` gives, a batch per read, and say so when it
    is synced. A line that cannot be published ends it, with those before it published."""
    acked = duplicates = 0
    numbers = count(1)
    for lines in _chunks(source):
        events: list[Event] = []
        refused: EnsignError | None = None
        for text, number in zip(lines, numbers, strict=False):
            try:
                if text.strip():
                    events.append(_event(text, key))
            except EnsignError as error:
                refused = EnsignError(
                    error.code, f"Line {number}: {error.sentence}",
                    "Those before it are published: mend it and publish again from there on.",
                )  # fmt: skip
                break
        acks = publisher.publish_many(topic, events)
        if acks:
            acked += len(acks)
            duplicates += sum(ack.duplicate for ack in acks)
            show_acked(acked, acks[-1].offset, duplicates, as_json=as_json)
        if refused is not None:
            raise refused


def _chunks(source: int) -> Iterator[list[bytes]]:
    """Whole lines, as many as a read gave; a line without an end as soon as it is too long."""
    rest = b""
    while chunk := os.read(source, READ_BYTES):
        *lines, last = chunk.split(b"\n")
        if lines:
            lines[0] = rest + lines[0]
            rest = last
            yield lines
        else:
            rest += last
        if len(rest) > EVENT_BYTES_MAX:
            break
    if rest:
        yield [rest]


def show_acked(acked: int, last: Offset, duplicates: int, *, as_json: bool) -> None:
    """Say what was synced so far."""
    if as_json:
        show_json({"acked": acked, "last_offset": last, "duplicates": duplicates})
    else:
        repeats = f", {duplicates} duplicates" if duplicates else ""
        out.print(f"acked {acked}, last offset {last}{repeats}")
    sys.stdout.flush()


def _event(text: bytes, key: str | None) -> Event:
    try:
        value = json.loads(text)
        mimetype = "application/json"
    except ValueError:
        value, mimetype = None, "text/plain"
    event = Event(text, mimetype=mimetype)
    if key is not None:
        if not isinstance(value, dict) or key not in value:
            raise EnsignError(
                "publish.key_missing",
                f"It is not a JSON object with the field {key!r}.",
                "Mend it, or publish without --key.",
            )
        field = value[key]
        encoded = field if isinstance(field, str) else json.dumps(field)
        event = Event(text, encoded.encode(), mimetype=mimetype)
    checked_bodies([event])
    return event
