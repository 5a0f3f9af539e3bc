"""The events of a binlog, apart from those with files of their own: bytes in, values out; no I/O.

An event is what `framing.Framer` gives: a header of 19 bytes and a body, without checksum. Its type
is byte 4, which is all that the hot path asks of a header. Beside it are `statements` (QUERY),
`gtid_events`, `tablemap`, `rowevents` (all that hold rows) and `payload` (compressed transactions).

Formats: MySQL Source Code Documentation, "Binlog Event" and libs/mysql/binlog/event; MariaDB
Knowledge Base, "Replication Protocol". All functions raise `DamagedError` for what is cut or wrong.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

from connectors.mysql.bounds import packed, parses, part
from connectors.mysql.damage import DamagedError

HEADER_SIZE: Final = 19
TYPE_AT: Final = 4

QUERY: Final = 2
STOP: Final = 3
ROTATE: Final = 4
FORMAT_DESCRIPTION: Final = 15
XID: Final = 16
EXECUTE_LOAD_QUERY: Final = 18
TABLE_MAP: Final = 19
INCIDENT: Final = 26
HEARTBEAT: Final = 27
IGNORABLE: Final = 28
ROWS_QUERY: Final = 29
GTID: Final = 33
ANONYMOUS_GTID: Final = 34
PREVIOUS_GTIDS: Final = 35
XA_PREPARE: Final = 38
PARTIAL_UPDATE_ROWS: Final = 39
TRANSACTION_PAYLOAD: Final = 40
HEARTBEAT_V2: Final = 41
GTID_TAGGED: Final = 42
ANNOTATE_ROWS: Final = 160
BINLOG_CHECKPOINT: Final = 161
MARIADB_GTID: Final = 162
MARIADB_GTID_LIST: Final = 163
START_ENCRYPTION: Final = 164
QUERY_COMPRESSED: Final = 165

ARTIFICIAL: Final = 0x20
"""Flag of a header: the event is in no log; the server made it for this stream."""

CAN_BE_IGNORED: Final = 0x80
"""Flag of a header: who does not know the event's type may go on without it."""

CHECKSUM_OFF, CHECKSUM_CRC32 = 0, 1

_header = struct.Struct("<IBIIIH")
_description = struct.Struct("<H50sIB")
_uint64 = struct.Struct("<Q")
_uint32 = struct.Struct("<I")
_uint16 = struct.Struct("<H")
_xa = struct.Struct("<BIII")
_start_encryption = struct.Struct("<BI12s")

_XA = re.compile(
    rb"XA\s+(START|END|PREPARE|COMMIT|ROLLBACK)\s+"
    rb"X'([0-9A-Fa-f]*)'\s*,\s*X'([0-9A-Fa-f]*)'\s*,\s*(\d{1,10})(\s+ONE\s+PHASE)?\s*",
    re.IGNORECASE,
)


class Header(NamedTuple):
    """``timestamp_s`` is when the statement began, 0 in what the server makes for the stream.
    ``end_pos`` is where the next event begins in the log's file, modulo 2^32; 0 where the server
    does not know, as MariaDB from 11.7 on for all but the last event of a transaction. ``size``
    counts the checksum, if the log has them."""

    timestamp_s: int
    type: int
    server_id: int
    size: int
    end_pos: int
    flags: int


@parses("an event's header")
def header(event: bytes) -> Header:
    return Header._make(_header.unpack_from(event))


class FormatDescription(NamedTuple):
    """What begins each file and each stream. ``checksum`` is the algorithm of the events that
    follow (`CHECKSUM_CRC32`, `CHECKSUM_OFF`), None of servers too old to say it. ``started``: the
    server started with this file; it is not told where a dump begins behind the file's start.
    ``post_header_lengths`` has a byte for each type of event from 1 on."""

    binlog_version: int
    server_version: str
    mariadb: bool
    checksum: int | None
    post_header_lengths: bytes
    started: bool

    def post_header_length(self, kind: int) -> int:
        """How many bytes of a fixed form come first in the body of an event of this type."""
        if not 0 < kind <= len(self.post_header_lengths):
            raise DamagedError(f"a type of event that the format description does not list: {kind}")
        return self.post_header_lengths[kind - 1]


def describes_checksums(version: bytes) -> bool:
    """Whether a server of this version says in its format description which checksums it writes
    (and then ends that event with one): MySQL from 5.6.1 on, MariaDB from 5.3."""
    numbers = tuple(int(digits) for digits in re.findall(rb"\d+", version)[:3])
    return numbers >= ((5, 3) if b"MariaDB" in version else (5, 6, 1))


@parses("a format description")
def format_description(event: bytes) -> FormatDescription:
    binlog_version, name, created_s, header_size = _description.unpack_from(event, HEADER_SIZE)
    if binlog_version != 4 or header_size != HEADER_SIZE:
        raise DamagedError(f"a binlog of version {binlog_version}")
    version = name.partition(b"\0")[0]
    lengths, checksum = event[HEADER_SIZE + _description.size :], None
    if describes_checksums(version):
        checksum = lengths[-1] if lengths[-1] != 255 else CHECKSUM_OFF
        lengths = lengths[:-1]
    text = version.decode("ascii")
    return FormatDescription(
        binlog_version, text, "MariaDB" in text, checksum, lengths, bool(created_s)
    )


class FilePlace(NamedTuple):
    """A file of the log and an offset in it."""

    file: str
    offset: int


def _file(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


@parses("a rotation")
def rotate(event: bytes) -> FilePlace:
    """Where the stream goes on. An artificial one (`ARTIFICIAL`) tells where it begins, too."""
    return FilePlace(_file(event[HEADER_SIZE + 8 :]), _uint64.unpack_from(event, HEADER_SIZE)[0])


@parses("a heartbeat")
def heartbeat(event: bytes) -> FilePlace:
    """Up to where the server has read with nothing to send, of HEARTBEAT (whose position is modulo
    2^32) and of HEARTBEAT_V2, which a dump asks for by a flag (`commands.HEARTBEATS_V2`)."""
    if event[TYPE_AT] == HEARTBEAT:
        return FilePlace(_file(event[HEADER_SIZE:]), header(event).end_pos)
    at, file, offset = HEADER_SIZE, "", 0
    while at < len(event):
        field, at = packed(event, at)
        if field == 0:
            break
        size, at = packed(event, at)
        value = part(event, at, size)
        at += size
        if field == 1:
            file = _file(value)
        elif field == 2:
            offset, _ = packed(value, 0)
    return FilePlace(file, offset)


@parses("an XID")
def xid(event: bytes) -> int:
    """The number of a transaction that commits here, as its engine counts them."""
    number: int = _uint64.unpack_from(event, HEADER_SIZE)[0]
    return number


class Xa(NamedTuple):
    """The name of an XA transaction, as XA START has it."""

    gtrid: bytes
    bqual: bytes
    format_id: int


class XaPrepare(NamedTuple):
    """The end of the rows of an XA transaction: prepared, or committed at once (``one_phase``)."""

    xa: Xa
    one_phase: bool


@parses("an XA_PREPARE")
def xa_prepare(event: bytes) -> XaPrepare:
    one_phase, format_id, gtrid_size, bqual_size = _xa.unpack_from(event, HEADER_SIZE)
    at = HEADER_SIZE + _xa.size
    gtrid = part(event, at, gtrid_size)
    return XaPrepare(
        Xa(gtrid, part(event, at + gtrid_size, bqual_size), format_id), bool(one_phase)
    )


class XaStatement(NamedTuple):
    """``verb`` is START, END, PREPARE, COMMIT or ROLLBACK."""

    verb: str
    xa: Xa
    one_phase: bool


def xa_statement(statement: bytes) -> XaStatement | None:
    """What a QUERY event says of an XA transaction, in the one form in which both servers log it
    (``XA COMMIT X'6131',X'',1``); None for any other statement."""
    found = _XA.fullmatch(statement)
    if found is None or len(found[2]) % 2 or len(found[3]) % 2:
        return None
    xa = Xa(bytes.fromhex(found[2].decode()), bytes.fromhex(found[3].decode()), int(found[4]))
    return XaStatement(found[1].decode().upper(), xa, found[5] is not None)


@parses("an incident")
def incident(event: bytes) -> int:
    """The number of what went wrong at the server: 1 is that events were lost. Its text is not
    read, since it may hold anything."""
    number: int = _uint16.unpack_from(event, HEADER_SIZE)[0]
    return number


class StartEncryption(NamedTuple):
    """The rest of the file is encrypted, on disk: what a server sends never is."""

    scheme: int
    key_version: int
    nonce: bytes


@parses("a START_ENCRYPTION")
def start_encryption(event: bytes) -> StartEncryption:
    return StartEncryption._make(_start_encryption.unpack_from(event, HEADER_SIZE))


@parses("a statement beside rows")
def rows_statement(event: bytes) -> bytes:
    """The statement that changed the rows which follow, of ROWS_QUERY (MySQL) and ANNOTATE_ROWS
    (MariaDB). It holds values."""
    if event[TYPE_AT] == ROWS_QUERY:
        # Its length stands in front in one byte, modulo 256: nothing to hold it against.
        return part(event, HEADER_SIZE + 1, len(event) - HEADER_SIZE - 1)
    return event[HEADER_SIZE:]
