"""How a broker is reached, what it refuses, and how the source takes its going away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest
from confluent_kafka.admin import AclOperation

from connectors.kafka import SOURCE
from connectors.registry import connector
from ensign_core.change import Batch
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding, Source
from ensign_core.run.retry import waits
from tests.services.certificates import Authority
from tests.services.kafka import CDC, STRANGER, KafkaServer, Listener
from tests.services.kafka_records import Record
from tests.services.kafka_source import (
    WAIT_S_MAX,
    caught_up,
    make,
    opened,
    position_of,
    records,
    some,
)
from tests.services.postgres import free_port
from tests.services.token_server import TokenServer

TIMEOUT_S = 5.0


def refusal(server: KafkaServer, **options: object) -> EnsignError:
    """Why a source cannot be opened or read."""
    given = {"timeout_s": TIMEOUT_S, **options}
    with pytest.raises(EnsignError) as caught, opened(server, **given) as source:
        some(source, 1)
    assert all(part not in str(caught.value) for part in ("Traceback", "hunter2", "\n"))
    return caught.value


def at(server: KafkaServer, listener: Listener, **options: object) -> dict[str, object]:
    """Options for a listener."""
    tls = {"ca": str(server.authority.path)}
    if listener == "ssl":
        tls |= {"cert": str(server.certificate), "key": str(server.key)}
    found: dict[str, object] = {"bootstrap": server.address(listener), **options}
    return found | ({"tls": tls} if listener.endswith("ssl") else {})


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
@pytest.mark.parametrize("listener", ["sasl", "sasl_ssl"])
def test_logs_in(kafka: KafkaServer, listener: Listener, mechanism: str) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"k", b"v")])
    options = at(kafka, listener, topics=topic)
    if mechanism == "OAUTHBEARER":
        options |= {
            "sasl": {"mechanism": mechanism},
            "options": {
                "enable.sasl.oauthbearer.unsecure.jwt": True,
                "sasl.oauthbearer.config": f"principal={CDC}",
            },
        }
    else:
        options["sasl"] = {"mechanism": mechanism, "username": CDC, "password": CDC}
    with opened(kafka, **options) as source:
        assert len(records(caught_up(source))) == 1


def test_logs_in_with_tokens_of_an_authorization_server(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"k", b"v")])
    with TokenServer(CDC, "ensign", "hunter2") as tokens:
        sasl = {
            "mechanism": "OAUTHBEARER", "token_url": tokens.url, "client_id": "ensign",
            "client_secret": "hunter2", "scope": "kafka",
        }  # fmt: skip
        with opened(kafka, **at(kafka, "sasl", topics=topic, sasl=sasl)) as source:
            assert len(records(caught_up(source))) == 1
        assert "kafka" in tokens.scopes
        wrong = {**sasl, "client_secret": "hunter3"}
        error = refusal(kafka, **at(kafka, "sasl", topics=topic, sasl=wrong))
    assert error.code == "kafka.token.unreachable"
    assert waits(error), "as if it were away: librdkafka tells no difference"


def test_logs_in_by_certificate(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"k", b"v")])
    with opened(kafka, **at(kafka, "ssl", topics=topic)) as source:
        assert len(records(caught_up(source))) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_stops(kafka: KafkaServer, mechanism: str) -> None:
    sasl = {"mechanism": mechanism, "username": CDC, "password": "hunter2"}
    started_s = time.monotonic()
    error = refusal(kafka, **at(kafka, "sasl", topics=kafka.new_topic(), sasl=sasl))
    assert error.code == "kafka.authentication_failed"
    assert not waits(error)
    assert time.monotonic() - started_s < TIMEOUT_S


def test_who_may_not_read_is_refused(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"k", b"v")])
    sasl = {"mechanism": "PLAIN", "username": STRANGER, "password": STRANGER}
    options = at(kafka, "sasl", topics=topic, sasl=sasl)
    error = refusal(kafka, **options)
    assert error.code == "kafka.topic_unauthorized"
    assert topic in error.sentence
    kafka.allow(STRANGER, AclOperation.DESCRIBE, topic)
    assert refusal(kafka, **options).code == "kafka.topic_unauthorized"
    assert [f.code for f in check(kafka, **options) if f.level == "error"] == [error.code]
    kafka.allow(STRANGER, AclOperation.READ, topic)
    with opened(kafka, **options) as source:
        assert len(records(caught_up(source))) == 1


def test_an_unknown_authority_is_refused(kafka: KafkaServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    options = at(kafka, "ssl", topics=kafka.new_topic())
    tls = {**options["tls"], "ca": str(other.path)}  # type: ignore[dict-item]  # a dict, from `at`
    error = refusal(kafka, **{**options, "tls": tls})
    assert error.code == "kafka.tls_failed"
    assert not waits(error)


def test_a_listener_without_tls(kafka: KafkaServer) -> None:
    options = {**at(kafka, "ssl", topics=kafka.new_topic()), "bootstrap": kafka.bootstrap}
    assert refusal(kafka, **options).code in ("kafka.tls_failed", "kafka.unreachable")


def test_files_that_are_not_what_they_should_be(kafka: KafkaServer, tmp_path: Path) -> None:
    options = at(kafka, "ssl", topics=kafka.new_topic())
    other = tmp_path / "other.pem"
    missing = refusal(kafka, **{**options, "tls": {"ca": str(other)}})
    assert missing.code == "kafka.tls_file"
    other.write_text("nothing")
    assert refusal(kafka, **{**options, "tls": {"ca": str(other)}}).code == "kafka.tls_file"


def test_nobody_there_is_waited_for(kafka: KafkaServer) -> None:
    started_s = time.monotonic()
    error = refusal(kafka, bootstrap=f"127.0.0.1:{free_port()}", topics="orders")
    assert error.code == "kafka.unreachable"
    assert waits(error)
    assert time.monotonic() - started_s < TIMEOUT_S + 1


def test_an_unknown_topic_stops(kafka: KafkaServer) -> None:
    error = refusal(kafka, topics=[kafka.new_topic(), "no-such-topic"])
    assert error.code == "kafka.topic_unknown"
    assert "no-such-topic" in error.sentence


def test_settings_that_librdkafka_does_not_know(kafka: KafkaServer) -> None:
    for name, value in {"no.such.setting": 1, "fetch.min.bytes": "hunter2"}.items():
        error = refusal(kafka, topics="orders", options={name: value})
        assert error.code == "kafka.option_invalid"
        assert name in error.sentence


def check(server: KafkaServer, **options: object) -> list[Finding]:
    given = {"type": "kafka", "bootstrap": server.bootstrap, "timeout_s": TIMEOUT_S, **options}
    return list(SOURCE.check(SOURCE.config.model_validate(given), "pipeline"))


def test_check_finds_what_is_wrong(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2, {"retention.ms": "3600000"})
    assert [(f.level, f.code) for f in check(kafka, topics=topic)] == [
        ("pass", "kafka.reachable"), ("pass", "kafka.topics"), ("pass", "kafka.readable"),
        ("warning", "kafka.retention_short"),
    ]  # fmt: skip
    kafka.produce(topic, [Record(b"k", b"v")])
    assert "error" not in {f.level for f in check(kafka, topics=f"^{topic}$")}
    assert check(kafka, topics="^nothing-like-this$")[-1].code == "kafka.nothing_matches"
    assert check(kafka, topics="no-such-topic")[-1].code == "kafka.topic_unknown"
    away = check(kafka, topics=topic, bootstrap=f"127.0.0.1:{free_port()}")
    assert [(f.level, f.code) for f in away] == [("error", "kafka.unreachable")]
    sasl = {"mechanism": "PLAIN", "username": CDC, "password": "hunter2"}
    wrong = check(kafka, **at(kafka, "sasl", topics=topic, sasl=sasl))
    assert [(f.level, f.code) for f in wrong] == [("error", "kafka.authentication_failed")]


def test_without_the_driver_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("source", "check", "connection", "partitions"):
        monkeypatch.delitem(__import__("sys").modules, f"connectors.kafka.{name}", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    kafka = connector("source", "kafka")
    config = kafka.config.model_validate({"type": "kafka", "bootstrap": "a:1", "topics": "orders"})
    with pytest.raises(EnsignError) as caught:
        kafka.check(config, "pipeline")
    assert caught.value.code == "connector.driver_missing"
    assert 'pip install "ensign[kafka]"' in caught.value.remedy


@pytest.fixture
def mortal(kafka_here: None) -> Iterator[KafkaServer]:
    """A broker that a test may end."""
    with KafkaServer() as server:
        yield server


def until_it_fails(source: Source, batches: list[Batch]) -> EnsignError:
    """Read on until the source says why it cannot."""
    deadline_s = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline_s:
        try:
            batch = source.read(0.1)
        except EnsignError as error:
            return error
        batches += [batch] if batch is not None else []
    raise AssertionError("the source did not notice")


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_a_broker_that_goes_away_is_waited_for_and_nothing_lost(
    mortal: KafkaServer, mode: Literal["fast", "kill"]
) -> None:
    """I9: librdkafka connects anew in silence; the pipeline must show that it waits. The reader is
    made anew after each error, as the core does."""
    topic = mortal.new_topic(2)
    sent = [Record(b"%d" % n, b"v", partition=n % 2) for n in range(1000)]
    mortal.produce(topic, sent[:600])
    options = {"topics": topic, "batch_events_max": 100, "timeout_s": 2}
    with opened(mortal, **options) as source:
        batches = some(source, 150)
        if mode == "kill":
            # It holds still first, which only an answer that does not come can tell.
            os.kill(mortal.process_id, signal.SIGSTOP)
            met = [until_it_fails(source, batches)]
        mortal.stop(mode)
        if mode == "fast":
            met = [until_it_fails(source, batches)]
    with closing(make(mortal, **options)) as source, pytest.raises(EnsignError) as caught:
        source.open(position_of(batches))
    met.append(caught.value)
    assert all(map(waits, met))
    assert met[-1].code == "kafka.unreachable"
    mortal.start()
    mortal.produce(topic, sent[600:])
    with opened(mortal, position_of(batches), **options) as source:
        batches += caught_up(source)
    assert records(batches) == mortal.consume(topic)
