"""Where the server's log ends, and when a snapshot was taken: on a primary, on a standby, and on a
standby that becomes a primary between two statements. SQL, and the queries made of it.

Functions are those of the PostgreSQL documentation, "System Administration Functions".
"""

from __future__ import annotations

from typing import Final

from connectors.postgres.catalog import Server
from connectors.postgres.pgoutput import lsn_value, page_start
from connectors.postgres.session import Session

WRITTEN: Final = (
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"
)
"""How far the log is written, on a standby replayed: what lag is measured against."""

END: Final = (
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
    "ELSE pg_current_wal_insert_lsn() END"
)
"""The end of the log, of what is not flushed yet too."""

FLUSHED: Final = (
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
    "ELSE pg_current_wal_flush_lsn() END"
)
"""The end of what is flushed: the server sends no more, and all that a client was told is committed
is in it. What lies behind it comes when the server's writer gets there, within 15 s."""

AS_OF_END: Final = (
    "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() "
    "WHEN pg_last_wal_receive_lsn() >= pg_last_wal_replay_lsn() THEN pg_last_wal_receive_lsn() "
    "ELSE pg_last_wal_replay_lsn() + 64 END"
)
"""An LSN behind all commits that a snapshot taken before may see. A standby shows a transaction
shortly before it counts its commit record as replayed: hence what was received, or, where the log
comes from an archive, past the start of the record behind (40 bytes of page header at most)."""

_RUNNING: Final = (
    "(SELECT coalesce(string_agg(x::text, ',' ORDER BY x), '') "
    "FROM generate_series({xmin}::text::bigint, {xmax}::text::bigint - 1) x "
    "WHERE pg_xact_status(x::text::xid8) = 'in progress')"
)
_XMIN, _XMAX = "pg_snapshot_xmin(pg_current_snapshot())", "pg_snapshot_xmax(pg_current_snapshot())"
_NOW: Final = _RUNNING.format(xmin=_XMIN, xmax=_XMAX)
_SETTING: Final = "ensign.running"
_PRIMARY: Final = "0:"
"""What is noted where a snapshot can be asked. Like the rest, so that a planner can read it."""

BEFORE_AS_OF: Final = (
    "BEGIN READ ONLY; "  # a transaction of its own, as isolation levels are chosen before queries
    f"SELECT set_config('{_SETTING}', CASE WHEN pg_is_in_recovery() "
    f"THEN {_XMAX}::text || ':' || {_NOW} ELSE '{_PRIMARY}' END, false); COMMIT; "
)
"""Statements to run right before those that take a snapshot, in the same message.

``pg_current_snapshot()`` leaves out on a standby which transactions run: all between its xmin and
its xmax would seem to be seen. So those that run are noted before the snapshot and looked at again
behind it (`AS_OF`): if none of them has ended in between, they are what the snapshot does not see.
"""

_BEFORE: Final = (
    "(SELECT coalesce(string_agg(x::text, ',' ORDER BY x), '') "  # noqa: S608
    "FROM (SELECT x::bigint AS x "
    f"FROM unnest(string_to_array(split_part(current_setting('{_SETTING}'), ':', 2), ',')) x "
    "WHERE x <> '' UNION SELECT generate_series("
    f"split_part(current_setting('{_SETTING}'), ':', 1)::bigint, {_XMAX}::text::bigint - 1)) r "
    f"WHERE x >= {_XMIN}::text::bigint)"
)
_STANDBY_SNAPSHOT: Final = (
    "(SELECT CASE WHEN before = now THEN "  # noqa: S608
    f"{_XMIN}::text || ':' || {_XMAX}::text || ':' || now END "
    f"FROM (SELECT {_BEFORE} AS before, {_NOW} AS now OFFSET 0) running)"
)

AS_OF: Final = (
    f"SELECT CASE WHEN current_setting('{_SETTING}') = '{_PRIMARY}' "
    "THEN pg_current_snapshot()::text "
    f"WHEN pg_is_in_recovery() THEN {_STANDBY_SNAPSHOT} END, {AS_OF_END}"
)
"""In a REPEATABLE READ transaction that follows on `BEFORE_AS_OF`: its snapshot, and an LSN behind
all that it sees. The snapshot is null where it cannot be told, which only happens on a standby, or
while one is promoted: then another must be taken."""


_HIDDEN: Final = (
    "SELECT transactionid FROM pg_locks "
    "WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' "
    "AND current_setting('synchronous_standby_names') <> ''"
)


def hidden(session: Session) -> set[int]:
    """Transactions that a stream may have brought already although no snapshot sees them yet: with
    synchronous replication a commit is sent before its standby has confirmed it, for which it may
    wait as long as there is none. Others that run now are among them."""
    return {int(str(xid)) for (xid,) in session.rows(_HIDDEN, doing="looking at transactions")}


def end_lsn(session: Session, server: Server, *, read_only: bool = False) -> int:
    """The LSN that a stream has to pass to have all that is committed now. At the start of a page
    the server counts the page's header in; a stream never says so, hence it is taken off. A source
    that is ``read_only`` cannot make an idle server flush its log, and waits for what is flushed.
    """
    expression = FLUSHED if read_only else END
    rows = session.rows(f"SELECT {expression}", doing="reading the log's end")
    return page_start(lsn_value(str(rows[0][0])), server.wal_page)


def ended_xmax(session: Session) -> int:
    """A transaction id behind all that have ended."""
    rows = session.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())", doing="asking the time")
    return int(str(rows[0][0]))


_RUNNING_XMAX = """
SELECT now.x + coalesce(max(l.ahead) FILTER (WHERE l.ahead < XIDS / 2) + 1, 0)
FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS x) now
LEFT JOIN LATERAL (
  SELECT (transactionid::text::bigint - now.x % XIDS + XIDS) % XIDS AS ahead FROM pg_locks
  WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'
) l ON true GROUP BY now.x
""".replace("XIDS", str(1 << 32))


def running_xmax(session: Session) -> int:
    """A transaction id behind all that run now, too. What a transaction from this one on writes, it
    writes with the publication as it is now."""
    return int(str(session.rows(_RUNNING_XMAX, doing="asking the time")[0][0]))
