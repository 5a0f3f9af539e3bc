"""Encoders of the binlog's wire, by hand from the documentation: for what no server at hand writes,
and for packets that no server sends.

Sources, unless a function names another: MySQL Source Code Documentation, "MySQL Packets",
"Replication Protocol" and "Binlog Event"; MySQL Internals Manual, chapter "The Binary Log", which
describes what older servers wrote.
"""

from __future__ import annotations

import struct
import zlib

PACKET_MAX = 0xFFFFFF
ERR = b"\xff\xd4\x04#HY000a text of the server"
EOF = b"\xfe\x00\x00\x02\x00"


def packed(number: int) -> bytes:
    """A length-encoded integer ("Integer Types")."""
    if number < 251:
        return bytes([number])
    if number < 1 << 16:
        return b"\xfc" + struct.pack("<H", number)
    if number < 1 << 24:
        return b"\xfd" + struct.pack("<I", number)[:3]
    return b"\xfe" + struct.pack("<Q", number)


def packed_text(text: bytes) -> bytes:
    return packed(len(text)) + text


def packets(payload: bytes, sequence: int) -> bytes:
    """A payload as one packet or several, from a sequence number on."""
    found = b""
    while True:
        part, payload = payload[:PACKET_MAX], payload[PACKET_MAX:]
        found += struct.pack("<I", len(part))[:3] + bytes([sequence % 256]) + part
        sequence += 1
        if len(part) < PACKET_MAX:
            return found


def stream(*payloads: bytes) -> bytes:
    """What a server sends for a dump: payloads, numbered from 1 on."""
    found, sequence = [], 1
    for payload in payloads:
        found.append(packets(payload, sequence))
        sequence += len(payload) // PACKET_MAX + 1
    return b"".join(found)


def event(
    kind: int, body: bytes, *, checksum: bool = False, end_pos: int = 0, flags: int = 0
) -> bytes:
    """An event of server 1, header included."""
    size = 19 + len(body) + 4 * checksum
    head = struct.pack("<IBIIIH", 1_700_000_000, kind, 1, size, end_pos, flags)
    data = head + body
    return data + struct.pack("<I", zlib.crc32(data)) * checksum


def description(version: bytes, lengths: bytes, algorithm: int | None) -> bytes:
    """A FORMAT_DESCRIPTION, with its own checksum if the version describes checksums."""
    body = struct.pack("<H50sIB", 4, version, 0, 19) + lengths
    if algorithm is not None:
        body += bytes([algorithm])
    return event(15, body, checksum=algorithm is not None)


LENGTHS_8_0 = bytes(
    [0, 13, 0, 8, 0, 0, 0, 0, 4, 0, 4, 0, 0, 0, 98, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10,
     10, 10, 42, 42, 0, 18, 52, 0, 10, 40, 0]
)  # fmt: skip
"""Post-header lengths of MySQL 8.0.26 and later, for types 1 to 41."""

LENGTHS_5_5 = bytes(
    [56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 84, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0]
)
"""Those of MySQL 5.5, types 1 to 27; its types 20 to 22 were those of rows before 5.1.17."""


def gtid_5_6(sid: bytes, number: int) -> bytes:
    """GTID_LOG as MySQL 5.6 wrote it: flags, UUID and number (Internals Manual, "GTID_EVENT")."""
    return struct.pack("<B16sq", 1, sid, number)


def gtid_5_7(sid: bytes, number: int) -> bytes:
    """As MySQL 5.7: and a logical clock, type 2, of two numbers."""
    return gtid_5_6(sid, number) + struct.pack("<Bqq", 2, 10, 11)


def gtid_8_0(sid: bytes, number: int, logged_us: int, committed_us: int | None = None) -> bytes:
    """As MySQL 8.0: and the time of the commit at this server, with bit 55 set if that at the
    original one follows, the transaction's length, and the server's version, with bit 31 set if the
    original's follows ("Gtid_event")."""
    times = logged_us.to_bytes(7, "little")
    versions = struct.pack("<I", 80_036)
    if committed_us is not None:
        times = (logged_us | 1 << 55).to_bytes(7, "little") + committed_us.to_bytes(7, "little")
        versions = struct.pack("<II", 80_036 | 1 << 31, 80_011)
    return gtid_5_7(sid, number) + times + packed(300) + versions


def varlen(number: int) -> bytes:
    """An integer of the serialization library (libs/mysql/serialization, "Variable-length
    integers"): as many low bits 1 as bytes follow."""
    for more in range(8):
        if number < 1 << (7 * (more + 1)):
            return (number << more + 1 | (1 << more) - 1).to_bytes(more + 1, "little")
    return b"\xff" + number.to_bytes(8, "little")


def varlen_signed(number: int) -> bytes:
    return varlen(number << 1 if number >= 0 else ~number << 1 | 1)


def gtid_tagged(
    sid: bytes, tag: str, number: int, logged_us: int, committed_us: int | None = None
) -> bytes:
    """GTID_TAGGED_LOG: fields behind their numbers, in their order ("Gtid_event", 8.3 and later).
    Flags, which are 0, stand there nevertheless."""
    fields = [
        varlen(0) + b"\0",
        varlen(1) + b"".join(varlen(byte) for byte in sid),
        varlen(2) + varlen_signed(number),
        varlen(3) + varlen(len(tag)) + tag.encode(),
        varlen(4) + varlen_signed(10),
        varlen(5) + varlen_signed(11),
        varlen(6) + varlen(logged_us),
    ]
    if committed_us is not None:
        fields.append(varlen(7) + varlen(committed_us))
    fields += [varlen(8) + varlen(300), varlen(9) + varlen(90_300)]
    text = b"".join(fields)
    # The size counts what stands before the fields too: it is written until it fits.
    size = 0
    while True:
        message = varlen(1) + varlen(size) + varlen(0) + text
        if len(message) == size:
            return message
        size = len(message)


def rows_v1(table_id: int, *, id_bytes: int = 6, columns: int = 1) -> bytes:
    """WRITE_ROWS_V1 as MySQL 5.1 to 5.5 and MariaDB write it: no further data. A table id had four
    bytes before 5.1.4 ("ROWS_EVENT")."""
    return table_id.to_bytes(id_bytes, "little") + b"\1\0" + packed(columns) + b"\xff"


def rows_v2(table_id: int, further: bytes) -> bytes:
    """WRITE_ROWS as MySQL 5.6 and later: further data behind its length, which counts itself."""
    size = struct.pack("<H", 2 + len(further))
    return table_id.to_bytes(6, "little") + b"\1\0" + size + further + packed(1) + b"\xff"


def table_map(
    table_id: int, types: bytes, metas: bytes, nulls: bytes, optional: bytes = b""
) -> bytes:
    """TABLE_MAP of ``d.t``."""
    head = table_id.to_bytes(6, "little") + b"\1\0" + b"\1d\0\1t\0"
    return head + packed_text(types) + packed_text(metas) + nulls + optional


def optional(number: int, value: bytes) -> bytes:
    """A field of optional metadata."""
    return bytes([number]) + packed_text(value)


def query(status: bytes, database: bytes, statement: bytes, error: int = 0) -> bytes:
    head = struct.pack("<IIBHH", 5, 0, len(database), error, len(status))
    return head + status + database + b"\0" + statement


def compressed(data: bytes) -> bytes:
    """MariaDB's compressed part of an event (Knowledge Base, "Compressing Events to Reduce Size of
    the Binary Log")."""
    return b"\x82" + struct.pack(">H", len(data)) + zlib.compress(data)


def payload(compression: int, data: bytes, uncompressed_bytes: int) -> bytes:
    """TRANSACTION_PAYLOAD ("Transaction_payload_event")."""
    fields = b"".join(
        packed(number) + packed_text(packed(value))
        for number, value in ((1, len(data)), (2, compression), (3, uncompressed_bytes))
    )
    return fields + packed(0) + data
