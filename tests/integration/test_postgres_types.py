"""Values arrive as the database writes them, in the snapshot and in the stream alike."""

from __future__ import annotations

import pytest

from tests.conftest import Database
from tests.services.postgres_capture import Capture

pytestmark = pytest.mark.every_version

VALUES: dict[str, list[str]] = {
    "boolean": ["true", "false", "NULL"],
    "smallint": ["-32768", "32767"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1.10", "1e-20", "1e40"],
    "numeric(10,3)": ["1.1", "-0.001"],
    "real": ["'NaN'", "'-Infinity'", "'-0'", "3.4028235e38", "0.1"],
    "double precision": ["'Infinity'", "'-0'", "0.1", "1e-310", "123456789012345680"],
    "text": ["''", "E'tab\\tnewline\\nreturn\\rback\\\\slash'", "'\\N'", "E'\\\\.'", "'é漢🙂'"],
    "varchar(9)": ["'a '"],
    "char(5)": ["'ab'", "''"],
    '"char"': ["'x'"],
    "name": ["'n'"],
    "bytea": ["'\\x00ff5c6e'", "''"],
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'2026-11-23'"],
    "time": ["'24:00:00'", "'00:00:00.000001'"],
    "timetz": ["'24:00:00-15:59:59'", "'12:00+05:30'"],
    "timestamp": ["'infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'"],
    "timestamptz": ["'-infinity'", "'2026-11-23 12:00:00.5+05:30'", "'0001-01-01 BC'"],
    "interval": ["'1 year -2 days 03:04:05.6'", "'-178000000 years'", "'P1Y2M3DT4H'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ['\'{"b": 1,  "a": 12345678901234567890.10, "a": 2}\'', "'null'"],
    "jsonb": ['\'{"b": 1,  "a": 12345678901234567890.10}\''],
    "xml": ["'<a>x</a>'"],
    "inet": ["'192.168.2.1'", "'192.168.2.0/12'", "'::1'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "bit(4)": ["B'0010'"],
    "varbit": ["B''", "B'10101'"],
    "money": ["1234.11", "-0.5"],
    "point": ["'(1.5,-0)'"],
    "box": ["'((1,2),(3,4))'"],
    "tsvector": ["'fat cat ''it''''s'''"],
    "tsquery": ["'fat & !rat'"],
    "int[]": ["'{}'", "'[0:1]={1,NULL}'", "'{{1,2},{3,4}}'"],
    "text[]": ["ARRAY['NULL', NULL, '', 'a,b', '\"q\"', 'b\\s', E'\\t']"],
    "int4range": ["'[1,5]'", "'empty'", "'(,3)'"],
    "tstzrange": ["'[2026-01-01 00:00+00, infinity)'"],
    "int4multirange": ["'{[1,2], [5,6]}'"],
    "oid": ["4294967295"],
    "regclass": ["'pg_class'"],
    "regtype": ["'mood'"],
    "mood": ["'ok'"],
    "pair": ["ROW(1, 'a \"b\", c')", "ROW(NULL, '')"],
    "percent": ["99.50"],
    "percent[]": ["'{1.5,2}'"],
}


def test_snapshot_and_stream_give_the_same_text(database: Database) -> None:
    kinds = dict(VALUES)
    if database.value("SELECT count(*) FROM pg_config WHERE setting LIKE '%--with-libxml%'") == 0:
        del kinds["xml"]
    database.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN share AS numeric(5, 2)",
        "CREATE DOMAIN percent AS share CHECK (value <= 100)",
        f"ALTER DATABASE {database.name} SET datestyle = 'German, DMY'",
        f"ALTER DATABASE {database.name} SET timezone = 'Asia/Kolkata'",
        f"ALTER DATABASE {database.name} SET intervalstyle = 'iso_8601'",
        f"ALTER DATABASE {database.name} SET bytea_output = 'escape'",
        f"ALTER DATABASE {database.name} SET extra_float_digits = -5",
    )
    columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(kinds))
    rows = max(len(values) for values in kinds.values())
    tuples = [
        ", ".join(f"({v[min(row, len(v) - 1)]})::{kind}" for kind, v in kinds.items())
        for row in range(rows)
    ]
    database.run(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    for row, values in enumerate(tuples):
        database.run(f"INSERT INTO t VALUES ({row}, {values})")
    one = Capture(database.dsn, tables=["public.t"], slot=f"slot_{database.name}")
    try:
        snapshot = one.caught_up()
        names = ", ".join(f"c{i}" for i in range(len(kinds)))
        database.run(f"INSERT INTO t SELECT id + {rows}, {names} FROM t ORDER BY id")
        stream = one.caught_up()
    finally:
        one.close()
    assert len(snapshot) == len(stream) == rows
    for first, second in zip(snapshot, stream, strict=True):
        assert first.schema == second.schema
        assert first.new is not None
        assert second.new is not None
        assert {**first.new, "id": ""} == {**second.new, "id": ""}
    texts = {k: [e.new and e.new[f"c{i}"] for e in stream] for i, k in enumerate(kinds)}
    assert texts["boolean"][:3] == ["t", "f", None]
    assert texts["char(5)"][:2] == ["ab   ", "     "]
    assert texts["inet"][0] == "192.168.2.1"
    assert texts["interval"][0] == "1 year -2 days +03:04:05.6"
    assert texts["bytea"][0] == "\\x00ff5c6e"
    assert texts["timestamptz"][1] == "2026-11-23 06:30:00.5+00"
    assert texts["text"][:4] == ["", "tab\tnewline\nreturn\rback\\slash", "\\N", "\\."]
    assert texts["double precision"][2] == "0.1"
    assert {c.name: c.native for c in stream[0].schema.columns}[f"c{len(kinds) - 2}"] == (
        "numeric(5,2)"
    )
