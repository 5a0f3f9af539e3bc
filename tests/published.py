"""What tests of publishing read back."""

from __future__ import annotations

import itertools

from ensign_core.broker import Broker
from ensign_core.broker.events import received


def stored(broker: Broker, topic: str) -> dict[int, bytes]:
    """The data of the events that a reader of the topic gets, by offset."""
    with broker.reader([topic]) as reader:
        batches = itertools.chain.from_iterable(iter(reader.fetch, []))
        return {
            one.offset: one.event.data
            for batch in batches
            for one in received(batch)
            if one.event is not None
        }
