"""The events that begin a transaction, and those that tell what came before a file.

Formats: MySQL Source Code Documentation, "Gtid_event" and "Serialization library" (libs/mysql/
serialization: GTID_TAGGED_LOG); MariaDB Knowledge Base, "GTID_EVENT" and "GTID_LIST_EVENT", and
MariaDB's ``sql/log_event.h`` for the flags.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from connectors.mysql.bounds import parses, part
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import GTID_TAGGED, HEADER_SIZE, TYPE_AT, Xa
from connectors.mysql.gtids import GtidPosition, GtidSet, uuid_text

STANDALONE: Final = 1
"""Flags of MariaDB's GTID: no BEGIN, and no COMMIT ends it: one statement is all of it."""
GROUP_COMMIT: Final = 2
TRANSACTIONAL: Final = 4
DDL: Final = 32
PREPARED_XA: Final = 64
COMPLETED_XA: Final = 128

START_ALTER, COMMIT_ALTER, ROLLBACK_ALTER = 2, 4, 8
"""Further flags of MariaDB's GTID, `MariadbGtid.more`: parts of an ALTER TABLE in two."""

_ORIGINAL: Final = 1 << 55
"""Set in a commit time where the one of the original server follows."""

_SID, _NUMBER, _TAG, _LOGGED_AT, _COMMITTED_AT = 1, 2, 3, 6, 7
_SKIPPED: Final = (0, 4, 5)
"""Fields of GTID_TAGGED_LOG; skipped are flags, and two numbers for parallel replication."""

_gtid = struct.Struct("<B16sq")
_mariadb = struct.Struct("<QIB")
_xid = struct.Struct("<IBB")
_uint32 = struct.Struct("<I")
_listed = struct.Struct("<IIQ")

_known_uuid = lru_cache(1024)(uuid_text)


class Gtid(NamedTuple):
    """What begins a transaction in MySQL: the server's UUID, the tag (mostly empty) and the number.
    An anonymous transaction has the number 0. ``committed_at_us`` (µs since 1970) is when it was
    committed where it was first, ``logged_at_us`` when at the server that is read; both None from
    servers before 8.0.1."""

    sid: str
    tag: str
    number: int
    committed_at_us: int | None = None
    logged_at_us: int | None = None


@parses("a GTID")
def gtid(event: bytes) -> Gtid:
    """Of GTID, ANONYMOUS_GTID and GTID_TAGGED."""
    if event[TYPE_AT] == GTID_TAGGED:
        return _tagged(event)
    _, sid, number = _gtid.unpack_from(event, HEADER_SIZE)
    # One byte that is 2 and two numbers for parallel replication come before the times; servers of
    # 5.6 write neither, those of 5.7 no times.
    at = HEADER_SIZE + _gtid.size + 17
    if len(event) < at + 7:
        return Gtid(_known_uuid(sid), "", number)
    times = int.from_bytes(event[at : at + 14], "little")
    logged = committed = times & ((1 << 56) - 1)
    if logged & _ORIGINAL:
        logged ^= _ORIGINAL
        committed = int.from_bytes(part(event, at + 7, 7), "little")
    return Gtid(_known_uuid(sid), "", number, committed, logged)


class _Fields:
    """The integers and strings of a message of MySQL's serialization library, one by one.

    The number of 1 bits at the low end of an integer's first byte says how many bytes follow; the
    value is little-endian above them and a 0 bit. A signed one has its sign in the lowest bit of
    the value."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def unsigned(self) -> int:
        first = self.data[self.at]
        more = (~first & (first + 1)).bit_length() - 1
        data = part(self.data, self.at, 1 + more)
        self.at += 1 + more
        return int.from_bytes(data, "little") >> min(more + 1, 8)

    def signed(self) -> int:
        value = self.unsigned()
        return ~(value >> 1) if value & 1 else value >> 1

    def text(self) -> str:
        size = self.unsigned()
        self.at += size
        return part(self.data, self.at - size, size).decode("ascii")


def _tagged(event: bytes) -> Gtid:
    """Fields come in the order of their numbers, each behind its number; a field that is absent has
    its default, and the times are all that is read behind the number."""
    fields = _Fields(event, HEADER_SIZE)
    version, size = fields.unsigned(), fields.unsigned()
    if version != 1 or size > len(event) - HEADER_SIZE:
        raise DamagedError("a GTID with a tag of an unknown form")
    end = HEADER_SIZE + size
    fields.unsigned()
    sid, tag, number, logged, committed = b"", "", 0, None, None
    while fields.at < end:
        field = fields.unsigned()
        if field == _SID:
            sid = bytes(fields.unsigned() for _ in range(16))
        elif field == _TAG:
            tag = fields.text()
        elif field == _NUMBER:
            number = fields.signed()
        elif field in _SKIPPED:
            fields.unsigned()
        elif field == _LOGGED_AT:
            logged = fields.unsigned()
        elif field == _COMMITTED_AT:
            committed = fields.unsigned()
        else:
            break
    if not sid or number <= 0:
        raise DamagedError("a GTID with a tag that lacks its number")
    return Gtid(_known_uuid(sid), tag, number, logged if committed is None else committed, logged)


@parses("a PREVIOUS_GTIDS")
def previous_gtids(event: bytes) -> GtidSet:
    """All that was committed before this file began."""
    return GtidSet.decode(event[HEADER_SIZE:])


class MariadbGtid(NamedTuple):
    """What begins a transaction in MariaDB: ``flags`` are those above, ``more`` the second byte of
    them. ``xa`` names the XA transaction that is prepared (`PREPARED_XA`) or ended
    (`COMPLETED_XA`)."""

    domain: int
    server_id: int
    sequence: int
    flags: int
    more: int
    xa: Xa | None = None


@parses("a GTID")
def mariadb_gtid(event: bytes) -> MariadbGtid:
    server_id: int = _uint32.unpack_from(event, 5)[0]
    sequence, domain, flags = _mariadb.unpack_from(event, HEADER_SIZE)
    at = HEADER_SIZE + _mariadb.size
    if flags & GROUP_COMMIT:
        at += 8
    xa = None
    if flags & (PREPARED_XA | COMPLETED_XA):
        format_id, gtrid_size, bqual_size = _xid.unpack_from(event, at)
        at += _xid.size
        gtrid = part(event, at, gtrid_size)
        xa = Xa(gtrid, part(event, at + gtrid_size, bqual_size), format_id)
        at += gtrid_size + bqual_size
    # Older servers end here, or with zeros that fill the event up.
    more = event[at] if at < len(event) else 0
    return MariadbGtid(domain, server_id, sequence, flags, more, xa)


@parses("a GTID_LIST")
def mariadb_gtid_list(event: bytes) -> GtidPosition:
    """The last transaction of each domain before this place in the log; of a domain with several
    servers, the one with the last sequence number. An artificial one, in a dump behind a GTID
    position, may lack domains: it tells nothing of what the stream has had."""
    (count,) = _uint32.unpack_from(event, HEADER_SIZE)
    position = GtidPosition()
    listed = part(event, HEADER_SIZE + 4, (count & 0x0FFFFFFF) * _listed.size)
    for domain, server_id, sequence in _listed.iter_unpack(listed):
        if sequence >= position.sequence(domain):
            position.advance(domain, server_id, sequence)
    return position
