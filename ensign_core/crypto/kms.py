"""The KEK as a data key of AWS KMS: only its ciphertext lies on the disk, and KMS opens it.

Failures are told by the error code of the service (KMS API reference, "Common Errors" and the
errors of GenerateDataKey and Decrypt) or the driver's class of exception, never by a message, which
is never passed on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ensign_core.crypto.keyfile import KeyFile
from ensign_core.errors import EnsignError, worded

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

CONNECT_S_MAX: Final = 5
ANSWER_S_MAX: Final = 10
ATTEMPTS_MAX: Final = 3
CONTEXT: Final = {"ensign": "key-encryption-key"}
"""The encryption context of all our requests: KMS opens a ciphertext with it only, logs it, and
policies may ask for it."""


class KmsProvider:
    """The KEK as a data key of the KMS key ``key_id``. The file at ``path``, made at first use, has
    a line ``ensign-kms-v1 BASE64-OF-CIPHERTEXT``, and a second one below with the older KEK while
    that is being replaced. A start asks KMS once per line, mostly once. The KMS key that opens a
    line is found by KMS, so another ``key_id`` counts from the next `begin` on."""

    def __init__(
        self,
        key_id: str,
        path: Path,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        """Without a ``region`` it is that of the key's ARN, or the one that AWS's own files and
        variables name. Nothing is asked of KMS before a method is called."""
        self.path = path
        self.created = False
        self._key_id = key_id
        self._region = region or _region_of(key_id)
        self._endpoint_url = endpoint_url
        self._file = KeyFile(path, "ensign-kms-v1", None)
        self._begun: bytes | None = None

    def describe(self) -> str:
        return f"the file {self.path}, opened by AWS KMS"

    def keys(self, *, create: bool) -> Sequence[bytes]:
        """As of every provider; in a new project KMS must open it with ``key_id``, since nothing
        else tells that a file that is there already is one's own."""
        known: dict[bytes, bytes] = {}
        if create:
            self.created = self._file.create(lambda: self._generate(known))
        named = {"KeyId": self._key_id} if create else {}
        return [known.get(line) or self._decrypt(line, named) for line in self._file.read()]

    def begin(self) -> bytes:
        known: dict[bytes, bytes] = {}
        self._begun = self._file.begin(lambda: self._generate(known))
        return known.get(self._begun) or self._decrypt(self._begun, {})

    def finish(self) -> None:
        if self._begun is not None:
            self._file.finish(self._begun)

    def _generate(self, known: dict[bytes, bytes]) -> bytes:
        """A new data key's ciphertext; what it is goes into ``known``."""
        made = self._ask(
            "GenerateDataKey",
            lambda kms: kms.generate_data_key(
                KeyId=self._key_id, KeySpec="AES_256", EncryptionContext=CONTEXT
            ),
        )
        known[made["CiphertextBlob"]] = made["Plaintext"]
        return bytes(made["CiphertextBlob"])

    def _decrypt(self, line: bytes, named: dict[str, Any]) -> bytes:
        opened = self._ask(
            "Decrypt",
            lambda kms: kms.decrypt(CiphertextBlob=line, EncryptionContext=CONTEXT, **named),
        )
        return bytes(opened["Plaintext"])

    def _ask(self, action: str, call: Any) -> Any:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError as error:
            raise EnsignError(
                "kms.driver_missing",
                f"AWS KMS needs the Python package {error.name}, which is not here.",
                'Run: pip install "ensign[kms]"',
            ) from None
        config = Config(
            connect_timeout=CONNECT_S_MAX,
            read_timeout=ANSWER_S_MAX,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
        )
        try:
            client: KMSClient = boto3.Session().client(
                "kms", region_name=self._region, endpoint_url=self._endpoint_url, config=config
            )
            try:
                return call(client)
            finally:
                client.close()
        except (BotoCoreError, ClientError, ValueError) as problem:
            raise _classified(
                problem, action=action, key=self._key_id, path=self.path,
                where=self._endpoint_url or self._region or "the region of this machine",
            ) from None  # fmt: skip


def _region_of(key_id: str) -> str | None:
    """The fourth part of an ARN (``arn:PARTITION:kms:REGION:ACCOUNT:key/ID``)."""
    parts = key_id.split(":")
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else None


_ERRORS: Final[dict[str, tuple[str, str]]] = {
    "unreachable": (
        "AWS KMS cannot be reached at {where}.",
        "Check region and endpoint_url, the network, and proxies and firewalls on the way.",
    ),
    "connection_lost": (
        "The connection to AWS KMS was lost.",
        "Try again; check the network if this goes on.",
    ),
    "timeout": (
        f"AWS KMS did not answer within {ANSWER_S_MAX} s.",
        "Try again; check the network if this goes on.",
    ),
    "throttled": (
        "AWS KMS refuses requests for there are too many ({code}).",
        "Try again later, or ask AWS for a higher quota of this region.",
    ),
    "busy": (
        "AWS KMS answered with an error of its own ({code}).",
        "Try again; see the AWS health page if this goes on.",
    ),
    "tls_failed": (
        "The certificate at {where} was not accepted.",
        "Check endpoint_url, and AWS_CA_BUNDLE where a proxy of your own is on the way.",
    ),
    "region_missing": (
        "It is not known in which region the KMS key {key} is.",
        "Give `region:` in `broker: keys:`, or the key's whole ARN as key_id.",
    ),
    "credentials_missing": (
        "No AWS credentials were found, or only a part of them.",
        "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role.",
    ),
    "credentials_rejected": (
        "AWS does not accept these credentials ({code}).",
        "Correct the keys, and check the clock of this machine.",
    ),
    "credentials_expired": (
        "The AWS credentials have expired.",
        "Give new ones, or use a role, whose credentials are renewed by themselves.",
    ),
    "access_denied": (
        "These AWS credentials may not use KMS key {key} for {action}.",
        "Allow kms:{action} with it in the policy of the user or role, and in that of the key.",
    ),
    "key_disabled": (
        "KMS key {key} is disabled.",
        "Enable it in AWS: without it the data cannot be read.",
    ),
    "key_unusable": (
        "KMS key {key} cannot be used in the state that it is in, such as pending deletion.",
        "Cancel its deletion in AWS, or make it usable again: without it the data cannot be read.",
    ),
    "key_missing": (
        "There is no KMS key {key} for these credentials in this region.",
        "Correct key_id and region in `broker: keys:`.",
    ),
    "ciphertext_wrong": (
        "AWS KMS does not open the key in {path}: it was changed, or made by another KMS key.",
        "Put the file back from your backup, and check key_id and region in `broker: keys:`.",
    ),
    "refused": (
        "AWS KMS refused {action} with KMS key {key} ({code}).",
        "Correct `broker: keys:`; the AWS KMS API reference has the code under {action}.",
    ),
}

_CODES: Final[dict[str, str]] = {
    "AccessDeniedException": "access_denied",
    "AccessDenied": "access_denied",
    "DisabledException": "key_disabled",
    "KMSInvalidStateException": "key_unusable",
    "NotFoundException": "key_missing",
    "InvalidCiphertextException": "ciphertext_wrong",
    "IncorrectKeyException": "ciphertext_wrong",
    "ExpiredTokenException": "credentials_expired",
    "ExpiredToken": "credentials_expired",
    **dict.fromkeys(
        ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
         "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken",
         "RequestExpired"),
        "credentials_rejected",
    ),
    **dict.fromkeys(
        ("ThrottlingException", "Throttling", "LimitExceededException", "SlowDown",
         "RequestLimitExceeded", "TooManyRequestsException"),
        "throttled",
    ),
    **dict.fromkeys(
        ("KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
         "InternalFailure", "ServiceUnavailable", "ServiceUnavailableException"),
        "busy",
    ),
}  # fmt: skip
"""The word of each error code of AWS."""

_CLASSES: Final[tuple[tuple[str, str], ...]] = (
    ("SSLError", "tls_failed"),
    ("ReadTimeoutError", "timeout"),
    ("ConnectTimeoutError", "unreachable"),
    ("ProxyConnectionError", "unreachable"),
    ("EndpointConnectionError", "unreachable"),
    ("HTTPClientError", "connection_lost"),
    ("NoRegionError", "region_missing"),
    ("NoCredentialsError", "credentials_missing"),
    ("PartialCredentialsError", "credentials_missing"),
    ("CredentialRetrievalError", "credentials_missing"),
    ("TokenRetrievalError", "credentials_missing"),
    ("NoAuthTokenError", "credentials_missing"),
    ("SSOError", "credentials_missing"),
    ("ProfileNotFound", "credentials_missing"),
)
"""The words of the driver's exceptions, by the names of their classes: the first that is among
those of an exception's own."""


def _classified(problem: Exception, **facts: object) -> EnsignError:
    response = getattr(problem, "response", None)
    if response is not None:
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        word = _CODES.get(code) or ("busy" if status >= 500 else "refused")
        return worded("kms", _ERRORS, word, {**facts, "code": code})
    names = [kind.__name__ for kind in type(problem).__mro__]
    word = next((word for name, word in _CLASSES if name in names), "refused")
    return worded("kms", _ERRORS, word, {**facts, "code": names[0]})
