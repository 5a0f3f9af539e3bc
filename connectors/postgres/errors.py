"""Every error of this connector: its code, sentence and remedy, and which SQLSTATE leads to it.

SQLSTATEs are those of the PostgreSQL documentation, appendix "PostgreSQL Error Codes". Messages of
the server are never looked at and never passed on: they may hold values of rows. The last word of a
code decides whether a pipeline waits or stops (I10, `ensign_core.run.retry`).
"""

from __future__ import annotations

from typing import Final

from connectors.postgres.connection_errors import CONNECTION_ERRORS
from connectors.postgres.slot_errors import SLOT_ERRORS
from ensign_core.errors import EnsignError, worded

WAIT_FOR_SERVER = "Nothing to do: the pipeline goes on when the server answers again."

ERRORS: Final[dict[str, tuple[str, str]]] = {
    **CONNECTION_ERRORS,
    **SLOT_ERRORS,
    # Waited out.
    "unreachable": (
        "The server at {where} cannot be reached: {reason}.",
        "Check host and port in the dsn, that the server runs, and firewalls on the way.",
    ),
    "connection_lost": ("The connection to the server was lost.", WAIT_FOR_SERVER),
    "restarting": ("The server is starting up or shutting down.", WAIT_FOR_SERVER),
    "slot_in_use": (
        "Replication slot {slot} is in use by {holder}.",
        (
            "Stop the other reader, or end it with SELECT pg_terminate_backend({pid}); with "
            "stale_walsender: terminate a connection left over of this pipeline is ended for you."
        ),
    ),
    "too_many_connections": (
        "The server has no free connection or walsender.",
        "Raise max_connections or max_wal_senders, or end connections that nobody needs.",
    ),
    "timeout": (
        "The server did not answer in time while Ensign was {doing}.",
        "Look in pg_stat_activity for long transactions and locks; the pipeline tries again.",
    ),
    # The connection.
    "dsn_invalid": (
        "The dsn is not a connection string or URL that libpq understands.",
        (
            "Write it as postgresql://user:password@host:port/database, with @ : / ? # [ ] % in "
            "the password percent-encoded (@ is %40, / is %2F)."
        ),
    ),
    "password_rejected": (
        "The server rejected the password of user {user}.",
        "Correct the password in the dsn or in the variable that it is taken from.",
    ),
    "password_missing": (
        "The server asks for a password of user {user}, and the dsn has none.",
        "Add it to the dsn, best as ${{VARIABLE}}.",
    ),
    "login_refused": (
        "The server does not let user {user} connect to database {database} from here.",
        (
            "Check that the role exists and may log in, and add a line for it to pg_hba.conf; "
            "where that asks for TLS (hostssl), set sslmode=require, and sslcert for a certificate."
        ),
    ),
    "database_missing": (
        "Database {database} does not exist on this server.",
        "Correct the database in the dsn or create it.",
    ),
    # The server's settings.
    "wal_level": (
        "The server's wal_level is {level}; logical replication needs logical.",
        "ALTER SYSTEM SET wal_level = logical, then restart the server.",
    ),
    "version_unsupported": (
        "The server is PostgreSQL {version}; 14 or later is needed.",
        "Upgrade the server.",
    ),
    "standby": (
        "The server is a standby of version {version}; changes of a standby need 16 or later.",
        "Point the dsn at the primary, or upgrade both.",
    ),
    "no_free_slot": (
        "The server has no free replication slot.",
        "Raise max_replication_slots and restart the server, or drop a slot that nobody needs.",
    ),
    "disk_full": ("The server's disk is full.", "Make room on the server, then run again."),
    # Privileges and tables.
    "replication_privilege": (
        "User {user} has neither the attribute REPLICATION nor is it a superuser.",
        'ALTER ROLE "{user}" REPLICATION.',
    ),
    "select_privilege": (
        "User {user} may not read {table}.",
        'GRANT USAGE ON SCHEMA and SELECT ON {table} TO "{user}".',
    ),
    "privilege_missing": (
        "User {user} has not the privilege for {doing}.",
        "Let an owner or superuser run: {statement}",
    ),
    "table_missing": (
        "No table matches {tables}.",
        (
            "Correct tables and exclude in the config; views, foreign, unlogged and temporary "
            "tables are not captured, and partitions are captured under their root's name."
        ),
    ),
    "table_unsuitable": ("{table} is {kind}, which cannot be captured.", "{mend}."),
    "row_security": (
        "Row-level security of {table} applies to user {user}, so that a snapshot of it fails.",
        "{statement}. Only a superuser may.",
    ),
    "children_missing": (
        "{child} inherits from {table} and is not captured: its rows are not read as {table}'s.",
        "Add {child} to tables in the config: it is captured as a table of its own.",
    ),
    "partition_unlogged": (
        "Partition {table} of {root} is unlogged or foreign: its rows are read, and no change is.",
        "Make it an ordinary, logged table, or exclude {root} in the config.",
    ),
    "column_key_excluded": (
        "Column {column} is part of a key, and columns in the config leaves it out.",
        "Capture the columns of a table's key: without them no change could be told apart.",
    ),
    "origin_unsupported": (
        "The server is PostgreSQL {version}; origin: none needs 16 or later.",
        "Set origin: any, or upgrade the server.",
    ),
    "identity_missing": (
        (
            "Table {table} has no replica identity, so its UPDATE and DELETE statements fail while "
            "it is published."
        ),
        "{statement}. Or add a primary key.",
    ),
    "identity_listed": (
        (
            "The column list in publication {publication} lacks columns of the replica identity of "
            "{table}, so its UPDATE and DELETE statements fail."
        ),
        "{statement}.",
    ),
    "identity_filtered": (
        (
            "The row filter in publication {publication} uses columns that are not in the replica "
            "identity of {table}, so its UPDATE and DELETE statements fail."
        ),
        "{statement}.",
    ),
    "identity_generated": (
        (
            "The replica identity of {table} has generated columns that the publication leaves "
            "out, so its UPDATE and DELETE statements fail while it is published."
        ),
        "{statement}.",
    ),
    "identity_differs": (
        (
            "{root} has REPLICA IDENTITY FULL and its partition {table} has not: of changed rows "
            "the old key is captured, not the whole old row."
        ),
        "{statement}.",
    ),
    "key_missing": (
        "Rows of {table} have no key, so their events have none and no change can be told apart.",
        "{statement}.",
    ),
    "key_unpublished": (
        "Column {column} of a key is generated and not published, so events have no key.",
        "Give {table} a key without generated columns, or publish them (PostgreSQL 18 and later).",
    ),
    # Slot, publication and position.
    "publication_unsuitable": (
        "Publication {publication} {lack}.",
        'ALTER PUBLICATION "{publication}" SET ({setting}).',
    ),
    "position_damaged": (
        "The stored position is not one of this connector's.",
        "Check that the pipeline's name was not used for another source before.",
    ),
    "protocol_damaged": (
        "The server sent a message that does not follow the replication protocol.",
        "Check for a proxy between Ensign and the server, and report this.",
    ),
    "row_damaged": (
        "A row of table {table} does not follow the replication protocol.",
        "Look at it with `ensign dead-letters list`, and report this.",
    ),
    "signal_unmatched": (
        "A snapshot of {tables} was asked for, and no captured table matches.",
        "Correct --tables: globs over schema.table of tables that the pipeline captures.",
    ),
    "gap_open": (
        "A snapshot that closes a gap was not stopped: without it changes are missing for ever.",
        "Let it end; `ensign snapshot pause` holds it up meanwhile.",
    ),
    "adhoc_failed": (
        "A snapshot that was asked for was given up: {failed}.",
        "Look in the server's log for the statement and its error, mend it or --where, ask again.",
    ),
    "refused": (
        "The server refused a statement (SQLSTATE {sqlstate}) while Ensign was {doing}.",
        "Look in the server's log for the statement and its error.",
    ),
}

STATES: Final[dict[str, str]] = {
    "28P01": "password_rejected",
    "28000": "login_refused",
    "3D000": "database_missing",
    "42501": "privilege_missing",
    "42704": "publication_missing",
    "53100": "disk_full",
    "53300": "too_many_connections",
    "53400": "no_free_slot",
    "55006": "slot_in_use",
    "55P03": "timeout",  # lock_not_available
    "57014": "timeout",  # query_canceled
    "57P01": "restarting",  # admin_shutdown
    "57P02": "restarting",  # crash_shutdown
    "57P03": "restarting",  # cannot_connect_now
    "57P05": "connection_lost",  # idle_session_timeout
}
CLASSES: Final[dict[str, str]] = {"08": "connection_lost"}
"""Fallbacks by the class of a SQLSTATE, its first two characters."""


def error(word: str, **facts: object) -> EnsignError:
    """The error ``postgres.WORD``, its sentence filled in with ``facts``."""
    return worded("postgres", ERRORS, word, facts)


def by_state(sqlstate: str, **facts: object) -> EnsignError:
    """The error for a SQLSTATE; ``postgres.refused`` for one that is not in the table."""
    word = STATES.get(sqlstate) or CLASSES.get(sqlstate[:2]) or "refused"
    return error(word, sqlstate=sqlstate, **facts)
