"""The charsets of MySQL and MariaDB, as UTF-8.

Most are Python's codecs; where the servers have another character, it is in a table here. All of it
is what MariaDB 10.11 and 11.8 and MySQL 9.7 convert to utf8mb4, which they do alike, for every code
of every charset. What a server can only show as ``?`` is not valid here, nor is a lone surrogate
(MariaDB lets them into utf8mb3, utf8mb4, ucs2 and utf32), which UTF-8 has no bytes for.
"""

from __future__ import annotations

import re
from codecs import charmap_decode
from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import NamedTuple

_UNDEFINED = "\ufffe"
"""What `charmap_decode` takes for a byte that stands for nothing."""


def _run(first: int, text: str) -> dict[int, str]:
    """Characters for consecutive bytes; a ``~`` is a byte that stands for nothing."""
    return {at: _UNDEFINED if c == "~" else c for at, c in enumerate(text, first)}


def _none(undefined: bytes) -> dict[int, str]:
    return dict.fromkeys(undefined, _UNDEFINED)


_ARMENIAN = "".join(chr(0x531 + at) + chr(0x561 + at) for at in range(38))

# Codec of Python, and the bytes that stand for something else; the comments name the files of the
# servers' share/charsets that show it.
_SINGLE: dict[str, tuple[str, dict[int, str]]] = {
    # ARMSCII-8 (armscii8.xml).
    "armscii8": ("latin-1", _run(0xA1, f"❁§։)(»«—.՝,-՟…՜՛՞{_ARMENIAN}’'")),
    "ascii": ("ascii", {}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    # Windows-1256 before it had the letters of Persian and Urdu (cp1256.xml).
    "cp1256": ("cp1256", _none(b"\x8a\x8f\x98\x9a\x9f\xaa\xc0\xff")),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    # As code page 437 has these two (cp866.xml).
    "cp866": ("cp866", {0xFC: "ⁿ", 0xFD: "²"}),
    # DEC's Multinational Character Set (dec8.xml).
    "dec8": (
        "latin-1",
        _none(b"\xa4\xa6\xac\xad\xae\xaf\xb4\xb8\xbe\xd0\xde\xf0\xfe\xff")
        | {0xA8: "¤", 0xD7: "Œ", 0xDD: "Ÿ", 0xF7: "œ", 0xFD: "ÿ"},
    ),
    # Georgian letters in the order of the old alphabet, over parts of Windows-1252 (geostd8.xml).
    "geostd8": (
        "latin-1",
        _run(0x80, "€~‚~„…†‡~‰~‹~~~~~‘’“”•–—~~~›~~~~")
        | _run(0xC0, "აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ" + "~" * 23 + "№~~"),
    ),
    # ISO 8859-7 of 1987 (greek.xml).
    "greek": ("iso8859-7", _none(b"\xa4\xa5\xaa") | {0xA1: "ʽ", 0xA2: "ʼ"}),
    # ISO 8859-8 of 1988 (hebrew.xml).
    "hebrew": ("iso8859-8", {0xAF: "‾"}),
    "hp8": ("hp-roman8", {}),
    # The Kamenicky brothers' letters in place of those of code page 437 (keybcs2.xml).
    "keybcs2": (
        "cp437",
        _run(0x80, "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼") | {0xAD: "¡"},
    ),
    "koi8r": ("koi8-r", {}),
    # koi8u.xml.
    "koi8u": ("koi8-u", {0x95: "•"}),
    # Windows-1252, and C1 controls where it has nothing (ctype-latin1.c).
    "latin1": ("cp1252", {at: chr(at) for at in b"\x81\x8d\x8f\x90\x9d"}),
    "latin2": ("iso8859-2", {}),
    "latin5": ("iso8859-9", {}),
    "latin7": ("iso8859-13", {}),
    "macce": ("mac-latin2", {}),
    "macroman": ("mac-roman", {}),
    # SEN 850200 C (swe7.xml).
    "swe7": (
        "ascii",
        {0x40: "É", 0x60: "é", 0x7F: _UNDEFINED} | _run(0x5B, "ÄÖÅÜ") | _run(0x7B, "äöåü"),
    ),
    # The replacement character stands in the servers' own table (ctype-tis620.c).
    "tis620": ("tis-620", dict.fromkeys(b"\xa0\xdb\xdc\xdd\xde\xfc\xfd\xfe\xff", "�")),
}


class _Wide(NamedTuple):
    """A charset of several bytes a character: Python's codec, one ``character`` of it, and the
    codes that the servers have other characters for; none is valid whose text is empty. ``odd``
    finds out that a text may have such codes; it finds parts of two characters too."""

    codec: str
    character: re.Pattern[bytes]
    codes: dict[bytes, str]
    odd: re.Pattern[bytes]


_PAIRS = rb"(?s:[\x81-\xff].|.)"
_EUC_JP = rb"(?s:\x8f..|[\x8e\xa1-\xff].|.)"
_SHIFT_JIS = rb"(?s:[\x81-\x9f\xe0-\xfc].|.)"

_UTF: dict[str, str] = {
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "utf8": "utf-8",
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
    # What a server makes of bytes that it is to take for text.
    "binary": "utf-8",
}
_WITHOUT_PLANES = {"ucs2", "utf8", "utf8mb3"}
"""Charsets that have the Basic Multilingual Plane only."""


def _euc_rows(first: int, prefix: bytes, texts: Iterable[str]) -> dict[bytes, str]:
    """Codes of rows of 94 characters, from the row's byte ``first`` on."""
    cells = range(0xA1, 0xFF)
    codes = (prefix + bytes((row, cell)) for row in range(first, 0xFF) for cell in cells)
    return dict(zip(codes, texts, strict=False))


def _ujis() -> dict[bytes, str]:
    """Two blocks of characters that users define, and a backslash (ctype-ujis.c)."""
    private = "".join(map(chr, range(0xE000, 0xE758)))
    rows = 10 * 94
    return (
        {b"\xa1\xc0": "\\"}
        | _euc_rows(0xF5, b"", private[:rows])
        | _euc_rows(0xF5, b"\x8f", private[rows:])
    )


def _eucjpms() -> dict[bytes, str]:
    """Also what Microsoft's code page 932 has of NEC and IBM (ctype-eucjpms.c): of IBM's those
    characters that JIS X 0212 has not, and № once more."""
    trails = [*range(0x40, 0x7F), *range(0x80, 0xFD)]
    nec = [_text_of("cp932", bytes((0x87, trail))) for trail in trails[:94]]
    ibm = [_text_of("cp932", bytes(pair)) for pair in product(b"\xfa\xfb\xfc", trails)]
    added = (c for c in ibm if c == "№" or (c not in "￢￤∵" and not _has("euc_jp", c)))
    codes = _ujis() | _euc_rows(0xAD, b"", nec)
    codes |= _euc_rows(0xF3, b"\x8f", [*[""] * 82, *added])
    codes = {code: text for code, text in codes.items() if text}
    del codes[b"\xa1\xc0"]
    texts = {"a1c1": "～", "a1c2": "∥", "a1dd": "－", "a1f1": "￠", "a1f2": "￡", "a2cc": "￢"}
    texts |= {"8fa2b7": "～", "8fa2c3": "￤"}
    return codes | {bytes.fromhex(code): text for code, text in texts.items()}


def _text_of(codec: str, code: bytes) -> str:
    try:
        return code.decode(codec)
    except UnicodeDecodeError:
        return ""


def _has(codec: str, text: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _big5() -> dict[bytes, str]:
    """Big5 before Unicode had its characters, with those of ETEN (ctype-big5.c); the replacement
    characters stand in the servers' own table."""
    gaps = ("a15a", "a1c3", "a1c5", "a1fe", "a240", "a2cc", "a2ce")
    eten = {bytes((0xF9, 0xD6 + at)): text for at, text in enumerate("碁銹裏墻恒粧嫺")}
    return {bytes.fromhex(code): "�" for code in gaps} | eten


@cache
def _wide(name: str) -> _Wide | None:
    codec, character, codes = "", _PAIRS, dict[bytes, str]()
    match name:
        case "big5":
            codec, codes = "big5", _big5()
        case "cp932":
            # Bytes that Python keeps for the way back (ctype-cp932.c has nothing there).
            codes = dict.fromkeys((b"\x80", b"\xa0", b"\xfd", b"\xfe", b"\xff"), "")
            codec, character = "cp932", _SHIFT_JIS
        case "eucjpms":
            codec, character, codes = "euc_jp", _EUC_JP, _eucjpms()
        case "euckr":
            codec = "cp949"
        case "gb18030":
            # As the standard of 2005 has these two; codecs differ by the year of theirs.
            codec, character = "gb18030", rb"(?s:[\x81-\xfe][0-9]..|[\x81-\xfe].|.)"
            codes = {b"\xa8\xbc": "ḿ", b"\x81\x35\xf4\x37": "\ue7c7"}
        case "gb2312" | "gbk":
            codec = name
        case "sjis":
            # ctype-sjis.c.
            codec, character, codes = "shift_jis", _SHIFT_JIS, {b"\x81\x5f": "\\"}
        case "ujis":
            codec, character, codes = "euc_jp", _EUC_JP, _ujis()
        case _:
            return None
    return _Wide(codec, re.compile(character), codes, _any_of(codes))


def _any_of(codes: Iterable[bytes]) -> re.Pattern[bytes]:
    lasts: dict[bytes, bytes] = {}
    for code in codes:
        lasts[code[:-1]] = lasts.get(code[:-1], b"") + code[-1:]
    branches = (b"%b[%b]" % (re.escape(head), re.escape(last)) for head, last in lasts.items())
    return re.compile(b"|".join(branches) or rb"(?!)")


@cache
def _single(name: str) -> str | None:
    """The characters of the 256 bytes of an 8-bit charset."""
    if name not in _SINGLE:
        return None
    codec, others = _SINGLE[name]
    return "".join(
        others[at] if at in others else _text_of(codec, bytes((at,))) or _UNDEFINED
        for at in range(256)
    )


@cache
def table(name: str) -> tuple[bytes, ...] | None:
    """What each byte of an 8-bit charset stands for, in UTF-8, and nothing for one that stands for
    nothing; None for other charsets."""
    texts = _single(name)
    if texts is None:
        return None
    return tuple(b"" if text == _UNDEFINED else text.encode() for text in texts)


def decode(name: str, data: bytes) -> bytes:
    """Text of the charset that the servers call ``name``, as UTF-8. Raises ValueError, which says
    nothing of the data, if it is not valid; LookupError for a charset that nobody knows."""
    try:
        return _decoded(name, data).encode()
    except UnicodeError:
        raise ValueError(f"bytes that are not valid in charset {name}") from None


def _decoded(name: str, data: bytes) -> str:
    codec = _UTF.get(name)
    if codec is not None:
        text = data.decode(codec)
        if name in _WITHOUT_PLANES and text and max(text) > "\uffff":
            raise UnicodeError
        return text
    texts = _single(name)
    if texts is not None:
        return charmap_decode(data, "strict", texts)[0]
    wide = _wide(name)
    if wide is None:
        raise LookupError(f"charset {name}")
    if wide.odd.search(data) is None:
        return data.decode(wide.codec)
    return _with_others(wide, data)


def _with_others(wide: _Wide, data: bytes) -> str:
    """Text in which the codes are that Python has other characters for."""
    pieces: list[str] = []
    at = 0
    for character in wide.character.finditer(data):
        text = wide.codes.get(character[0])
        if text is None:
            continue
        if not text:
            raise UnicodeError
        pieces += data[at : character.start()].decode(wide.codec), text
        at = character.end()
    pieces.append(data[at:].decode(wide.codec))
    return "".join(pieces)
