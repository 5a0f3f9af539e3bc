"""The sink ``kafka``: events as messages of Kafka's topics.

At least once by default: what was delivered before a crash and not yet committed is written again,
in the same order. With ``transactional`` the offsets go into the same transaction of Kafka as the
messages (`connectors.kafka.ledger`), so each event is visible once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from connectors.kafka.delivery import BATCH_BYTES_MAX, Delivery
from connectors.kafka.errors import error
from connectors.kafka.ledger import PARTITION, Ledger
from connectors.kafka.outgoing import ANY_PARTITION, Outgoing, composer
from connectors.kafka.sink_config import VARIABLE, KafkaSinkConfig
from connectors.kafka.topics import TopicFacts, Topics, namer
from ensign_core.change import Batch, Offset
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context


class KafkaSink:
    """Made by the registry, called by the egress loop's thread (I1)."""

    def __init__(self, config: KafkaSinkConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._compose = composer(config)
        self._name = namer(config.topic)
        self._ledger = Ledger(config, context) if config.transactional else None
        self._topics: Topics | None = None
        self._delivery: Delivery | None = None
        self._facts: dict[str, TopicFacts] = {}
        self._moved: dict[str, Offset] = {}
        """Next offsets that the ledger does not have yet."""

    def open(self) -> Mapping[str, Offset] | None:
        self._topics = Topics(self._config)
        if VARIABLE.search(self._config.topic):
            self._topics.reach()
            limit = None
        else:
            limit = self._facts_of(self._config.topic).batch_bytes_max
        wanted = int(self._config.options.get("batch.size", BATCH_BYTES_MAX))
        self._produce_with(min(wanted, limit or wanted))
        # Behind the fencing: nobody adds to it any more (I7).
        return self._ledger.read(self._topics) if self._ledger else None

    def _produce_with(self, batch_bytes_max: int) -> Delivery:
        if self._delivery is not None:
            self._delivery.close()
        transactional_id = self._transactional_id() if self._config.transactional else None
        self._delivery = Delivery(self._config, self._context, transactional_id, batch_bytes_max)
        self._delivery.open()
        return self._delivery

    def _transactional_id(self) -> str:
        of = self._context
        return self._config.transactional_id or f"ensign-{of.project}-{of.pipeline}-{of.name}"

    def write(self, batch: Batch) -> None:
        out = self._compose(batch)
        if len(out):
            parts = list(self._parts(batch, out))
            delivery = self._fitting([facts for _, facts, _ in parts])
            for topic, facts, part in parts:
                ready = self._ready(batch, topic, facts, part)
                if len(ready):
                    delivery.send(topic, ready)
        if not batch.replayed:
            self._moved[batch.topic] = batch.next_offset

    def _parts(self, batch: Batch, out: Outgoing) -> Iterator[tuple[str, TopicFacts, Outgoing]]:
        """The messages by the topic that they go to."""
        schema_ids = list(map(batch.schema_ids.__getitem__, out.indexes))
        names = {i: self._name(batch.target, batch.schemas[i]) for i in set(schema_ids)}
        topics = dict.fromkeys(names.values())
        for topic in topics:
            part = out
            if len(topics) > 1:
                part = out.picked([names[schema_id] == topic for schema_id in schema_ids])
            yield topic, self._facts_of(topic), part

    def _facts_of(self, topic: str) -> TopicFacts:
        found = self._facts.get(topic)
        if found is None:
            assert self._topics is not None, "opened"
            found = self._facts[topic] = self._topics.facts(topic, self._config.create)
        return found

    def _fitting(self, facts: list[TopicFacts]) -> Delivery:
        """A producer whose batches all of these topics take."""
        assert self._delivery is not None, "opened"
        limit = min(
            (found.batch_bytes_max for found in facts if found.batch_bytes_max),
            default=self._delivery.batch_bytes_max,
        )
        if limit >= self._delivery.batch_bytes_max:
            return self._delivery
        self.flush()
        return self._produce_with(limit)

    def _ready(self, batch: Batch, topic: str, facts: TopicFacts, out: Outgoing) -> Outgoing:
        """The messages as this topic takes them."""
        if 1 in out.deletes:
            wanted = self._config.tombstones
            kept = facts.compacted if wanted == "auto" else wanted
            out = out.with_tombstones() if kept else out.without_tombstones()
        if out.partitions and max(out.partitions) >= facts.partitions:
            # Where the target has the partition, else by the key.
            out.partitions = [
                number if number < facts.partitions else ANY_PARTITION for number in out.partitions
            ]
        refused: dict[int, EnsignError] = {}
        for failure, places in self._refused(topic, facts, out):
            if self._config.on_refused == "stop":
                raise failure
            for place in places:
                refused.setdefault(out.indexes[place], failure)
        if not refused:
            return out
        for index, failure in sorted(refused.items()):
            self._context.dead_letter(batch.change(index), failure)
        return out.picked([index not in refused for index in out.indexes])

    def _refused(
        self, topic: str, facts: TopicFacts, out: Outgoing
    ) -> Iterator[tuple[EnsignError, list[int]]]:
        """What the topic would refuse, looked for before it is sent: a refusal by the broker ends
        the producer, since what follows must not pass it."""
        queue = self._config.queue_bytes_max
        limit = min(facts.batch_bytes_max or queue, queue)
        if places := out.too_large(limit):
            yield error("message_too_large", topic=topic), places
        if facts.compacted and None in out.keys:
            places = [place for place, key in enumerate(out.keys) if key is None]
            yield error("key_missing", topic=topic), places

    def flush(self) -> None:
        assert self._delivery is not None, "opened"
        if self._ledger is not None:
            for topic, offset in self._moved.items():
                key, value = self._ledger.record(topic, offset)
                record = Outgoing([key], [value], [0], b"\0", partitions=[PARTITION])
                self._delivery.send(self._ledger.topic, record)
        self._delivery.flush()  # I6
        if self._ledger is not None:
            self._delivery.commit()
        self._moved.clear()

    def close(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
        self._delivery = self._topics = None
