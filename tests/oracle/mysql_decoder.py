"""mysql-replication's decoder of rows events, fed with bytes that came from no server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from pymysqlreplication.column import Column  # type: ignore[import-untyped]  # It has no types.
from pymysqlreplication.constants import (  # type: ignore[import-untyped]  # It has no types.
    BINLOG,
)
from pymysqlreplication.packet import (  # type: ignore[import-untyped]  # It has no types.
    BinLogPacketWrapper,
)
from pymysqlreplication.row_event import (  # type: ignore[import-untyped]  # It has no types.
    DeleteRowsEvent,
    PartialUpdateRowsEvent,
    RowsEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from connectors.mysql import rowimage
from connectors.mysql.wire import Type, WireColumn, string_meta
from tests.property.mysql_images import Images

EVENTS: Final[dict[int, tuple[type[RowsEvent], int]]] = {
    rowimage.WRITE: (WriteRowsEvent, BINLOG.WRITE_ROWS_EVENT_V2),
    rowimage.UPDATE: (UpdateRowsEvent, BINLOG.UPDATE_ROWS_EVENT_V2),
    rowimage.DELETE: (DeleteRowsEvent, BINLOG.DELETE_ROWS_EVENT_V2),
    rowimage.PARTIAL_UPDATE: (PartialUpdateRowsEvent, BINLOG.PARTIAL_UPDATE_ROWS_EVENT),
}


class Packet:
    """What `BinLogPacketWrapper` reads from: PyMySQL's packet, in the driver."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, size: int) -> bytes:
        start = self.at
        self.at += size
        return self.data[start : self.at]


def column(of: WireColumn) -> Column:
    """The oracle's description of a column."""
    code, meta = of.type, of.meta
    labels = {}
    if code == Type.STRING:
        code, meta = string_meta(meta)
        if code == Type.ENUM:
            labels = {"enum_values": ["", *of.labels]}
        elif code == Type.SET:
            labels = {"set_values": list(of.labels)}
    width = 8 * (meta >> 8) + (meta & 0xFF)
    return Column(
        type=int(code), name=of.name, unsigned=of.unsigned, is_primary=False, max_length=meta,
        # Charsets that pymysql does not know it gives back as bytes.
        character_set_name=of.charset or "binary", size=meta, fsp=meta, length_size=meta,
        precision=meta & 0xFF, decimals=meta >> 8, bits=width, bytes=(width + 7) // 8,
        **{"enum_values": None, "set_values": None} | labels,
    )  # fmt: skip


def decoder(images: Images) -> RowsEvent:
    """An event as the driver makes it, standing before its first row."""
    made, code = EVENTS[images.kind]
    wrapper = object.__new__(BinLogPacketWrapper)
    packet = Packet(images.event)
    wrapper.__dict__.update(
        read_bytes=0, packet=packet, charset="utf8mb4", _BinLogPacketWrapper__data_buffer=b""
    )
    columns = [column(of) for of in images.columns]
    event = object.__new__(made)
    event.__dict__.update(
        packet=wrapper, table_id=0, table_map={0: SimpleNamespace(columns=columns)},
        columns=columns, event_type=code, schema="d", table="t", _ignore_decode_errors=False,
        _RowsEvent__none_sources={}, number_of_columns=wrapper.read_length_coded_binary(),
    )  # fmt: skip
    size = (len(columns) + 7) // 8
    event.columns_present_bitmap = wrapper.read(size)
    if len(images.there) > 1:
        event.columns_present_bitmap2 = wrapper.read(size)
    return event


def row(event: RowsEvent) -> tuple[dict[str, Any], ...]:
    """The values of the next row's images by the columns' names."""
    found = event._fetch_one_row()
    if "values" in found:
        return (found["values"],)
    return found["before_values"], found["after_values"]
