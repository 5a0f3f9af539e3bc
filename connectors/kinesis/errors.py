"""Every error of this connector: its code, sentence and remedy, and which answer leads to it.

Answers are told by the error code of the service (Kinesis API reference, "Common Errors" and the
errors of each action) or the driver's class of exception, never by a message, which is never passed
on either. The last word of a code decides whether a pipeline waits or stops (I10,
`ensign_core.run.retry`).
"""

from __future__ import annotations

from typing import Final

from botocore import exceptions

from ensign_core.errors import EnsignError, worded

_KMS_REMEDY: Final = (
    "Enable the key, and allow kms:Decrypt (to read) and kms:GenerateDataKey (to write) with it."
)

ERRORS: Final[dict[str, tuple[str, str]]] = {
    # Waited out.
    "unreachable": (
        "Kinesis cannot be reached at {where}.",
        "Check region and endpoint_url, the network, and proxies and firewalls on the way.",
    ),
    "connection_lost": (
        "The connection to Kinesis was lost.",
        "Nothing to do: the pipeline goes on when Kinesis answers again.",
    ),
    "timeout": (
        "Kinesis did not answer within {seconds} s while Ensign was {doing}.",
        "Check the network; raise request_timeout_s where answers are large and the way is slow.",
    ),
    "throttled": (
        "Kinesis refuses requests to stream {stream} for want of throughput.",
        "Add shards to stream {stream}, or choose a partition key that spreads better over them.",
    ),
    "busy": (
        "Kinesis answered with an error of its own ({code}).",
        "Nothing to do: the pipeline tries again; see the AWS health page if this goes on.",
    ),
    "stream.busy": (
        "Stream {stream} is in the state {state}.",
        "Nothing to do: the pipeline goes on when the stream is active.",
    ),
    "consumer.busy": (
        "Consumer {consumer} of stream {stream} is in use or not active yet.",
        "Give each pipeline a consumer of its own; one left over is free after some seconds.",
    ),
    # Who asks, and where.
    "credentials_missing": (
        "No AWS credentials were found, or only a part of them.",
        "Set access_key_id and secret_access_key, or profile, or give the worker a role.",
    ),
    "credentials_rejected": (
        "AWS does not accept these credentials in region {region} ({code}).",
        "Correct the keys, and check the clock of this machine.",
    ),
    "credentials_expired": (
        "The AWS credentials have expired.",
        "Give new ones, or use a role, whose credentials are renewed by themselves.",
    ),
    "profile_missing": (
        "The shared files of AWS have no such profile.",
        "Correct profile, or write it into ~/.aws/config.",
    ),
    "role_refused": (
        "The role in role_arn may not be assumed with these credentials ({code}).",
        "Allow sts:AssumeRole for it, in its trust policy too, and check external_id.",
    ),
    "access_denied": (
        "These credentials may not be used for {doing}.",
        "Allow kinesis:{action} on the stream in the policy of the user or role.",
    ),
    "tls_failed": (
        "The certificate at {where} was not accepted.",
        "Check endpoint_url, and AWS_CA_BUNDLE where a proxy of your own is on the way.",
    ),
    "kms_refused": ("The key that encrypts stream {stream} cannot be used ({code}).", _KMS_REMEDY),
    "refused": (
        "Kinesis refused a request while Ensign was {doing} ({code}).",
        "Look the code up in the Kinesis API reference under {action}.",
    ),
    # The stream and its shards.
    "stream_missing": (
        "There is no stream {stream} in region {region} for these credentials.",
        "Correct stream and region, or create the stream.",
    ),
    "stream_changed": (
        "The position of this pipeline is one of stream {before}, and the config names {stream}.",
        "Correct stream in the config, or use another pipeline name for another stream.",
    ),
    "stream_recreated": (
        "Stream {stream} was deleted and made again since the last position.",
        "Set on_removed: skip to read the new one from its start, after a message that says so.",
    ),
    "shard_removed": (
        "Shard {shard} of stream {stream} was removed by retention before it was read to its end.",
        "Set on_removed: skip to go on behind the gap, and lengthen the stream's retention.",
    ),
    "records_removed": (
        (
            "Records of shard {shard} of stream {stream} may have been removed before they were "
            "read: all is known to be read until {since}, and retention is {hours} h."
        ),
        "Set on_removed: skip to go on behind the gap, and lengthen the stream's retention.",
    ),
    "start_in_future": (
        "The time in start has not come yet.",
        "Give a time that has passed, or start: latest.",
    ),
    "position_malformed": (
        "The position of this pipeline is not one of a Kinesis source.",
        "Use another pipeline name for another kind of source.",
    ),
    "consumers_exhausted": (
        "Stream {stream} takes no further consumer.",
        "Deregister a consumer that nobody needs, or use mode: polling.",
    ),
    # Records that are written.
    "record_too_large": (
        "An event of topic {topic} is a record of {bytes} bytes, and stream {stream} takes {max}.",
        "Raise the stream's maximum record size (up to 10 MiB), or set on_refused: dead_letter.",
    ),
    "stream_name": (
        "Topic {topic} makes no name of a stream: it would have {length} characters of 128.",
        "Choose a shorter template in stream.",
    ),
    "column_missing": (
        "Events of {schema} have no column {column}, which partition_key names.",
        "Correct partition_key, or send these topics to a sink of their own.",
    ),
    "order_unkept": (
        "Stream {stream} places records on shards without regard to their partition key.",
        "Set its record distribution to the partition key: else there is no order per key.",
    ),
    "consumer_unregistered": (
        "Consumer {consumer} is not registered yet: the first run does that.",
        "Allow kinesis:RegisterStreamConsumer and kinesis:SubscribeToShard.",
    ),
}

THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException", "LimitExceededException", "SlowDown",
        "KMSThrottlingException", "ThrottlingException", "Throttling", "RequestLimitExceeded",
        "TooManyRequestsException",
    }
)  # fmt: skip
"""Codes of answers that ask for patience: pacing, waited out inside the connector."""

CODES: Final[dict[str, str]] = {
    **dict.fromkeys(THROTTLED, "throttled"),
    **dict.fromkeys(
        (
            "InternalFailure", "InternalFailureException", "InternalServerError",
            "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout",
            "500", "502", "503", "504",
        ),
        "busy",
    ),
    **dict.fromkeys(
        (
            "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException",
            "SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException",
            "InvalidAccessKeyId", "MissingAuthenticationToken", "AuthFailure",
            "MissingAuthenticationTokenException", "RequestExpired", "RequestTimeTooSkewed",
        ),
        "credentials_rejected",
    ),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), "credentials_expired"),
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation",
         "OptInRequired", "SubscriptionRequiredException"),
        "access_denied",
    ),
    **dict.fromkeys(
        ("KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException",
         "KMSNotFoundException", "KMSOptInRequired"),
        "kms_refused",
    ),
    "ResourceNotFoundException": "stream_missing",
    "ResourceInUseException": "stream.busy",
}  # fmt: skip
"""The word of each error code of AWS."""

CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.SSLError, "tls_failed"),
    (exceptions.ConnectTimeoutError, "unreachable"),
    (exceptions.ReadTimeoutError, "timeout"),
    (exceptions.ProxyConnectionError, "unreachable"),
    (exceptions.EndpointConnectionError, "unreachable"),
    (exceptions.ConnectionError, "unreachable"),
    (exceptions.HTTPClientError, "connection_lost"),
    (exceptions.ProfileNotFound, "profile_missing"),
    (exceptions.NoCredentialsError, "credentials_missing"),
    (exceptions.PartialCredentialsError, "credentials_missing"),
    (exceptions.CredentialRetrievalError, "credentials_missing"),
    (exceptions.TokenRetrievalError, "credentials_missing"),
    (exceptions.NoAuthTokenError, "credentials_missing"),
    (exceptions.SSOError, "credentials_missing"),
)
"""The words of the driver's exceptions, the first that fits."""


def error(word: str, **facts: object) -> EnsignError:
    """The error ``kinesis.WORD``, its sentence filled in with ``facts``."""
    return worded("kinesis", ERRORS, word, facts)


def code_of(problem: Exception) -> str:
    """The service's error code; empty where the service has not answered."""
    if not isinstance(problem, exceptions.ClientError):
        return ""
    return str(problem.response.get("Error", {}).get("Code", ""))


def classified(problem: Exception, action: str, **facts: object) -> EnsignError:
    """The error for what a call of ``action`` raised."""
    code = code_of(problem)
    if code:
        operation = getattr(problem, "operation_name", action)
        if operation == "AssumeRole":
            return error("role_refused", code=code, **facts)
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # type: ignore[attr-defined]  # `code_of` has seen that it is a ClientError
        word = CODES.get(code) or ("busy" if status >= 500 else "refused")
        return error(word, code=code, action=action, **facts)
    for kind, word in CLASSES:
        if isinstance(problem, kind):
            return error(word, action=action, **facts)
    return error("refused", code=type(problem).__name__, action=action, **facts)
