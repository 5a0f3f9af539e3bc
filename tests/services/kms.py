"""A private AWS KMS for the tests: moto's server, loopback only, behind a proxy that counts
requests and can answer as KMS does in its bad hours. It keeps its keys in memory.

`KmsServer.endpoint_url` is the proxy, where the product connects; the methods of the tests
themselves go past it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3

from tests.services.kinesis_proxy import KinesisProxy
from tests.services.postgres import free_port
from tests.services.ready import wait_until
from tests.services.service import Service

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

READY_S_MAX = 60.0
REGION: Final = "us-east-1"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "5ecre7"}
"""What the product finds in its environment; moto takes any."""


class KmsServer(Service):
    """One server and its proxy."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-kms-"))
        self.log = self.folder / "log"
        self.proxy = KinesisProxy(self.port)
        self.own: KMSClient = boto3.client(
            "kms",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the server, without keys, and return when it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
        wait_until(self._is_up, READY_S_MAX, 0.05)

    def close(self) -> None:
        """End the server, by its own process id, and the proxy."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(READY_S_MAX)
        self.proxy.close()
        self.own.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def endpoint_url(self) -> str:
        """Where the product connects: the proxy."""
        return f"http://127.0.0.1:{self.proxy.port}"

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace"))
        try:
            self.own.list_keys()
        except Exception:  # noqa: BLE001
            return False
        return True

    def new_key(self) -> str:
        """The ARN of a new symmetric key."""
        return self.own.create_key()["KeyMetadata"]["Arn"]

    def asked(self) -> dict[str, int]:
        """The requests since this was last called, by action."""
        found, self.proxy.calls = self.proxy.calls, Counter()
        return dict(found)


def _environment() -> dict[str, str]:
    """Without what the machine says of AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
