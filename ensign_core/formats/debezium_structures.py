"""Values that Debezium writes as objects or lists: pure functions, text in, JSON out.

Points and the types of the extensions hstore, PostGIS and pgvector, with the encodings of
Debezium's PostgreSQL connector (3.x) and its defaults. All raise ValueError for text that is none
of the type.
"""

from __future__ import annotations

import binascii
import re
import struct
from typing import Final

from ensign_core.formats.values import base64_text, number, quote

_WKB_POINT: Final = 1
_WKB_SRID: Final = 0x2000_0000
"""EWKB's mark of a geometry that has an SRID (PostGIS, ``doc/bnf-wkb.txt``)."""

_NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Infinity|NaN)"
_FINITE = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_POINT = re.compile(rf"\(({_NUMBER}),({_NUMBER})\)", re.ASCII)
_VECTOR = re.compile(rf"\[{_FINITE}(?:,{_FINITE})*\]", re.ASCII)
_SPARSE = re.compile(rf"\{{((?:\d+:{_FINITE}(?:,\d+:{_FINITE})*)?)\}}/(\d+)", re.ASCII)
_STRING = r'"((?:[^"\\]|\\.)*)"'
_PAIR = re.compile(rf"{_STRING}=>(?:{_STRING}|NULL)(?:, |$)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def point(text: str) -> str:
    """``(x,y)`` as an object with its coordinates and its WKB."""
    match = _POINT.fullmatch(text)
    if not match:
        raise ValueError
    x, y = match.groups()
    wkb = base64_text(struct.pack("<BIdd", 1, _WKB_POINT, float(x), float(y)))
    return f'{{"x":{number(x)},"y":{number(y)},"wkb":"{wkb}","srid":null}}'


def geometry(text: str) -> str:
    """PostGIS' hexadecimal EWKB, as it is, beside its SRID."""
    wkb = binascii.unhexlify(text)
    if len(wkb) < 5 or wkb[0] > 1:
        raise ValueError
    order: Final = "little" if wkb[0] else "big"
    srid = "null"
    if int.from_bytes(wkb[1:5], order) & _WKB_SRID:
        if len(wkb) < 9:
            raise ValueError
        srid = str(int.from_bytes(wkb[5:9], order))
    return f'{{"wkb":"{base64_text(wkb)}","srid":{srid}}}'


def vector(text: str) -> str:
    """``vector`` and ``halfvec`` of pgvector: their text is a list of JSON numbers."""
    if not _VECTOR.fullmatch(text):
        raise ValueError
    return text


def sparse_vector(text: str) -> str:
    """``{index:value,...}/dimensions`` as an object; a map with keys other than strings is a list
    of pairs in Kafka Connect's JSON."""
    match = _SPARSE.fullmatch(text)
    if not match:
        raise ValueError
    pairs = ",".join(f"[{p.replace(':', ',')}]" for p in match[1].split(",") if p)
    return f'{{"dimensions":{int(match[2])},"vector":[{pairs}]}}'


def hstore(text: str) -> str:
    """``"k"=>"v", "n"=>NULL`` as a string that holds a JSON object (``hstore.handling.mode=json``),
    in the order of the text."""
    pairs = []
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if not match:
            raise ValueError
        name, value = match.groups()
        pairs.append(f"{_string(name)}:{'null' if value is None else _string(value)}")
        at = match.end()
    return quote(f"{{{','.join(pairs)}}}")


def _string(escaped: str) -> str:
    return quote(_ESCAPED.sub(r"\1", escaped))
