"""Values arrive as the database writes them, in the snapshot and in the stream alike."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from ensign_core.change import Batch
from ensign_core.formats import formatter
from tests.conftest import Database
from tests.fixtures.debezium.record import FOLDER
from tests.integration.type_samples import (
    EXTENSIONS,
    FRACTION_MAX,
    NO_VALUES,
    NO_VALUES_ARRAYS,
    NUMBER_MAX,
    samples,
)
from tests.services.postgres_capture import Capture, Seen

pytestmark = pytest.mark.every_version

STREAMED = 100
"""What is added to the ids of rows that come by the stream."""

CHANGING = {"pg_node_tree", "pg_mcv_list"}
"""Types whose samples are the server's own and change with its releases."""

COLUMNS_MAX = 60
"""Of a table here: that a row of all samples fits into a page."""

OWN_SETTINGS = [
    "datestyle = 'German, DMY'",
    "timezone = 'Asia/Kolkata'",
    "intervalstyle = 'iso_8601'",
    "bytea_output = 'escape'",
    "extra_float_digits = -5",
]
"""Defaults of a database that must not change how values are written."""

NUMBERS = {
    "smallint", "integer", "bigint", "oid", "xid", "xid8", "cid", "lo",
    "information_schema.cardinal_number",
}  # fmt: skip
FLOATS = {"real", "double precision"}
EMBEDDED = {"json", "jsonb"}

JSON: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ['"NaN"', '"Infinity"', '"-Infinity"', "-0", "3.4028235e+38", "0.1", "1e-45", "3.3"],
    "double precision": ['"NaN"', '"Infinity"', '"-Infinity"', "-0", "0.1", "1e-310", "1e+20"],
    "numeric": ['"NaN"', '"Infinity"', '"-Infinity"', '"1.10"', '"0.00000000000000000001"'],
    "money": ['"$1,234.11"', '"-$0.50"'],
    "text": ['""', r'"tab\tnewline\nreturn\rback\\slash"', r'"\\N"', r'"\\."', '"é漢🙂"', '"NULL"'],
    "character(5)": ['"ab   "', '"     "', '"漢    "'],
    '"char"': ['"x"', r'"\\"', '""', r'"\\350"'],
    "bytea": ['"AP9cbg=="', '""'],
    "date": ['"infinity"', '"-infinity"', '"0044-03-15 BC"', '"5874897-12-31"', '"2026-11-23"'],
    "time": ['"24:00:00"', '"00:00:00.000001"'],
    "timetz": ['"24:00:00-15:59:59"', '"12:00:00+05:30"', '"13:51:30.123789+02"'],
    "timestamp": ['"infinity"', '"-infinity"', '"4713-01-01 00:00:00 BC"',
                  '"294276-12-31 23:59:59.999999"', '"2026-11-23 12:00:00.5"'],
    "timestamptz": ['"infinity"', '"-infinity"', '"2026-11-23 06:30:00.5+00"',
                    '"0001-01-01 00:00:00+00 BC"'],
    "interval": ['"1 year -2 days +03:04:05.6"', '"-178000000 years"',
                 '"1 year 2 mons 3 days 04:00:00"'],
    "json": ['{"b": 1,  "a": 12345678901234567890.10, "a": 2}', "null", "[1,  2]", "1e400", '"x"'],
    "jsonb": ['{"a": 2, "b": 1}', "null", "[]"],
    "inet": ['"192.168.2.1"', '"192.168.2.0/12"', '"::1"'],
    "cidr": ['"10.0.0.0/8"', '"192.168.2.1/32"'],
    "bit(4)": ['"0010"'],
    "point": ['"(1.5,-0)"', '"(Infinity,NaN)"'],
    "xid8": ["18446744073709551615"],
    "int4range": ['"[1,6)"', '"empty"'],
    "mood": ['"ok"', r'"so, \"so\""', '""', '"naïve 🙂"', '"NULL"', r'"a\\b"'],
    "pair": [r'"(1,\"a \"\"b\"\", c\")"', r'"(,\"\")"', '"(,)"'],
    "percent": ['"99.50"'],
    "numbers": ['"{1,NULL}"', '"[0:1]={1,2}"'],
    "moment": ['"2026-11-23 06:30:00.123+00"'],
    "hstore": [r'"\"a\"=>\"1\", \"b\"=>NULL"'],
    "citext": ['"MiXed"'],
    "vector": ['"[1,2.5,-3e-10]"'],
    "geometry": ['"0101000000000000000000F03F0000000000000040"'],
    "bigint[]": ['"{-9223372036854775808,NULL}"',
                 '"{-9223372036854775808,9223372036854775807}"', '"{}"',
                 '"{{-9223372036854775808},{9223372036854775807}}"',
                 '"[0:1]={-9223372036854775808,-9223372036854775808}"'],
    "box[]": ['"{(3,4),(1,2);NULL}"'],
}  # fmt: skip
"""The first samples as the format ``json`` writes them, to the byte."""


class Kept(Capture):
    """Keeps the batches too, for the formats."""

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(dsn, **options)
        self.kept: list[Batch] = []

    def step(self, timeout_s: float = 0.2, *, ack: bool = True) -> Batch | None:
        batch = super().step(timeout_s, ack=ack)
        if batch is not None and len(batch):
            batch.topic = "t"
            self.kept.append(batch)
        return batch


class Matrix:
    """Tables that hold all samples of all types, read by both paths."""

    def __init__(self, database: Database) -> None:
        for setting in OWN_SETTINGS:
            database.run(f"ALTER DATABASE {database.name} SET {setting}")
        self.kinds = samples(database.run)
        names = list(self.kinds)
        self.tables = [names[i : i + COLUMNS_MAX] for i in range(0, len(names), COLUMNS_MAX)]
        for number, kinds in enumerate(self.tables):
            self._fill(database, f"m{number}", kinds)
        one = Kept(database.dsn, tables=["public.m*"], slot=f"slot_{database.name}")
        try:
            self.snapshot = one.caught_up()
            self.snapshot_batches, one.kept = one.kept, []
            for number in range(len(self.tables)):
                columns = database.value(
                    "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) "
                    f"FROM pg_attribute WHERE attrelid = 'm{number}'::regclass AND attnum > 1"
                )
                rows = f"SELECT id + {STREAMED}, {columns} FROM m{number} ORDER BY id"
                database.run(f"INSERT INTO m{number} {rows}")
            self.stream = one.caught_up()
            self.stream_batches = one.kept
        finally:
            one.close()

    def _fill(self, database: Database, table: str, kinds: list[str]) -> None:
        columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(kinds))
        database.run(f"CREATE TABLE {table} (id int PRIMARY KEY, {columns})")
        for row in range(max(len(self.kinds[kind]) for kind in kinds)):
            values = [v[row] if row < len(v) else "NULL" for v in map(self.kinds.get, kinds) if v]
            database.run(f"INSERT INTO {table} VALUES ({row}, {', '.join(values)})")

    def texts(self) -> Iterator[tuple[int, str, str]]:
        """Number, type and text of each sample, as the stream has it."""
        for seen in self.stream:
            row = plain(seen)
            number = number_of(seen)
            for i, kind in enumerate(self.tables[int(seen.schema.name.removeprefix("public.m"))]):
                if number < len(self.kinds[kind]):
                    yield number, kind, str(row[f"c{i}"])
                else:
                    assert row[f"c{i}"] is None

    def lines(self, batches: list[Batch], name: str) -> Iterator[tuple[str, list[bytes]]]:
        """Table and lines of all batches in one format."""
        format_ = formatter(name)
        for batch in batches:
            lines = format_.lines(batch)
            for text, index in zip(lines.texts, lines.indexes, strict=True):
                yield batch.schemas[batch.schema_ids[index]].name, [bytes(text)]

    def values(self, batches: list[Batch], name: str) -> dict[tuple[str, int], str]:
        """Type and number of a sample to its JSON, as it is written in one format."""
        found = {}
        for table, (text,) in self.lines(batches, name):
            row = members(text)
            after = members(row["after"].encode()) if name != "flat" else row
            for i, kind in enumerate(self.tables[int(table.removeprefix("public.m"))]):
                number = int(after["id"]) % STREAMED
                if number < len(self.kinds[kind]):
                    found[kind, number] = after[f"c{i}"]
        return found


def members(text: bytes) -> dict[str, str]:
    """The members of a JSON object, each as it is written."""
    source = text.decode()
    decoder = json.JSONDecoder(parse_int=len, parse_float=len)
    found = {}
    at = 1
    while source[at] != "}":
        name, at = decoder.raw_decode(source, at)
        _, end = decoder.raw_decode(source, at + 1)
        found[name] = source[at + 1 : end]
        at = end + (source[end] == ",")
    return found


_matrices: dict[int, Matrix] = {}


@pytest.fixture
def matrix(database: Database) -> Matrix:
    """One for all tests on one server."""
    port = database.server.port
    if port not in _matrices:
        _matrices[port] = Matrix(database)
    return _matrices[port]


@cache
def recorded(version: str) -> Any:
    path = FOLDER / f"postgres-{version}.json"
    return json.loads(path.read_text())["columns"] if path.exists() else {}


def number_of(seen: Seen) -> int:
    """The number of the samples in a row."""
    assert seen.new is not None
    return int(str(seen.new["id"])) % STREAMED


def plain(seen: Seen) -> dict[str, object]:
    assert seen.new is not None
    return {**seen.new, "id": ""}


def test_every_type_of_the_server_has_a_sample(database: Database) -> None:
    """A new version's new types fail here until they are in the matrix."""
    kinds = samples(database.run)
    known = {database.value("SELECT $_$" + kind + "$_$::regtype::oid") for kind in kinds}
    reasons = NO_VALUES | NO_VALUES_ARRAYS
    missing = [
        name
        for oid, name in database.run(
            "SELECT t.oid, t.typname FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid "
            "LEFT JOIN pg_type e ON e.oid = t.typelem LEFT JOIN pg_class k ON k.oid = e.typrelid "
            "WHERE t.typtype IN ('b', 'd', 'e', 'm', 'r', 'c') AND t.oid < 16384 "
            # The row types of the catalog's own tables are composites like any other.
            "AND coalesce(c.relkind, 'c') = 'c' AND coalesce(k.relkind, 'c') = 'c'"
        )
        if oid not in known and name not in reasons and str(name).lstrip("_") not in reasons
    ]
    if database.value("SELECT count(*) FROM pg_config WHERE setting LIKE '%--with-libxml%'") == 0:
        missing = [name for name in missing if name not in ("xml", "_xml")]
    assert missing == []


def test_snapshot_and_stream_give_the_same_text(matrix: Matrix) -> None:
    assert len(matrix.snapshot) == len(matrix.stream) > 0
    key = "schema"
    for first, second in zip(
        sorted(
            matrix.snapshot, key=lambda e: (getattr(e, key).name, int(str((e.new or {})["id"])))
        ),
        sorted(matrix.stream, key=lambda e: (getattr(e, key).name, int(str((e.new or {})["id"])))),
        strict=True,
    ):
        assert first.schema == second.schema
        assert plain(first) == plain(second)


def test_values_are_what_the_database_holds(matrix: Matrix, database: Database) -> None:
    """Against texts on record, and the largest numbers digit by digit."""
    version = str(int(str(database.value("SHOW server_version_num"))) // 10000)
    texts = {
        (kind, value["sample"]): value["text"]
        for kind, found in recorded(version).items()
        for value in found["values"]
        if kind not in CHANGING
    }
    for number, kind, text in matrix.texts():
        sample = matrix.kinds[kind][number]
        if NUMBER_MAX in sample:
            assert text == "9" * 131_072
        elif FRACTION_MAX in sample:
            assert text == "-0." + "1" * 16_383
        else:
            assert text == texts.get((kind, sample), text), kind


def test_json_of_every_type(matrix: Matrix) -> None:
    """As the design says for each kind of type, through the format, on both paths."""
    snapshot = matrix.values(matrix.snapshot_batches, "json")
    stream = matrix.values(matrix.stream_batches, "json")
    assert snapshot == stream
    assert len(stream) == sum(map(len, matrix.kinds.values()))
    for kind, expected in JSON.items():
        if kind in matrix.kinds:
            assert [stream[kind, i] for i in range(len(expected))] == expected, kind
    for number, kind, text in matrix.texts():
        assert stream[kind, number] == expected_json(kind, text), kind


def expected_json(kind: str, text: str) -> str:
    if kind == "boolean":
        return {"t": "true", "f": "false"}[text]
    if kind in NUMBERS or (kind in FLOATS and text[-1].isdigit()):
        return text
    if kind in EMBEDDED:
        return text.replace("\n", " ")
    if kind == "bytea":
        return f'"{base64.b64encode(bytes.fromhex(text[2:])).decode()}"'
    return json.dumps(text, ensure_ascii=False)


def test_flat_has_the_values_of_json(matrix: Matrix) -> None:
    for batches in (matrix.snapshot_batches, matrix.stream_batches):
        assert matrix.values(batches, "flat") == matrix.values(batches, "json")


def test_debezium_of_every_type(matrix: Matrix, database: Database) -> None:
    """Both paths alike, no column left out, and as in the comparison with Debezium's recordings,
    which has the same columns."""
    snapshot = matrix.values(matrix.snapshot_batches, "debezium")
    stream = matrix.values(matrix.stream_batches, "debezium")
    assert snapshot == stream
    assert len(stream) == sum(map(len, matrix.kinds.values()))
    assert "null" not in stream.values()
    columns = {
        kind: e.schema.columns[i + 1]
        for e in matrix.stream
        for i, kind in enumerate(matrix.tables[int(e.schema.name.removeprefix("public.m"))])
    }
    version = str(int(str(database.value("SHOW server_version_num"))) // 10000)
    known = recorded(version)
    # A server without an extension that the recorded one had has no columns of its types.
    listed = database.value("SELECT string_agg(name, ' ') FROM pg_available_extensions")
    offered = str(listed).split()
    absent = {kind for name, kinds in EXTENSIONS.items() if name not in offered for kind in kinds}
    assert {kind.removesuffix("[]") for kind in known.keys() - columns.keys()} <= absent
    for kind in known.keys() & columns.keys():
        found, column = known[kind], columns[kind]
        assert (column.native, column.logical) == (found["native"], found["logical"]), kind
