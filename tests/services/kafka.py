"""A private Kafka broker for the tests: one node with its own controller, own folder, ports and
process, loopback only.

Its listeners are ``plaintext``, ``sasl`` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER with
unsigned tokens), ``ssl`` (which wants a client's certificate) and ``sasl_ssl``. Who comes in over
``plaintext``, and `CDC`, may do everything; `STRANGER` comes in and may do nothing.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.services import kafka_records
from tests.services.certificates import Authority
from tests.services.kafka_programs import (
    READY_S_MAX,
    SERVER,
    command,
    fresh_cluster,
    listens,
    properties,
)
from tests.services.kafka_records import Isolation, Record
from tests.services.postgres import free_ports
from tests.services.ready import wait_until
from tests.services.service import Service

ANSWER_S_MAX = 30.0

Listener = Literal["plaintext", "sasl", "ssl", "sasl_ssl"]
LISTENERS: Final[Mapping[Listener, str]] = {
    "plaintext": "PLAINTEXT",
    "sasl": "SASL_PLAINTEXT",
    "ssl": "SSL",
    "sasl_ssl": "SASL_SSL",
}
Shutdown = Literal["fast", "kill"]
SIGNALS = {"fast": signal.SIGTERM, "kill": signal.SIGKILL}
Scram = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]
SCRAMS: Mapping[Scram, ScramMechanism] = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}

CDC: Final = "cdc"
"""The user of the connectors, its password, and the common name of its certificate."""
STRANGER: Final = "stranger"

DEFAULTS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    # Transactions whose time is over end soon, and old segments go soon.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
    # Records keep whatever timestamp a test gives them, unless its topic has a retention.
    "log.retention.ms": "-1",
    "log.initial.task.delay.ms": "100",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "0",
    "log.index.size.max.bytes": "65536",
    "log.cleaner.dedupe.buffer.size": "4194304",
    # A broker that was killed may come back when its session has ended.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:ANONYMOUS;User:{CDC};User:CN={CDC}",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "listener.name.ssl.ssl.client.auth": "required",
}
LOGINS: Mapping[str, str] = {
    "plain": "plain.PlainLoginModule",
    "scram-sha-256": "scram.ScramLoginModule",
    "scram-sha-512": "scram.ScramLoginModule",
    "oauthbearer": "oauthbearer.OAuthBearerLoginModule",
}


class KafkaServer(Service):
    """One broker. ``settings`` are lines of its configuration file, over `DEFAULTS`; those of its
    attribute of that name hold from the next start on."""

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self.host = "127.0.0.1"
        *ports, self._controller = free_ports(len(LISTENERS) + 1)
        self.ports: dict[Listener, int] = dict(zip(LISTENERS, ports, strict=True))
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-kafka-"))
        self.log = self.folder / "log"
        self.authority = Authority(self.folder, "authority")
        self.certificate, self.key = self.authority.sign(CDC, "client")
        """What a client shows on ``ssl``."""
        self.settings = {**DEFAULTS, **self._places(), **_logins(), **(settings or {})}
        self._options: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: AdminClient | None = None
        self._topics = 0

    def begin(self) -> None:
        users = {CDC: CDC, STRANGER: STRANGER}
        self._options = fresh_cluster(self.folder / "data", self.settings, users)
        self.start()

    def close(self) -> None:
        """End the broker and forget its data."""
        self.stop("kill")
        self._admin = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _places(self) -> dict[str, str]:
        """Settings that are this broker's own: ports, files."""
        certificate, key = self.authority.sign(self.host, "broker")
        keystore = self.folder / "broker.pem"
        keystore.write_text(key.read_text() + certificate.read_text())
        addresses = [f"{LISTENERS[name]}://{self.address(name)}" for name in LISTENERS]
        protocols = [f"{protocol}:{protocol}" for protocol in LISTENERS.values()]
        return {
            "listeners": ",".join([*addresses, f"CONTROLLER://{self.host}:{self._controller}"]),
            "advertised.listeners": ",".join(addresses),
            "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
            "controller.quorum.voters": f"1@{self.host}:{self._controller}",
            "log.dirs": str(self.folder / "data"),
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.location": str(self.authority.path),
        }

    def address(self, listener: Listener) -> str:
        """Such as ``127.0.0.1:9092``."""
        return f"{self.host}:{self.ports[listener]}"

    @property
    def bootstrap(self) -> str:
        """The address of ``plaintext``."""
        return self.address("plaintext")

    def client(
        self, listener: Listener = "plaintext", *, user: str = CDC, password: str = "",
        mechanism: str = "PLAIN",
    ) -> dict[str, Any]:  # fmt: skip
        """The settings of a client of librdkafka that comes in over a listener. The password of a
        user is its name unless given."""
        given = {
            "bootstrap.servers": self.address(listener),
            "security.protocol": LISTENERS[listener],
        }
        if listener.endswith("ssl"):
            given["ssl.ca.location"] = str(self.authority.path)
        if listener == "ssl":
            files = {"ssl.certificate.location": self.certificate, "ssl.key.location": self.key}
            return given | {name: str(file) for name, file in files.items()}
        if listener == "plaintext":
            return given
        given["sasl.mechanism"] = mechanism
        if mechanism == "OAUTHBEARER":
            unsigned = {"enable.sasl.oauthbearer.unsecure.jwt": "true"}
            return given | unsigned | {"sasl.oauthbearer.config": f"principal={user}"}
        return given | {"sasl.username": user, "sasl.password": password or user}

    @property
    def process_id(self) -> int:
        """That of the running broker."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the broker and return when it answers."""
        file = self.folder / "server.properties"
        file.write_text(properties(self.settings))
        with self.log.open("ab") as log:
            line = command(SERVER, str(file), options=self._options)
            self._process = subprocess.Popen(line, stdout=log, stderr=log, cwd=self.folder)
        wait_until(self._is_up, READY_S_MAX, 0.02)
        assert self.admin.list_topics(timeout=ANSWER_S_MAX).brokers

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace"))
        return all(map(listens, self.ports.values()))

    def stop(self, mode: Shutdown = "fast") -> None:
        """Stop this broker by its own process id and wait for its end."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(SIGNALS[mode])
        process.wait(READY_S_MAX)

    def restart(self, mode: Shutdown = "fast") -> None:
        """Stop and start on the same ports."""
        self.stop(mode)
        self.start()

    @property
    def admin(self) -> AdminClient:
        """An administrator over ``plaintext``."""
        if self._admin is None:
            quiet = {"log_level": 0, "reconnect.backoff.max.ms": 100}
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, **quiet})
        return self._admin

    def new_topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic with a name of its own."""
        self._topics += 1
        name = f"topic{self._topics}"
        self.create_topic(name, partitions, config)
        return name

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        wanted = NewTopic(name, partitions, 1, config=dict(config or {}))
        _done(self.admin.create_topics([wanted]))
        wait_until(lambda: self._led(name) == partitions, ANSWER_S_MAX, 0.02)

    def _led(self, name: str) -> int:
        """How many partitions of a topic the broker knows a leader of: some moments after it has
        said that the topic is made."""
        found = self.admin.list_topics(timeout=ANSWER_S_MAX).topics.get(name)
        return sum(one.leader >= 0 for one in found.partitions.values()) if found else 0

    def delete_topic(self, name: str) -> None:
        _done(self.admin.delete_topics([name]))

    def topics(self) -> list[str]:
        """Names of all topics, Kafka's own included."""
        return sorted(self.admin.list_topics(timeout=ANSWER_S_MAX).topics)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        found = self.admin.list_topics(topic, timeout=ANSWER_S_MAX).topics[topic]
        return len(found.partitions)

    def add_partitions(self, topic: str, total: int) -> None:
        """Let a topic have ``total`` partitions, more than now."""
        _done(self.admin.create_partitions([NewPartitions(topic, total)]))
        wait_until(lambda: self.partitions(topic) == total, ANSWER_S_MAX, 0.02)

    def configure_topic(self, topic: str, config: Mapping[str, str]) -> None:
        """Change settings of a topic, such as ``retention.ms``."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        _done(self.admin.incremental_alter_configs([wanted]))

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Delete a partition's records before an offset."""
        _done(self.admin.delete_records([TopicPartition(topic, partition, before_offset)]))

    def start_offsets(self, topic: str) -> list[int]:
        """The offset of the first record of each partition."""
        return self._offsets(topic, OffsetSpec.earliest())

    def end_offsets(self, topic: str) -> list[int]:
        """The offset after the last record of each partition, those of open transactions
        included."""
        return self._offsets(topic, OffsetSpec.latest())

    def _offsets(self, topic: str, wanted: OffsetSpec) -> list[int]:
        asked = {TopicPartition(topic, n): wanted for n in range(self.partitions(topic))}
        told = self.admin.list_offsets(asked)
        found = {place.partition: future.result().offset for place, future in told.items()}
        return [found[n] for n in sorted(found)]

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group of consumers committed: offset by partition."""
        places = [TopicPartition(topic, n) for n in range(self.partitions(topic))]
        asked = [ConsumerGroupTopicPartitions(group, places)]
        told = self.admin.list_consumer_group_offsets(asked)[group].result()
        found = told.topic_partitions
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def produce(
        self, topic: str, records: Iterable[Record], *,
        transaction: Literal["commit", "abort"] | None = None,
    ) -> list[Record]:  # fmt: skip
        """Write records, in a transaction of their own if wanted; as they are written, an aborted
        one's included: with partition, offset and timestamp."""
        return kafka_records.produce(self.client(), topic, records, transaction)

    def consume(self, topic: str, isolation: Isolation = "read_committed") -> list[Record]:
        """All records of a topic, by partition and offset."""
        return kafka_records.consume(self.client(), topic, self.partitions(topic), isolation)

    def new_user(
        self, name: str, password: str, mechanisms: Sequence[Scram] = tuple(SCRAMS)
    ) -> None:
        """Make a user of SCRAM or change its password; it may do nothing until `allow`."""
        # One request takes a user once.
        for mechanism in mechanisms:
            info = ScramCredentialInfo(SCRAMS[mechanism], 4096)
            wanted = UserScramCredentialUpsertion(name, info, password.encode())
            _done(self.admin.alter_user_scram_credentials([wanted]))

    def drop_user(self, name: str, mechanisms: Sequence[Scram] = tuple(SCRAMS)) -> None:
        for mechanism in mechanisms:
            wanted = UserScramCredentialDeletion(name, SCRAMS[mechanism])
            _done(self.admin.alter_user_scram_credentials([wanted]))

    def allow(
        self, user: str, operation: AclOperation, name: str = "*",
        kind: ResourceType = ResourceType.TOPIC,
    ) -> None:  # fmt: skip
        """Let a user do something with a topic, or with another kind of resource; ``*``: with all
        of them. The cluster's name is ``kafka-cluster`` and its kind BROKER."""
        literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
        wanted = AclBinding(kind, name, literal, f"User:{user}", "*", operation, allow)
        _done(self.admin.create_acls([wanted]))


def _logins() -> dict[str, str]:
    """How the listeners of SASL tell their users."""
    known = " ".join(f'user_{name}="{name}"' for name in (CDC, STRANGER))
    more = {"plain": known, "oauthbearer": 'unsecuredLoginStringClaim_sub="broker"'}
    found = {"sasl.enabled.mechanisms": ",".join(LOGINS).upper()}
    for listener in ("sasl_plaintext", "sasl_ssl"):
        for mechanism, module in LOGINS.items():
            line = f"org.apache.kafka.common.security.{module} required {more.get(mechanism, '')};"
            found[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = line
    return found


def _done(asked: Mapping[Any, Any]) -> None:
    """Wait for what an administrator asked for."""
    for future in asked.values():
        future.result(ANSWER_S_MAX)
