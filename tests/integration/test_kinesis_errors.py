"""What a Kinesis source and sink say of bad input: a code, a sentence, a remedy; and what they wait
out themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.registry import connector
from ensign_core.errors import EnsignError
from ensign_core.run.retry import waits
from tests.conformance.driver import make_sink
from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import Capture, connection
from tests.services.postgres import free_port

Read = Callable[..., Capture]
SECRET = "5ecre7"


def refusal(call: Callable[[], object]) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        call()
    error = caught.value
    assert error.remedy
    assert SECRET not in str(error)
    assert "{" not in error.sentence + error.remedy
    assert "(unknown)" not in error.sentence + error.remedy
    return error


@pytest.mark.parametrize(
    ("answer", "code", "waited"),
    [
        ("AccessDeniedException", "kinesis.access_denied", False),
        ("UnrecognizedClientException", "kinesis.credentials_rejected", False),
        ("InvalidSignatureException", "kinesis.credentials_rejected", False),
        ("ExpiredTokenException", "kinesis.credentials_expired", False),
        ("InternalFailure", "kinesis.busy", True),
        ("ServiceUnavailable", "kinesis.busy", True),
        ("LimitExceededException", "kinesis.throttled", True),
        ("SomethingNewException", "kinesis.refused", False),
        ("cut", "kinesis.connection_lost", True),
    ],
)
def test_answers_to_the_first_call(
    kinesis: KinesisServer, read_stream: Read, answer: str, code: str, waited: bool
) -> None:
    stream = kinesis.new_stream(1)
    kinesis.proxy.fail("DescribeStreamSummary", answer)
    error = refusal(read_stream(stream, secret_access_key=SECRET).open)
    assert (error.code, waits(error)) == (code, waited)
    options = {**connection(kinesis), "stream": stream, "secret_access_key": SECRET}
    sink = make_sink("kinesis", options)
    assert refusal(sink.open).code == code
    sink.close()


@pytest.mark.parametrize(
    ("action", "answer", "code"),
    [
        ("GetRecords", "KMSDisabledException", "kinesis.kms_refused"),
        ("GetRecords", "AccessDeniedException", "kinesis.access_denied"),
        ("GetRecords", "InternalFailureException", "kinesis.busy"),
        ("GetRecords", "cut", "kinesis.connection_lost"),
        ("GetShardIterator", "AccessDeniedException", "kinesis.access_denied"),
        ("ListShards", "AccessDeniedException", "kinesis.access_denied"),
    ],
)
def test_answers_while_reading(
    kinesis: KinesisServer, read_stream: Read, action: str, answer: str, code: str
) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, [("k", b"1")])
    capture = read_stream(stream)
    kinesis.proxy.fail(action, answer)
    assert refusal(capture.caught_up).code == code
    kinesis.proxy.heal()
    assert capture.caught_up()[-1].data == b"1"


def test_a_stream_that_is_not_there(kinesis: KinesisServer, read_stream: Read) -> None:
    assert refusal(read_stream("nowhere").open).code == "kinesis.stream_missing"


def test_a_stream_that_goes_while_it_is_read(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    capture = read_stream(stream)
    capture.caught_up()
    kinesis.delete_stream(stream)
    error = refusal(lambda: capture.until(lambda: False))
    assert error.code == "kinesis.stream_missing"


def test_nobody_listens(kinesis: KinesisServer, read_stream: Read) -> None:
    capture = read_stream("any", endpoint_url=f"http://127.0.0.1:{free_port()}")
    error = refusal(capture.open)
    assert error.code == "kinesis.unreachable"
    assert waits(error)


@pytest.mark.parametrize("options", [{"profile": "nobody-has-this"}, {"access_key_id": None}])
def test_credentials_that_are_not_there(
    kinesis: KinesisServer,
    read_stream: Read,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    given = {"access_key_id": None, "secret_access_key": None, **options}
    error = refusal(read_stream("any", **given).open)
    named = "profile_missing" if "profile" in options else "credentials_missing"
    assert error.code == f"kinesis.{named}"


def test_throttling_is_waited_out_shard_by_shard_and_shown(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    stream = kinesis.new_stream(2)
    kinesis.put(stream, [(f"k{n}", b"%d" % n) for n in range(10)])
    capture = read_stream(stream)
    capture.open()
    kinesis.proxy.fail("GetRecords", times=3)
    capture.until(lambda: "throttled" in str(capture.told.facts.get("detail")))
    capture.until(lambda: len(capture.seen) == 10)
    capture.until(lambda: capture.told.facts["detail"] == "")


def test_a_lost_subscription_is_said(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, [("k", b"1")])
    capture = read_stream(stream, mode="fanout")
    capture.until(lambda: len(capture.seen) == 1)
    kinesis.proxy.cut()
    error = refusal(lambda: capture.until(lambda: False))
    assert error.code == "kinesis.connection_lost"
    capture.open()
    kinesis.put(stream, [("k", b"2")])
    capture.until(lambda: capture.data() == [b"1", b"2"])


def test_check_tells_what_a_run_would(kinesis: KinesisServer) -> None:
    stream = kinesis.new_stream(1)
    given = {**connection(kinesis), "stream": stream}
    source, sink = connector("source", "kinesis"), connector("sink", "kinesis")

    def found(of: Any, **options: Any) -> list[tuple[str, str]]:
        config = of.config.model_validate({**given, **options})
        return [(finding.level, finding.code) for finding in of.check(config, "shop")]

    assert found(source) == [
        ("pass", "kinesis.stream"), ("pass", "kinesis.shards"), ("pass", "kinesis.reading"),
    ]  # fmt: skip
    fanout = found(source, mode="fanout")
    assert fanout[-1] == ("warning", "kinesis.consumer_unregistered")
    assert found(sink) == [("pass", "kinesis.stream")]
    assert found(sink, stream="{topic}") == [("pass", "kinesis.reachable")]
    for of in (source, sink):
        assert found(of, stream="nowhere") == [("error", "kinesis.stream_missing")]
    kinesis.proxy.fail("GetRecords", "AccessDeniedException")
    assert found(source)[-1] == ("error", "kinesis.access_denied")
    kinesis.proxy.heal()


def test_drop_deregisters_the_consumer(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    capture = read_stream(stream, mode="fanout")
    capture.open()
    capture.close()
    of = connector("source", "kinesis")
    (said,) = of.drop(capture.config, capture.told.pipeline)
    assert said == f"Consumer ensign_test of stream {stream} is deregistered."
