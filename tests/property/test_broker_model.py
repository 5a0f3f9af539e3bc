"""The broker against a list: readers get what was appended, in order, from anywhere."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ensign_core.broker import Broker
from ensign_core.change import Batch, Position, Stage
from tests.property.test_frame import Event, exploded, modelled

TOPICS = ["a", "b", "c"]
APPENDS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(TOPICS), modelled()), max_size=3),
        st.sampled_from([Stage.NONE, Stage.NONE, Stage.HOLD, Stage.RELEASE]),
        st.binary(max_size=5),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(APPENDS, st.integers(1, 3000), st.integers(0, 12))
def test_readers_get_what_was_appended(
    appends: list[tuple[list[tuple[str, tuple[Batch, list[Event]]]], Stage, bytes, bool]],
    bytes_max: int,
    start: int,
) -> None:
    log: list[tuple[str, list[Event]]] = []
    held: list[tuple[str, list[Event]]] = []
    kept: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder, Broker.open(Path(folder) / "b") as broker:
        writer = broker.writer("p")
        follower = broker.pipelines.reader("p", "p/bus")
        followed: list[tuple[str, Event]] = []
        for batches, stage, position, restart in appends:
            if restart:
                writer = broker.writer("p")
                held.clear()
            written = [(topic, batch) for topic, (batch, _) in batches]
            pieces = {} if stage is Stage.HOLD else {"a": position, position.hex(): b"x"}
            writer.append(written, Position(position), stage, pieces)
            kept |= pieces
            assert broker.pipelines.position("p") == position
            assert broker.pipelines.kept("p") == {
                name: value for name, value in kept.items() if value
            }
            (held if stage is Stage.HOLD else log).extend(
                (topic, events) for topic, (_, events) in batches if stage is not Stage.RELEASE
            )
            if stage is Stage.RELEASE:
                log += held + [(topic, events) for topic, (_, events) in batches]
                held.clear()
            for batch in follower.fetch(bytes_max=bytes_max):
                followed += [(batch.topic, event) for event in exploded(batch)]
        while rest := follower.fetch(bytes_max=bytes_max):
            followed += [(batch.topic, event) for batch in rest for event in exploded(batch)]
        follower.close()
        assert followed == [(topic, event) for topic, events in log for event in events]
        for topic in {topic for topic, events in log if events}:
            mine = [event for name, events in log if name == topic for event in events]
            with broker.reader([topic], start) as reader:
                found = [b for batches in iter(reader.fetch, []) for b in batches]
            assert [event for batch in found for event in exploded(batch)] == mine[start:]
