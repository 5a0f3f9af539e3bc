"""What statements of the binary log are taken to do: exactly that, or nothing is claimed."""

from __future__ import annotations

import random

import pytest

from connectors.mysql.ddl import (
    STATEMENT_BYTES_MAX,
    Altered,
    Created,
    Gone,
    Nothing,
    Renamed,
    Statement,
    Unknown,
    Written,
    applied,
    read,
)
from connectors.mysql.structures import Structure
from connectors.mysql.types import native
from connectors.mysql.wire import Type, WireColumn

HERE = "d"


def table() -> Structure:
    columns = (
        WireColumn("a", Type.LONG, nullable=False),
        WireColumn("b", Type.VARCHAR, 40, charset="utf8mb4"),
        WireColumn("c", Type.DATE),
    )
    return Structure("d", "t", columns, (0,), ("int",), charset="latin1")


def after(statement: str, *, mariadb: bool = False) -> list[str] | None:
    """The table's columns as texts after an ALTER TABLE, ``*`` behind those of the key and ``!``
    behind those that cannot be null; None where nothing is claimed."""
    found = read(f"ALTER TABLE t {statement}", HERE, mariadb=mariadb)
    assert isinstance(found, Altered | Unknown), found
    if isinstance(found, Unknown) or found.edits is None:
        return None
    assert found.table == ("d", "t")
    return shown(applied(table(), found.edits))


def shown(structure: Structure | None) -> list[str] | None:
    if structure is None:
        return None
    return [
        f"{column.name} {native(column)}"
        + ("" if column.charset in ("", "utf8mb4") else f" {column.charset}")
        + ("*" if i in structure.key else "" if column.nullable else "!")
        for i, column in enumerate(structure.columns)
    ]


A, B, C = "a int*", "b varchar(10)", "c date"

ALTERS: dict[str, list[str] | None] = {
    "ADD x int": [A, B, C, "x int"],
    "ADD COLUMN x int unsigned NOT NULL DEFAULT 5 AFTER a": [A, "x int unsigned!", B, C],
    "ADD x int FIRST, ADD y bigint AFTER x": ["x int", "y bigint", A, B, C],
    "ADD x int, ADD y int FIRST, DROP b": ["y int", A, C, "x int"],
    "ADD IF NOT EXISTS b int": None,
    "DROP c": [A, B],
    "DROP COLUMN IF EXISTS c": [A, B],
    "DROP COLUMN IF EXISTS nobody": None,
    "DROP a": [B, C],
    "DROP A, DROP B": [C],
    "MODIFY c datetime(3) NOT NULL": [A, B, "c datetime(3)!"],
    "MODIFY COLUMN c time FIRST": ["c time", A, B],
    "MODIFY b text": [A, "b text latin1", C],
    "MODIFY b varchar(10) CHARACTER SET gbk": [A, "b varchar(10) gbk", C],
    "MODIFY b char(3) COLLATE latin2_general_ci": [A, "b char(3) latin2", C],
    "MODIFY b char(3) COLLATE uca1400_ai_ci": None,
    "MODIFY b char(3) CHARACTER SET utf8": [A, "b char(3) utf8mb3", C],
    "CHANGE c d bigint unsigned AFTER a": [A, "d bigint unsigned", B],
    "CHANGE a k int": ["k int*", B, C],
    "CHANGE b b enum('a','B,''c') CHARACTER SET latin1": [A, "b enum('a','B,''c') latin1", C],
    "CHANGE b B set('x')": [A, "B set('x') latin1", C],
    "RENAME COLUMN b TO B2": [A, "B2 varchar(10)", C],
    # All changes are of the table as it was before.
    "RENAME COLUMN a TO b, RENAME COLUMN b TO a": None,
    "CHANGE a b int, CHANGE b a int": None,
    "DROP b, ADD b int": None,
    "RENAME COLUMN b TO d, ADD x int AFTER d": [A, "d varchar(10)", "x int", C],
    "ADD PRIMARY KEY (b, c)": ["a int!", "b varchar(10)*", "c date*"],
    "DROP PRIMARY KEY": ["a int!", B, C],
    "DROP PRIMARY KEY, ADD PRIMARY KEY (c)": ["a int!", B, "c date*"],
    "DROP PRIMARY KEY, ADD PRIMARY KEY (b(3), c DESC)": None,
    "ADD CONSTRAINT k PRIMARY KEY (c)": ["a int!", B, "c date*"],
    "ADD x int PRIMARY KEY": ["a int!", B, C, "x int*"],
    "ADD x int COMMENT 'PRIMARY KEY', ADD y int": [A, B, C, "x int", "y int"],
    "ADD x char(3) DEFAULT ', ADD d int' , ADD e int": [A, B, C, "x char(3) latin1", "e int"],
    "DROP INDEX `PRIMARY`": None,
    "DROP CONSTRAINT `PRIMARY`": None,
    "DROP INDEX i, DROP FOREIGN KEY f, DROP CHECK g": [A, B, C],
    "ADD INDEX i (b), ADD UNIQUE (c), ADD FULLTEXT INDEX (b)": [A, B, C],
    "ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (x)": [A, B, C],
    "ALTER COLUMN c SET DEFAULT '2000-01-01', ALTER b DROP DEFAULT": [A, B, C],
    "ALTER COLUMN c SET INVISIBLE": [A, B, C],
    "ENGINE=MyISAM, COMMENT='x', AUTO_INCREMENT=7": [A, B, C],
    "ORDER BY b": [A, B, C],
    "ADD x int, ALGORITHM=INPLACE, LOCK=NONE": [A, B, C, "x int"],
    # Other columns would be of another charset.
    "DEFAULT CHARACTER SET utf8mb4": None,
    "COLLATE=utf8mb4_bin": None,
    "CONVERT TO CHARACTER SET utf8mb4": None,
    "FORCE": None,
    "DROP PARTITION p0": None,
    "PARTITION BY HASH(a) PARTITIONS 4": None,
    "EXCHANGE PARTITION p0 WITH TABLE u": None,
    "ADD SYSTEM VERSIONING": None,
    "DROP SYSTEM VERSIONING": None,
    "ADD x bool": [A, B, C, "x tinyint(1)"],
    "ADD x int(5) zerofill": [A, B, C, "x int unsigned"],
    "ADD x decimal(5) unsigned": [A, B, C, "x decimal(5,0) unsigned"],
    "ADD x dec, ADD y numeric(4,2), ADD z fixed(3)": [
        A, B, C, "x decimal(10,0)", "y decimal(4,2)", "z decimal(3,0)",
    ],
    "ADD x float(25), ADD y float(24), ADD z float(7,3)": [
        A, B, C, "x double", "y float", "z float",
    ],
    "ADD x double precision": [A, B, C, "x double"],
    "ADD x bit, ADD y bit(9), ADD z year(4)": [A, B, C, "x bit(1)", "y bit(9)", "z year"],
    "ADD x varbinary(7), ADD y binary, ADD z mediumblob": [
        A, B, C, "x varbinary(7)", "y binary(1)", "z mediumblob",
    ],
    "ADD x timestamp(3) NULL, ADD y timestamp NOT NULL": [
        A, B, C, "x timestamp(3)", "y timestamp!",
    ],
    "ADD x varchar(5) CHARACTER SET binary": [A, B, C, "x varbinary(5)"],
    "ADD x geometry": [A, B, C, "x geometry"],
    "ADD x json": [A, B, C, "x json"],
    "ADD x vector(3)": [A, B, C, "x vector"],
    # It depends on a setting whether this can be null.
    "ADD x timestamp": None,
    # Types that are taken for others, or that a length makes other ones.
    **dict.fromkeys(
        [f"ADD x {kind}" for kind in (
            "int1", "int2", "int3", "int4", "int8", "middleint", "float4", "float8", "real", "long",
            "long varchar", "serial", "national char(3)", "nchar(3)", "nvarchar(3)", "char byte",
            "text(100)", "text(70000)", "blob(100)", "point", "nonsense",
        )]
    ),
    "ADD": None,
    "": None,
    "ADD x int /*!50000 , ADD y int */": None,
    "ADD x int /*M!100301 INVISIBLE */": None,
    "ADD x int /* , ADD y int */ -- , ADD z int": [A, B, C, "x int"],
}  # fmt: skip


@pytest.mark.parametrize("statement", ALTERS)
def test_alter_table(statement: str) -> None:
    assert after(statement) == ALTERS[statement]


def test_what_the_servers_take_for_different_things() -> None:
    for statement, mysql, mariadb in [
        ("ADD x json", "json", "longtext"),
        ("ADD x vector(2)", "vector", "vector"),
    ]:
        assert after(statement) == [A, B, C, f"x {mysql}"]
        assert after(statement, mariadb=True) == [A, B, C, f"x {mariadb}"]
    found = read("ALTER TABLE t ADD x json, ADD y vector(2), ADD z int AS (a)", HERE, mariadb=True)
    assert isinstance(found, Altered)
    made = applied(table(), found.edits or ())
    assert made is not None
    assert [c[1:] for c in made.columns[3:]] == [
        (Type.BLOB, 4, True, False, "utf8mb4", (), "json", False),
        (Type.VARCHAR, 8, True, False, "", (), "vector", False),
        (Type.LONG, 0, True, False, "", (), "", True),
    ]
    # Which charset this is, a setting says; what a check is about, nobody.
    assert after("ADD x varchar(3) CHARACTER SET utf8", mariadb=True) is None
    assert after("ADD x longtext CHECK (json_valid(x))", mariadb=True) is None


def test_structures_that_edits_do_not_fit() -> None:
    past = Structure("d", "t", table().columns, (0,), ("int",), versioned=True)
    found = read("ALTER TABLE t ADD x int", HERE)
    assert isinstance(found, Altered)
    assert found.edits is not None
    assert applied(past, found.edits) is None
    for statement in ("ADD b int", "DROP z", "MODIFY z int", "ADD x int AFTER z",
                      "RENAME COLUMN z TO y", "ADD PRIMARY KEY (z)"):  # fmt: skip
        assert after(statement) is None, statement


CREATES: dict[str, list[str] | None] = {
    "(a int primary key, b date)": ["a int*", "b date"],
    "(a int, b int, KEY (b), PRIMARY KEY (b, a)) ENGINE=InnoDB": ["a int*", "b int*"],
    "(a varchar(5)) DEFAULT CHARSET=latin1": ["a varchar(5) latin1"],
    "(a varchar(5)) CHARSET latin2 COLLATE latin2_bin": ["a varchar(5) latin2"],
    "(a varchar(5)) COLLATE koi8r_bin": ["a varchar(5) koi8r"],
    "(a varchar(5) CHARACTER SET gbk)": ["a varchar(5) gbk"],
    # It is the database's charset, or nobody's.
    "(a varchar(5))": None,
    "(a varchar(5)) COLLATE=uca1400_ai_ci": None,
    "(a int, b varchar(5) /*M!100301 COMPRESSED */)": None,
    "LIKE u": None,
    "(LIKE u)": None,
    "SELECT * FROM u": None,
    "AS SELECT * FROM u": None,
    "(a int) SELECT 1 AS b": None,
    "(a int) START TRANSACTION": ["a int"],
    "(a int, UNIQUE (a), CONSTRAINT c CHECK (a > 1))": ["a int"],
}


@pytest.mark.parametrize("definition", CREATES)
@pytest.mark.parametrize("words", ["CREATE TABLE", "CREATE TABLE IF NOT EXISTS",
                                   "CREATE OR REPLACE TABLE"])  # fmt: skip
def test_create_table(words: str, definition: str) -> None:
    found = read(f"{words} e.`t``x` {definition}", HERE)
    assert isinstance(found, Created)
    assert found.table == ("e", "t`x")
    assert found.replaces == ("REPLACE" in words)
    made = None
    if found.edits is not None:
        made = applied(Structure("e", "t`x", (), charset=found.charset), found.edits)
    assert shown(made) == CREATES[definition]


OTHERS: dict[str, Statement] = {
    "CREATE TABLE t (a int) WITH SYSTEM VERSIONING": Unknown(),
    "CREATE TEMPORARY TABLE t (a int)": Nothing(),
    "CREATE OR REPLACE TEMPORARY TABLE t (a int)": Nothing(),
    "DROP TEMPORARY TABLE IF EXISTS t": Nothing(),
    "DROP TABLE t": Gone((("d", "t"),)),
    "DROP TABLE IF EXISTS a, e.b, `c d` /* generated by server */": Gone(
        (("d", "a"), ("e", "b"), ("d", "c d"))
    ),
    "DROP TABLE a, /*! b, */ c": Unknown(),
    "DROP DATABASE e": Gone(database="e"),
    "DROP SCHEMA IF EXISTS `e`": Gone(database="e"),
    "TRUNCATE TABLE t": Gone((("d", "t"),), emptied=True),
    "TRUNCATE e.t": Gone((("e", "t"),), emptied=True),
    "DELETE FROM `e`.`t`": Gone((("e", "t"),), emptied=True),
    "RENAME TABLE a TO b": Renamed(((("d", "a"), ("d", "b")),)),
    "RENAME TABLES a TO b, e.c TO f.d": Renamed(
        ((("d", "a"), ("d", "b")), (("e", "c"), ("f", "d")))
    ),
    "RENAME TABLE t TO _t_old, `_t_new` TO t": Renamed(
        ((("d", "t"), ("d", "_t_old")), (("d", "_t_new"), ("d", "t")))
    ),
    "RENAME TABLE IF EXISTS `a ``x` WAIT 5 TO `b`": Renamed(((("d", "a `x"), ("d", "b")),)),
    "RENAME TABLE a": Unknown(),
    "ALTER TABLE t RENAME TO u": Renamed(((("d", "t"), ("d", "u")),)),
    "ALTER TABLE e.t RENAME f.u": Renamed(((("e", "t"), ("f", "u")),)),
    "ALTER TABLE t RENAME u, ADD x int": Unknown(),
    "SET STATEMENT max_statement_time=1 FOR DROP TABLE t": Gone((("d", "t"),)),
    "SET STATEMENT sql_mode='for', lock_wait_timeout=2 FOR TRUNCATE t": Gone(
        (("d", "t"),), emptied=True
    ),
    "SET STATEMENT max_statement_time=1 FOR RENAME TABLE a TO b": Renamed(
        ((("d", "a"), ("d", "b")),)
    ),
    "SET STATEMENT max_statement_time=1": Unknown(),
    "/* before */ DROP TABLE t": Gone((("d", "t"),)),
    "/*!50100 ALTER TABLE t ADD c int */": Unknown(),
    "DROP INDEX `PRIMARY` ON t": Unknown(),
    "INSERT INTO t SELECT * FROM u": Written((("d", "t"),)),
    "UPDATE t SET a = 1 WHERE b = 2": Written((("d", "t"),)),
    "DELETE FROM t WHERE a = 1": Written((("d", "t"),)),
    **dict.fromkeys(
        ["", "# x", "-- nothing", "DROP INDEX i ON t", "CREATE UNIQUE INDEX i ON t (a)",
         "CREATE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 1", "DROP VIEW v",
         "CREATE ALGORITHM=MERGE VIEW v AS SELECT 1", "CREATE SEQUENCE s", "CREATE DATABASE e",
         "CREATE DEFINER=`r`@`h` TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
         "GRANT ALL ON *.* TO x", "SET PASSWORD FOR x = 'y'", "ANALYZE TABLE t", "FLUSH TABLES",
         "CALL p()", "ALTER VIEW v AS SELECT 1", "ALTER USER x IDENTIFIED BY 'y'"],
        Nothing(),
    ),
    **dict.fromkeys(
        ["garbage ( ' \" `", "ALTER TABLE", "XA COMMIT 'x'", "IMPORT TABLE FROM 'x'",
         "ALTER ONLINE TABLE t ADD c int", "ALTER TABLE t WAIT 5 ADD c int", "DROP TABLES a, b",
         "'", "`", "/*", "\0", "(" * 5000],
        Unknown(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("statement", OTHERS)
def test_other_statements(statement: str) -> None:
    assert read(statement, HERE) == OTHERS[statement]


@pytest.mark.parametrize(
    "statement",
    [
        "REPLACE INTO e.t VALUES (1)",
        "LOAD DATA INFILE 'x' INTO TABLE e.`t` (a, b)",
        "INSERT INTO e.t VALUES ('" + "x" * STATEMENT_BYTES_MAX + "')",
        "/* c */ insert  e . t values (nonsense nonsense",
    ],
)
def test_a_statement_that_writes_rows_is_never_overlooked(statement: str) -> None:
    found = read(statement, HERE)
    assert isinstance(found, Written)
    assert ("e", "t") in found.tables


def test_long_statements_are_not_looked_into() -> None:
    comment = "x" * STATEMENT_BYTES_MAX
    assert read(f"ALTER TABLE t ADD x int COMMENT '{comment}'", HERE) == Unknown()


def test_no_statement_raises() -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    draw = random.Random(seed)
    whole = [*OTHERS, *(f"ALTER TABLE t {each}" for each in ALTERS),
             *(f"CREATE TABLE t {each}" for each in CREATES)]  # fmt: skip
    for _ in range(600):
        statement = draw.choice(whole)
        if statement:
            at = draw.randrange(len(statement))
            size = draw.randrange(4)
            piece = draw.choice(
                ["", "'", "`", '"', "(", ")", ",", "/*", "*/", "--", ";", "\0", "é"]
            )
            read(statement[:at] + piece + statement[at + size :], HERE)
