"""What a Kafka source takes in its config, its position, gaps and errors: no broker needed."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.kafka import KafkaSourceConfig
from connectors.kafka.connection import Reports, settings
from connectors.kafka.errors import ERRORS, NUMBERS, by_number, error
from connectors.kafka.gaps import Gap
from connectors.kafka.position import Place, decode, encode, shown
from connectors.kafka.source import DEFAULTS, FIXED
from ensign_core.run.retry import waits

SASL = {"mechanism": "PLAIN", "username": "u", "password": "hunter2"}


def config(**options: object) -> KafkaSourceConfig:
    given = {"type": "kafka", "bootstrap": "one:1,two:2", "topics": ["orders", "^shop\\."]}
    return KafkaSourceConfig.model_validate(given | options)


def test_names_and_patterns_are_told_apart() -> None:
    found = config()
    assert found.names() == ["orders"]
    assert [pattern.pattern for pattern in found.patterns()] == ["^shop\\."]
    assert config(topics="orders").names() == ["orders"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topics": "^("}, "regular expression"),
        ({"topics": "a b"}, "a pattern has ^"),
        ({"topics": []}, "at least 1"),
        ({"bootstrap": "one:1,"}, "host:port"),
        ({"start": "yesterday"}, "start"),
        ({"tls": {"cert": "a"}}, "cert and key go together"),
        ({"sasl": {"mechanism": "PLAIN"}}, "needs username and password"),
        ({"sasl": {**SASL, "token_url": "http://a"}}, "for OAUTHBEARER"),
        ({"sasl": {**SASL, "mechanism": "OAUTHBEARER"}}, "for PLAIN and SCRAM"),
        ({"sasl": {"mechanism": "OAUTHBEARER", "client_id": "a"}}, "go together"),
        ({"options": {"enable.auto.commit": True}}, "enable.auto.commit cannot be set"),
        ({"options": {"auto.offset.reset": "latest"}}, "see on_removed"),
        ({"options": {"isolation.level": "read_uncommitted"}}, "never read"),
        ({"options": {"sasl.password": "hunter2"}}, "use sasl: {password}"),
        ({"options": {"bootstrap.servers": "a:1"}}, "use bootstrap"),
        ({"options": {"error_cb": "os.system"}}, "cannot be set in a config"),
    ],
)
def test_what_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**options)
    told = str([(e["loc"], e["msg"]) for e in caught.value.errors()])
    assert says in told
    assert "hunter2" not in told


def test_settings_of_librdkafka() -> None:
    found = config(
        tls=True, sasl=SASL, options={"fetch.wait.max.ms": 5, "group.id": "mine", "log_level": 7}
    )
    given = settings(found, DEFAULTS, FIXED)
    assert given["bootstrap.servers"] == "one:1,two:2"
    assert given["security.protocol"] == "SASL_SSL"
    assert (given["sasl.username"], given["sasl.password"]) == ("u", "hunter2")
    assert (given["fetch.wait.max.ms"], given["group.id"], given["log_level"]) == (5, "mine", 7)
    assert given["auto.offset.reset"] == "error"
    assert "hunter2" not in repr(found)
    assert settings(config(), {}, {})["security.protocol"] == "PLAINTEXT"


def test_tokens_come_from_the_authorization_server() -> None:
    sasl = {
        "mechanism": "OAUTHBEARER", "token_url": "https://a/token", "client_id": "id",
        "client_secret": "hunter2", "scope": "kafka", "extensions": {"a": "1", "b": "2"},
    }  # fmt: skip
    given = settings(config(sasl=sasl), {}, {})
    assert given["sasl.oauthbearer.method"] == "oidc"
    assert given["sasl.oauthbearer.token.endpoint.url"] == "https://a/token"
    assert given["sasl.oauthbearer.client.id"] == "id"
    assert given["sasl.oauthbearer.client.secret"] == "hunter2"
    assert given["sasl.oauthbearer.scope"] == "kafka"
    assert given["sasl.oauthbearer.extensions"] == "a=1,b=2"


PLACES = st.dictionaries(
    st.text("abc._-", min_size=1, max_size=5),
    st.builds(
        Place, st.text(max_size=4), st.dictionaries(st.integers(0, 99), st.integers(0, 2**63))
    ),
    max_size=4,
)


@given(PLACES)
def test_a_position_comes_back_as_it_was(places: dict[str, Place]) -> None:
    assert decode(encode(places)) == places


def test_a_position_for_people_names_some() -> None:
    assert shown({}) == ""
    assert shown({"b": Place("", {1: 7, 0: 5}), "a": Place("", {0: 1})}) == "b 0:5 1:7, a 0:1"
    many = shown({"a": Place("", dict.fromkeys(range(20), 3)), "b": Place("", {0: 0})})
    assert many.endswith("7:3 and 13 more")


def test_every_number_of_the_table_is_one_of_librdkafka() -> None:
    known = {
        value for name, value in vars(KafkaError).items()
        if isinstance(value, int) and name.strip("_").isupper()
    }  # fmt: skip
    assert NUMBERS.keys() <= known
    assert set(NUMBERS.values()) <= ERRORS.keys()
    assert by_number(-1, "UNKNOWN", doing="read").code == "kafka.failed"
    assert "\n" not in str(error("topic_unknown", topic="a\nb"))


def test_all_brokers_away_is_told_with_its_reason() -> None:
    reports = Reports(config())
    assert reports.trouble() is None
    reports(KafkaError(KafkaError._TRANSPORT))
    assert reports.trouble() is None, "another broker may be there"
    reports(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    trouble = reports.trouble()
    assert trouble is not None
    assert trouble.code == "kafka.unreachable"
    assert waits(trouble)
    reports.answered()
    assert reports.trouble() is None
    reports(KafkaError(KafkaError._AUTHENTICATION))
    assert reports.trouble() is None, "it may have gone down in the midst of a login"
    reports(KafkaError(KafkaError._AUTHENTICATION))
    trouble = reports.trouble()
    assert trouble is not None
    assert not waits(trouble)


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        (Gap("records_removed", "t", 1, 5, 9), "Records 5 to 8 of t, partition 1,"),
        (Gap("log_truncated", "t", 1, 9, 5), "ends at offset 5, and was read up to 9"),
        (Gap("topic_recreated", "t", -1, 0, 0), "made again"),
        (Gap("topic_deleted", "t", -1, 0, None), "was deleted"),
    ],
)
def test_gaps_say_what_is_missing(gap: Gap, says: str) -> None:
    found: Any = gap.error()
    assert says in found.sentence
    assert not waits(found)
    assert gap.word.encode() in gap.body()
