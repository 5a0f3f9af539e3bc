"""Documents of real MySQL servers: what is read from the binary log is what SELECT prints."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from connectors.mysql.binaryjson import json_patched, json_text
from tests.services.binlog_rows import Written, written
from tests.services.mysql import MysqlServer, installations

if TYPE_CHECKING:
    from tests.services.mysql import Connection

SEED = 20_261_125

DOCUMENTS = [
    """'{"a": 1, "b": [1, 2.5, "x"], "c": null, "d": {"e": [true, false]}}'""",
    """'[]'""", """'{}'""", """'null'""", """'true'""", """'"x"'""", """'7'""", """'-0.0'""",
    """'[1e20, 1e-7, -0.0, 0.1, 1e15, 1e14, 1.5e-16, 1234567890123456.8, 5e-324]'""",
    """'{"": {"": ""}, "b": 1, "a": 2, "aa": 3, "é": 4, "😀": "😀"}'""",
    """'"\\\\u0000\\\\u001f\\\\u007f\\\\ud83d\\\\ude00\\\\\\\\\\\\"/\\\\b\\\\f\\\\n\\\\r\\\\t"'""",
    f"'{'[' * 100}{']' * 100}'", f"""'{'{"a":' * 99}1{"}" * 99}'""",
    """json_array(18446744073709551615, -9223372036854775808, 65535, 65536, -32768, -32769, 32767,
        32768, 2147483647, 2147483648, -2147483648, -2147483649, 4294967295, 4294967296)""",
    """json_array(cast(0 as decimal(10, 2)), cast(-123456789.123 as decimal(30, 10)),
        cast(12 as decimal(2, 0)), cast(0.5 as decimal(1, 1)), cast(-0.05 as decimal(10, 2)),
        123456789012345678901234567890.123456789012345678901234567890)""",
    "cast(1.10 as json)",
    """json_array(date'2020-01-02', cast('10:11:12.5' as time(3)), cast('-838:59:59' as time),
        timestamp'2020-01-02 03:04:05.25', time'-00:00:00.000001', date'9999-12-31')""",
    "json_array(st_geomfromtext('point(1 2)'), cast(2020 as year), 0.1e0, 1 / 3, b'1', x'')",
    "json_array(cast('[1]' as json), convert('é' using latin1), _latin1 x'e9')",
    *(f"json_array(repeat(x'ff', {size}))" for size in (1, 2, 56, 57, 58, 114, 115, 500)),
    *(f"json_array(repeat('x', {size}))" for size in (127, 128, 16383, 16384, 65530, 65536)),
    "json_array(repeat('x', 70000), -5, 70000, true, null, -70000, 1.5)",
    "json_object(repeat('k', 65535), 1, 'z', repeat('y', 70000), 'n', null, 'i', -2000000000)",
    "null",
]  # fmt: skip

FILLER = "x" * 600
"""Without it a whole document would be shorter than its changes, and be written instead."""
UPDATED = [
    '{"a": 1, "b": [1, 2.5, "x"], "c": {"d": {"e": null}}, "filler": "' + FILLER + '"}',
    '[1, [2, 3], {"k": "v"}, "' + FILLER + '"]',
    '{"x y": 1, "é": [1], "a\\"b": {"1": 2, "$": 3, "_1": 4, "": 5}, "f": "' + FILLER + '"}',
]
UPDATES = [
    "json_set(doc, '$.a', 2)",
    """json_set(doc, '$.z', 2, '$.c.d.f', cast('{"q": [1]}' as json))""",
    "json_replace(doc, '$.b[1]', 'new', '$.c', json_array())",
    "json_remove(doc, '$.c.d', '$.a')",
    "json_set(doc, '$.b[7]', 1)",
    "json_set(doc, '$[1][1]', date'2020-01-01', '$[last]', 1, '$[last-2]', 2)",
    "json_remove(doc, '$[1][0]', '$[0]')",
    "json_remove(doc, '$[last]')",
    """json_set(doc, '$."x y"', 1.5, '$."é"[0]', cast(1.50 as json))""",
    """json_replace(doc, '$."a\\\\"b".""', 0, '$."a\\\\"b"."$"', 1)""",
    """json_remove(doc, '$."a\\\\"b"._1')""",
    "json_set(json_remove(doc, '$.a'), '$.bb', true, '$.ab', false)",
    """json_set(doc, '$."new\\\\u0001"', 1, '$.é', 'ü')""",
    "json_array_insert(doc, '$[1]', 'in')",
    "json_array_append(doc, '$.b', 3)",
]


@pytest.fixture(scope="module", params=[n for n in installations() if n.startswith("mysql")])
def server(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """MariaDB has no binary JSON."""
    with MysqlServer(installations()[request.param]) as started:
        yield started


@pytest.fixture
def connection(server: MysqlServer) -> Iterator[Connection]:
    database = server.new_database()
    server.run("CREATE TABLE t (id INT PRIMARY KEY, doc JSON)", database=database)
    with server.connect(database) as opened:
        yield opened
    server.drop_database(database)


def changed(server: MysqlServer, connection: Connection, *statements: str) -> list[Written]:
    """What statements wrote into the binary log."""
    file, start = server.position()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    return written(server.folder / "data", file, start)


def shown(connection: Connection) -> dict[int, str | None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, doc FROM t")
        return dict(cursor.fetchall())


def inserting(documents: list[str]) -> str:
    return "INSERT INTO t VALUES " + ",".join(f"({n},{doc})" for n, doc in enumerate(documents))


def test_documents_read_as_the_server_shows_them(
    server: MysqlServer, connection: Connection
) -> None:
    rows = changed(server, connection, inserting(DOCUMENTS))
    assert len(rows) == len(DOCUMENTS)
    texts = shown(connection)
    for number, doc, *_ in rows:
        assert (None if doc is None else json_text(doc).decode()) == texts[number]


def any_double(random: Random) -> float:
    """Of any size, of few digits, and powers of two, where digits are hard to find."""
    kind = random.randrange(4)
    if kind == 0:
        (value,) = struct.unpack("<d", random.randbytes(8))
        return float(value) if abs(value) < float("inf") else 0.0
    if kind == 1:
        return float(f"{random.randrange(10 ** random.randrange(1, 18))}e{random.randint(-25, 25)}")
    if kind == 2:
        return round(random.uniform(-1e6, 1e6), random.randrange(6))
    return 2.0 ** random.randrange(-1074, 1023) * random.choice((1, -1, 3, 0.1))


def any_document(random: Random, depth: int) -> Any:
    kind = random.randrange(9 if depth else 6)
    if kind == 0:
        return random.choice((None, True, False))
    if kind == 1:
        return random.randint(-(1 << random.randrange(64)), 1 << random.randrange(64))
    if kind in (2, 3):
        return any_double(random)
    if kind in (4, 5):
        return any_text(random)
    if kind == 6:
        return [any_document(random, depth - 1) for _ in range(random.randrange(6))]
    return {any_text(random): any_document(random, depth - 1) for _ in range(random.randrange(6))}


def any_text(random: Random) -> str:
    alphabet = random.choice(('ab"\\/\n\t\x00\x1f\x7f', "xyz éß", "日本語😀"))
    return "".join(random.choices(alphabet, k=random.randrange(random.choice((4, 12, 200)))))


def test_random_documents_read_as_the_server_shows_them(
    server: MysqlServer, connection: Connection
) -> None:
    print(f"seed {SEED}")
    random = Random(SEED)
    documents = [
        connection.escape(json.dumps(any_document(random, 4), ensure_ascii=False))
        for _ in range(10_000)
    ]
    rows = changed(server, connection, inserting(documents))
    assert len(rows) == len(documents)
    texts = shown(connection)
    for number, doc, *_ in rows:
        assert doc is not None
        assert json_text(doc).decode() == texts[number]


def any_update(random: Random) -> str:
    """The functions that make partial updates, within each other."""
    update = "doc"
    for _ in range(random.randint(1, 4)):
        path = "$" + "".join(random.choices(LEGS, k=random.choice((1, 1, 2, 3))))
        name = random.choice(("set", "set", "replace", "remove"))
        value = "" if name == "remove" else f", {random.choice(VALUES)}"
        update = f"json_{name}({update}, '{path}'{value})"
    return update


CELLS = ["[0]", "[1]", "[5]", "[last]", "[last-1]"]
LEGS = [".a", ".b", ".c", ".d", ".zz", '."x y"', ".é", '.""', '."a\\\\"b"', *CELLS]
VALUES = [
    "1", "-70000", "1.5", "0.1e0", "'text'", "null", "true", "json_array(1, json_array())",
    "json_object('a', 1, 'zz', json_array(2, 3), 'b', 'c')", "date'2020-01-01'", "x'00ff'",
    "repeat('long ', 20)",
]  # fmt: skip


@pytest.mark.parametrize("chosen", ["listed", "random"])
def test_partial_updates_give_the_documents_that_the_server_has(
    server: MysqlServer, connection: Connection, chosen: str
) -> None:
    print(f"seed {SEED}")
    random = Random(SEED)
    updates = UPDATES if chosen == "listed" else [any_update(random) for _ in range(500)]
    with connection.cursor() as cursor:
        cursor.execute("SET binlog_row_value_options = 'PARTIAL_JSON'")
    partial = 0
    for at, update in enumerate(updates):
        if at % 20 == 0:
            documents = [connection.escape(doc) for doc in UPDATED]
            changed(server, connection, "DELETE FROM t", inserting(documents))
        before = shown(connection)
        rows = changed(server, connection, f"UPDATE t SET doc = {update}")
        after = shown(connection)
        for number, doc, old, is_partial in rows:
            assert doc is not None
            assert old is not None
            # An old document may have been changed in its place, and have gaps.
            assert json_text(old).decode() == before[number]
            found = json_patched(old, doc) if is_partial else json_text(doc)
            assert found.decode() == after[number]
            partial += is_partial
    assert partial > len(updates) // 2
