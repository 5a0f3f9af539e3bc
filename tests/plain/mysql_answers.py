"""Answers of a server to a query, in the text protocol: what a snapshot's reader is fed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from random import Random

from connectors.mysql.wire import Type, WireColumn
from tests.plain.mysql_values import INTEGERS, inflated, real_type, stored_value

EOF = b"\xfe\x00\x00\x02\x00"
OK = b"\xfe\x00\x00\x02\x00\x00\x00"
DEFINITION = b"\x03def" + bytes(20)
PAYLOAD_MAX = 0xFFFFFF


def shown(rng: Random, column: WireColumn, data: bytes) -> bytes:
    """What a server shows of a value that a row image has as ``data``, with
    character_set_results = NULL; numbers sometimes as ZEROFILL shows them."""
    code, _ = real_type(column)
    if code == Type.FLOAT:
        return repr(struct.unpack("<f", data)[0]).encode()
    if code == Type.DOUBLE:
        return repr(struct.unpack("<d", data)[0]).encode()
    if code in (Type.BIT, Type.VECTOR, Type.GEOMETRY) or column.special == "vector":
        return data
    if code in (Type.VARCHAR_COMPRESSED, Type.BLOB_COMPRESSED):
        return inflated(data)
    value = stored_value(column, data)
    if isinstance(value, bytes):
        return value
    if column.charset and not column.labels:
        # The bytes that the table has.
        return data
    assert isinstance(value, str)
    if code == Type.YEAR:
        return value.rjust(4, "0").encode()
    if (code in INTEGERS or code == Type.NEWDECIMAL) and value[0] != "-" and rng.random() < 0.3:
        return b"00" + value.encode()
    return value.encode("utf-8", "surrogateescape")


def length_encoded(number: int) -> bytes:
    if number < 251:
        return bytes((number,))
    for first, size in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if number < 256**size:
            return bytes((first,)) + number.to_bytes(size, "little")
    raise ValueError


def text_row(values: Sequence[bytes | None]) -> bytes:
    return b"".join(
        b"\xfb" if value is None else length_encoded(len(value)) + value for value in values
    )


def packets(payloads: Iterable[bytes], sequence: int = 1) -> bytes:
    """Payloads as they are sent; those of 16 MiB and more in parts."""
    sent = []
    for payload in payloads:
        for start in range(0, len(payload) + 1, PAYLOAD_MAX):
            part = payload[start : start + PAYLOAD_MAX]
            sent.append(len(part).to_bytes(3, "little") + bytes((sequence,)) + part)
            sequence = (sequence + 1) % 256
    return b"".join(sent)


def answer(columns: int, rows: Iterable[bytes], *, deprecated_eof: bool = False) -> list[bytes]:
    """The payloads of an answer; ``deprecated_eof`` as with CLIENT_DEPRECATE_EOF."""
    head = [length_encoded(columns), *[DEFINITION] * columns]
    return [*head, *rows, OK] if deprecated_eof else [*head, EOF, *rows, EOF]
