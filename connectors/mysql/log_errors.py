"""The errors of this connector that are about the binary log, the position in it, and tables."""

from __future__ import annotations

from typing import Final

RECONCILE: Final = (
    "Run: ensign snapshot start {pipeline} --reconcile, which goes on from the log's end and "
    "compares all tables with their topics."
)

LOG_ERRORS: Final[dict[str, tuple[str, str]]] = {
    # The server's settings.
    "log_disabled": (
        "The server writes no binary log.",
        "Set log_bin and server_id in the server's configuration and restart it.",
    ),
    "log_format": (
        "The server's binlog_format is {format}; changes of rows need ROW.",
        (
            "SET GLOBAL binlog_format = 'ROW', and the same in the server's configuration; "
            "sessions that are open keep the old one."
        ),
    ),
    "version_unsupported": (
        "The server is {title}; MySQL 5.7 or MariaDB 10.2 or later is needed.",
        "Upgrade the server.",
    ),
    "gtid_mode": (
        (
            "Behind the position are transactions without a GTID, or there are to be some: as "
            "gtid_mode is, the server does not send them."
        ),
        (
            "SET GLOBAL gtid_mode = ON (in its steps: OFF_PERMISSIVE, ON_PERMISSIVE, ON), or leave "
            "it off. Then run: ensign snapshot start {pipeline} --reconcile, which goes on from "
            "the log's end and compares all tables with their topics."
        ),
    ),
    "gtid_disabled": (
        "position: gtid is asked for, and the server's gtid_mode is not ON.",
        "SET GLOBAL gtid_mode = ON in its steps, or choose position: file.",
    ),
    # Privileges.
    "replication_privilege": (
        "User {user} may not read the binary log.",
        (
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'; at MariaDB 10.5 and "
            "later: REPLICATION SLAVE, BINLOG MONITOR."
        ),
    ),
    "status_privilege": (
        "User {user} may not see where the binary log ends.",
        "GRANT REPLICATION CLIENT ON *.* TO '{user}'; at MariaDB 10.5 and later: BINLOG MONITOR.",
    ),
    "select_privilege": (
        "User {user} may not read {table}.",
        "GRANT SELECT ON {table} TO '{user}'.",
    ),
    "lock_privilege": (
        (
            "{table} is of an engine without transactions: its rows are read under a lock, which "
            "user {user} may not take."
        ),
        "GRANT LOCK TABLES ON {database}.* TO '{user}', or ALTER TABLE {table} ENGINE = InnoDB.",
    ),
    # The position.
    "log_purged": (
        "The binary log behind {from_place} is purged: changes up to {to_place} are missed.",
        RECONCILE,
    ),
    "log_endangered": (
        (
            "The pipeline stands in {place}, the oldest file of the binary log, which the server "
            "is about to delete: it keeps its log for {hours} hours."
        ),
        (
            "SET GLOBAL binlog_expire_logs_seconds (MariaDB before 10.6, MySQL 5.7: "
            "expire_logs_days) to more until the pipeline has caught up; ensign status shows how "
            "far behind it is."
        ),
    ),
    "log_reset": (
        (
            "The server's binary log is another one than that of the position {from_place}: it was "
            "reset, or the server was restored from a backup."
        ),
        RECONCILE,
    ),
    "server_changed": (
        (
            "The server is another one than that of the position, which is a file and an offset in "
            "the other one's log."
        ),
        "Point host at the server of before; else " + RECONCILE[0].lower() + RECONCILE[1:],
    ),
    "server_behind": (
        "The server does not have all transactions that the position has.",
        "Point host at a server that has them, or wait until it has; else " + RECONCILE,
    ),
    "commits.busy": (
        "The server does not show transactions yet that are in its log already.",
        (
            "Nothing to do: the pipeline tries again. Where it lasts, see which replica the server "
            "waits for (rpl_semi_sync_source_timeout)."
        ),
    ),
    "catalog.busy": (
        "Tables are altered all the time: their structure at one place in the log is not found.",
        "Nothing to do: the pipeline tries again.",
    ),
    "prepared_lost": (
        "An XA transaction commits whose rows are in a part of the log that is gone.",
        RECONCILE,
    ),
    "log_refused": (
        "The server refused to send its binary log (error {number}).",
        "Look in the server's error log for the reason.",
    ),
    "log_incident": (
        "The server says that changes were lost to its binary log, at {place}.",
        RECONCILE,
    ),
    "log_encrypted": (
        "The server sends events of its binary log encrypted.",
        "Update the server: replicas get them in the clear.",
    ),
    "server_id_taken": (
        (
            "Another reader of the binary log uses the server id {server_id}, and the server ends "
            "the older of the two again and again."
        ),
        "Leave server_id out, so that a free one is chosen, or give each reader its own.",
    ),
    "stream_damaged": (
        "The server's stream is not one that can be read: {what}.",
        (
            "Run the pipeline again; if it comes back, the log is damaged there, and a reconcile "
            "snapshot goes on behind it."
        ),
    ),
    # Tables.
    "structure_unknown": (
        "The rows of {table} do not fit what is known of its columns: they are left out.",
        (
            "SET GLOBAL binlog_row_metadata = FULL, then: ensign snapshot start {pipeline} "
            "--tables {table} --reconcile."
        ),
    ),
    "name_taken": (
        (
            "Table {table} of database {database} is left out: another table is called {name} as "
            "well, since names have dots."
        ),
        "Leave one of them out with exclude, or give it a name without a dot.",
    ),
    "charset_unknown": (
        (
            "{table} has a column of the charset or type {what}, which is not known: its rows are "
            "left out."
        ),
        (
            "Leave the table out with exclude, or change the column's charset; then: ensign "
            "snapshot start {pipeline} --tables {table} --reconcile."
        ),
    ),
    "statement_logged": (
        (
            "Rows of {table} were changed by a statement that the log has instead of the rows: the "
            "table's changes are left out."
        ),
        (
            "Have no session set binlog_format to STATEMENT or MIXED; then: ensign snapshot start "
            "{pipeline} --tables {table} --reconcile, and the same for the tables that its "
            "triggers and functions write, unless they are stopped too."
        ),
    ),
    "document_unknown": (
        (
            "An update of {table} has changes to a JSON document that the log does not have: the "
            "table's rows are left out."
        ),
        (
            "Have no session combine binlog_row_value_options = PARTIAL_JSON with "
            "binlog_row_image = MINIMAL; then: ensign snapshot start {pipeline} --tables {table} "
            "--reconcile."
        ),
    ),
    "row_damaged": (
        "Rows of {table} are not in the format that their table has.",
        "See it with: ensign dead-letters list {pipeline}; it is set aside, and the rest goes on.",
    ),
    # Snapshots.
    "signal_unmatched": (
        "No captured table matches {tables}.",
        "See ensign check for the tables that are captured.",
    ),
    "adhoc_failed": (
        "A snapshot that was asked for was given up: {failed}",
        "Mend the cause, such as its --where, and ask for it again.",
    ),
    "gap_open": (
        "The tables are being compared with their topics after a gap; that is not stopped.",
        "Wait for it to end; ensign status shows how far it is.",
    ),
}
