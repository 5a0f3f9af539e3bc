"""Charsets and collations against real servers: every character of every charset."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from connectors.mysql.charsets import decode, table
from connectors.mysql.collations import charset_of
from tests.services.mysql import MysqlServer

SEED = 20_261_125

SINGLE = (
    "armscii8 ascii cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8 "
    "keybcs2 koi8r koi8u latin1 latin2 latin5 latin7 macce macroman swe7 tis620"
)
WIDE = "big5 cp932 eucjpms euckr gb18030 gb2312 gbk sjis ujis"
UNICODE = {
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
}
ROWS_MAX = 20_000

BYTES = [bytes((byte,)) for byte in range(256)]
PAIRS = [bytes((first, second)) for first in range(0x80, 256) for second in range(256)]
TRIPLES = [
    bytes((0x8F, second, third)) for second in range(0xA1, 0xFF) for third in range(0xA1, 0xFF)
]


def of_four(number: int) -> bytes:
    """A code of four bytes of GB 18030, by its place among them."""
    return bytes((
        0x81 + number // 12_600, 0x30 + number // 1260 % 10, 0x81 + number // 10 % 126,
        0x30 + number % 10,
    ))  # fmt: skip


def codes_of(charset: str, random: Random) -> list[bytes]:
    if charset in ("ujis", "eucjpms"):
        return BYTES + PAIRS + TRIPLES
    if charset != "gb18030":
        return BYTES + PAIRS
    # All of the Basic Multilingual Plane (up to 39,419), the edges of the other planes (189,000 to
    # 1,237,575) and some inside.
    edges = [*range(39_400, 39_500), *range(188_990, 189_010), *range(1_237_560, 1_237_600)]
    inside = [random.randrange(189_000, 1_237_576) for _ in range(5000)]
    return BYTES + PAIRS + [of_four(number) for number in (*range(39_420), *edges, *inside)]


def charsets_of(mysql: MysqlServer) -> list[str]:
    return [row[0] for row in mysql.run("SHOW CHARACTER SET")]


def has(mysql: MysqlServer, charset: str) -> bool:
    """Only MySQL has GB 18030; all have the others."""
    is_there = charset in charsets_of(mysql)
    assert is_there or (mysql.is_mariadb and charset == "gb18030")
    return is_there


def converted(
    mysql: MysqlServer, database: str, codes: Iterable[bytes], charset: str
) -> list[tuple[bytes, bytes, bytes]]:
    """Codes, what the server takes each for in that charset, and that in UTF-8."""
    codes = list(codes)
    text = f"CONVERT(b USING {charset})"
    with mysql.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TEMPORARY TABLE c (b VARBINARY(4)) ENGINE = MEMORY")
        for at in range(0, len(codes), ROWS_MAX):
            values = ",".join(f"(x'{code.hex()}')" for code in codes[at : at + ROWS_MAX])
            cursor.execute(f"INSERT INTO c VALUES {values}")
        cursor.execute(
            f"SELECT b, CAST({text} AS BINARY), CAST(CONVERT({text} USING utf8mb4) AS BINARY)"
            " FROM c"
        )
        return list(cursor.fetchall())


def decoded(charset: str, code: bytes) -> bytes | None:
    try:
        return decode(charset, code)
    except ValueError:
        return None


@pytest.fixture
def database(mysql: MysqlServer) -> Iterable[str]:
    name = mysql.new_database()
    yield name
    mysql.drop_database(name)


@pytest.mark.parametrize("charset", SINGLE.split())
def test_every_byte(mysql: MysqlServer, charset: str) -> None:
    texts = table(charset)
    assert texts is not None
    selected = ", ".join(
        f"CAST(CONVERT(CONVERT(x'{byte:02x}' USING {charset}) USING utf8mb4) AS BINARY)"
        for byte in range(256)
    )
    (shown,) = mysql.run("SET sql_mode = ''", f"SELECT {selected}")
    for byte, text in enumerate(shown):
        expected = b"" if text == b"?" != bytes((byte,)) else text
        assert texts[byte] == expected
        assert (decoded(charset, bytes((byte,))) or b"") == expected
    assert decoded(charset, b"") == b""


@pytest.mark.parametrize("charset", WIDE.split())
def test_every_code_of_several_bytes(mysql: MysqlServer, database: str, charset: str) -> None:
    assert table(charset) is None
    if not has(mysql, charset):
        return
    print(f"seed {SEED}")
    codes = codes_of(charset, Random(SEED))
    valid = 0
    for code, kept, shown in converted(mysql, database, codes, charset):
        # MySQL leaves out what is no character, MariaDB has a question mark in its place, and both
        # have one for a character that Unicode has not.
        is_valid = kept == code and shown != b"" and shown.count(b"?") == code.count(b"?")
        assert decoded(charset, code) == (shown if is_valid else None), code.hex()
        valid += is_valid
    assert valid > 7000


@pytest.mark.parametrize("charset", WIDE.split())
def test_characters_behind_each_other(mysql: MysqlServer, charset: str) -> None:
    """What Python has another character for is found wherever it is, and nowhere else."""
    if not has(mysql, charset):
        return
    print(f"seed {SEED}")
    random = Random(SEED)
    valid = [code for code in codes_of(charset, random) if decoded(charset, code) is not None]
    texts = [b"".join(random.choices(valid, k=200)) for _ in range(100)]
    selected = ", ".join(
        f"CAST(CONVERT(CONVERT(x'{text.hex()}' USING {charset}) USING utf8mb4) AS BINARY)"
        for text in texts
    )
    (shown,) = mysql.run(f"SELECT {selected}")
    assert [decode(charset, text) for text in texts] == list(shown)


@pytest.mark.parametrize("charset", UNICODE)
def test_code_points(mysql: MysqlServer, database: str, charset: str) -> None:
    print(f"seed {SEED}")
    random = Random(SEED)
    plane = [*range(0xD800), *range(0xE000, 0x10000)]
    beyond = [0x10000, 0x10FFFF, *(random.randrange(0x10000, 0x110000) for _ in range(3000))]
    edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF]
    points = [*random.sample(plane, 5000), *edges]
    if charset not in ("ucs2", "utf8mb3"):
        points += beyond
    codes = {chr(point).encode(UNICODE[charset]): chr(point).encode() for point in points}
    for code, _, shown in converted(mysql, database, codes, charset):
        assert decode(charset, code) == shown == codes[code]
    assert table(charset) is None


def test_every_charset_of_the_server_is_known(mysql: MysqlServer) -> None:
    for charset in charsets_of(mysql):
        assert decode(charset, b"") == b""


def test_every_collation_of_the_server_is_known(mysql: MysqlServer) -> None:
    where = "collation_character_set_applicability" if mysql.is_mariadb else "collations"
    rows = mysql.run(f"SELECT id, character_set_name FROM information_schema.{where}")
    assert len(rows) > 250
    for number, charset in rows:
        assert charset_of(number) == ("" if charset == "binary" else charset)
