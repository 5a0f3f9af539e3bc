"""What a replica sends to have the binlog: the commands' payloads, and the settings before them.

Formats: MySQL Source Code Documentation, "Replication Protocol" (COM_REGISTER_SLAVE,
COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID); MariaDB Knowledge Base, "Replication Protocol". A payload
begins with the command's byte; a packet (`packet`) has its length and sequence number in front.
"""

from __future__ import annotations

import struct
from typing import Final
from uuid import UUID

from connectors.mysql.gtids import GtidPosition, GtidSet

NON_BLOCKING: Final = 1
"""Flag of a dump: at the end of the log the server sends EOF instead of waiting."""

HEARTBEATS_V2: Final = 2
"""Flag of a dump: heartbeats tell the offset in 64 bits; MySQL from 8.0.26 on."""

ANNOTATIONS: Final = 2
"""Flag of a dump: statements are sent beside their rows (ANNOTATE_ROWS); MariaDB."""

START_OF_FILE: Final = 4
"""The offset of a file's first event."""

_PACKET_MAX: Final = 0xFFFFFF
_REGISTER, _DUMP, _DUMP_GTID = 0x15, 0x12, 0x1E

_register = struct.Struct("<HII")
_dump = struct.Struct("<BIHI")
_dump_gtid = struct.Struct("<BHI")


def packet(payload: bytes) -> bytes:
    """The bytes to send for a command's payload, which begin a sequence. Raises ValueError for one
    that would not fit into one packet: a GTID set of about a million gaps."""
    if len(payload) >= _PACKET_MAX:
        raise ValueError("a command of more than 16 MB")
    return len(payload).to_bytes(3, "little") + b"\0" + payload


def register(server_id: int, host: str = "", port: int = 0) -> bytes:
    """COM_REGISTER_SLAVE: ``host`` and ``port`` are what SHOW REPLICAS shows; the server answers
    with OK."""
    name = host.encode()[:255]
    texts = bytes([len(name)]) + name + b"\0\0"
    head = bytes([_REGISTER]) + server_id.to_bytes(4, "little")
    return head + texts + _register.pack(port, 0, 0)


def dump(server_id: int, file: str, offset: int, flags: int = 0) -> bytes:
    """COM_BINLOG_DUMP: from an offset below 2^32 in a file, where an event begins; the command has
    no room for more (a ValueError: whatever is behind that is the file's last event, a rotation).
    In MariaDB ``file`` is empty and ``offset`` `START_OF_FILE` where a GTID position was set before
    (`settings`)."""
    if offset >> 32:
        raise ValueError("an offset of 4 GiB and more")
    return _dump.pack(_DUMP, offset, flags, server_id) + file.encode("utf-8", "surrogateescape")


def dump_gtid(server_id: int, had: GtidSet, flags: int = 0) -> bytes:
    """COM_BINLOG_DUMP_GTID, MySQL's: all transactions that are not in ``had``."""
    encoded = had.encode()
    head = _dump_gtid.pack(_DUMP_GTID, flags, server_id)
    return head + struct.pack("<IQI", 0, START_OF_FILE, len(encoded)) + encoded


def settings(
    mariadb: bool, *, heartbeat_s: float, uuid: UUID, had: GtidPosition | None = None
) -> list[str]:
    """The statements to execute before a dump, in order.

    CRC32 is asked for whatever the server's log has: it says that this side can verify checksums,
    and what comes is told by the format description. An idle server sends a heartbeat each
    ``heartbeat_s``. With ``had``, a MariaDB server goes on behind that GTID position, and refuses
    one that its log does not have or that is ahead of it. Variables have their old and their new
    names, of which each server reads one."""
    period_ns = round(heartbeat_s * 1_000_000_000)
    statements = [
        "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'",
        f"SET @source_heartbeat_period = {period_ns}, @master_heartbeat_period = {period_ns}",
    ]
    if not mariadb:
        return [*statements, f"SET @replica_uuid = '{uuid}', @slave_uuid = '{uuid}'"]
    statements.append("SET @mariadb_slave_capability = 4")
    if had is not None:
        statements += [
            f"SET @slave_connect_state = '{had}'",
            "SET @slave_gtid_strict_mode = 1",
            "SET @slave_gtid_ignore_duplicates = 0",
        ]
    return statements
