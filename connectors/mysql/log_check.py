"""What `ensign check` says of the binary log's settings: what is in it, how long it is kept, and
whether a place in it can be found again. Only looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from connectors.mysql.config import MysqlConfig
from connectors.mysql.findings import found, passed, warned
from connectors.mysql.retention import DAY_S, RETENTION_NAMES, Variables, retention_s, variables
from connectors.mysql.routes import RECENT_S
from connectors.mysql.session import Server, Session
from ensign_core.plugin import Finding

_NAMES: Final = (
    *RETENTION_NAMES, "binlog_space_limit", "binlog_row_metadata", "binlog_checksum",
    "gtid_strict_mode", "log_replica_updates", "log_slave_updates", "wsrep_on", "gtid_slave_pos",
    "rpl_semi_sync_source_enabled", "rpl_semi_sync_source_wait_point",
    "rpl_semi_sync_master_enabled", "rpl_semi_sync_master_wait_point",
)  # fmt: skip

HOURS_MIN: Final = 24
"""Less retention than this is warned of: one bad night takes more."""

DENIED: Final = 1227


def findings(session: Session, config: MysqlConfig, known: Server) -> Iterator[Finding]:
    """All there is to say of the log's settings."""
    if not known.log_bin:
        yield found("log_disabled")
        return
    settings = variables(session, _NAMES)
    if known.log_format == "ROW":
        yield passed("log", "The binary log has rows (binlog_format ROW).")
    else:
        yield found("log_format", format=known.log_format)
    yield from _rows(known, settings)
    yield from _gtids(config, known, settings)
    yield from _semi_sync(config, known, settings)
    yield from _retention(settings)
    yield from _replica(session, known, settings)


def _rows(known: Server, settings: Variables) -> Iterator[Finding]:
    """What rows in the log lack."""
    statement = "SET GLOBAL binlog_row_image = 'FULL'"
    if known.row_image == "MINIMAL":
        yield warned("row_image_minimal", statement=statement)
    elif known.row_image == "NOBLOB":
        yield warned("row_image_noblob", statement=statement)
    if known.partial_json and known.row_image == "MINIMAL":
        yield found("partial_json", statement="SET GLOBAL binlog_row_value_options = ''")
    if "binlog_row_metadata" not in settings:
        yield warned("row_metadata_unknown", title=known.title)
    elif known.row_metadata != "FULL":
        statement = "SET GLOBAL binlog_row_metadata = 'FULL'"
        yield warned("row_metadata", metadata=known.row_metadata, statement=statement)
    if settings.get("binlog_checksum", "").upper() == "NONE":
        yield warned("checksum", statement="SET GLOBAL binlog_checksum = 'CRC32'")


def _gtids(config: MysqlConfig, known: Server, settings: Variables) -> Iterator[Finding]:
    if config.position == "file":
        yield passed("position", "A new pipeline's position is a file and an offset.")
    elif known.mariadb:
        yield passed("position", "A new pipeline's position is one of GTIDs.")
        if settings.get("gtid_strict_mode", "").upper() != "ON":
            yield warned("gtid_not_strict", statement="SET GLOBAL gtid_strict_mode = ON")
    elif known.gtids:
        yield passed("position", "A new pipeline's position is a set of GTIDs.")
    elif config.position == "gtid":
        yield found("gtid_disabled")
    else:
        yield warned("gtid_off")


def _semi_sync(config: MysqlConfig, known: Server, settings: Variables) -> Iterator[Finding]:
    """MariaDB tells exactly what a snapshot sees, and so do GTIDs."""
    if known.mariadb or (known.gtids and config.position != "file"):
        return
    for name in ("source", "master"):
        enabled = settings.get(f"rpl_semi_sync_{name}_enabled", "").upper() == "ON"
        variable = f"rpl_semi_sync_{name}_wait_point"
        if enabled and settings.get(variable, "").upper() == "AFTER_SYNC":
            statement = f"SET GLOBAL {variable} = 'AFTER_COMMIT'"
            yield warned("semi_sync_wait", seconds=f"{RECENT_S:g}", statement=statement)


def _retention(settings: Variables) -> Iterator[Finding]:
    kept_s = retention_s(settings)
    if kept_s is not None and kept_s < HOURS_MIN * 3600:
        in_seconds = "binlog_expire_logs_seconds" in settings
        setting = "binlog_expire_logs_seconds = 604800" if in_seconds else "expire_logs_days = 7"
        yield warned(
            "retention_short", hours=f"{kept_s / 3600:g}", statement=f"SET GLOBAL {setting}"
        )
    elif kept_s is not None:
        yield passed("retention", f"The binary log is kept for {kept_s / DAY_S:g} days.")
    else:
        yield passed("retention", "The binary log is kept for ever.")
    size = int(settings.get("binlog_space_limit", "0"))
    if size:
        yield warned("retention_bytes", variable="binlog_space_limit", bytes=size)


def _replica(session: Session, known: Server, settings: Variables) -> Iterator[Finding]:
    """What a replica does not log of itself is nowhere in its log, and so it is in a cluster of
    Galera with what the other nodes write."""
    names = ("log_replica_updates", "log_slave_updates")
    variable = next((name for name in names if name in settings), names[1])
    if settings.get(variable, "").upper() == "ON":
        return
    if settings.get("wsrep_on", "").upper() == "ON" or _is_replica(session, known, settings):
        yield found("replica_unlogged", variable=variable)


def _is_replica(session: Session, known: Server, settings: Variables) -> bool:
    statement = "SHOW ALL SLAVES STATUS" if known.mariadb else "SHOW SLAVE STATUS"
    if not known.mariadb and known.version >= (8, 0, 22):
        statement = "SHOW REPLICA STATUS"
    rows = session.query(statement, tolerate=(DENIED,), doing="looking for a source")
    if isinstance(rows, list):
        return bool(rows)
    # MariaDB asks for a privilege of its own; what was replicated by a GTID is told to everybody.
    return bool(settings.get("gtid_slave_pos"))
