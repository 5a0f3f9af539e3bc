"""What a statement is taken to make of a table is what the server makes of it, or nothing is
claimed."""

from __future__ import annotations

import os
import random
from typing import Final

import pymysql
import pytest

from connectors.mysql import ddl
from connectors.mysql.catalog import Catalog
from connectors.mysql.edits import applied
from connectors.mysql.session import Session
from connectors.mysql.structures import Structure, agree, bare
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture

SEED: Final = int(os.environ.get("ENSIGN_SEED") or 20261125)
STATEMENTS: Final = int(os.environ.get("ENSIGN_STATEMENTS") or 400)

TYPES: Final = [
    "int", "int unsigned", "tinyint(1)", "bool", "bigint(20) unsigned zerofill", "int(4) zerofill",
    "int8", "middleint", "smallint signed", "integer", "dec(7,2)", "numeric", "fixed(5)", "decimal",
    "decimal(9,3) unsigned", "float", "float(10)", "float(30)", "float(7,2)", "double", "real",
    "double precision", "bit", "bit(13)", "year", "date", "time(3)", "datetime", "datetime(6)",
    "timestamp NULL", "timestamp(2) NULL DEFAULT NULL", "timestamp DEFAULT '2000-01-01'",
    "char", "char(7)", "varchar(9)", "varchar(255)", "varchar(300)", "char(9) CHARACTER SET latin1",
    "varchar(5) CHARACTER SET gbk", "varchar(5) COLLATE latin2_bin", "varchar(5) CHARSET utf8",
    "varchar(4) CHARACTER SET binary", "varchar(4) COLLATE utf8mb4_bin", "char(4) binary",
    "varchar(4) ascii", "varchar(4) unicode", "char(4) byte", "national char(3)", "nchar(3)",
    "nvarchar(3)", "long varchar", "long", "tinytext", "text", "text(100)", "text(70000)",
    "mediumtext CHARACTER SET utf16", "longtext", "binary", "binary(9)", "varbinary(300)",
    "blob", "blob(9)", "mediumblob", "longblob", "enum('a','B,''c','(',')')", "set('x','y z')",
    "enum('a') CHARACTER SET latin1", "enum('back\\\\slash','new\\nline','é')", "json", "geometry",
    "point", "int GENERATED ALWAYS AS (1 + 1)", "int AS (2) STORED", "int INVISIBLE DEFAULT 3",
    "int COMMENT 'text, ADD x int'", "varchar(9) DEFAULT 'a), (b' COMMENT 'it''s'",
    "int CHECK (1 = 1)",
]  # fmt: skip
OF_MARIADB: Final = [
    "uuid", "inet6", "inet4", "varchar(9) COMPRESSED", "text COMPRESSED", "blob COMPRESSED",
    "varchar(9) /*M!100301 COMPRESSED*/", "int AS (c1) PERSISTENT",
    "longtext CHECK (json_valid({name}))", "int CHECK (json_valid({name}))",
]  # fmt: skip
OF_MYSQL: Final = ["vector(3)", "vector", "point SRID 4326", "multipoint"]

TABLES: Final = [
    "", "CHARACTER SET latin1", "COLLATE utf8mb4_bin", "DEFAULT CHARSET=utf8", "ENGINE=MyISAM",
    "CHARSET=gbk COMMENT='x'",
]  # fmt: skip


class Statements:
    """Random statements about the table ``t``, of names that it may have or not."""

    def __init__(self, draw: random.Random, *, mariadb: bool) -> None:
        self.draw = draw
        self.types = TYPES + (OF_MARIADB if mariadb else OF_MYSQL)

    def name(self) -> str:
        return self.draw.choice(("c1", "c2", "c3", "c4", "C5", "`c``6`", "`c 7`"))

    def definition(self, name: str) -> str:
        kind = self.draw.choice(self.types).replace("{name}", name)
        plain = not any(word in kind for word in ("AS (", "NULL", "CHECK", "timestamp"))
        return kind + (" NOT NULL" if plain and self.draw.random() < 0.2 else "")

    def place(self) -> str:
        return self.draw.choice(("", "", " FIRST", f" AFTER {self.name()}"))

    def action(self) -> str:
        name, other = self.name(), self.name()
        added = f"{name} {self.definition(name)}"
        return self.draw.choice(
            (
                f"ADD {added}{self.place()}",
                f"ADD COLUMN {added}{self.place()}",
                f"ADD COLUMN IF NOT EXISTS {added}",
                f"ADD ({added}, {other} int)",
                f"DROP {name}",
                f"DROP COLUMN {name}",
                f"MODIFY {added}{self.place()}",
                f"MODIFY COLUMN {added}{self.place()}",
                f"CHANGE {other} {added}{self.place()}",
                f"RENAME COLUMN {name} TO {other}",
                f"ALTER COLUMN {name} DROP DEFAULT",
                f"ADD INDEX ({name})",
                f"ADD UNIQUE KEY u{self.draw.randrange(99)} ({name})",
                f"ADD PRIMARY KEY ({name})",
                f"ADD PRIMARY KEY ({name}, {other})",
                "DROP PRIMARY KEY",
                "DROP INDEX `PRIMARY`",
                "COMMENT = 'x'",
                "ENGINE = InnoDB",
                f"CONVERT TO CHARACTER SET {self.draw.choice(('latin1', 'utf8mb4'))}",
                f"DEFAULT CHARACTER SET {self.draw.choice(('latin1', 'utf8mb4', 'gbk'))}",
                "FORCE",
            )
        )

    def alter(self) -> str:
        actions = [self.action() for _ in range(self.draw.choice((1, 1, 1, 2, 3)))]
        return f"ALTER TABLE t {', '.join(actions)}"

    def create(self) -> str:
        names = ["c1", "c2", "c3", "c4"]
        parts = [f"{name} {self.definition(name)}" for name in names]
        key = self.draw.choice(("", ", PRIMARY KEY (k)", ", KEY (k), PRIMARY KEY (k, k2)"))
        return (
            f"CREATE TABLE t (k int NOT NULL, k2 int NOT NULL, {', '.join(parts)}{key}) "
            f"{self.draw.choice(TABLES)}"
        )


def claimed(statement: str, before: Structure | None, *, mariadb: bool) -> Structure | None:
    found = ddl.read(statement, "d", mariadb=mariadb)
    if isinstance(found, ddl.Altered) and found.edits is not None and before is not None:
        return applied(before, found.edits)
    if isinstance(found, ddl.Created) and found.edits is not None:
        return applied(Structure("d", "t", (), charset="utf8mb4"), found.edits)
    return None


@pytest.mark.parametrize("own_key", [False, True])
def test_alter_table_on_the_server(mysql: MysqlServer, own_key: bool) -> None:
    """Statement after statement that the server takes. ``own_key``: it adds a key to tables that
    have none."""
    if own_key and mysql.is_mariadb:
        pytest.skip("a feature of MySQL")
    statements = Statements(random.Random(SEED), mariadb=mysql.is_mariadb)
    database = mysql.new_database()
    session = Session(Capture(mysql, database).config, "test")
    catalog = Catalog(session, mariadb=mysql.is_mariadb)
    setting = "SET sql_mode = ''"
    if own_key:
        setting += ", sql_generate_invisible_primary_key = ON"
    understood = taken = 0
    try:
        with mysql.connect(database, init_command=setting) as connection:
            cursor = connection.cursor()
            before: Structure | None = None
            while taken < STATEMENTS:
                few = before is None or not 3 <= len(before.columns) <= 12
                if few:
                    cursor.execute("DROP TABLE IF EXISTS t")
                    before = None
                statement = statements.create() if few else statements.alter()
                try:
                    cursor.execute(statement)
                except pymysql.Error:
                    continue
                taken += 1
                made = claimed(statement, before, mariadb=mysql.is_mariadb)
                if own_key and few and "PRIMARY" not in statement:
                    # The log has a statement with the key.
                    made = None
                before = catalog.table(database, "t")
                assert before is not None
                if made is not None:
                    understood += 1
                    assert [*map(bare, made.columns)] == [*map(bare, before.columns)], statement
                    assert agree(made, before), statement
                    assert made.charset == before.charset, statement
    finally:
        session.close()
        mysql.drop_database(database)
    assert understood > taken // 4, understood
