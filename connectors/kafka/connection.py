"""Clients of librdkafka as both halves of the connector make them, and what those report between
calls.

librdkafka connects and reconnects by itself and tells of it through callbacks only, so a client
that lost its cluster looks like one with nothing to do. `Reports` turns that into errors: whoever
owns a client asks it whenever a call came back empty-handed (I9).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from connectors.kafka.config import KafkaConnection, KafkaSasl, KafkaTls, Setting
from connectors.kafka.errors import by_number, error
from ensign_core.errors import EnsignError

T = TypeVar("T")

ASK_S_MAX: Final = 0.5
"""Seconds of one request for metadata: between two of them the reports are looked at, so that a
rejected login is told at once and not when the whole time is over."""

REJECTIONS_MIN: Final = 2
"""Failed logins or TLS handshakes in a row that count as a rejection."""

_DEFAULTS: Final[dict[str, Setting]] = {
    "client.id": "ensign",
    "socket.keepalive.enable": True,
    # What librdkafka would write to the standard error; `options: {log_level: 7}` brings it back.
    "log_level": 0,
    # A cluster that is back is noticed soon: the pipeline backs off by itself.
    "reconnect.backoff.max.ms": 2000,
}


def settings(
    config: KafkaConnection, defaults: Mapping[str, Setting], fixed: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Settings of a client: ``defaults`` that `options` may change, and ``fixed`` ones."""
    found = {
        **_DEFAULTS,
        **defaults,
        "bootstrap.servers": config.bootstrap,
        "security.protocol": _protocol(config),
    }
    if isinstance(config.tls, KafkaTls):
        found.update(_tls(config.tls))
    if config.sasl is not None:
        found.update(_sasl(config.sasl))
    return {**found, **config.options, **fixed}


def _protocol(config: KafkaConnection) -> str:
    encrypted = "SSL" if config.tls else "PLAINTEXT"
    return encrypted if config.sasl is None else f"SASL_{encrypted}"


def _tls(tls: KafkaTls) -> dict[str, Setting]:
    for name, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if path is not None and not os.access(path, os.R_OK):
            raise error("tls_file", reason=f"{name} is {path}, which is not there or not readable")
    found: dict[str, Setting | None] = {
        "ssl.ca.location": tls.ca,
        "ssl.certificate.location": tls.cert,
        "ssl.key.location": tls.key,
        "ssl.key.password": tls.key_password.get_secret_value() if tls.key_password else None,
        "enable.ssl.certificate.verification": tls.verify != "none",
        "ssl.endpoint.identification.algorithm": "https" if tls.verify == "identity" else "none",
    }
    return {name: value for name, value in found.items() if value is not None}


def _sasl(sasl: KafkaSasl) -> dict[str, Setting]:
    found: dict[str, Setting | None] = {"sasl.mechanism": sasl.mechanism}
    if sasl.password is not None:
        found["sasl.username"] = sasl.username
        found["sasl.password"] = sasl.password.get_secret_value()
    if sasl.client_secret is not None:
        found["sasl.oauthbearer.method"] = "oidc"
        found["sasl.oauthbearer.token.endpoint.url"] = sasl.token_url
        found["sasl.oauthbearer.client.id"] = sasl.client_id
        found["sasl.oauthbearer.client.secret"] = sasl.client_secret.get_secret_value()
        found["sasl.oauthbearer.scope"] = sasl.scope
    if sasl.extensions:
        pairs = (f"{name}={value}" for name, value in sasl.extensions.items())
        found["sasl.oauthbearer.extensions"] = ",".join(pairs)
    return {name: value for name, value in found.items() if value is not None}


class Reports:
    """What a client reported through its error callback, on the thread that calls the client."""

    def __init__(self, config: KafkaConnection) -> None:
        self.facts: dict[str, object] = {
            "where": config.bootstrap,
            "mechanism": config.sasl.mechanism if config.sasl else "(none)",
        }
        self.fatal: EnsignError | None = None
        self._last: KafkaError | None = None
        self._times = 0
        self._down = False

    def __call__(self, report: KafkaError) -> None:
        """librdkafka's ``error_cb``. All but fatal ones are for information there: it goes on
        trying."""
        if report.fatal():
            self.fatal = self.by_report(report)
        elif report.code() == KafkaError._ALL_BROKERS_DOWN:
            self._down = True
        else:
            again = self._last is not None and self._last.code() == report.code()
            self._last, self._times = report, self._times + 1 if again else 1

    def by_report(self, report: KafkaError, **facts: object) -> EnsignError:
        """The error for what librdkafka says."""
        return by_number(report.code(), report.name(), **self.facts, **facts)

    def answered(self) -> None:
        """The cluster is there: what was reported before is over."""
        self._last, self._times, self._down = None, 0, False

    def trouble(self) -> EnsignError | None:
        """The error, if a fatal one was reported, brokers reject who we are, or none can be
        reached; the last report says why. A rejection counts when it comes again: a broker that
        goes down in the midst of a login looks like one."""
        if self.fatal is not None:
            return self.fatal
        code = None if self._last is None else self._last.code()
        if code in (KafkaError._AUTHENTICATION, KafkaError._SSL) and self._times < REJECTIONS_MIN:
            return None
        if self._last is None or (not self._down and code != KafkaError._AUTHENTICATION):
            return error("unreachable", **self.facts) if self._down else None
        return self.by_report(self._last, doing="connecting")


def client(kind: Callable[[dict[str, Any]], T], given: Mapping[str, Any], reports: Reports) -> T:
    """A client made of `settings`. Raises ``kafka.option_invalid`` for settings that librdkafka
    does not take, and ``kafka.tls_file`` for files that it cannot use."""
    try:
        return kind({**given, "error_cb": reports})
    except KafkaException as refused:
        raise _refused(kind, given, refused) from None


def _refused(
    kind: Callable[[dict[str, Any]], object], given: Mapping[str, Any], refused: KafkaException
) -> EnsignError:
    """Which setting was refused: the first that is alone too."""
    for name, value in given.items():
        try:
            kind({"group.id": "ensign", "log_level": 0, **_beside(name), name: value})
        except KafkaException:
            if name.startswith("ssl.") and name.endswith(".location"):
                return error("tls_file", reason=f"{value} is not what {name} takes")
            return error("option_invalid", option=name)
    if any(name.startswith("ssl.") for name in given):
        return error("tls_file", reason="certificate, key and password do not fit each other")
    names = [name for name in given if name not in _DEFAULTS]
    return error("option_invalid", option=f"among {', '.join(names)}")


def _beside(name: str) -> dict[str, Setting]:
    """What makes librdkafka look at a setting's file."""
    return {"security.protocol": "SSL"} if name.startswith("ssl.") else {}


class HasMetadata(Protocol):
    """Consumers, producers and admin clients."""

    def list_topics(self, topic: str | None = ..., timeout: float = ...) -> ClusterMetadata: ...

    def poll(self, timeout: float) -> object: ...


def metadata(
    of: HasMetadata, reports: Reports, timeout_s: float, topic: str | None = None
) -> ClusterMetadata:
    """All topics of the cluster, or one. Raises why the cluster does not answer."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            asked = {"topic": topic} if topic is not None else {}
            found = of.list_topics(timeout=max(0.05, min(ASK_S_MAX, left_s)), **asked)
        except KafkaException as failed:
            of.poll(0)
            trouble = reports.trouble()
            if trouble is not None:
                raise trouble from None
            if left_s <= ASK_S_MAX:
                raise reports.by_report(failed.args[0], doing="asking for topics") from None
        else:
            of.poll(0)
            reports.answered()
            return found


def admin(config: KafkaConnection, reports: Reports) -> AdminClient:
    """A client for questions and for the making of topics."""
    return client(AdminClient, settings(config, {}, {}), reports)
