"""The charset of a collation, by its number.

A table map (its metadata) and the definition of a result's column give the number of a collation.
The numbers are those of ``information_schema.collations`` of MySQL and, where it numbers them by
charset, ``collation_character_set_applicability`` of MariaDB; the two have no number in common that
means two charsets.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = (
    "big5 latin2 dec8 cp850 latin1 hp8 koi8r latin1 latin2 swe7 ascii ujis sjis cp1251 latin1 "
    "hebrew - tis620 euckr latin7 latin2 koi8u cp1251 gb2312 greek cp1250 latin2 gbk cp1257 latin5 "
    "latin1 armscii8 utf8mb3 cp1250 ucs2 cp866 keybcs2 macce macroman cp852 latin7 latin7 macce "
    "cp1250 utf8mb4 utf8mb4 latin1 latin1 latin1 cp1251 cp1251 cp1251 macroman utf16 utf16 utf16le "
    "cp1256 cp1257 cp1257 utf32 utf32 utf16le binary armscii8 ascii cp1250 cp1256 cp866 dec8 greek "
    "hebrew hp8 keybcs2 koi8r koi8u utf8mb3 latin2 latin5 latin7 cp850 cp852 swe7 utf8mb3 big5 "
    "euckr gb2312 gbk sjis tis620 ucs2 ujis geostd8 geostd8 latin1 cp932 cp932 eucjpms eucjpms "
    "cp1250"
)
_FIRST: Final = tuple(_NAMES.split())
"""The charsets of collations 1 to 99; a dash is no collation."""

_RANGES: Final = (
    # The Unicode Collation Algorithm 4.0.0 and 5.2.0 in both servers.
    (range(101, 128), "utf16"),
    (range(128, 160), "ucs2"),
    (range(160, 192), "utf32"),
    (range(192, 224), "utf8mb3"),
    (range(224, 248), "utf8mb4"),
    # MySQL: GB 18030, and 9.0.0 of the algorithm.
    (range(248, 251), "gb18030"),
    (range(255, 324), "utf8mb4"),
    # MariaDB's own languages.
    (range(576, 608), "utf8mb3"),
    (range(608, 640), "utf8mb4"),
    (range(640, 672), "ucs2"),
    (range(672, 704), "utf16"),
    (range(736, 768), "utf32"),
    # MariaDB: 14.0.0 of the algorithm, of which a collation has a number for each charset.
    (range(2048, 2304), "utf8mb3"),
    (range(2304, 2560), "utf8mb4"),
    (range(2560, 2816), "ucs2"),
    (range(2816, 3072), "utf16"),
    (range(3072, 3328), "utf32"),
)

_NOPAD: Final = 1024
"""What MariaDB adds to a collation's number for its twin without padding."""


def charset_of(collation: int) -> str:
    """The server's name of the charset of a collation, empty for bytes (``binary``). Raises
    LookupError for a number that no server known here has."""
    number = collation
    if _NOPAD < number < 2 * _NOPAD:
        number -= _NOPAD
    if 1 <= number <= len(_FIRST):
        name = _FIRST[number - 1]
        if name != "-":
            return "" if name == "binary" else name
    for numbers, name in _RANGES:
        if number in numbers:
            return name
    raise LookupError(f"collation {collation}")
