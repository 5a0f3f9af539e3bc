"""A private AWS for the tests: moto's server, loopback only. It keeps its data in memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3

from tests.services.postgres import free_port
from tests.services.ready import wait_until
from tests.services.service import Service

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READY_S_MAX = 60.0
REGION: Final = "us-east-1"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "5ecre7"}
"""What the product finds in its environment; moto takes any."""


class MotoServer(Service):
    """One server, which speaks for every service of AWS at one address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-moto-"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0

    @property
    def endpoint_url(self) -> str:
        """Where the product connects."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self) -> None:
        """Start the server, and return when it answers."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=clean)
        wait_until(self._is_up, READY_S_MAX, 0.05)

    def close(self) -> None:
        """End the server, by its own process id, and forget its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(READY_S_MAX)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace"))
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/").close()
        except OSError:
            return False
        return True

    def s3(self) -> S3Client:
        """The tests' own client; close it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def new_bucket(self) -> str:
        """Make a bucket with a name of its own."""
        self._buckets += 1
        name = f"bucket{self._buckets}"
        s3 = self.s3()
        s3.create_bucket(Bucket=name)
        s3.close()
        return name
