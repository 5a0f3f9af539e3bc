"""Values of every type of MySQL and MariaDB, as SQL expressions: what the tests of values run
through.

A `Kind` is a way to declare a column with its samples; ``NULL`` needs none. `kinds` has those of a
server, in groups whose values the server prints by the same expression, which `SHOWN` has.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ensign_core.rows import Value
from tests.services.mysql import MysqlServer

SHOWN: Final = {
    "numbers": "CAST({c} AS CHAR)",
    "floats": "{c} * 1e0",
    "bits": "BIN({c} + 0)",
    "moments": "CAST({c} AS CHAR)",
    "texts": "CONVERT({c} USING utf8mb4)",
    "bytes": "{c}",
    "labels": "CONVERT({c} USING utf8mb4)",
    "documents": "CAST({c} AS CHAR)",
    "vectors": "HEX({c})",
    "shapes": "HEX({c})",
    "addresses": "CAST({c} AS CHAR)",
    "unreadable": "HEX({c})",
}
"""How the server prints the values of a group; ``{c}`` is the column."""


class Kind(NamedTuple):
    """A column's type as it is declared, and values of it."""

    group: str
    declared: str
    samples: list[str]


INTEGERS: Final = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
DECIMAL_MAX: Final = "9" * 35 + "." + "9" * 30


def _integers() -> Iterable[Kind]:
    for name, bits in INTEGERS.items():
        half = 1 << (bits - 1)
        yield Kind("numbers", name, [str(-half), str(half - 1), "0", "-1", "7"])
        yield Kind("numbers", f"{name} unsigned", ["0", "1", str(half), str(2 * half - 1)])
        yield Kind("numbers", f"{name}(6) zerofill", ["0", "42", str(2 * half - 1)])
    yield Kind("numbers", "tinyint(1)", ["-128", "-1", "0", "1", "127"])
    yield Kind("numbers", "tinyint(1) unsigned", ["0", "1", "255"])
    yield Kind("numbers", "boolean", ["true", "false", "2"])
    yield Kind("numbers", "year", ["0", "1901", "2155", "'0000'", "18", "78", "'0'"])


def _decimals() -> Iterable[Kind]:
    edges = ["0", "-0.00", "1", "-1", "999999999", "-1000000000.5", "0.1", "-0.000000001"]
    for digits, scale in [
        (1, 0), (1, 1), (4, 2), (5, 5), (9, 0), (10, 0), (10, 9), (18, 9), (19, 10), (27, 3),
        (30, 30), (37, 1), (65, 0), (65, 30),
    ]:  # fmt: skip
        more = [DECIMAL_MAX, f"-{DECIMAL_MAX}", "-" + "9" * 65, "12345678.90123456789012"]
        yield Kind("numbers", f"decimal({digits},{scale})", edges + more)
    yield Kind("numbers", "decimal", ["1.5", "-9999999999"])
    yield Kind("numbers", "decimal(8,3) unsigned", ["0", "1.5", "99999.999"])
    yield Kind("numbers", "decimal(8,3) zerofill", ["0", "1.5", "0.001", "99999.999"])
    yield Kind("numbers", "decimal(6,0) zerofill", ["0", "12"])


_FLOATS: Final = [
    "0", "-0e0", "1", "-1.5", "0.1", "3.3", "1e20", "-1e-5", "1e15", "1e16", "16777216", "16777217",
    "123456789012345680", "3.4028234663852886e38", "1.17549435e-38", "1.4e-45", "9.8e-45",
    "0.30000000000000004", "1e22", "1e23", "123456.7890625", "8388608.5", "-33554431",
]  # fmt: skip


def _reals() -> Iterable[Kind]:
    yield Kind("floats", "float", _FLOATS)
    yield Kind("floats", "float unsigned", ["0", "0.7", "3.4028234663852886e38"])
    yield Kind("floats", "float(7,3)", ["0", "-1.5", "9999.999", "0.001", "3.3"])
    yield Kind("floats", "float(30)", ["0.1", "1e-300"])
    yield Kind("floats", "float(9,4) zerofill", ["0", "1.25"])
    doubles = ["1.7976931348623157e308", "5e-324", "-2.2250738585072014e-308", "4.35", "1e-310"]
    yield Kind("floats", "double", _FLOATS + doubles)
    yield Kind("floats", "double(10,4)", ["0", "-1.5", "999999.9999", "0.0001", "3.3"])
    yield Kind("floats", "double(255,30)", ["0", "-1e200", "0.000000000000000000000000000001"])
    yield Kind("floats", "double unsigned zerofill", ["0", "1.5"])
    for width in (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 63, 64):
        ones, alternating = "b'" + "1" * width + "'", "b'" + ("10" * 32)[:width] + "'"
        yield Kind("bits", f"bit({width})", ["b'0'", "b'1'", ones, alternating])


_DATES: Final = [
    "'0000-00-00'", "'2015-05-00'", "'2015-00-00'", "'0001-00-00'", "'0000-01-01'", "'0003-00-00'",
    "'1000-01-01'", "'9999-12-31'", "'0018-02-28'", "'2024-02-29'", "'1582-10-10'", "'2015-02-31'",
]  # fmt: skip
_CLOCKS: Final = ["00:00:00", "23:59:59.999999", "12:34:56.789012", "00:00:00.000001", "01:02:03.5"]
_TIMES: Final = [
    "'00:00:00'", "'838:59:59'", "'-838:59:59'", "'-838:59:58.999999'", "'838:59:58.999999'",
    "'-00:00:00.000001'", "'-00:00:01.5'", "'-733:00:00.0011'", "'-00:20:38'", "'13:51:30.123456'",
    "'-01:00:00.100000'", "'-00:00:00.9'", "'100:00:00.000099'", "'-255:59:59.99'", "'24:00:00'",
]  # fmt: skip
_STAMPS: Final = [
    "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'1970-01-01 00:00:01.000001'",
    "'2038-01-19 03:14:07'", "'2038-01-19 03:14:06.999999'", "'2026-10-25 01:30:00.25'",
    "'2001-09-09 01:46:40'",
]  # fmt: skip


def _moments(stamps: list[str]) -> Iterable[Kind]:
    yield Kind("moments", "date", _DATES)
    for digits in range(7):
        days = [f"{day[:-1]} {_CLOCKS[i % len(_CLOCKS)]}'" for i, day in enumerate(_DATES)]
        yield Kind("moments", f"datetime({digits})", [*days, "'9999-12-31 23:59:59.499999'"])
        yield Kind("moments", f"timestamp({digits}) NULL", _STAMPS + stamps)
        yield Kind("moments", f"time({digits})", _TIMES)


_WORDS: Final = [
    "''", "'a'", "'a  '", "' a'", "'ÄÖÜ äöüß'", "'€ œ Ž'", "'Привет'", "'漢字ソ表能'",
    "'日本語カナ'",
    "'한국어'", "'中文 简体'", "'שלום'", "'ελληνικά'", "'ไทย'", "'ქართ'", "'Հայ'", "'🙂'",
    "'\\\\'", "'\\'\"`'", "'a\\tb\\nc\\r'", "'\\0\\Z'", "'N'", "'\\\\N'", "'%_'",
]  # fmt: skip


def texts(charset: str) -> Iterable[Kind]:
    """Columns of a charset."""
    for declared in ("char(12)", "varchar(20)", "text"):
        yield Kind("texts", f"{declared} CHARACTER SET {charset}", _WORDS)
    labels = ["'a'", "'Ä'", "'漢'", "'Я'", "'x y'", "'\\\\'", "'\\''", "'\\n'"]
    unlike = {"'a'", "'x y'", "'\\\\'", "'\\''", "'\\n'", _LABEL_OF.get(charset, "'a'")}
    kept = [label for label in labels if label in unlike or charset.startswith("utf")]
    listed = ",".join(kept)
    yield Kind("labels", f"enum({listed}) CHARACTER SET {charset}", kept)
    both = "'" + ",".join(label[1:-1] for label in kept) + "'"
    yield Kind("labels", f"set({listed}) CHARACTER SET {charset}", ["''", *kept, both])


_LABEL_OF: Final = {
    "latin1": "'Ä'", "latin2": "'Ä'", "cp850": "'Ä'", "gbk": "'漢'", "sjis": "'漢'", "big5": "'漢'",
    "ujis": "'漢'", "cp932": "'漢'", "eucjpms": "'漢'", "gb18030": "'漢'", "ucs2": "'漢'",
    "koi8r": "'Я'", "cp1251": "'Я'", "cp866": "'Я'", "greek": "'Я'",
}  # fmt: skip
"""A label that is not ASCII and in the charset."""

TEXTS: Final = [
    Kind("texts", "tinytext", _WORDS),
    Kind("texts", "mediumtext", [*_WORDS, "repeat('é', 40000)"]),
    Kind("texts", "longtext", [*_WORDS, "repeat('long 🙂', 30000)"]),
    Kind("texts", "varchar(300)", [*_WORDS, "repeat('漢', 300)"]),
    Kind("texts", "varchar(63)", ["repeat('🙂', 63)"]),
    Kind("texts", "varchar(64)", ["repeat('🙂', 64)"]),
    Kind("texts", "char(63)", ["repeat('🙂', 63)"]),
    Kind("texts", "char(64)", ["repeat('🙂', 64)"]),
    Kind("texts", "char(255)", ["repeat('🙂', 255)", "'short'"]),
    Kind("texts", "char(255) CHARACTER SET latin1", ["repeat('ä', 255)", "'short '"]),
    Kind("texts", "char(0)", ["''"]),
    Kind("texts", "varchar(20) COLLATE utf8mb4_bin", _WORDS),
    Kind("texts", "varchar(20) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin", _WORDS),
    Kind("texts", "national varchar(20)", _WORDS),
    Kind("texts", "long varchar", _WORDS),
]

_BYTES: Final = [
    "''", "x'00'", "x'6100'", "x'61000000'", "x'ff00ff'", "x'0061'", "x'20'", "x'5c275c6e'",
    "x'c3a4'", "x'fffefdfc'",
]  # fmt: skip

BYTES: Final = [
    Kind("bytes", declared, _BYTES)
    for declared in (
        "binary", "binary(5)", "binary(255)", "varbinary(5)", "varbinary(255)", "varbinary(256)",
        "tinyblob", "blob", "mediumblob", "longblob", "varchar(9) CHARACTER SET binary",
        "char(9) CHARACTER SET binary", "text CHARACTER SET binary", "blob(7)",
    )
] + [
    Kind("bytes", "varbinary(4000)", ["repeat(x'00ff', 2000)", "x'00'"]),
    Kind("bytes", "mediumblob", ["repeat(x'00ff', 40000)"]),
]  # fmt: skip


def _many(kind: str, count: int) -> str:
    return f"{kind}({','.join(repr(f'l{i}') for i in range(count))})"


_SETS: Final = ["0", "1", "'l0'"]

LABELS: Final = [
    Kind(
        "labels",
        "enum('a,b','it''s','back\\\\slash','new\\nline','ü漢','',' x','\"q\"','tab\\t','NULL',"
        "'re\\rturn','0')",
        ["'a,b'", "'it\\'s'", "'back\\\\slash'", "'new\\nline'", "'ü漢'", "''", "' x'", "'\"q\"'",
         "'nothing of these'", "0", "3", "'tab\\t'", "'NULL'", "'re\\rturn'", "'0'"],
    ),
    Kind(
        "labels",
        "set('it''s','back\\\\slash','new\\nline','ü漢',' x','\"q\"','(',')')",
        ["''", "'it\\'s,\"q\"'", "'back\\\\slash,new\\nline'", "255", "'ü漢, x'", "'(,)'"],
    ),
    Kind("labels", "enum('only')", ["'only'", "''"]),
    Kind("labels", "enum('','x')", ["''", "'x'", "0"]),
    Kind("labels", _many("enum", 255), ["'l0'", "'l254'", "0"]),
    Kind("labels", _many("enum", 256), ["'l0'", "'l255'", "0"]),
    Kind("labels", _many("enum", 700), ["'l0'", "'l699'"]),
    *(
        Kind("labels", _many("set", n), [*_SETS, f"'l0,l{n - 1}'", str((1 << n) - 1)])
        for n in (1, 2, 8, 9, 16, 17, 24, 25, 32, 33, 63, 64)
    ),
    Kind("labels", "enum('x','漢') CHARACTER SET binary", ["'x'", "'漢'", "''"]),
    Kind("labels", "set('x','漢') CHARACTER SET binary", ["'x'", "'x,漢'", "''"]),
]  # fmt: skip

_JSON: Final = [
    "'null'", "'true'", "'false'", "'0'", "'-1'", "'18446744073709551615'", "'1.5'", "'-0.0'",
    "'1e100'", "'\"text\"'", "'\"ü漢🙂 \\\\u0001 \\\\\" \\\\\\\\ \\\\n\"'", "'[]'", "'{}'",
    "'[[[1]]]'",
    "'{\"b\": 1, \"a\": {\"c\": [1, 2, \"x\", null]}}'", "'123456789012345678901234567890'",
    "'[32767, 32768, -32768, -32769, 2147483647, 2147483648, 9223372036854775807]'",
    "concat('{\"long\": \"', repeat('x', 70000), '\"}')",
    "concat('[', repeat('1234567, ', 9000), '0]')",
]  # fmt: skip

_OPAQUE: Final = [
    "json_array(cast(1.10 AS decimal(5,2)), cast(-99999.999 AS decimal(65,3)))",
    "json_array(cast('2020-02-29' AS date), cast('0000-00-00' AS date))",
    "json_array(cast('2020-02-29 12:00:00.5' AS datetime(6)), timestamp'1999-12-31 23:59:59')",
    "json_array(cast('-12:30:00.25' AS time(6)), cast('838:59:59' AS time))",
    "json_array(x'00ff', cast('bin' AS binary(5)), b'101', repeat(x'ab', 200))",
    "json_object('y', cast(2020 AS year), 'f', cast(0.1 AS float), 'd', 1e300, 's', 'é')",
    "cast(cast(3.000 AS decimal(4,3)) AS json)",
    "cast(st_geomfromtext('POINT(1 2)') AS json)",
    "json_array(1e0, 100000e0, 1e15, 1e16, 1e17, 1e-5, 0.0001e0, -0e0)",
]

ADDRESSES: Final = [
    Kind("addresses", "uuid", [
        "'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'a0eebc999c0b4ef8bb6d6bb9bd380a11'",
        "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'", "'ABCDEF00-0000-0000-0000-000000000100'",
    ]),
    Kind("addresses", "inet6", [
        "'::'", "'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.128'", "'fe80::'",
        "'1:0:0:2::3'", "'::192.0.2.1'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
        "'1:2:3:4:5:6:7:0'", "'::ffff:0:0'", "'1:0:2:0:3:0:4:0'",
    ]),
    Kind("addresses", "inet4", ["'0.0.0.0'", "'255.255.255.255'", "'192.168.0.0'", "'10.0.0.7'"]),
]  # fmt: skip

_SHAPES: Final = {
    "point": "POINT(1.5 -2)",
    "linestring": "LINESTRING(0 0,1 1,2 0)",
    "polygon": "POLYGON((0 0,0 5,5 5,5 0,0 0),(1 1,1 2,2 2,2 1,1 1))",
    "multipoint": "MULTIPOINT(1 1,2 2)",
    "multilinestring": "MULTILINESTRING((0 0,1 1),(2 2,3 3))",
    "multipolygon": "MULTIPOLYGON(((0 0,0 1,1 1,1 0,0 0)))",
    "geometrycollection": "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))",
}


def _shapes() -> Iterable[Kind]:
    for kind, text in _SHAPES.items():
        plain, placed = f"st_geomfromtext('{text}')", f"st_geomfromtext('{text}', 4326)"
        yield Kind("shapes", kind, [plain, placed])
    yield Kind("shapes", "geometry", [f"st_geomfromtext('{t}', 4326)" for t in _SHAPES.values()])


def _vectors() -> Iterable[Kind]:
    for items in (
        [(1, 2.5, -3e-5), (0, -0.0, 1e18), (0.1, 3.3, 1e-45), (16777216, 1e20, -1)],
        [tuple(i / 7 for i in range(300))],
    ):
        values = [struct.pack(f"<{len(item)}f", *item) for item in items]
        yield Kind("vectors", f"vector({len(items[0])})", [f"x'{v.hex()}'" for v in values])


UNREADABLE: Final = [
    Kind("unreadable", "varchar(5) CHARACTER SET swe7", ["_swe7 x'7f'", "_swe7 x'617f'"]),
    Kind("unreadable", "char(5) CHARACTER SET dec8", ["_dec8 x'a4'"]),
]
"""Text that stands for nothing in its charset: it comes as it is, as bytes."""


def _of_mariadb(version: tuple[int, ...]) -> Iterable[Kind]:
    yield from ADDRESSES
    yield Kind("unreadable", "varchar(5) CHARACTER SET ucs2", ["_ucs2 x'd800'"])
    for declared in ("json", "json NOT NULL DEFAULT 'null'"):
        yield Kind("documents", declared, [*_JSON, '\' {"b":1,  "a":[ ] }\''])
    for declared in ("varchar(200)", "text", "tinytext", "longtext CHARACTER SET latin1"):
        values = ["''", "'a'", "'ä€'", "repeat('ä', 150)", "repeat('x', 200)"]
        yield Kind("texts", declared.replace(")", ") COMPRESSED").replace("text", "text COMPRESSED")
                   if "CHARACTER" not in declared else
                   "longtext COMPRESSED CHARACTER SET latin1", values)  # fmt: skip
    for declared in ("varbinary(200)", "blob", "mediumblob"):
        yield Kind("bytes", f"{declared} COMPRESSED", [*_BYTES, "repeat(x'00', 190)"])
    yield Kind("numbers", "decimal(65,38)", ["0", "-" + "9" * 27 + "." + "9" * 38, "1e-38"])
    if version >= (11, 7):
        yield from _vectors()


def _of_mysql() -> Iterable[Kind]:
    yield Kind("documents", "json", _JSON + _OPAQUE)
    yield Kind("shapes", "point SRID 4326", ["st_geomfromtext('POINT(1.5 -2)', 4326)"])
    yield from _vectors()
    yield Kind("vectors", "vector", ["x'0000803f00000040'"])


def kinds(server: MysqlServer) -> list[Kind]:
    """All ways to declare a column of a server here."""
    stamps = ["'2106-02-07 06:28:15.999999'"] if server.version >= (11, 5) else []
    charsets = [row[0] for row in server.run("SHOW CHARACTER SET") if row[0] != "binary"]
    found = [
        *_integers(),
        *_decimals(),
        *_reals(),
        *_moments(stamps),
        *TEXTS,
        *BYTES,
        *LABELS,
        *UNREADABLE,
    ]
    for charset in charsets:
        found += texts(charset)
    found += _shapes()
    return found + list(_of_mariadb(server.version) if server.is_mariadb else _of_mysql())


def printed(kind: Kind, value: Any) -> Value:
    """What the server prints as a value of a row is written."""
    match kind.group:
        case "numbers":
            return re.sub(r"^0+(?=\d)", "", str(value))
        case "floats":
            return float32(value) if kind.declared.startswith("float") else float_text(value)
        case "bits":
            width = re.search(r"\d+", kind.declared)
            assert width is not None
            return str(value).rjust(int(width[0]), "0")
        case "vectors":
            data = bytes.fromhex(value)
            items = struct.unpack(f"<{len(data) // 4}f", data)
            return "[" + ",".join(map(float32, items)) + "]"
        case "shapes" | "unreadable":
            return bytes.fromhex(value)
        case "bytes":
            return value if isinstance(value, bytes) else str(value).encode()
        case _:
            return value.decode() if isinstance(value, bytes) else str(value)


def float_text(value: float) -> str:
    return repr(value).removesuffix(".0")


def float32(value: float) -> str:
    """The shortest text that reads back as the same float of 32 bits."""
    for digits in range(1, 9):
        text = format(value, f".{digits}g")
        with suppress(OverflowError):
            if struct.unpack("<f", struct.pack("<f", float(text)))[0] == value:
                return float_text(float(text))
    return float_text(float(format(value, ".9g")))
