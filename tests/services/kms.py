"""A private AWS KMS for the tests: moto's server, loopback only, behind a proxy that counts
requests and can answer as KMS does in its bad hours. It keeps its keys in memory.

`KmsServer.endpoint_url` is the proxy, where the product connects; the methods of the tests
themselves go past it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import boto3

from tests.services.kinesis_proxy import KinesisProxy
from tests.services.moto import CREDENTIALS, REGION, MotoServer

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


class KmsServer(MotoServer):
    """One server and its proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy = KinesisProxy(self.port)
        self.own: KMSClient = boto3.client(
            "kms",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def close(self) -> None:
        """End the server and the proxy."""
        super().close()
        self.proxy.close()
        self.own.close()

    @property
    def endpoint_url(self) -> str:
        """Where the product connects: the proxy."""
        return f"http://127.0.0.1:{self.proxy.port}"

    def new_key(self) -> str:
        """The ARN of a new symmetric key."""
        return self.own.create_key()["KeyMetadata"]["Arn"]

    def asked(self) -> dict[str, int]:
        """The requests since this was last called, by action."""
        found, self.proxy.calls = self.proxy.calls, Counter()
        return dict(found)
