"""What only `ensign check` says: parts of `connectors.mysql.errors.ERRORS`. Settings are those of
the MySQL Reference Manual, "Replication and Binary Logging Options and Variables", and of the
MariaDB documentation, "Replication and Binary Log System Variables"."""

from __future__ import annotations

from typing import Final

SETTING: Final = "{statement}, and the same in the server's configuration."

CHECK_ERRORS: Final[dict[str, tuple[str, str]]] = {
    # What rows of the log lack.
    "row_image_minimal": (
        (
            "binlog_row_image is MINIMAL: updates and deletes have no row from before but its key, "
            "and columns that an INSERT leaves to their defaults are not told, only named in "
            "unchanged."
        ),
        SETTING,
    ),
    "row_image_noblob": (
        (
            "binlog_row_image is NOBLOB: updates that leave a BLOB, TEXT or JSON column as it was "
            "do not tell it, and rows from before lack these columns."
        ),
        SETTING,
    ),
    "partial_json": (
        (
            "binlog_row_value_options is PARTIAL_JSON and binlog_row_image MINIMAL: changed parts "
            "of JSON documents are logged without the documents, and a table stops at the first of "
            "them."
        ),
        SETTING,
    ),
    "row_metadata": (
        (
            "binlog_row_metadata is {metadata}: rows in the log do not name their columns; a table "
            "whose structure cannot be followed through its ALTER statements stops."
        ),
        SETTING,
    ),
    "row_metadata_unknown": (
        (
            "{title} has no binlog_row_metadata: rows in the log do not name their columns; a "
            "table whose structure cannot be followed through its ALTER statements stops."
        ),
        "Alter captured tables while the pipeline runs, or upgrade the server.",
    ),
    "checksum": (
        "binlog_checksum is NONE: what is damaged in the log or on the way is not noticed.",
        SETTING,
    ),
    # Which changes the log lacks.
    "log_filtered": (
        "{filter} keeps the changes of database {database} out of the binary log.",
        "Take {filter} out of the server's configuration, and restart it.",
    ),
    "log_filters": (
        (
            "{filter} is set: statements such as TRUNCATE and ALTER TABLE are in the binary log "
            "by the database that was the default one when they ran, whatever table they name."
        ),
        "Take {filter} out of the server's configuration, and restart it.",
    ),
    "replica_unlogged": (
        "The server is a replica without {variable}: what it replicates is not in its log.",
        "Set {variable} = ON in the server's configuration and restart it, or capture its source.",
    ),
    # Whether the place in the log can be found again.
    "gtid_off": (
        (
            "gtid_mode is not ON: the position is a file and an offset in this server's log, so "
            "that the pipeline cannot follow a failover to another server."
        ),
        (
            "SET GLOBAL gtid_mode = ON in its steps (OFF_PERMISSIVE, ON_PERMISSIVE, ON) before the "
            "first run, or set position: file."
        ),
    ),
    "gtid_not_strict": (
        (
            "gtid_strict_mode is OFF: a replica may log transactions in another order than its "
            "primary, so that after a failover the position may pass some by."
        ),
        SETTING,
    ),
    "semi_sync_wait": (
        (
            "Commits wait for a semi-synchronous replica before they can be seen "
            "(AFTER_SYNC), and the position has no GTIDs: where that takes {seconds} s and "
            "longer, a snapshot may pass a change by."
        ),
        "{statement}, or SET GLOBAL gtid_mode = ON in its steps and choose position: gtid.",
    ),
    "retention_short": (
        (
            "The server keeps its binary log for {hours} hours: a pipeline that does not run for "
            "longer loses its place."
        ),
        SETTING,
    ),
    "retention_bytes": (
        "{variable} is {bytes}: the server may give up the log that a pipeline has yet to read.",
        (
            "SET GLOBAL {variable} to more than is written while the pipeline may be stopped, or "
            "to 0 and keep it by time."
        ),
    ),
    # Tables.
    "tables_unmatched": (
        "No table matches: nothing is captured. Tables that user {user} may not read are hidden.",
        "Correct databases, tables and exclude in the config, or GRANT {user} SELECT on tables.",
    ),
    "glob_unmatched": (
        "{option}: {glob} matches {what}.",
        "Correct it in the config; case counts, and tables that the user may not read are hidden.",
    ),
    "key_missing": (
        (
            "{table} has no primary key: its events have no key, and its snapshot is one chunk, "
            "which starts over when it is interrupted."
        ),
        "ALTER TABLE {quoted} ADD PRIMARY KEY (...).",
    ),
    "engine": (
        (
            "{table} is of an engine without transactions: while a snapshot reads it, a lock holds "
            "its writers up."
        ),
        "ALTER TABLE {quoted} ENGINE = InnoDB.",
    ),
    "cascades": (
        (
            "{table} has the foreign key {key} with CASCADE or SET NULL: rows that the storage "
            "engine deletes and updates by it are not in the binary log."
        ),
        (
            "Have statements or triggers do it in its place, or compare the table from time to "
            "time: ensign snapshot start {pipeline} --tables {table} --reconcile."
        ),
    ),
    "unencrypted": (
        "The connection to {where} is not encrypted: rows cross the network in clear.",
        "Set tls.mode to required or verify_identity, and have the server offer TLS.",
    ),
}
