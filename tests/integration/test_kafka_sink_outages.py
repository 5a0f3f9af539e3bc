"""The Kafka sink and a broker that goes away: what it holds meanwhile, and what it gives up."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ensign_core.errors import EnsignError
from ensign_core.run.retry import waits
from tests.integration.kafka_sinks import new_sink, rows
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record, consume
from tests.services.proxy import FaultProxy
from tests.services.ready import wait_until

WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def place(kafka_here: None) -> Iterator[tuple[KafkaServer, FaultProxy]]:
    """A broker that tests may stop, and what clients of its ``plaintext`` are sent through."""
    # A broker that comes back is let in when its old session is over.
    quick = {"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "200"}
    # It forgets producers that are idle.
    quick |= {
        "transactional.id.expiration.ms": "3000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "200",
    }
    server = KafkaServer(settings=quick)
    with FaultProxy(server.host, server.ports["plaintext"]) as made:
        ports = f":{server.ports['plaintext']}", f":{made.port}"
        server.settings["advertised.listeners"] = server.settings["advertised.listeners"].replace(
            *ports
        )
        with server:
            yield server, made


@pytest.fixture
def broker(place: tuple[KafkaServer, FaultProxy]) -> KafkaServer:
    return place[0]


@pytest.fixture
def proxy(place: tuple[KafkaServer, FaultProxy]) -> FaultProxy:
    return place[1]


def test_lost_answers_cause_no_repeat(broker: KafkaServer, proxy: FaultProxy) -> None:
    """The broker has written what the sink never hears of, and sends again."""
    topic = broker.new_topic()
    sink, _ = new_sink(broker, topic)

    def arrived() -> int:
        return len(consume(broker.client("sasl"), topic, 1, "read_uncommitted"))

    with closing(sink):
        sink.open()
        sink.write(rows(range(10)))
        sink.flush()
        proxy.black_hole("down")
        sink.write(rows(range(10, 20), offset=10))
        wait_until(lambda: arrived() == 20, WAIT_S_MAX, 0.05)
        proxy.cut()
        proxy.heal()
        sink.flush()
    ids = [json.loads(record.value or b"")["key"]["id"] for record in broker.consume(topic)]
    assert ids == [*range(20)]


@pytest.mark.parametrize("transactional", [False, True])
def test_an_outage_is_outlived_without_a_repeat(broker: KafkaServer, transactional: bool) -> None:
    """Messages are under way when the broker is killed; the queue fills meanwhile."""
    topic = broker.new_topic(2)
    sink, context = new_sink(
        broker, topic, transactional=transactional, ledger=f"{topic}.offsets",
        queue_bytes_max=1 << 20,
    )  # fmt: skip
    batches = [rows([n % 50 for n in range(1000)], offset=1000 * at) for at in range(30)]
    with closing(sink):
        sink.open()
        for batch in batches[:10]:
            sink.write(batch)
        broker.stop("kill")
        back = threading.Thread(target=broker.start)
        back.start()
        for batch in batches[10:]:
            sink.write(batch)
        sink.flush()
        back.join(WAIT_S_MAX)
    found = broker.consume(topic)
    assert len(found) == 30_000
    by_key: dict[bytes | None, list[int]] = {}
    for record in found:
        offset = json.loads(record.value or b"")["offset"]
        by_key.setdefault(record.key, []).append(offset)
    assert len(by_key) == 50
    for offsets in by_key.values():
        assert offsets == sorted(set(offsets))
    # What was said of the outage is taken back.
    warned = [facts["warnings"] for facts in context.said if "warnings" in facts]
    assert not warned or warned[-1] == []


def test_an_outage_that_lasts_is_given_up_and_nothing_comes_late(broker: KafkaServer) -> None:
    """I9: neither a full queue nor a flush waits for ever, and what a dead sink still held is
    never written."""
    topic = broker.new_topic()
    with closing(new_sink(broker, topic)[0]) as sink:
        sink.open()
        sink.write(rows([1]))
        sink.flush()
    sink, _ = new_sink(broker, topic, delivery_timeout_s=1)
    full, _ = new_sink(broker, topic, queue_bytes_max=1 << 20, delivery_timeout_s=1)
    sink.open()
    full.open()
    broker.stop()
    sink.write(rows([2], offset=1))
    with pytest.raises(EnsignError) as flushing:
        sink.flush()
    with pytest.raises(EnsignError) as writing:
        full.write(rows(range(10_000), note="x" * 300))
    for caught in (flushing, writing):
        assert caught.value.code in ("kafka.timeout", "kafka.unreachable")
        assert waits(caught.value)
    sink.close()
    full.close()
    broker.start()
    with closing(new_sink(broker, topic)[0]) as successor:
        successor.open()
        successor.write(rows([3], offset=1))
        successor.flush()
    assert [record.key for record in broker.consume(topic)] == [b'{"id":1}', b'{"id":3}']


def test_no_broker_at_all(broker: KafkaServer) -> None:
    nobody, _ = new_sink(broker, "{topic}", bootstrap="127.0.0.1:1", timeout_s=1)
    with closing(nobody) as sink:
        with pytest.raises(EnsignError) as caught:
            sink.open()
        assert caught.value.code == "kafka.unreachable"


def test_a_producer_that_the_brokers_forgot_is_made_anew(broker: KafkaServer) -> None:
    """After ``transactional.id.expiration.ms``, a week by default, without a transaction."""
    topic = broker.new_topic()
    options: dict[str, Any] = {
        "transactional": True, "ledger": f"{topic}.offsets", "name": topic,
    }  # fmt: skip
    sink, _ = new_sink(broker, topic, **options)
    with closing(sink):
        sink.open()
        sink.write(rows([1]))
        sink.flush()
        known = broker.consume("__transaction_state")[-1].key
        forgotten = Record(known, None)
        wait_until(
            lambda: forgotten in [
                Record(each.key, each.value) for each in broker.consume("__transaction_state")
            ],
            WAIT_S_MAX, 0.2,
        )  # fmt: skip
        sink.write(rows([2], offset=1))
        with pytest.raises(EnsignError) as caught:
            sink.flush()
        assert caught.value.code == "kafka.producer.restarting"
        assert waits(caught.value)
    sink, _ = new_sink(broker, topic, **options)
    with closing(sink):
        assert sink.open() == {"shop.orders": 1}


@pytest.mark.parametrize("transactional", [False, True])
def test_a_closed_sink_leaves_no_threads(broker: KafkaServer, transactional: bool) -> None:
    """Nor waits for Python to look for rings of references."""
    topic = broker.new_topic()
    threads = Path("/proc/self/task")
    before = 0
    gc.disable()
    try:
        for _ in range(3):
            sink, _ = new_sink(broker, topic, transactional=transactional)
            sink.open()
            sink.write(rows([1]))
            sink.flush()
            sink.close()
            before = before or len(list(threads.iterdir()))
        wait_until(lambda: len(list(threads.iterdir())) <= before, WAIT_S_MAX)
    finally:
        gc.enable()
