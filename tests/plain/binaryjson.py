"""MySQL's binary JSON and its text, written in plain Python from the format's description
(``json_binary.h`` of the server's sources): what the compiled reader is held against."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from decimal import Decimal
from typing import NamedTuple


class Opaque(NamedTuple):
    """A value of a type that JSON has not: its code, bytes, and text."""

    type: int
    data: bytes
    text: str


Json = None | bool | int | float | str | Opaque | list["Json"] | dict[str, "Json"]


def encode(value: Json) -> bytes:
    """A document, in the small format where it fits."""
    code, body = _encoded(value)
    return bytes((code,)) + body


def _encoded(value: Json) -> tuple[int, bytes]:
    """Type and bytes. What is in a large container may be small itself."""
    if isinstance(value, list | dict):
        try:
            return _container(value, large=False)
        except struct.error:
            return _container(value, large=True)
    return _scalar(value)


def _scalar(value: Json) -> tuple[int, bytes]:
    match value:
        case None:
            return 4, b"\0"
        case bool():
            return 4, b"\1" if value else b"\2"
        case int():
            for bits, format_ in ((16, "<h"), (32, "<i"), (64, "<q")):
                if -(1 << bits - 1) <= value < 1 << bits - 1:
                    return {16: 5, 32: 7, 64: 9}[bits], struct.pack(format_, value)
            return 10, struct.pack("<Q", value)
        case float():
            return 11, struct.pack("<d", value)
        case str():
            data = value.encode()
            return 12, _length(len(data)) + data
        case Opaque():
            return 15, bytes((value.type,)) + _length(len(value.data)) + value.data
    raise TypeError


def _length(size: int) -> bytes:
    low, rest = size & 0x7F, size >> 7
    return bytes((low,)) if not rest else bytes((low | 0x80,)) + _length(rest)


def _container(value: list[Json] | dict[str, Json], large: bool) -> tuple[int, bytes]:
    """Raises struct.error if it is too large for the small format."""
    offset = "<I" if large else "<H"
    width = struct.calcsize(offset)
    keys = sorted((k.encode() for k in value), key=by_length) if isinstance(value, dict) else []
    values = [value[k.decode()] for k in keys] if isinstance(value, dict) else value
    head = 2 * width + len(keys) * (2 + width) + len(values) * (1 + width)
    key_entries = value_entries = b""
    body = b"".join(keys)
    at = head
    for key in keys:
        key_entries += struct.pack(offset, at) + struct.pack("<H", len(key))
        at += len(key)
    for each in values:
        code, data = _encoded(each)
        if code in (1, 3) and not large:
            raise struct.error
        if code in (4, 5, 6) or (large and code in (7, 8)):
            sign = b"\xff" if code in (5, 7) and data[-1] & 0x80 else b"\0"
            value_entries += bytes((code,)) + data + sign * (width - len(data))
        else:
            value_entries += bytes((code,)) + struct.pack(offset, head + len(body))
            body += data
    size = struct.pack(offset, len(values)) + struct.pack(offset, head + len(body))
    code = (0 if isinstance(value, dict) else 2) + large
    return code, size + key_entries + value_entries + body


def by_length(key: bytes) -> tuple[int, bytes]:
    """The order of an object's keys."""
    return len(key), key


def text(value: Json) -> str:
    """As the server prints it."""
    match value:
        case list():
            return "[" + ", ".join(map(text, value)) + "]"
        case dict():
            keys = sorted((k.encode() for k in value), key=by_length)
            members = (f"{text(k.decode())}: {text(value[k.decode()])}" for k in keys)
            return "{" + ", ".join(members) + "}"
        case Opaque():
            return value.text
        case float():
            return double(value)
    return json.dumps(value, ensure_ascii=False)


def double(value: float) -> str:
    """Without an exponent if the digits before the point are 15 at most or end behind it, and the
    first behind it comes in one of 15 places."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    minus = "-" if sign else ""
    point = len(digits) + exponent
    if not value:
        return minus + "0.0"
    if point >= -14 and (point <= 15 or exponent < 0):
        plain = format(Decimal((0, digits, exponent)), "f")
        return minus + (plain if "." in plain else plain + ".0")
    rest = "".join(map(str, digits[1:]))
    return f"{minus}{digits[0]}{'.' + rest if rest else ''}e{point - 1}"


def blob(type_: int, data: bytes) -> Opaque:
    """Bytes as a JSON value; their base64 is broken after 76 characters."""
    whole = b64encode(data).decode()
    lines = (whole[at : at + 76] for at in range(0, len(whole), 76))
    return Opaque(type_, data, f'"base64:type{type_}:' + "\\n".join(lines) + '"')
