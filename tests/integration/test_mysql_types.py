"""Values arrive as the server prints them, in the snapshot and in the stream alike, whatever the
binary log has of them."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import pymysql
import pytest

from connectors.mysql.catalog import Catalog
from connectors.mysql.session import Session
from connectors.mysql.structures import Structure, fits, structure_of
from connectors.mysql.tablemap import TableMap, table_map
from connectors.mysql.types import logical, native
from ensign_core.change import Batch, Op
from ensign_core.formats import formatter
from ensign_core.rows import Value
from tests.integration.mysql_samples import SHOWN, Kind, kinds, printed
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture
from tests.services.postgres_capture import fold

COLUMNS_MAX: Final = 32
"""Of a table here."""

STRIDE: Final = 100
"""What the ids of one mode's rows begin behind those of the last."""

WORDS: Final = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection",
)  # fmt: skip
"""Names of types that MariaDB does not list as keywords."""

TABLE_MAP: Final = 19
MAGIC_SIZE: Final = 4


class Mode(NamedTuple):
    """How the server logs: its ``binlog_row_metadata`` and ``binlog_row_image``, and whether
    compressed."""

    metadata: str
    image: str
    compressed: bool

    @classmethod
    def all_of(cls, server: MysqlServer) -> list[Mode]:
        found = [
            cls("FULL", "FULL", False),
            cls("FULL", "MINIMAL", True),
            cls("MINIMAL", "FULL", True),
            cls("MINIMAL", "NOBLOB", False),
        ]
        if server.is_mariadb:
            found += [cls("NO_LOG", "MINIMAL", False), cls("NO_LOG", "FULL", True)]
            if server.version >= (11, 4):
                found.append(cls("MINIMAL", "FULL_NODUP", False))
        return found

    def begin(self, server: MysqlServer, connection: Any) -> None:
        """Of this connection from now on, and of the server."""
        on = "ON" if self.compressed else "OFF"
        server.configure(binlog_row_metadata=f"'{self.metadata}'")
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION binlog_row_image = '{self.image}'")
            if not server.is_mariadb:
                cursor.execute(f"SET SESSION binlog_transaction_compression = {on}")
        if server.is_mariadb:
            server.configure(log_bin_compress=on, log_bin_compress_min_len="10")


RESTORED: Final = {"binlog_row_metadata": "'FULL'"}
RESTORED_MARIADB: Final = {"log_bin_compress": "OFF", "log_bin_compress_min_len": "256"}


class Kept(Capture):
    """Keeps the batches too, for the formats."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept: list[Batch] = []

    def step(self, timeout_s: float = 0.2) -> Batch | None:
        batch = super().step(timeout_s)
        if batch is not None and len(batch):
            batch.topic = "t"
            self.kept.append(batch)
        return batch


class Matrix:
    """Tables with a column for every kind, ``c0`` and following, read by both paths. Rows below
    `STRIDE` come by the snapshot, those from ``STRIDE * n`` on while the server logged by mode
    n - 1, where every row was inserted, then changed in all its columns."""

    def __init__(self, server: MysqlServer) -> None:
        self.server = server
        self.kinds = kinds(server)
        self.database = server.new_database()
        self.tables = [
            self.kinds[at : at + COLUMNS_MAX] for at in range(0, len(self.kinds), COLUMNS_MAX)
        ]
        self.modes = Mode.all_of(server)
        self.rows = 1 + max(len(kind.samples) for kind in self.kinds)
        self.connection = server.connect(
            self.database,
            init_command="SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'",
        )
        for number, found in enumerate(self.tables):
            self._fill(f"t{number}", found)
        one = Kept(server, self.database)
        try:
            self.snapshot = one.caught_up()
            self.snapshot_batches, one.kept = one.kept, []
            self.log_start = server.position()
            for number, mode in enumerate(self.modes, 1):
                mode.begin(server, self.connection)
                self._stream(number * STRIDE)
            self.stream = one.caught_up()
            self.stream_batches = one.kept
        finally:
            one.close()
            server.configure(**RESTORED, **(RESTORED_MARIADB if server.is_mariadb else {}))
        self.letters = one.told.letters

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _fill(self, name: str, found: list[Kind]) -> None:
        columns = "".join(f", c{i} {kind.declared}" for i, kind in enumerate(found))
        self.run(f"CREATE TABLE {name} (id int PRIMARY KEY{columns})")
        values = [[*k.samples, *([] if "NOT NULL" in k.declared else ["NULL"])] for k in found]
        rows = (
            ", ".join([str(row), *(each[row % len(each)] for each in values)])
            for row in range(self.rows)
        )
        self.run(f"INSERT INTO {name} VALUES " + ", ".join(f"({row})" for row in rows))

    def _stream(self, first: int) -> None:
        for number, found in enumerate(self.tables):
            name, columns = f"t{number}", [f"c{i}" for i in range(len(found))]
            listed = ", ".join(columns)
            self.run(
                f"INSERT INTO {name} SELECT id + {first}, {listed} FROM {name} WHERE id < {STRIDE}"
            )
            changes = ", ".join(f"a.{column} = b.{column}" for column in columns)
            self.run(
                f"UPDATE {name} a JOIN {name} b ON b.id = (a.id - {first} + 1) % {self.rows} "
                f"SET {changes} WHERE a.id >= {first}"
            )

    @cache  # noqa: B019  # The matrix lives as long as its module.
    def shown(self, number: int) -> dict[str, dict[str, Value]]:
        """What the server prints of a table: by id, values by column."""
        found = self.tables[number]
        listed = ", ".join(SHOWN[kind.group].format(c=f"c{i}") for i, kind in enumerate(found))
        rows = self.run(f"SELECT id, {listed} FROM t{number}")
        return {
            str(row[0]): {
                f"c{i}": None if value is None else printed(kind, value)
                for i, (kind, value) in enumerate(zip(found, row[1:], strict=True))
            }
            for row in rows
        }

    @cache  # noqa: B019  # As above.
    def structure(self, name: str) -> Structure:
        """What the catalog says of a table."""
        config = Capture(self.server, self.database).config
        session = Session(config, "test")
        try:
            found = Catalog(session, mariadb=self.server.is_mariadb).table(self.database, name)
        finally:
            session.close()
        assert found is not None
        return found


@pytest.fixture(scope="module")
def matrix(mysql: MysqlServer) -> Iterator[Matrix]:
    found = Matrix(mysql)
    yield found
    found.connection.close()
    mysql.drop_database(found.database)


def test_every_type_of_the_server_has_samples(matrix: Matrix) -> None:
    """A new version's new types fail here until they are in the matrix: what the server takes for a
    type is found by its own lists of words."""
    words = {word.lower() for (word,) in matrix.run("SELECT word FROM information_schema.keywords")}
    words |= {
        name.lower()
        for (name,) in matrix.run(
            "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'DATA TYPE'"
        )
    }
    found = set()
    for word in sorted(words | set(WORDS)):
        for form in (word, f"{word}(1)", f"{word}('a')"):
            try:
                matrix.run(f"CREATE TEMPORARY TABLE probe (c {form})")
            except pymysql.Error:
                continue
            shown = matrix.run("SHOW COLUMNS FROM probe")[0][1]
            found.add(shown.decode() if isinstance(shown, bytes) else shown)
            matrix.run("DROP TEMPORARY TABLE probe")
    in_matrix = {
        kind
        for (kind,) in matrix.run(
            "SELECT DISTINCT data_type FROM information_schema.columns "
            f"WHERE table_schema = '{matrix.database}'"
        )
    }
    assert len(found) > 30
    assert {re.split(r"\W", kind)[0] for kind in found} - in_matrix == set()


def assert_shown(matrix: Matrix, number: int, state: dict[Any, dict[str, Value]]) -> None:
    shown = matrix.shown(number)
    assert [str(key[0]) for key in sorted(state, key=lambda key: int(str(key[0])))] == [
        id_ for id_ in shown if int(id_) < STRIDE or len(state) > STRIDE
    ]
    wrong = []
    for (id_,), row in state.items():
        for i, kind in enumerate(matrix.tables[number]):
            expected, got = shown[str(id_)][f"c{i}"], row[f"c{i}"]
            if expected != got:
                wrong.append((f"{kind.declared:.50}", int(str(id_)), expected, got))
    for w in wrong[:30]:
        print("WRONG", w)
    assert wrong[:20] == []


def test_snapshot(matrix: Matrix) -> None:
    for number in range(len(matrix.tables)):
        name = f"{matrix.database}.t{number}"
        assert_shown(matrix, number, fold([e for e in matrix.snapshot if e.schema.name == name]))


def test_stream(matrix: Matrix) -> None:
    for number in range(len(matrix.tables)):
        name = f"{matrix.database}.t{number}"
        seen = [e for e in matrix.snapshot + matrix.stream if e.schema.name == name]
        assert_shown(matrix, number, fold(seen))


def test_snapshot_and_stream_are_of_one_schema(matrix: Matrix) -> None:
    """Also where the log tells little: no structure seems to change."""
    schemas = {event.schema.name: event.schema for event in matrix.snapshot}
    for event in matrix.stream:
        assert event.op in (Op.INSERT, Op.UPDATE)
        known = schemas[event.schema.name]
        if event.schema is not known and event.schema != known:
            assert [
                (ours, theirs)
                for ours, theirs in zip(known.columns, event.schema.columns, strict=True)
                if ours != theirs
            ] == []
    assert matrix.letters == []


def table_maps(server: MysqlServer, start: tuple[str, int]) -> Iterator[TableMap]:
    """Those of the log's file from a place on."""
    data = (server.folder / "data" / start[0]).read_bytes()
    lengths = data[MAGIC_SIZE + 19 + 57 :]
    at = start[1]
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 9)[0]
        if data[at + 4] == TABLE_MAP:
            # The checksum is no part of an event.
            event = data[at : at + size - 4]
            yield table_map(event, lengths[TABLE_MAP - 1], server.is_mariadb)
        at += size


def test_structures_of_the_catalog_are_those_of_table_maps(matrix: Matrix) -> None:
    """Column by column, from full metadata, and from what it lacks filled up."""
    seen = set()
    for found in table_maps(matrix.server, matrix.log_start):
        key = (found.table, found.metadata.names is None, found.metadata.unsigned is None)
        if found.database != matrix.database or key in seen:
            continue
        seen.add(key)
        known = matrix.structure(found.table)
        told = structure_of(found, known)
        assert [
            (ours, theirs)
            for ours, theirs in zip(known.columns, told.columns, strict=True)
            if ours != theirs
        ] == []
        assert fits(known, found)
        assert told == known
        if found.metadata.names is None:
            continue
        # Where nothing was known before, what only the catalog tells is missing.
        for ours, theirs in zip(known.columns, structure_of(found, None).columns, strict=True):
            if not ours.special:
                assert (native(theirs), logical(theirs)) == (native(ours), logical(ours))
            assert theirs._replace(special=ours.special) == ours
    assert len(seen) >= 2 * len(matrix.tables)


JSON: Final[dict[str, list[str]]] = {
    "tinyint": ["-128", "127", "0", "-1"],
    "tinyint(1)": ["-128", "-1", "0", "1", "127"],
    "bigint unsigned": ["0", "1", "9223372036854775808", "18446744073709551615"],
    "int(6) zerofill": ["0", "42", "4294967295"],
    "year": ["0", "1901", "2155", "0", "2018", "1978", "2000"],
    "decimal(4,2)": ['"0.00"', '"0.00"', '"1.00"', '"-1.00"', '"99.99"', '"-99.99"', '"0.10"'],
    "decimal(8,3) zerofill": ['"0.000"', '"1.500"', '"0.001"', '"99999.999"'],
    "float": ["0", "-0", "1", "-1.5", "0.1", "3.3", "1e+20", "-1e-05", "1000000000000000"],
    "double": ["0", "-0", "1", "-1.5", "0.1", "3.3", "1e+20", "-1e-05", "1000000000000000"],
    "bit(9)": ['"000000000"', '"000000001"', '"111111111"', '"101010101"'],
    "date": ['"0000-00-00"', '"2015-05-00"', '"2015-00-00"', '"0001-00-00"'],
    "datetime(0)": ['"0000-00-00 00:00:00"'],
    "time(6)": ['"00:00:00.000000"', '"838:59:59.000000"', '"-838:59:59.000000"'],
    "timestamp(2) NULL": ['"0000-00-00 00:00:00.00"', '"1970-01-01 00:00:01.00"'],
    "binary(5)": ['"AAAAAAA="', '"AAAAAAA="', '"YQAAAAA="'],
    "varbinary(255)": ['""', '"AA=="', '"YQA="'],
    "enum('only')": ['"only"', '""'],
    "vector(3)": ['"[1,2.5,-3e-05]"', '"[0,-0,1e+18]"'],
    "uuid": ['"123e4567-e89b-12d3-a456-426655440000"'],
    "inet4": ['"0.0.0.0"'],
    "inet6": ['"::"', '"::1"'],
    "json": ["null", "true", "false", "0", "-1", "18446744073709551615", "1.5"],
    "point": ['"AAAAAAEBAAAAAAAAAAAA+D8AAAAAAAAAwA=="'],
}  # fmt: skip
"""The first samples as the format ``json`` writes them, to the byte."""


def lines(batches: list[Batch]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Table, op, and columns as the format writes them, of each event."""
    formatting = formatter("json")
    for batch in batches:
        for line in formatting.lines(batch).texts:
            found = json.loads(line)
            yield found["schema"], found["op"], members(line.decode())


def members(line: str) -> dict[str, str]:
    """The texts of the values of ``after``."""
    found, decoder = {}, json.JSONDecoder()
    at = line.index('"after":{') + len('"after":{')
    while line[at - 1] != "}":
        name, at = decoder.raw_decode(line, at)
        start = at + 1
        while line[start] == " ":
            start += 1
        _, end = decoder.raw_decode(line, start)
        while line[end] == " ":
            end += 1
        found[name] = line[at + 1 : end]
        at = end + 1
    return found


def as_json(kind: Kind, value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode()}"'
    assert isinstance(value, str)
    bare = kind.group == "floats" or (kind.group == "numbers" and "decimal" not in kind.declared)
    if bare or kind.group == "documents":
        return value.replace("\n", " ")
    return json.dumps(value, ensure_ascii=False)


def test_json_of_every_type(matrix: Matrix) -> None:
    """As the design says for each kind of type, through the format, on both paths."""
    shown = [matrix.shown(number) for number in range(len(matrix.tables))]
    first: dict[str, list[str]] = {}
    for batches in (matrix.snapshot_batches, matrix.stream_batches):
        for name, op, row in lines(batches):
            number = int(name.rpartition(".t")[2])
            # What is inserted is a copy of a row of the snapshot.
            id_ = int(row["id"]) if op == "update" else int(row["id"]) % STRIDE
            for i, kind in enumerate(matrix.tables[number]):
                if f"c{i}" in row:
                    expected = as_json(kind, shown[number][str(id_)][f"c{i}"])
                    assert row[f"c{i}"] == expected, kind.declared
                    if op == "snapshot":
                        first.setdefault(kind.declared, []).append(row[f"c{i}"])
    for declared, texts in JSON.items():
        if declared in first:
            # MariaDB keeps no sign of zero.
            zero = "0" if matrix.server.is_mariadb else "-0"
            expected_texts = [zero if text == "-0" else text for text in texts]
            assert first[declared][: len(texts)] == expected_texts, declared
