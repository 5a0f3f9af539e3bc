"""Errors and warnings about slots, publications, and positions that they do not continue: parts of
`connectors.postgres.errors.ERRORS`."""

from __future__ import annotations

from typing import Final

RECONCILE = (
    "`ensign snapshot start {pipeline} --reconcile`, then run the pipeline: slot and publication "
    "are made anew, and what its topics lack is read from the tables."
)
"""The mend of a gap between the position and the stream; see `connectors.postgres.mending`."""

SLOT_ERRORS: Final[dict[str, tuple[str, str]]] = {
    "slot_synced.busy": (
        "Replication slot {slot} is a standby's copy of a slot of its primary.",
        "Nothing to do if the standby is being promoted; else point the dsn at the primary.",
    ),
    "standby.timeout": (
        (
            "The standby could not make replication slot {slot} in time: it waits for its primary "
            "to log which transactions run, and an idle one does not."
        ),
        "Run SELECT pg_log_standby_snapshot() on the primary; the pipeline tries again.",
    ),
    "standby.busy": (
        "The standby has replayed its log up to {to_lsn}, and the position is {from_lsn}.",
        "Nothing to do: the pipeline goes on when the standby has caught up.",
    ),
    "promotion.restarting": (
        "The standby has become a primary.",
        "Nothing to do: the pipeline opens it anew.",
    ),
    "wal_level_primary": (
        "The standby's primary does not log what logical replication needs.",
        "On the primary: ALTER SYSTEM SET wal_level = logical, then restart it.",
    ),
    "publication_needed": (
        "Publication {publication} {lack}, and Ensign may not write on this server.",
        "Let an owner or superuser run on the primary: {statement}",
    ),
    "failover_unsupported": (
        "failover: true needs PostgreSQL 17 or later and a primary; this is {server}.",
        "Set failover: false, or upgrade the server.",
    ),
    "slot_missing": (
        (
            "Replication slot {slot} is gone; changes from {from_lsn} up to the server's end at "
            "{to_lsn} may have been missed."
        ),
        RECONCILE,
    ),
    "slot_recreated": (
        (
            "Replication slot {slot} was recreated or moved by somebody else: changes from "
            "{from_lsn} to {to_lsn} have been missed."
        ),
        RECONCILE,
    ),
    "slot_lost": (
        "Replication slot {slot} was invalidated by the server: {reason}.",
        f"{{prevention}}; {RECONCILE}",
    ),
    "slot_foreign": (
        "Replication slot {slot} is not a logical slot of the plugin pgoutput.",
        "Give another name as slot, or drop that slot if nobody needs it.",
    ),
    "slot_other_database": (
        "Replication slot {slot} belongs to database {other}, not to {database}.",
        "Give another name as slot, or correct the dsn.",
    ),
    "slot_changed": (
        "The position is that of replication slot {other}, and the config names {slot}.",
        "Set slot: {other}, or `ensign drop` the pipeline to start over with the new slot.",
    ),
    "system_changed": (
        "The server is another cluster ({system}) than the one the position is of ({other}).",
        (
            "Point the dsn at the old server; or, if this one took its place, with the same "
            f"tables: {RECONCILE}"
        ),
    ),
    "server_went_back": (
        (
            "The server was put back to an earlier state: its log ends at {to_lsn}, and changes up "
            "to {from_lsn} were captured."
        ),
        f"Restore the server up to {{from_lsn}}, or {RECONCILE}",
    ),
    "timeline_changed": (
        (
            "The server is on timeline {timeline}, whose history does not have timeline {other} of "
            "the position {from_lsn}: it is another branch, or was restored from a backup."
        ),
        f"Point the dsn at the primary that took over, or {RECONCILE}",
    ),
    "timeline_abandoned": (
        (
            "Timeline {other} was left at {switch_lsn}, and changes up to {from_lsn} were captured "
            "of it: those between are not in the server on timeline {timeline}."
        ),
        f"{RECONCILE} synchronized_standby_slots on the primary prevents it.",
    ),
    "database_changed": (
        "The position is that of database {other}, and the dsn names {database}.",
        "Correct the dsn, or `ensign drop` the pipeline to start over here.",
    ),
    "wal_kept": (
        "Replication slot {slot} keeps {kept} of WAL on the server ({limit}).",
        (
            "See that the pipeline keeps up: its sinks, its topics' retention, the load on its "
            "machine; and raise max_slot_wal_keep_size as far as the disk can spare it."
        ),
    ),
    "wal_kept_open": (
        (
            "Replication slot {slot} keeps {kept} of WAL on the server ({limit}), most of it for "
            "a transaction that is open or prepared there."
        ),
        (
            "Find it with SELECT pid, xact_start, state FROM pg_stat_activity ORDER BY xact_start, "
            "or in pg_prepared_xacts, and end it."
        ),
    ),
    "slot_endangered": (
        (
            "Replication slot {slot} keeps {kept} of WAL, and the server may remove what it needs "
            "after {left}."
        ),
        "Raise max_slot_wal_keep_size now (ALTER SYSTEM, then SELECT pg_reload_conf()).",
    ),
    "stalled": (
        (
            "For {seconds} s {what} has not moved for slot {slot}, while the server wrote {grown} "
            "of WAL."
        ),
        (
            "Look for a topic that is full, a long transaction that the server decodes "
            "(pg_stat_replication_slots, spill_bytes), or a proxy that holds data back."
        ),
    ),
    "publication_missing": (
        "Publication {publication} was dropped: changes since have been missed.",
        RECONCILE,
    ),
    "publication_recreated": (
        "Publication {publication} was dropped and made again: changes between have been missed.",
        RECONCILE,
    ),
    "table_unpublished": (
        (
            "Table {table} was taken out of publication {publication}, if only for a time: its "
            "changes have been missed."
        ),
        f"Exclude the table in the config, or {RECONCILE}",
    ),
}
