"""Recorded events as mysql-replication's parser reads them, against ours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from pymysql.protocol import MysqlPacket
from pymysqlreplication import event as their  # type: ignore[import-untyped]  # It has no types.
from pymysqlreplication import row_event as their_rows
from pymysqlreplication.exceptions import (  # type: ignore[import-untyped]  # It has no types.
    StatusVariableMismatch,
)
from pymysqlreplication.packet import (  # type: ignore[import-untyped]  # It has no types.
    BinLogPacketWrapper,
)

from connectors.mysql import events as e
from connectors.mysql.rowevents import DELETES, INSERTS, UPDATES
from connectors.mysql.tablemap import TableMap
from connectors.mysql.wire import Type, string_meta
from tests.fixtures.mysql import NAMES, is_mariadb
from tests.fixtures.mysql.reading import Read, recorded

UNREAD: dict[str, str] = {
    "vectors": "the dimensions of vectors are a field that it does not know",
    "special": "MariaDB's compressed columns are types that it does not know",
}
"""Tables that it cannot read."""

ROWS = [their_rows.WriteRowsEvent, their_rows.UpdateRowsEvent, their_rows.DeleteRowsEvent]
KINDS = [
    their.QueryEvent, their.RotateEvent, their.XidEvent, their.GtidEvent, their.XAPrepareEvent,
    their.HeartbeatLogEvent, their.MariadbGtidEvent, their.MariadbGtidListEvent,
    their.MariadbAnnotateRowsEvent, their.MariadbStartEncryptionEvent, their.RowsQueryLogEvent,
    their.FormatDescriptionEvent, their_rows.TableMapEvent, *ROWS,
]  # fmt: skip


class Asked:
    """What its parser asks of a connection."""

    charset = "utf8mb4"

    def __init__(self, mariadb: bool) -> None:
        self.mariadb = mariadb

    def _get_dbms(self) -> str:
        return "mariadb" if self.mariadb else "mysql"


def theirs(event: bytes, asked: Asked, tables: dict[int, Any], lengths: bytes) -> Any:
    """Its event, of one to which a checksum is put again: it counts on it in table maps."""
    data = event[:9] + struct.pack("<I", len(event) + 4) + event[13:]
    data += struct.pack("<I", zlib.crc32(data))
    # By place, names and values: tables and databases wanted and not wanted, and so on.
    limits: list[Any] = [None, None, None, None, False, False, False, True, False]
    return BinLogPacketWrapper(
        MysqlPacket(b"\0" + data, "utf8"), tables, asked, (9, 7, 4), True, KINDS, *limits,
        post_header_lengths=list(lengths),
    ).event  # fmt: skip


def of_query(their_event: Any, ours: Any) -> bool:
    assert their_event.schema.decode() == ours.database
    assert their_event.query == ours.statement.decode("utf-8", "backslashreplace")
    assert getattr(their_event, "sql_mode", ours.sql_mode) == ours.sql_mode
    return bool(their_event.error_code == ours.error)


def of_table_map(their_event: Any, ours: TableMap) -> None:
    assert (their_event.schema, their_event.table) == (ours.database, ours.table)
    assert their_event.table_id == ours.table_id
    metadata = ours.metadata
    optional = their_event.optional_metadata
    assert tuple(optional.column_name_list) == (metadata.names or ())
    key = dict(optional.primary_keys_with_prefix or dict.fromkeys(
        optional.simple_primary_key_list, 0
    ))  # fmt: skip
    assert key == dict(zip(metadata.key or (), metadata.prefixes or (), strict=True))
    assert [g for g in metadata.geometries or () if g >= 0] == optional.geometry_type_list
    kinds = [
        string_meta(meta)[0] if kind == Type.STRING else kind
        for kind, meta in zip(ours.types, ours.metas, strict=True)
    ]
    labelled = [kind in (Type.ENUM, Type.SET) for kind in kinds]
    assert [column.type for column in their_event.columns] == kinds
    collations = metadata.collations or (0,) * len(kinds)
    found = [c for c, is_one in zip(collations, labelled, strict=True) if c and not is_one]
    assert found == (optional.charset_collation_list or [])
    found = [c for c, is_one in zip(collations, labelled, strict=True) if c and is_one]
    assert found == (optional.enum_and_set_collation_list or [])
    for kind, their_labels in (
        (Type.ENUM, optional.set_enum_str_value_list),
        (Type.SET, optional.set_str_value_list),
    ):
        labels = [x for k, x in zip(kinds, metadata.labels or (), strict=False) if k == kind]
        for ours_, their_ in zip(labels, their_labels, strict=True):
            # It reads labels as UTF-8, whatever their charset, and has '' for what is none.
            assert [x.decode("utf-8", "ignore") if _is_utf8(x) else "" for x in ours_] == their_
    if metadata.unsigned is not None and Type.YEAR not in kinds:
        # It does not count YEAR among the numbers, so that what follows one is wrong.
        assert list(metadata.unsigned) == optional.unsigned_column_list


def _is_utf8(label: bytes) -> bool:
    try:
        return bool(label.decode())
    except UnicodeDecodeError:
        return False


COMPARED: dict[int, Callable[[Any, Any], object]] = {
    e.QUERY: of_query,
    e.ROTATE: lambda t, o: (t.next_binlog, t.position) == o,
    e.FORMAT_DESCRIPTION: lambda t, o: t.mysql_version_str == o.server_version,
    e.XID: lambda t, o: t.xid == o,
    e.HEARTBEAT: lambda t, o: t.ident == o.file,
    e.GTID: lambda t, o: t.gtid == f"{o.sid}:{o.number}",
    e.XA_PREPARE: lambda t, o: (
        (t.xid_gtrid, t.xid_bqual, t.xid_format_id, t.one_phase) == (*o.xa, o.one_phase)
    ),
    e.MARIADB_GTID: lambda t, o: t.gtid == f"{o.domain}-{o.server_id}-{o.sequence}",
    e.MARIADB_GTID_LIST: lambda t, o: (
        sorted(i.gtid for i in t.gtid_list) == list(filter(None, str(o).split(",")))
    ),
    e.ANNOTATE_ROWS: lambda t, o: t.sql_statement == o,
    e.START_ENCRYPTION: lambda t, o: (t.schema, t.key_version, t.nonce) == o,
    e.TABLE_MAP: of_table_map,
}


def compare(event: Read, asked: Asked, tables: dict[int, Any], lengths: bytes) -> bool:
    if isinstance(event.value, TableMap) and event.value.table in UNREAD:
        return False
    flags = e.header(event.event).flags
    if event.type == e.MARIADB_GTID_LIST and flags & e.ARTIFICIAL:
        # It takes the flags for a part of the count.
        return False
    if event.type in COMPARED:
        try:
            found = theirs(event.event, asked, tables, lengths)
        except StatusVariableMismatch:
            # Codes of MariaDB 10.8 and later that it does not know.
            return False
        assert COMPARED[event.type](found, event.value) in (None, True)
        return True
    if event.type in INSERTS | UPDATES | DELETES and event.type != e.PARTIAL_UPDATE_ROWS:
        found = theirs(event.event, asked, tables, lengths)
        if found is not None:
            # Its rows are another test's; here, that both begin them at the same table.
            assert found.table_id == getattr(event.value, "table_id", None)
        return found is not None
    return False


@pytest.mark.parametrize("name", NAMES)
def test_both_read_the_same(name: str) -> None:
    asked = Asked(is_mariadb(name))
    tables: dict[int, Any] = {}
    compared = 0
    for event, description in recorded(name):
        compared += compare(event, asked, tables, description.post_header_lengths)
    assert compared >= 4
