"""The driver's client, set so that nothing is tried again behind our back (I9, I10), and calls with
their errors classified."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from connectors.kinesis.config import KinesisConnection
from connectors.kinesis.errors import classified

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import StreamDescriptionSummaryTypeDef

T = TypeVar("T")

SESSION_NAME: Final = "ensign"
"""The name under which a role is assumed: it is in the account's audit log."""

PUSH_SILENCE_S_MAX: Final = 60.0
"""How long a subscription may be silent before it counts as lost. AWS sends an event every few
seconds, empty ones too."""

_DOING: Final = {
    "DescribeStreamSummary": "looking at the stream",
    "ListShards": "listing the shards",
    "GetShardIterator": "finding its place in a shard",
    "GetRecords": "reading a shard",
    "PutRecords": "writing records",
    "RegisterStreamConsumer": "registering the consumer",
    "DescribeStreamConsumer": "looking at the consumer",
    "SubscribeToShard": "subscribing to a shard",
    "DeregisterStreamConsumer": "deregistering the consumer",
    "ListStreams": "listing the streams",
}


class Service:
    """Kinesis as one config reaches it. Raises what `classified` makes of failures; ``raw`` is the
    driver's client, for calls whose failures are looked at first. Threads may share it."""

    def __init__(self, config: KinesisConnection, *, pushed: bool = False) -> None:
        self._config = config
        self.ahead_s = 0.0
        try:
            self.raw: KinesisClient = _client(config, pushed=pushed)
        except (BotoCoreError, ClientError, ValueError) as problem:
            raise self.error(problem, "GetCallerIdentity", "") from None

    def call(self, action: str, stream: str, call: Callable[[], T]) -> T:
        """What ``call`` returns; its failure is an error."""
        try:
            return call()
        except (BotoCoreError, ClientError) as problem:
            raise self.error(problem, action, stream) from None

    def error(self, problem: Exception, action: str, stream: str, **facts: object) -> Exception:
        """The error for what a call raised."""
        config = self._config
        where = config.endpoint_url or f"kinesis.{config.region}.amazonaws.com"
        return classified(
            problem, action, where=where.rpartition("@")[2], region=config.region, stream=stream,
            seconds=f"{config.request_timeout_s:g}", doing=_DOING.get(action, "logging in"), **facts
        )  # fmt: skip

    def summary(self, stream: str) -> StreamDescriptionSummaryTypeDef:
        """The stream as it is now. The answer's date also tells how far Kinesis' clock is ahead."""
        answer = self.call(
            "DescribeStreamSummary",
            stream,
            lambda: self.raw.describe_stream_summary(StreamName=stream),
        )
        self._compare_clocks(answer["ResponseMetadata"])
        return answer["StreamDescriptionSummary"]

    def now_ms(self) -> int:
        """Kinesis' time, to about a second, in ms since the Unix epoch."""
        return int((time.time() + self.ahead_s) * 1000)

    def close(self) -> None:
        """Let go of the connections."""
        self.raw.close()

    def _compare_clocks(self, metadata: Any) -> None:
        with suppress(KeyError, ValueError, TypeError):
            date = parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
            # A date is cut to its second.
            self.ahead_s = date.timestamp() + 0.5 - time.time()


def _client(config: KinesisConnection, *, pushed: bool) -> KinesisClient:
    secret = config.secret_access_key
    session = boto3.Session(
        aws_access_key_id=config.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        aws_session_token=config.session_token.get_secret_value() if config.session_token else None,
        profile_name=config.profile,
        region_name=config.region,
    )
    settings = Config(
        connect_timeout=config.connect_timeout_s,
        read_timeout=PUSH_SILENCE_S_MAX if pushed else config.request_timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=64,
    )
    if config.role_arn is not None:
        session = _assumed(config, session, settings)
    return session.client("kinesis", endpoint_url=config.endpoint_url, config=settings)


def _assumed(config: KinesisConnection, session: boto3.Session, settings: Config) -> boto3.Session:
    """A session whose credentials are those of the role, and are renewed before they end."""
    arguments: dict[str, Any] = {"RoleArn": config.role_arn, "RoleSessionName": SESSION_NAME}
    if config.external_id is not None:
        arguments["ExternalId"] = config.external_id.get_secret_value()
    sts = session.client("sts", config=settings)

    def refresh() -> dict[str, str]:
        found = sts.assume_role(**arguments)["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }

    inner = get_session()
    credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "sts-assume-role")
    # botocore has no public way to give a session credentials that renew themselves.
    inner._credentials = credentials  # type: ignore[attr-defined]
    return boto3.Session(botocore_session=inner, region_name=config.region)
