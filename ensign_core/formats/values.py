"""Values as JSON text: pure functions of one value, the innermost part of every format.

A `Render` takes a value's text (kind ``t`` of the row layout, decoded) and returns JSON; None
stands for a text that is JSON already. Values of kind ``b`` go through `binary`, text that is not
UTF-8 through `undecodable`. Nothing that these functions return holds a line break; an empty text
that would be no JSON is written as an empty string.

What the sources promise, so that nothing is parsed here: an ``int`` is a decimal number without
leading zeros, a ``float`` a number as JSON writes it or ``NaN``, ``Infinity``, ``-Infinity``, a
``json`` of a type of that name is valid JSON (line breaks are allowed outside strings), a
``headers`` is a JSON list of
``[name, value]`` whose value is a string, null, or ``{"base64": ...}``.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from json.encoder import encode_basestring
from typing import Final, NoReturn

from ensign_core.change import Column, Logical

Render = Callable[[str], str] | None

quote: Final[Callable[[str], str]] = encode_basestring
"""Text as a JSON string: the interpreter's C encoder; what is not ASCII stays as it is."""

_EPOCH = datetime(1970, 1, 1)


def base64_text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def binary(data: bytes) -> str:
    """A value of kind ``b``: base64 (RFC 4648, section 4) in a string."""
    return f'"{base64_text(data)}"'


def undecodable(data: bytes) -> str:
    """Bytes in a place where text is expected: an object, so that nobody takes it for text."""
    return f'{{"base64":"{base64_text(data)}"}}'


def number(text: str) -> str:
    """A float: its own text when it is finite, so that ``-0`` keeps its sign, else a string."""
    return text if "0" <= text[-1:] <= "9" else quote(text)


def boolean(text: str) -> str:
    """Postgres writes ``t`` and ``f`` ("Boolean Type" in its documentation)."""
    return "true" if text == "t" else "false" if text == "f" else quote(text)


def one_line(text: str) -> str:
    """JSON text on one line: a line break in valid JSON is outside strings, so a space will do."""
    return text.replace("\n", " ").replace("\r", " ")


def checked_json(text: str) -> str:
    """Text that the database takes for JSON: a string if it is none. MariaDB's ``JSON_VALID`` knows
    ``1.`` and ``"\\x"``, and need not be asked (``check_constraint_checks``)."""
    return one_line(text) if is_json(text) else quote(text)


def unhex(text: str) -> bytes:
    r"""The bytes of a bytea in hex format (``\x0aff``); other text stands for its own bytes."""
    if text.startswith("\\x"):
        try:
            return binascii.unhexlify(text[2:])
        except ValueError:
            pass
    return text.encode()


def hex_as_base64(text: str) -> str:
    return binary(unhex(text))


_RENDERS: Final[dict[Logical, Render]] = {
    "bool": boolean,
    "int": None,
    "float": number,
    "bytes": hex_as_base64,
    "json": one_line,
    "headers": one_line,
}


STRUCT: Final = "struct"
"""The type of columns that hold an object or a list and are embedded as such in every format."""

_JSON_TYPES: Final = frozenset({"json", "jsonb", STRUCT})
"""Types whose source lets nothing in that is no JSON."""


def render(column: Column) -> Render:
    """How the formats ``json`` and ``flat`` write a column; what has no entry is a string."""
    if column.logical == "json" and column.native not in _JSON_TYPES:
        return checked_json
    return _RENDERS.get(column.logical, quote)


def instant(us: int | None) -> str:
    """µs since the epoch as RFC 3339 in UTC with six digits, or null."""
    if us is None:
        return "null"
    moment = _EPOCH + timedelta(microseconds=us)
    return f'"{moment.isoformat(timespec="microseconds")}Z"'


def payload(data: bytes, mimetype: str | None) -> str:
    """The data of a published event: JSON embedded when ``mimetype`` says JSON and it is, a string
    when it is text, else ``{"base64": ...}``. Without ``mimetype`` all that is UTF-8 is text."""
    kind = (mimetype or "").partition(";")[0].strip().lower()
    says_json = kind.endswith(("/json", "+json"))
    if not (says_json or not kind or kind.startswith("text/")):
        return undecodable(data)
    return _text(data, embed=says_json)


def text_or_base64(data: bytes) -> str:
    """Bytes that are mostly text, such as an event's key."""
    return _text(data, embed=False)


def _text(data: bytes, *, embed: bool) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return undecodable(data)
    return one_line(text) if embed and is_json(text) else quote(text)


def is_json(text: str) -> bool:
    """Whether ``text`` is JSON by RFC 8259: Python's own reader also takes ``NaN``, and refuses
    integers of more than 4,300 digits, so neither constants nor numbers are left to it."""
    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(_name: str) -> NoReturn:
    raise ValueError
