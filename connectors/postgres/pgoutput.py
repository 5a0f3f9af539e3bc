"""The streaming replication protocol and pgoutput, version 1: bytes in, structures out; no I/O.

Formats: PostgreSQL documentation, chapters "Streaming Replication Protocol" and "Logical
Replication Message Formats". A CopyData message of the server is

    XLogData  := "w" int64 start, int64 end, int64 clock, message
    Keepalive := "k" int64 end, int64 clock, byte reply requested

so the tag of a pgoutput message is byte 25, a row message's relation oid is bytes 26 to 29, and its
images begin at byte 30: they are the body of an event (`ensign_core.change`) as they stand. The
functions take the whole CopyData message. What is cut short or of an unknown form raises
``postgres.protocol_damaged``.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from connectors.postgres.errors import error
from ensign_core.change import image_end

TAG_AT: Final = 25
ROUTE_END: Final = 30
"""Bytes 25 to 29, tag and relation oid, say all that the hot path asks of a row message."""

KEEPALIVE: Final = b"k"[0]
BEGIN, COMMIT, RELATION, TYPE, ORIGIN, MESSAGE = b"BCRYOM"
INSERT, UPDATE, DELETE, TRUNCATE = b"IUDT"

EPOCH_US: Final = 946_684_800_000_000
"""µs from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts."""

PAGE_HEADERS: Final = (24, 40)
"""Sizes of a WAL page's header, short and long (``src/include/access/xlog_internal.h``)."""

_begin = struct.Struct(">QqI")
_commit = struct.Struct(">BQQq")
_keepalive = struct.Struct(">QqB")
_status = struct.Struct(">cQQQqB")
_identity = struct.Struct(">BH")
_int32 = struct.Struct(">I")
_column = struct.Struct(">Ii")
_message = struct.Struct(">BQ")


class Begin(NamedTuple):
    """``final_lsn`` is where the commit record begins; ``committed_at`` in µs since 1970."""

    final_lsn: int
    committed_at: int
    xid: int


class Commit(NamedTuple):
    """``end_lsn`` is where the commit record ends: everything before it has been received."""

    final_lsn: int
    end_lsn: int


class Keepalive(NamedTuple):
    """``end_lsn``: all transactions whose commit ends at or before it have been sent."""

    end_lsn: int
    reply: bool


class Message(NamedTuple):
    """A logical message. ``lsn`` is where its record ends: where the next one may begin."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


class RelationColumn(NamedTuple):
    """``key`` is the flag of the replica identity's columns (of all with FULL)."""

    key: bool
    name: str
    type_oid: int
    typmod: int


class Relation(NamedTuple):
    """``identity`` is pg_class.relreplident: d(efault), n(othing), f(ull), i(ndex)."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL prints it, such as ``0/16B3748``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_value(text: str) -> int:
    """The reverse of `lsn_text`."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def page_start(lsn: int, wal_page: int) -> int:
    """``lsn``, or the start of its page when it points just behind the page's header."""
    return lsn - lsn % wal_page if lsn % wal_page in PAGE_HEADERS else lsn


def parse_begin(data: bytes) -> Begin:
    try:
        final_lsn, committed_at, xid = _begin.unpack_from(data, 26)
    except struct.error:
        raise error("protocol_damaged") from None
    return Begin(final_lsn, committed_at + EPOCH_US, xid)


def parse_commit(data: bytes) -> Commit:
    try:
        _flags, final_lsn, end_lsn, _committed_at = _commit.unpack_from(data, 26)
    except struct.error:
        raise error("protocol_damaged") from None
    return Commit(final_lsn, end_lsn)


def parse_keepalive(data: bytes, wal_page: int) -> Keepalive:
    """``wal_page`` is the size of a WAL page: a server that has sent all may name the place behind
    the header of a page that has no record yet, which is the page's start."""
    try:
        end_lsn, _clock, reply = _keepalive.unpack_from(data, 1)
    except struct.error:
        raise error("protocol_damaged") from None
    return Keepalive(page_start(end_lsn, wal_page), bool(reply))


def parse_relation(data: bytes) -> Relation:
    try:
        (oid,) = _int32.unpack_from(data, 26)
        schema, at = _string(data, 30)
        table, at = _string(data, at)
        identity_byte, count = _identity.unpack_from(data, at)
        at += 3
        columns = []
        for _ in range(count):
            flags = data[at]
            name, at = _string(data, at + 1)
            type_oid, typmod = _column.unpack_from(data, at)
            at += 8
            columns.append(RelationColumn(bool(flags & 1), name, type_oid, typmod))
    except (struct.error, IndexError, ValueError):
        raise error("protocol_damaged") from None
    return Relation(oid, schema or "pg_catalog", table, chr(identity_byte), tuple(columns))


def parse_type(data: bytes) -> tuple[int, str]:
    """The oid and the qualified name of a user-defined type."""
    try:
        (oid,) = _int32.unpack_from(data, 26)
        schema, at = _string(data, 30)
        name, _ = _string(data, at)
    except (struct.error, ValueError):
        raise error("protocol_damaged") from None
    return oid, f"{schema}.{name}" if schema else name


def parse_message(data: bytes) -> Message:
    try:
        flags, lsn = _message.unpack_from(data, 26)
        prefix, at = _string(data, 35)
        (length,) = _int32.unpack_from(data, at)
    except (struct.error, ValueError):
        raise error("protocol_damaged") from None
    content = data[at + 4 :]
    if len(content) != length:
        raise error("protocol_damaged")
    return Message(bool(flags & 1), lsn, prefix, content)


def parse_truncate(data: bytes) -> tuple[int, ...]:
    """The oids of the truncated relations, in the message's order."""
    try:
        (count,) = _int32.unpack_from(data, 26)
        return struct.unpack_from(f">{count}I", data, 31)
    except struct.error:
        raise error("protocol_damaged") from None


def relation_oid(data: bytes) -> int:
    """The relation of a row message."""
    try:
        oid: int = _int32.unpack_from(data, 26)[0]
    except struct.error:
        raise error("protocol_damaged") from None
    return oid


def split_images(body: bytes) -> tuple[bytes, bytes]:
    """The old and the new image of a row message's body, each with its marker, empty where there
    is none."""
    if not body:
        raise error("protocol_damaged")
    if body[0] == b"N"[0]:
        return b"", body
    try:
        middle = image_end(body, 1)
    except (struct.error, IndexError):
        raise error("protocol_damaged") from None
    if middle > len(body):
        raise error("protocol_damaged")
    return body[:middle], body[middle:]


def status_update(lsn: int, now_us: int, *, reply: bool = False) -> bytes:
    """A standby status update: everything before ``lsn`` is durable here (0 claims nothing).
    ``now_us`` is since 1970; ``reply`` asks the server for a keepalive."""
    return _status.pack(b"r", lsn, lsn, lsn, now_us - EPOCH_US, reply)


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode("utf-8", "surrogateescape"), end + 1
