"""A store in a bucket of S3, or of a service that speaks its protocol, through boto3."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ensign_core.broker.large.stores import READ_BYTES, check_name, missing
from ensign_core.errors import EnsignError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client

PART_BYTES: Final = 16 << 20
"""Of a multipart upload, one of which is in memory; S3 takes 10,000 of them, here 167 GB."""

ATTEMPTS_MAX: Final = 4
TIMEOUT_S: Final = 60.0

_ERRORS: Final = {
    "denied": ("refuses what was asked", "Allow s3:PutObject and s3:GetObject on the prefix."),
    "not_found": ("does not exist", "Make the bucket, or name another."),
    "throttled": ("answers that it is too busy", "Try again."),
    "unreachable": ("does not answer", "See that its endpoint is right and can be reached."),
    "credentials_missing": (
        "cannot be asked without AWS credentials",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role.",
    ),
    "failed": ("did not do what was asked", "See the store's own log."),
}
_WORDS: Final = {
    "NoSuchBucket": "not_found",
    "NoSuchUpload": "failed",
    "AccessDenied": "denied",
    "403": "denied",
    "InvalidAccessKeyId": "denied",
    "SignatureDoesNotMatch": "denied",
    "ExpiredToken": "denied",
    "SlowDown": "throttled",
    "Throttling": "throttled",
    "RequestLimitExceeded": "throttled",
    "InternalError": "unreachable",
    "ServiceUnavailable": "unreachable",
    "500": "unreachable",
    "503": "unreachable",
}


class S3Store:
    """Objects below ``prefix`` in ``bucket``. Credentials are found as boto3 finds them, and so are
    the region and the endpoint that are not given. A publisher that is killed may leave an upload
    that is not complete: let a lifecycle rule of the bucket abort those."""

    def __init__(
        self, bucket: str, prefix: str = "", endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:  # fmt: skip
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self._endpoint_url = endpoint_url
        self._region = region
        self._client: S3Client | None = None

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        with self._asking(name) as s3:
            from boto3.s3.transfer import TransferConfig

            config = TransferConfig(
                multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
            )
            s3.upload_fileobj(
                io.BufferedReader(_Pieces(pieces)), self.bucket, self._key(name), Config=config
            )

    def get(self, name: str) -> Iterator[bytes]:
        with self._asking(name) as s3:
            body = s3.get_object(Bucket=self.bucket, Key=self._key(name))["Body"]
            with body:
                yield from body.iter_chunks(READ_BYTES)

    def delete(self, name: str) -> None:
        with self._asking(name) as s3:
            s3.delete_object(Bucket=self.bucket, Key=self._key(name))

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()

    def _key(self, name: str) -> str:
        check_name(name)
        return f"{self.prefix}/{name}" if self.prefix else name

    @contextmanager
    def _asking(self, name: str) -> Iterator[S3Client]:
        """The client, with its failures classified; it is made at the first use."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        except ModuleNotFoundError as error:
            raise EnsignError(
                "store.driver_missing",
                f"A store in S3 needs the Python package {error.name}, which is not here.",
                'Run: pip install "ensign[s3]"',
            ) from None
        try:
            if self._client is None:
                config = Config(
                    connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S,
                    retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
                    # Stores that are not AWS' do not all know its newer checksums; the seal has
                    # the same use.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )  # fmt: skip
                # The default session is not for several threads.
                self._client = boto3.Session().client(
                    "s3", endpoint_url=self._endpoint_url, region_name=self._region, config=config
                )
            yield self._client
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "NoSuchKey":
                raise missing(name, self.location) from None
            raise self._error(_WORDS.get(code, "failed"), code) from None
        except NoCredentialsError:
            raise self._error("credentials_missing") from None
        except BotoCoreError as error:
            raise self._error("unreachable", type(error).__name__) from None

    def _error(self, word: str, code: str = "") -> EnsignError:
        sentence, remedy = _ERRORS[word]
        said = f" ({code})" if code else ""
        return EnsignError(f"store.{word}", f"The store {self.location} {sentence}{said}.", remedy)


class _Pieces(io.RawIOBase):
    """Pieces as a file that cannot seek, which is what boto3 uploads."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        room = memoryview(buffer)
        taken = min(len(room), len(self._held))
        room[:taken] = self._held[:taken]
        self._held = self._held[taken:]
        return taken
