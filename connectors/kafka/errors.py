"""Every error of this connector: its code, sentence and remedy, and which of librdkafka's error
codes leads to it.

Codes are those of ``rd_kafka_resp_err_t`` (rdkafka.h): negative ones are the library's own, the
others the protocol's ("Error Codes" in Kafka's protocol guide). Messages are never looked at and
never passed on: they may hold values. The last word of a code decides whether a pipeline waits or
stops (I10, `ensign_core.run.retry`). Imports no driver.
"""

from __future__ import annotations

from typing import Final

from ensign_core.errors import EnsignError, worded

WAIT_FOR_BROKERS: Final = "Nothing to do: the pipeline goes on when the brokers answer again."

ERRORS: Final[dict[str, tuple[str, str]]] = {
    # Waited out.
    "unreachable": (
        "No broker of {where} can be reached.",
        (
            "Check bootstrap, that the brokers run and advertise addresses that can be reached "
            "from here, and firewalls on the way; where brokers expect TLS, set tls."
        ),
    ),
    "connection_lost": ("The connection to a broker of {where} was lost.", WAIT_FOR_BROKERS),
    "timeout": (
        "The brokers of {where} did not answer in time while Ensign was {doing}.",
        WAIT_FOR_BROKERS,
    ),
    "restarting": (
        "Brokers of {where} are starting up, shutting down or choosing a leader.",
        WAIT_FOR_BROKERS,
    ),
    "throttled": ("The brokers of {where} hold Ensign to a quota.", "Raise the client's quota."),
    "disk_full": (
        "A broker of {where} cannot write to its disk.",
        "Make room or mend the disk there; the pipeline goes on by itself.",
    ),
    "token.unreachable": (
        "No token that the brokers of {where} accept could be had from {token_url}.",
        "Check token_url, client_id, client_secret and scope; the pipeline tries again.",
    ),
    "producer.restarting": (
        "The brokers of {where} forgot the producer, which had written nothing for long.",
        "Nothing to do: the pipeline goes on with a new one.",
    ),
    "transaction.busy": (
        "Another producer is ending a transaction under the same id.",
        "Nothing to do: the pipeline tries again when that has ended.",
    ),
    # Who one is, and what one may.
    "authentication_failed": (
        "The brokers of {where} rejected the login.",
        "Correct sasl in the config: mechanism, user and password, or the client's credentials.",
    ),
    "mechanism_unsupported": (
        "The brokers of {where} do not offer the SASL mechanism {mechanism}.",
        "Set sasl: {{mechanism}} to one that the listener offers.",
    ),
    "tls_failed": (
        "TLS with a broker of {where} failed.",
        (
            "Check ca, cert and key under tls, that the certificates are valid now and name the "
            "host, and that the listener speaks TLS."
        ),
    ),
    "tls_file": (
        "A file named under tls cannot be used: {reason}.",
        "Correct ca, cert and key in the config: files in PEM that the user of Ensign may read.",
    ),
    "topic_unauthorized": (
        "The user may not {doing} {topic}.",
        "Grant it with kafka-acls: Describe and Read for a source, Describe and Write for a sink.",
    ),
    "group_unauthorized": (
        "The user may not use the consumer group {group}.",
        "Grant it with kafka-acls, or name another one as group.id in options.",
    ),
    "cluster_unauthorized": (
        "The user may not {doing} on this cluster.",
        "Grant it with kafka-acls: IdempotentWrite or Create for a sink, Describe for a source.",
    ),
    "transactional_id_unauthorized": (
        "The user may not use the transactional id {transactional_id}.",
        "Grant Write and Describe on it with kafka-acls.",
    ),
    # Topics and records.
    "topic_unknown": (
        "Topic {topic} does not exist on {where}.",
        "Correct the name in the config, or create the topic.",
    ),
    "topic_deleted": (
        "Topic {topic} was deleted while it was read.",
        "Take it out of the config, or create it and start a new pipeline for it.",
    ),
    "topic_recreated": (
        "Topic {topic} was deleted and made again since it was read: its offsets began anew.",
        (
            "Run `ensign drop` for the pipeline, or give it another name, and it reads the new "
            "topic from its start."
        ),
    ),
    "topic_invalid": (
        "The brokers refuse the name of topic {topic}.",
        "Use letters, digits, dots, underscores and hyphens, 249 at most.",
    ),
    "records_removed": (
        (
            "Records {first} to {last} of {topic}, partition {partition}, were removed by "
            "retention before they were read."
        ),
        (
            "Read what is left with on_removed: skip, which names the gap in the topic; and let "
            "the topic keep its records for longer (retention.ms, retention.bytes)."
        ),
    ),
    "log_truncated": (
        (
            "Topic {topic}, partition {partition}, ends at offset {last}, and was read up to "
            "{first} already: its log was truncated."
        ),
        (
            "Look for an unclean leader election; on_removed: skip goes on at the end and names "
            "the place in the topic."
        ),
    ),
    "offsets_fell": (
        "The offsets of {topic}, partition {partition}, went back from {first} to {last}.",
        "Check whether the topic was deleted and made again, or its log truncated.",
    ),
    "record_damaged": (
        "A record of {topic}, partition {partition}, at offset {offset} cannot be read.",
        "Check the broker's disk: kafka-dump-log names what is damaged.",
    ),
    "message_too_large": (
        "A message for topic {topic} is larger than the topic takes.",
        "Raise max.message.bytes of the topic, or set on_refused: dead_letter.",
    ),
    "record_refused": (
        "The brokers refuse a record for topic {topic} (error {number}).",
        "Look at the topic's settings: a compacted topic takes no record without key.",
    ),
    # Producers.
    "timestamp_refused": (
        "The brokers refuse the timestamp of a message for topic {topic}.",
        "Widen the topic's message.timestamp.before.max.ms or message.timestamp.after.max.ms.",
    ),
    "key_missing": (
        "A message for topic {topic} has no key, and a compacted topic takes none without.",
        "Leave compact out of the topic's cleanup.policy, or set on_refused: dead_letter.",
    ),
    "topic_template": (
        "The topic of the sink asks for {variable}, which {schema} has not.",
        "Use {{topic}}, or names that all sources of this pipeline have.",
    ),
    "ledger_not_compacted": (
        "Topic {topic}, the ledger of transactional sinks, is not compacted: it would forget.",
        "Set its cleanup.policy to compact, or name another topic as ledger.",
    ),
    "ledger_damaged": (
        "Topic {topic}, the ledger of transactional sinks, holds what is no record of offsets.",
        "Name another topic as ledger: one that nobody else writes to.",
    ),
    "fenced": (
        "Another producer took over the transactional id {transactional_id}.",
        "Stop the other worker that runs this pipeline.",
    ),
    "queue_full": ("The queue of records to send is full.", "Nothing to do."),
    "not_enough_replicas.unreachable": (
        "Topic {topic} has fewer replicas in sync than min.insync.replicas asks for.",
        WAIT_FOR_BROKERS,
    ),
    # Settings and versions.
    "option_invalid": (
        "librdkafka does not take the setting {option}.",
        "Correct it in the config; its names and values are in librdkafka's CONFIGURATION.md.",
    ),
    "version_unsupported": (
        "The brokers of {where} are too old for what Ensign asks of them ({doing}).",
        "Upgrade them: Kafka 2.8 or later is needed.",
    ),
    "position_damaged": (
        "The stored position is not one of this connector's.",
        "Check that the pipeline's name was not used for another source before.",
    ),
    "failed": (
        "Kafka reports error {number} ({name}) while Ensign was {doing}.",
        "Look it up in Kafka's protocol guide, and in the brokers' logs.",
    ),
}

NUMBERS: Final[dict[int, str]] = {
    -195: "unreachable",  # _TRANSPORT
    -193: "unreachable",  # _RESOLVE
    -187: "unreachable",  # _ALL_BROKERS_DOWN
    -192: "timeout",  # _MSG_TIMED_OUT
    -185: "timeout",  # _TIMED_OUT
    -180: "timeout",  # _WAIT_COORD
    -166: "timeout",  # _TIMED_OUT_QUEUE
    -199: "record_damaged",  # _BAD_MSG
    -198: "record_damaged",  # _BAD_COMPRESSION
    -188: "topic_unknown",  # _UNKNOWN_TOPIC
    -190: "topic_unknown",  # _UNKNOWN_PARTITION
    -184: "queue_full",  # _QUEUE_FULL
    -181: "tls_failed",  # _SSL
    -169: "authentication_failed",  # _AUTHENTICATION
    -165: "version_unsupported",  # _UNSUPPORTED_FEATURE
    -144: "fenced",  # _FENCED
    -139: "log_truncated",  # _LOG_TRUNCATION
    2: "record_damaged",  # INVALID_MSG
    3: "topic_unknown",  # UNKNOWN_TOPIC_OR_PART
    5: "restarting",  # LEADER_NOT_AVAILABLE
    6: "restarting",  # NOT_LEADER_FOR_PARTITION
    7: "timeout",  # REQUEST_TIMED_OUT
    8: "restarting",  # BROKER_NOT_AVAILABLE
    9: "restarting",  # REPLICA_NOT_AVAILABLE
    10: "message_too_large",  # MSG_SIZE_TOO_LARGE
    13: "connection_lost",  # NETWORK_EXCEPTION
    14: "restarting",  # COORDINATOR_LOAD_IN_PROGRESS
    15: "restarting",  # COORDINATOR_NOT_AVAILABLE
    16: "restarting",  # NOT_COORDINATOR
    17: "topic_invalid",  # TOPIC_EXCEPTION
    18: "message_too_large",  # RECORD_LIST_TOO_LARGE
    32: "timestamp_refused",  # INVALID_TIMESTAMP
    19: "not_enough_replicas.unreachable",  # NOT_ENOUGH_REPLICAS
    20: "not_enough_replicas.unreachable",  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
    29: "topic_unauthorized",  # TOPIC_AUTHORIZATION_FAILED
    30: "group_unauthorized",  # GROUP_AUTHORIZATION_FAILED
    31: "cluster_unauthorized",  # CLUSTER_AUTHORIZATION_FAILED
    33: "mechanism_unsupported",  # UNSUPPORTED_SASL_MECHANISM
    35: "version_unsupported",  # UNSUPPORTED_VERSION
    41: "restarting",  # NOT_CONTROLLER
    47: "fenced",  # INVALID_PRODUCER_EPOCH
    49: "producer.restarting",  # INVALID_PRODUCER_ID_MAPPING
    51: "transaction.busy",  # CONCURRENT_TRANSACTIONS
    53: "transactional_id_unauthorized",  # TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    56: "disk_full",  # KAFKA_STORAGE_ERROR
    58: "authentication_failed",  # SASL_AUTHENTICATION_FAILED
    59: "producer.restarting",  # UNKNOWN_PRODUCER_ID
    72: "restarting",  # LISTENER_NOT_FOUND
    74: "restarting",  # FENCED_LEADER_EPOCH
    75: "restarting",  # UNKNOWN_LEADER_EPOCH
    78: "restarting",  # OFFSET_NOT_AVAILABLE
    80: "restarting",  # PREFERRED_LEADER_NOT_AVAILABLE
    87: "record_refused",  # INVALID_RECORD
    89: "throttled",  # THROTTLING_QUOTA_EXCEEDED
    90: "fenced",  # PRODUCER_FENCED
    100: "topic_recreated",  # UNKNOWN_TOPIC_ID
}


def error(word: str, **facts: object) -> EnsignError:
    """The error ``kafka.WORD``, its sentence filled in with ``facts``."""
    return worded("kafka", ERRORS, word, facts)


def by_number(number: int, name: str, **facts: object) -> EnsignError:
    """The error for a code of librdkafka and its name; ``kafka.failed`` for one that is not in the
    table. ``facts`` of use: where, doing, topic, partition, offset."""
    return error(NUMBERS.get(number, "failed"), number=number, name=name, **facts)
