"""Values of every type of PostgreSQL, as SQL expressions: what the tests of values run through.

`SAMPLES` are built-in types, `MADE` those that `SETUP` makes, `EXTENSIONS` those of extensions that
a server may have. Each expression is cast to its type; ``NULL`` needs no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

ASCII = "(SELECT string_agg(chr(i), '' ORDER BY i) FROM generate_series(1, 127) i)"
NUMBER_MAX = "repeat('9', 131072)::numeric"
FRACTION_MAX = "('-0.' || repeat('1', 16383))::numeric"

SAMPLES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "3.4028235e38", "0.1", "1e-45", "3.3",
             "16777216"],
    "double precision": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "1e-310", "1e20",
                         "123456789012345680", "1.7976931348623157e308", "5e-324"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1.10", "1e-20", "1e40", "0", "-0.00",
                "-128", FRACTION_MAX, NUMBER_MAX],
    "numeric(10,3)": ["1.1", "-0.001", "'NaN'"],
    "numeric(5,0)": ["128", "-99999"],
    "numeric(3,-2)": ["12345", "-1200", "0"],
    "numeric(2,5)": ["0.00012"],
    "numeric(30,12)": ["123456789012345678.123456789012", "-1"],
    "money": ["1234.11", "-0.5", "0", "-92233720368547758.08", "92233720368547758.07"],
    "text": ["''", "E'tab\\tnewline\\nreturn\\rback\\\\slash'", "'\\N'", "E'\\\\.'", "'é漢🙂'",
             "'NULL'", ASCII, "repeat('long', 50000)"],
    "character varying": ["'a '"],
    "character varying(9)": ["'a '", "'漢字'"],
    "character(5)": ["'ab'", "''", "'漢'"],
    "character": ["'x'"],
    "bpchar": ["'ab '"],
    '"char"': ["'x'", "E'\\\\'", "''", "E'\\\\350'", "chr(1)"],
    "name": ["'n'", "'Odd \"name\"'"],
    "bytea": ["'\\x00ff5c6e'", "''", "decode(repeat('ab', 5000), 'hex')"],
    "date": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'2026-11-23'",
             "'1970-01-01'", "'0001-01-01'", "'4714-11-24 BC'", "'1582-10-10'", "'12026-11-23'"],
    "time": ["'24:00:00'", "'00:00:00.000001'", "'13:51:30'", "'23:59:59.999999'"],
    "time(0)": ["'13:51:30'", "'24:00:00'"],
    "time(3)": ["'13:51:30.123'", "'24:00:00'"],
    "time(4)": ["'13:51:30.1234'"],
    "timetz": ["'24:00:00-15:59:59'", "'12:00+05:30'", "'13:51:30.123789+02'", "'24:00:00+00'",
               "'00:30:00+05:45'", "'00:00:00+15:59:59'", "'13:51:30.5+00'"],
    "timetz(2)": ["'13:51:30.12+02'"],
    "timestamp": ["'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'",
                  "'294276-12-31 23:59:59.999999'", "'2026-11-23 12:00:00.5'", "'0001-01-01'",
                  "'12026-11-23'", "'1969-12-31 23:59:59.999999'", "'0044-03-15 12:00 BC'"],
    "timestamp(0)": ["'2026-11-23 12:00:00'", "'infinity'", "'0044-03-15 12:00 BC'"],
    "timestamp(3)": ["'2026-11-23 12:00:00.123'", "'-infinity'", "'294276-12-31 23:59:59.999'"],
    "timestamp(5)": ["'2026-11-23 12:00:00.12345'"],
    "timestamptz": ["'infinity'", "'-infinity'", "'2026-11-23 12:00:00.5+05:30'",
                    "'0001-01-01 BC'", "'0044-03-15 12:00+00 BC'", "'12026-11-23+00'",
                    "'294276-12-31 23:59:59.999999+00'", "'4713-01-01 00:00:00+00 BC'",
                    "'2026-11-23 12:00:00+00'", "'1883-11-18 12:00:00.123456+00'"],
    "timestamptz(0)": ["'2026-11-23 12:00:00+00'", "'12026-11-23+00'"],
    "timestamptz(2)": ["'2026-11-23 12:00:00.1+02'"],
    "timestamptz(3)": ["'2026-11-23 12:00:00.12+02'"],
    "interval": ["'1 year -2 days 03:04:05.6'", "'-178000000 years'", "'P1Y2M3DT4H'", "'0'",
                 "'-00:00:01.5'", "'2562047788 hours 54.775807 seconds'", "'-1 mon'",
                 "'1 year 2 mons 3 days 04:05:06.789'"],
    "interval(2)": ["'00:00:01.25'"],
    "interval day to second": ["'3 days 04:05:06'"],
    "interval year to month": ["'1-2'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ['\'{"b": 1,  "a": 12345678901234567890.10, "a": 2}\'', "'null'", "E'[1,\\n 2]'",
             "'1e400'", '\'"x"\''],
    "jsonb": ['\'{"b": 1,  "a": 12345678901234567890.10, "a": 2}\'', "'null'", "'[]'", "'1e400'"],
    "jsonpath": ["'$.a[*] ? (@ > 2)'"],
    "xml": ["'<a>x</a>'", "E'<a>\\n<b/></a>'"],
    "inet": ["'192.168.2.1'", "'192.168.2.0/12'", "'::1'", "'fe80::1/64'"],
    "cidr": ["'10.0.0.0/8'", "'192.168.2.1/32'", "'::/0'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(1)": ["B'1'", "B'0'"],
    "bit(4)": ["B'0010'", "B'0000'"],
    "bit(9)": ["B'100000000'", "B'000000001'"],
    "bit(64)": ["B'1'::bit(64)", "'xFFFFFFFFFFFFFFFF'"],
    "bit varying": ["B''", "B'10101'", "B'0000000000'", "B'00000000100000000'"],
    "bit varying(1)": ["B'1'", "B'0'", "B''"],
    "bit varying(5)": ["B'10101'", "B'0'", "B'1'"],
    "point": ["'(1.5,-0)'", "'(Infinity,NaN)'", "'(1e-310,1e20)'"],
    "line": ["'{1,2,3}'"],
    "lseg": ["'[(1,2),(3,4)]'"],
    "box": ["'((1,2),(3,4))'"],
    "path": ["'((1,2),(3,4))'", "'[(1,2),(3,4)]'"],
    "polygon": ["'((1,2),(3,4),(5,6))'"],
    "circle": ["'<(1,2),3>'"],
    "tsvector": ["'fat cat ''it''''s'''", "'a:1A cat:5'", "''"],
    "tsquery": ["'fat & !rat'", "'super:*'"],
    "oid": ["4294967295", "0"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "cid": ["'4294967295'"],
    "tid": ["'(0,1)'"],
    "pg_lsn": ["'16/B374D848'"],
    "pg_snapshot": ["'10:20:10,14,15'"],
    "txid_snapshot": ["'10:20:10,14,15'"],
    "refcursor": ["'portal'"],
    "aclitem": ["'postgres=r/postgres'"],
    "regclass": ["'pg_class'", "'0'"],
    "regtype": ["'integer'"],
    "regproc": ["'now'"],
    "regprocedure": ["'abs(numeric)'"],
    "regoper": ["'|/'"],
    "regoperator": ["'+(integer,integer)'"],
    "regrole": ["'postgres'"],
    "regnamespace": ["'pg_catalog'"],
    "regconfig": ["'english'"],
    "regdictionary": ["'simple'"],
    "regcollation": ["'\"C\"'"],
    "int2vector": ["'1 2 -3'", "''"],
    "oidvector": ["'1 2 3'"],
    "int4range": ["'[1,5]'", "'empty'", "'(,3)'", "'(,)'"],
    "int8range": ["'[1,9223372036854775806]'"],
    "numrange": ["'(1.50,2.0]'", "'[NaN,)'"],
    "daterange": ["'[2026-01-01,infinity)'", "'[0044-03-15 BC,2026-01-01]'"],
    "tsrange": ["'[2026-01-01 00:00, 2026-02-01 12:30)'", "'[,infinity]'"],
    "tstzrange": ["'[2026-01-01 00:00+00, infinity)'", "'(-infinity,2026-01-01 12:00+05:30]'"],
    "int4multirange": ["'{[1,2], [5,6]}'", "'{}'"],
    "int8multirange": ["'{[1,2]}'"],
    "nummultirange": ["'{[1.5,2.5)}'"],
    "datemultirange": ["'{[2026-01-01,2026-02-01)}'"],
    "tsmultirange": ["'{[2026-01-01 00:00,2026-02-01 12:30)}'"],
    "tstzmultirange": ["'{[2026-01-01 00:00+00,2026-02-01 12:30+02)}'"],
    "pg_node_tree": ["(SELECT ev_action FROM pg_rewrite ORDER BY oid LIMIT 1)"],
    "pg_ndistinct": ["(SELECT stxdndistinct FROM pg_statistic_ext_data LIMIT 1)"],
    "pg_dependencies": ["(SELECT stxddependencies FROM pg_statistic_ext_data LIMIT 1)"],
    "pg_mcv_list": ["(SELECT stxdmcv FROM pg_statistic_ext_data LIMIT 1)"],
    "information_schema.cardinal_number": ["7"],
    "information_schema.character_data": ["'data'"],
    "information_schema.sql_identifier": ["'name'"],
    "information_schema.time_stamp": ["'2026-11-23 12:00:00.12+00'"],
    "information_schema.yes_or_no": ["'YES'"],
}  # fmt: skip

SINCE: dict[int, dict[str, list[str]]] = {170000: {"interval": ["'infinity'", "'-infinity'"]}}
"""Values that servers take from a version on (``server_version_num``)."""

NO_VALUES: dict[str, str] = {
    "gtsvector": "lives in GiST indexes only and has no input function",
    "pg_brin_bloom_summary": "lives in BRIN indexes only and has no input function",
    "pg_brin_minmax_multi_summary": "lives in BRIN indexes only and has no input function",
}
"""Built-in types of which no column can hold a value, and why."""

NO_VALUES_ARRAYS: dict[str, str] = {"_cstring": "its element is a pseudo-type: no SQL makes one"}

SETUP: list[str] = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'so, \"so\"', '', 'naïve 🙂', 'NULL', 'a\\b')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE TYPE nested AS (p pair, many pair[], at timestamptz, m mood)",
    "CREATE DOMAIN share AS numeric(5, 2)",
    "CREATE DOMAIN percent AS share CHECK (value <= 100)",
    "CREATE DOMAIN numbers AS int[] CHECK (array_length(value, 1) < 9)",
    "CREATE DOMAIN couple AS pair CHECK ((value).a > 0)",
    "CREATE DOMAIN feeling AS mood",
    "CREATE DOMAIN moment AS timestamptz(3)",
    'CREATE TYPE "Odd ""type"" [x]" AS ENUM (\'one\')',
    "CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi)",
    "CREATE TYPE texts AS RANGE (subtype = text, collation = \"C\")",
    "CREATE TABLE stats (a int, b int)",
    "INSERT INTO stats SELECT i % 10, i % 5 FROM generate_series(1, 100) i",
    "CREATE STATISTICS s (ndistinct, dependencies, mcv) ON a, b FROM stats",
    "ANALYZE stats",
]  # fmt: skip

MADE: dict[str, list[str]] = {
    "mood": ["'ok'", "'so, \"so\"'", "''", "'naïve 🙂'", "'NULL'", "'a\\b'"],
    "pair": ["ROW(1, 'a \"b\", c')", "ROW(NULL, '')", "ROW(NULL, NULL)"],
    "nested": [
        "ROW(ROW(1, 'a'), ARRAY[ROW(1, ','), ROW(NULL, '\"')]::pair[], '2026-11-23+05', 'a\\b')"
    ],
    "percent": ["99.50", "-1.5"],
    "numbers": ["'{1,NULL}'", "'[0:1]={1,2}'"],
    "couple": ["ROW(1, 'x')"],
    "feeling": ["'ok'"],
    "moment": ["'2026-11-23 12:00:00.1234+05:30'"],
    '"Odd ""type"" [x]"': ["'one'"],
    "floats": ["'[1.5,Infinity)'", "'empty'"],
    "texts": ['\'["a,b","c""d\\\\")\''],
    "floats_multirange": ["'{[1,2),[3,4)}'"],
}

EXTENSIONS: dict[str, dict[str, list[str]]] = {
    "hstore": {
        "hstore": ["'a=>1, b=>NULL'", "''", "'\"\"=>\"\"'",
                   '\'"a=>b"=>"c, \\"d\\"", "\\\\"=>"é🙂"\'']
    },
    "citext": {"citext": ["'MiXed'", "''"]},
    "ltree": {
        "ltree": ["'Top.Science.Astronomy'", "''"],
        "lquery": ["'Top.*{2}.!x'"],
        "ltxtquery": ["'Europe & Russia*@ & !Transportation'"],
    },
    "cube": {"cube": ["'(1,2),(3,4)'", "'(1.5)'"]},
    "seg": {"seg": ["'1.50 .. 2'"]},
    "isn": {
        "isbn": ["'978-0-393-04002-9'"],
        "isbn13": ["'978-0-393-04002-9'"],
        "issn": ["'1436-4522'"],
        "issn13": ["'1436-4522'"],
        "ismn": ["'979-0-060-11561-5'"],
        "ismn13": ["'979-0-060-11561-5'"],
        "ean13": ["'979-0-060-11561-5'"],
        "upc": ["'220356483481'"],
    },
    "intarray": {"query_int": ["'1&(2|3)'"]},
    "lo": {"lo": ["7"]},
    "vector": {
        "vector": ["'[1,2.5,-3e-10]'"],
        "vector(3)": ["'[1,2,3]'"],
        "halfvec": ["'[1,2.5,-65504]'"],
        "halfvec(2)": ["'[0.1,1]'"],
        "sparsevec": ["'{1:1.5,5:-2}/5'", "'{}/3'"],
        "sparsevec(5)": ["'{1:1.5}/5'"],
    },
    "postgis": {
        "geometry": ["'POINT(1 2)'", "'SRID=4326;LINESTRING(0 0,1 1)'", "'POINT EMPTY'",
                     "'POINT ZM (1 2 3 4)'"],
        "geometry(Point,4326)": ["'SRID=4326;POINT(1.5 -2)'"],
        "geography": ["'POINT(13.4 52.5)'"],
        "geography(Point,4326)": ["'POINT(13.4 52.5)'"],
        "box2d": ["'BOX(1 2,3 4)'"],
        "box3d": ["'BOX3D(1 2 3,4 5 6)'"],
    },
}  # fmt: skip


def samples(
    run: Callable[[str], list[tuple[object, ...]]], *, arrays: bool = True
) -> dict[str, list[str]]:
    """Make the types and extensions in a database that ``run`` runs statements in; all types that
    it has then, with their values as expressions of their type."""
    found = dict(SAMPLES)
    (libxml,) = run("SELECT count(*) FROM pg_config WHERE setting LIKE '%--with-libxml%'")[0]
    if not libxml:
        del found["xml"]
    version = int(str(run("SELECT current_setting('server_version_num')")[0][0]))
    for since, types in SINCE.items():
        if version >= since:
            found |= {kind: found[kind] + values for kind, values in types.items()}
    for statement in SETUP:
        run(statement)
    found |= MADE
    present = {name for (name,) in run("SELECT name FROM pg_available_extensions")}
    for extension, types in EXTENSIONS.items():
        if extension in present:
            run(f"CREATE EXTENSION {extension}")
            found |= types
    typed = {kind: [f"({value})::{kind}" for value in values] for kind, values in found.items()}
    if arrays:
        typed |= _arrays(run, typed)
    return typed


def _arrays(
    run: Callable[[str], list[tuple[object, ...]]], typed: dict[str, list[str]]
) -> dict[str, list[str]]:
    """An array type of every type that has one: none to three dimensions, other lower bounds."""
    found = {}
    for kind, values in typed.items():
        base = run(f"SELECT typarray <> 0 FROM pg_type WHERE oid = {_quoted(kind)}::regtype")
        if base[0][0]:
            found[f"{kind}[]"] = list(_forms(kind, values))
    return found


def _quoted(kind: str) -> str:
    return "'" + kind.replace("'", "''") + "'"


def _forms(kind: str, values: list[str]) -> Iterable[str]:
    short = [v for v in values if NUMBER_MAX not in v and "repeat(" not in v]
    yield f"ARRAY[{short[0]}, NULL]::{kind}[]"
    yield f"ARRAY[{', '.join(short)}]::{kind}[]"
    yield f"'{{}}'::{kind}[]"
    yield f"ARRAY[ARRAY[{short[0]}], ARRAY[{short[-1]}]]::{kind}[]"
    yield f"array_fill({short[0]}, ARRAY[2], ARRAY[0])"
    yield f"array_fill({short[0]}, ARRAY[1, 2, 1], ARRAY[2, -1, 0])"
