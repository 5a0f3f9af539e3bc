"""Values that Debezium writes as objects or lists, as the text or bytes that the database has: pure
functions of a value's kind and text (`ensign_core.rows.members`). All raise ValueError for what is
none of the type, which an object without its members is too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping

from ensign_core.change import NULL, TEXT
from ensign_core.rows import members

Value = tuple[int, bytes]

_STRING, _INT, _FLOAT, _OBJECT, _ARRAY = b"sif{["
_BARE = re.compile(r'[^\s{}"\\]+', re.ASCII)


class _Struct(dict[str, Value]):
    def __missing__(self, name: str) -> Value:
        raise ValueError


def struct_of(kind: int, text: bytes) -> Mapping[str, Value]:
    """An object's members; looking for one that is not there is a ValueError."""
    found = members.members(text) if kind == _OBJECT else None
    if found is None:
        raise ValueError
    names, kinds, texts = found
    return _Struct(zip(names, zip(kinds, texts, strict=True), strict=True))


def items_of(kind: int, text: bytes) -> list[Value]:
    found = members.items(text) if kind == _ARRAY else None
    if found is None:
        raise ValueError
    return list(zip(*found, strict=True))


def double_text(text: bytes) -> str:
    """A number of JSON as the shortest text that reads back as the same 64 bits."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError
    return repr(number).removesuffix(".0")


def double_of(kind: int, text: bytes) -> str:
    if kind == _STRING and text in (b"NaN", b"Infinity", b"-Infinity"):
        return text.decode()
    if kind not in (_INT, _FLOAT):
        raise ValueError
    return double_text(text)


def integer_of(kind: int, text: bytes) -> int:
    if kind != _INT:
        raise ValueError
    return int(text)


def data_of(kind: int, text: bytes) -> bytes:
    """The bytes of a string in base64."""
    if kind != _STRING:
        raise ValueError
    return base64.b64decode(text, validate=True)


def point(kind: int, text: bytes) -> str:
    """Postgres' ``(x,y)``."""
    found = struct_of(kind, text)
    return f"({double_of(*found['x'])},{double_of(*found['y'])})"


def postgis(kind: int, text: bytes) -> str:
    """PostGIS' hexadecimal EWKB."""
    return data_of(*struct_of(kind, text)["wkb"]).hex().upper()


def mysql_geometry(kind: int, text: bytes) -> bytes:
    """MySQL's SRID, little end first, and WKB."""
    found = struct_of(kind, text)
    srid = found.get("srid", (NULL, b""))
    number = 0 if srid[0] == NULL else integer_of(*srid)
    if not 0 <= number < 2**32:
        raise ValueError
    return number.to_bytes(4, "little") + data_of(*found["wkb"])


def vector(kind: int, text: bytes) -> str:
    return f"[{','.join(double_of(*item) for item in items_of(kind, text))}]"


def sparse_vector(kind: int, text: bytes) -> str:
    """pgvector's ``{index:value,...}/dimensions``; a map is a list of pairs in Kafka Connect's JSON
    where its keys are no strings."""
    found = struct_of(kind, text)
    pairs = []
    for item in items_of(*found["vector"]):
        index, value = items_of(*item)
        pairs.append(f"{integer_of(*index)}:{double_of(*value)}")
    return f"{{{','.join(pairs)}}}/{integer_of(*found['dimensions'])}"


def array(read: Callable[[int, bytes], Value], delimiter: str) -> Callable[[int, bytes], Value]:
    """How to read a list as Postgres' text of an array of one dimension ("Array Input and Output
    Syntax" in its documentation), given how to read an item."""

    def convert(kind: int, text: bytes) -> Value:
        shown = (
            "NULL" if item[0] == NULL else _element(read(*item)[1].decode(), delimiter)
            for item in items_of(kind, text)
        )
        return TEXT, f"{{{delimiter.join(shown)}}}".encode()

    return convert


def _element(text: str, delimiter: str) -> str:
    if _BARE.fullmatch(text) and delimiter not in text and text.upper() != "NULL":
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
