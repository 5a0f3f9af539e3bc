"""Deduplication against a model: a list of events, and keys that equal events share."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ensign_core.broker import Acked, Broker, Deduplication, Event, TopicPolicy
from ensign_core.broker.commits import Commits
from ensign_core.broker.duplicates import Hasher
from tests.published import stored

TEXTS = ["", "a", "b", "ab", "1:a", "-"]
JSON = [
    "1", "1.0", "10e-1", "0.10e1", "-0", "0", "0e9", "true", "false", "null", '"1"', '"a"',
    '"\\u0061"', "[]", "{}", "[1,2]", "[12]", "[[1],2]", '{"x":1,"y":2}',
    '{"y":2.0,"x":1}', '{"x":{"y":1}}',
    "1e400", "10e399", "12345678901234567890123", "12345678901234567890123.0", "0.1", "1e-1",
]  # fmt: skip
POLICIES = [
    Deduplication(),
    Deduplication("strict"),
    Deduplication("datagram"),
    Deduplication("datagram", keep="latest"),
    Deduplication("key_grouped", keys=("a", "b")),
    Deduplication("unique_key", keys=("b", "a")),
    Deduplication("unique_key", keys=("a",), keep="latest"),
    Deduplication("unique_field", fields=("a",)),
    Deduplication("unique_field", fields=("a.x", "b")),
    Deduplication("unique_field", fields=("b", "a"), keep="latest"),
]


def documents() -> st.SearchStrategy[bytes]:
    member = st.sampled_from(JSON)
    some = st.dictionaries(st.sampled_from(["a", "b", "c"]), member, max_size=3)
    written = some.map(
        lambda found: "{" + ", ".join(f'"{name}": {text}' for name, text in found.items()) + "}"
    )
    other = st.sampled_from(["", "x", "[1]", "1", '{"a": NaN}', '{"a": 1', "\ufeff{}"])
    return st.one_of(written, other).map(str.encode)


def events() -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        data=st.one_of(documents(), st.sampled_from([text.encode() for text in TEXTS])),
        key=st.sampled_from([None, b"k"]),
        metadata=st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(TEXTS), max_size=2
        ),
        mimetype=st.sampled_from([None, "", "a"]),
        type=st.sampled_from([None, "", "a"]),
    )


def by_value(value: Any) -> Any:
    if isinstance(value, dict):
        return "object", frozenset((name, by_value(item)) for name, item in value.items())
    if isinstance(value, list):
        return "list", tuple(map(by_value, value))
    return type(value).__name__, value


def refuse(_: str) -> Any:
    raise ValueError


def key_of(policy: Deduplication, event: Event) -> Any:
    """What equal events share; None for one that is a duplicate of nothing."""
    values = [event.metadata.get(name) for name in sorted(policy.keys)]
    if policy.strategy == "datagram":
        return event.data
    if policy.strategy == "strict":
        return event.data, frozenset(event.metadata.items()), event.mimetype, event.type
    if policy.strategy == "key_grouped":
        return event.data, *values
    if policy.strategy == "unique_key":
        return tuple(values) if set(values) != {None} else None
    if policy.strategy == "none":
        return None
    try:
        document = json.loads(
            event.data, parse_int=Fraction, parse_float=Fraction, parse_constant=refuse
        )
    except ValueError:
        return None
    found = []
    missing = 0
    for field in sorted(policy.fields):
        value = document
        for name in field.split("."):
            if not isinstance(value, dict) or name not in value:
                value = None
                missing += 1
                break
            value = value[name]
        found.append(by_value(value))
    return tuple(found) if missing < len(policy.fields) else None


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(POLICIES[1:]), events(), events())
def test_equal_events_have_equal_hashes_and_no_others(
    policy: Deduplication, one: Event, other: Event
) -> None:
    hasher = Hasher(lambda data: data, b"topic", policy)
    keys = key_of(policy, one), key_of(policy, other)
    hashes = hasher(one), hasher(other)
    assert [key is None for key in keys] == [found is None for found in hashes]
    assert (keys[0] == keys[1]) == (hashes[0] == hashes[1])


class Model:
    """What the topic should have."""

    def __init__(self) -> None:
        self.policy = Deduplication()
        self.events: list[Event] = []
        self.superseded: set[int] = set()
        self.known: dict[Any, int] = {}
        self.duplicates = 0

    def set_policy(self, policy: Deduplication) -> None:
        if policy != self.policy:
            self.policy, self.known = policy, {}
            for offset, event in enumerate(self.events):
                key = key_of(policy, event)
                if key is not None and offset not in self.superseded:
                    if policy.keep == "latest":
                        self.known[key] = offset
                    else:
                        self.known.setdefault(key, offset)

    def publish(self, event: Event) -> tuple[int, bool]:
        key = key_of(self.policy, event)
        earlier = None if key is None else self.known.get(key)
        if earlier is not None:
            self.duplicates += 1
            if self.policy.keep == "earliest":
                return earlier, True
            self.superseded.add(earlier)
        offset = len(self.events)
        self.events.append(event)
        if key is not None:
            self.known[key] = offset
        return offset, False


STEPS = st.lists(
    st.one_of(
        st.lists(st.lists(events(), min_size=1, max_size=4), min_size=1, max_size=3),
        st.sampled_from([*POLICIES, "reopen"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(POLICIES), STEPS)
def test_topics_have_what_the_model_has(policy: Deduplication, steps: list[Any]) -> None:
    model = Model()
    model.set_policy(policy)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker.open(Path(folder) / "b")
        broker.create_topic("t", TopicPolicy(deduplication=policy))
        for step in steps:
            if step == "reopen":
                broker.close()
                broker = Broker.open(Path(folder) / "b")
            elif isinstance(step, Deduplication):
                broker.set_policy("t", TopicPolicy(deduplication=step))
                model.set_policy(step)
            else:
                # Several publishers' events in one commit.
                receipts = [broker.publisher()._receipt("t", some, None) for some in step]
                Commits(broker._vault).commit(receipts)
                acks: list[Acked] = [ack for one in receipts for ack in one.results()]
                assert [(ack.offset, ack.duplicate) for ack in acks] == [
                    model.publish(event) for some in step for event in some
                ]
        assert stored(broker, "t") == {
            offset: event.data
            for offset, event in enumerate(model.events)
            if offset not in model.superseded
        }
        info = broker.topic("t")
        assert (info.duplicates, info.next_offset) == (model.duplicates, len(model.events))
        broker.close()
