"""Keys that are read in ranges sort here as they sort in the server."""

from __future__ import annotations

import random
from collections.abc import Iterator

from connectors.mysql.declared import UNORDERED, ordering_of, wire
from connectors.mysql.snapshot import KeyPart, comparable
from connectors.mysql.structures import PIECE, decode
from ensign_core.change import Op
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture

ROWS = 150
CHUNK = 16
LENGTH = 64
"""More bytes than a key has here."""

LETTERS = "\0\x01\t\n\x1f !,0Aaz~\x7f"
WIDE = "\x80ßéÿĀа漢字\ud7ff\ue000\uffff"
WIDER = "🙂\U0010ffff"


INTEGERS = {
    "tinyint": (-128, 127), "boolean": (-128, 127), "smallint unsigned": (0, 65535),
    "mediumint": (-(1 << 23), (1 << 23) - 1), "int": (-(1 << 31), (1 << 31) - 1),
    "int(5) unsigned zerofill": (0, 200_000), "bigint": (-(1 << 63), (1 << 63) - 1),
    "bigint unsigned": (0, (1 << 64) - 1), "year": (1901, 2155),
}  # fmt: skip
MOMENTS = ("date", "datetime", "datetime(1)", "datetime(6)", "timestamp(3)", "timestamp")
BYTES = ("binary(4)", "varbinary(6)")


def values(draw: random.Random, declared: str, charset: str) -> Iterator[str]:
    """Random values as SQL."""
    for _ in range(ROWS):
        if declared in INTEGERS:
            yield str(draw.randint(*INTEGERS[declared]))
        elif declared in BYTES:
            yield f"X'{draw.randbytes(draw.randrange(5)).hex()}'"
        elif declared in MOMENTS:
            year = (
                draw.choice((1971, 1999, 2000, 2037))
                if declared[0] == "t"
                else (draw.choice((0, 1, 999, 1000, 9999)))
            )
            day = f"{year:04}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
            yield f"'{day} {draw.randrange(24):02}:00:{draw.randrange(60) / 7:09.6f}'"
        else:
            letters = LETTERS
            if charset != "ascii":
                letters += WIDE + (WIDER if charset == "utf8mb4" else "")
            value = "".join(draw.choices(letters, k=draw.randrange(5)))
            value += " " * draw.choice((0, 0, 1, 2))
            yield f"_utf8mb4 X'{value.encode('utf-8', 'surrogatepass').hex()}'"


def claims(server: MysqlServer) -> dict[str, tuple[str, str]]:
    """Declarations whose order is claimed to be known, with charset and collation."""
    found = dict.fromkeys((*INTEGERS, *MOMENTS, *BYTES), ("", ""))
    collations = server.run(
        "SELECT character_set_name, collation_name FROM information_schema.collations "
        "WHERE character_set_name IS NOT NULL"
    )
    for charset, collation in collations:
        for kind in ("char(8)", "varchar(8)"):
            column = wire("k", kind, str(charset), nullable=False, mariadb=server.is_mariadb)
            sorts = ordering_of(column, str(collation), mariadb=server.is_mariadb)
            if charset != "binary" and sorts != UNORDERED:
                declared = f"{kind} CHARACTER SET {charset} COLLATE {collation}"
                found[declared] = (str(charset), str(collation))
    return found


def test_keys_sort_as_in_the_server(mysql: MysqlServer) -> None:
    """Every kind of key whose order is claimed to be known: its rows are read in ranges, each
    once, and in the order that the server has and that our own comparison has."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    draw = random.Random(seed)
    database = mysql.new_database()
    found = claims(mysql)
    assert sum(1 for charset, _ in found.values() if charset) >= 6
    setting = "SET sql_mode = '', time_zone = '+00:00'"
    with mysql.connect(database, init_command=setting) as connection:
        cursor = connection.cursor()
        for number, (declared, (charset, _)) in enumerate(found.items()):
            cursor.execute(f"CREATE TABLE t{number} (k {declared} PRIMARY KEY, n serial)")
            rows = ",".join(f"({value})" for value in values(draw, declared, charset))
            cursor.execute(f"INSERT IGNORE INTO t{number} (k) VALUES {rows}")
        one = Capture(mysql, database, chunk_rows=CHUNK)
        try:
            one.caught_up()
            assert one.source is not None
            for number, declared in enumerate(found):
                events = one.of(f"{database}.t{number}")
                assert {event.op for event in events} == {Op.SNAPSHOT}
                read = [str((event.new or {})["n"]) for event in events]
                cursor.execute(f"SELECT n FROM t{number} ORDER BY k")
                assert read == [str(n) for (n,) in cursor.fetchall()], declared
                known = decode(one.told.pieces[f"{PIECE}{database}.t{number}"])
                assert known.ordering != (UNORDERED,), declared
                part = KeyPart("k", known.ordering[0], LENGTH)
                keys = [(event.new or {})["k"] for event in events]
                raw = [k if isinstance(k, bytes) else str(k).encode() for k in keys]
                compared = [comparable(part, each) for each in raw]
                assert compared == sorted(compared), declared
                assert len(set(compared)) == len(compared), declared
        finally:
            one.close()
    mysql.drop_database(database)
