"""Every row has the structure of its place in the log, however late it is read and however little
the log tells of columns; where that cannot be known, its table is stopped and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from connectors.mysql import ddl
from connectors.mysql.catalog import Catalog
from connectors.mysql.config import MysqlConfig
from connectors.mysql.edits import applied
from connectors.mysql.session import Session
from connectors.mysql.structures import agree, bare
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.integration.conftest import Shop
from tests.services.mysql import CDC
from tests.services.mysql_capture import Capture
from tests.services.postgres_capture import SameTopic, Seen

every_metadata = pytest.mark.parametrize("metadata", ["FULL", "MINIMAL", "NO_LOG"], indirect=True)
little_metadata = pytest.mark.parametrize("metadata", ["MINIMAL", "NO_LOG"], indirect=True)

STORY: list[tuple[str, dict[str, str]]] = [
    ("", {"id": "1", "a": "10", "b": "20", "s": "a"}),
    ("ALTER TABLE t ADD COLUMN c INT AFTER id", {"id": "2", "c": "5", "a": "10", "b": "20"}),
    (
        "ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a",
        {"id": "3", "c": "5", "b": "10", "a": "20"},
    ),
    ("ALTER TABLE t CHANGE a d INT, CHANGE b a INT", {"id": "4", "c": "5", "a": "10", "d": "20"}),
    ("ALTER TABLE t MODIFY d INT UNSIGNED FIRST", {"d": "4000000000", "id": "5", "a": "10"}),
    ("ALTER TABLE t MODIFY d BIGINT AFTER id", {"id": "6", "d": "-5", "c": "5"}),
    ("ALTER TABLE t MODIFY s VARCHAR(10) CHARACTER SET latin1", {"id": "7", "s": "ä"}),
    ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", {"id": "8", "s": "ä"}),
    (
        "ALTER TABLE t DROP COLUMN c, ADD COLUMN e ENUM('x','y') NOT NULL",
        {"id": "9", "d": "1", "s": "ä", "e": "y"},
    ),
    ("ALTER TABLE t MODIFY e ENUM('z','x','y') NOT NULL", {"id": "10", "d": "1", "e": "z"}),
    ("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, e)", {"id": "11", "d": "2", "e": "x"}),
]
"""Statements, and the values of a row behind each by the names of the columns then."""


def insert(row: dict[str, str], table: str = "t") -> str:
    values = ", ".join(f"'{value}'" for value in row.values())
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"


def rows(seen: list[Seen]) -> list[dict[str, object]]:
    return [dict(e.new) for e in seen if e.op is Op.INSERT and e.new is not None]


def codes(one: Capture) -> list[str]:
    """The warnings that hold."""
    found = one.told.facts.get("warnings", ())
    assert isinstance(found, list | tuple)
    return [warning.code for warning in found if isinstance(warning, EnsignError)]


def reconcile(one: Capture, *tables: str) -> None:
    """Ask for what ``ensign snapshot start --reconcile`` asks."""
    one.told.compare = SameTopic
    number = len(one.told.asked) + 1
    one.told.asked.append(Signal(number, "snapshot", tables=tuple(tables), reconcile=True))


def begun(shop: Shop, follow: Callable[..., Capture], **options: object) -> Capture:
    """A capture of `t` and `u`, both empty, which is closed."""
    shop.run(
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, s VARCHAR(10))",
        "CREATE TABLE u (id INT PRIMARY KEY)",
    )
    one = follow(**options)
    one.caught_up()
    one.close()
    return one


@every_metadata
def test_source_catches_up_over_changes(
    shop: Shop, follow: Callable[..., Capture], metadata: str
) -> None:
    one = begun(shop, follow)
    for statement, row in STORY:
        shop.run(*filter(None, [statement]), insert(row))
    one.caught_up(reopen_each=4)
    found = rows(one.seen)
    for found_row, (_, wanted) in zip(found, STORY, strict=True):
        assert wanted.items() <= found_row.items()
    # The charset of a column is no part of its structure.
    assert [e.op for e in one.seen].count(Op.SCHEMA) == len(STORY) - 3
    assert one.seen[-1].schema.key == (0, 4)
    assert codes(one) == []


@little_metadata
def test_structure_of_a_statement_nobody_understands(
    shop: Shop, follow: Callable[..., Capture], metadata: str
) -> None:
    """A text of so many bytes is of a type that depends on its charset. What comes of that is in
    the catalog, as long as no statement about this table follows."""
    one = begun(shop, follow)
    shop.run(
        "ALTER TABLE t MODIFY s TEXT(70) FIRST",
        "INSERT INTO t VALUES ('a', 1, 10, 20)",
        "ALTER TABLE u ADD COLUMN t INT",
        "INSERT INTO u VALUES (1, 1)",
        "CREATE TABLE other (t INT)",
    )
    one.caught_up()
    assert rows(one.of(f"{shop.name}.t")) == [{"s": "a", "id": "1", "a": "10", "b": "20"}]
    assert rows(one.of(f"{shop.name}.u")) == [{"id": "1", "t": "1"}]
    assert codes(one) == []


@every_metadata
@pytest.mark.parametrize("reopen_each", [0, 1])
def test_structure_that_cannot_be_known(
    shop: Shop, follow: Callable[..., Capture], metadata: str, reopen_each: int
) -> None:
    """The catalog has the names of later: they are on no value."""
    one = begun(shop, follow)
    shop.run(
        "ALTER TABLE t MODIFY s TEXT(70) FIRST",
        "INSERT INTO t VALUES ('a', 1, 10, 20)",
        "ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a",
        "INSERT INTO t VALUES ('a', 2, 10, 20)",
        "INSERT INTO u VALUES (1)",
    )
    one.caught_up(reopen_each=reopen_each)
    table = f"{shop.name}.t"
    assert rows(one.of(f"{shop.name}.u")) == [{"id": "1"}]
    if metadata == "FULL":
        assert [row["b"] for row in rows(one.of(table))] == ["20", "10"]
        assert codes(one) == []
        return
    assert rows(one.of(table)) == []
    assert codes(one) == ["mysql.structure_unknown"]
    reconcile(one, table)
    shop.run("INSERT INTO t VALUES ('a', 3, 10, 20)")
    one.until(lambda: bool(rows(one.of(table))), reopen_each=reopen_each)
    assert rows(one.of(table)) == [{"s": "a", "id": "3", "b": "10", "a": "20"}]


@little_metadata
def test_stopped_table_is_asked_for_too_early(
    shop: Shop, follow: Callable[..., Capture], metadata: str
) -> None:
    """It comes back behind the last statement about it that the log has."""
    one = begun(shop, follow, batch_bytes_max=1)
    table = f"{shop.name}.t"
    shop.run(
        "ALTER TABLE t MODIFY s TEXT(70) FIRST",
        "INSERT INTO t VALUES ('a', 1, 10, 20)",
        *["INSERT INTO u VALUES (1)", "DELETE FROM u"] * 5,
        "INSERT INTO t VALUES ('a', 2, 10, 20)",
        "ALTER TABLE t CHANGE a b INT, CHANGE b a INT",
        "INSERT INTO t VALUES ('a', 3, 10, 20)",
    )
    one.open()
    one.until(lambda: "mysql.structure_unknown" in codes(one))
    reconcile(one, table)
    one.until(lambda: bool(rows(one.of(table))))
    assert rows(one.of(table)) == [{"s": "a", "id": "3", "b": "10", "a": "20"}]


CATALOG = [
    "ALTER TABLE t ADD x DECIMAL(10,2) UNSIGNED ZEROFILL AFTER a, ADD (y DEC, z NUMERIC(5))",
    "ALTER TABLE t ADD x DOUBLE PRECISION, ADD y REAL, ADD z FLOAT(30), ADD w FLOAT(7,3)",
    "ALTER TABLE t ADD x BOOL, ADD y INT1, ADD z MIDDLEINT, ADD w INT(11) UNSIGNED ZEROFILL",
    "ALTER TABLE t ADD x TIMESTAMP(3) NOT NULL DEFAULT now(3) ON UPDATE now(3), ADD w YEAR",
    "ALTER TABLE t ADD y DATETIME(6), ADD z TIME(2), ADD v DATE",
    "ALTER TABLE t ADD x NATIONAL VARCHAR(5), ADD y NCHAR(5), ADD z CHARACTER VARYING(5)",
    "ALTER TABLE t ADD x LONG VARCHAR, ADD y LONG VARBINARY, ADD z LONG",
    "ALTER TABLE t ADD x VARCHAR(5) BINARY, ADD y VARCHAR(5) ASCII, ADD z VARCHAR(5) UNICODE",
    "ALTER TABLE t ADD x CHAR BYTE, ADD y CHAR(5) BYTE, ADD z BLOB(70000), ADD w BLOB(20)",
    "ALTER TABLE t ADD x VARCHAR(5) COLLATE latin1_bin, ADD y TEXT CHARSET latin1",
    "ALTER TABLE t ADD x SET('a','b''c','\\\\','d '), ADD y ENUM('ä,', \"'\") CHARSET latin1",
    "ALTER TABLE t ADD x CHAR(200), ADD y BINARY(255), ADD z VARBINARY(300), ADD w BIT(13)",
    "ALTER TABLE t ADD x JSON, ADD y POINT, ADD z BIT",
    "ALTER TABLE t ADD x INT NOT NULL DEFAULT -1 COMMENT 'after b first', ADD y INT DEFAULT NULL",
    "ALTER TABLE t ADD x INT GENERATED ALWAYS AS (a + 1) STORED, ADD y INT AS (a) VIRTUAL",
    "ALTER TABLE t ADD x SERIAL, DROP a",
    "ALTER TABLE t DROP PRIMARY KEY, ADD x INT KEY FIRST",
    "ALTER TABLE t DROP PRIMARY KEY, ADD CONSTRAINT c PRIMARY KEY USING BTREE (b, id)",
    "ALTER TABLE t ADD UNIQUE KEY k (a), ADD INDEX (b), ADD CHECK (a > 0), ALTER a SET DEFAULT 4",
    "ALTER TABLE t MODIFY b BIGINT FIRST, MODIFY s CHAR(9) AFTER b, CHANGE a id2 INT AFTER s",
    "ALTER TABLE t DROP a, ADD a BIGINT FIRST, RENAME COLUMN b TO c, ADD d INT AFTER c",
    "ALTER TABLE t CHANGE a b INT, CHANGE b a INT, ALGORITHM = INPLACE, LOCK=NONE",
    "ALTER TABLE t DEFAULT CHARSET latin1, ADD x VARCHAR(7), ENGINE=InnoDB COMMENT 'ADD y INT'",
    "ALTER TABLE t CONVERT TO CHARACTER SET latin1 COLLATE latin1_bin",
    "/* app */ ALTER TABLE /*!50000 `t` */ ADD -- ,\n `a``b` int # DROP a\n",
    "DROP INDEX `PRIMARY` ON t",
    "ALTER TABLE t RENAME INDEX k1 TO k2, ADD PARTITION_ INT, ADD `index` INT",
    "ALTER TABLE t FORCE",
    "ALTER TABLE t PARTITION BY HASH (id) PARTITIONS 3",
]
"""Statements of ALTER TABLE that are understood without the catalog."""

OF_MARIADB = [
    "ALTER TABLE t ADD IF NOT EXISTS a INT, ADD IF NOT EXISTS x INT, DROP IF EXISTS nope",
    "ALTER ONLINE TABLE IF EXISTS t WAIT 5 MODIFY IF EXISTS nope INT, CHANGE IF EXISTS a x INT",
    "ALTER TABLE t ADD x UUID, ADD y INET6, ADD z INT INVISIBLE, ADD w INET4",
    "ALTER TABLE t ADD x TEXT COMPRESSED, ADD y VARCHAR(50) COMPRESSED=zlib",
    "ALTER TABLE t ADD x LONGTEXT CHECK (json_valid(x)), ADD y INT AS (a + 1) PERSISTENT",
    "SET STATEMENT max_statement_time = 5 FOR ALTER TABLE t ADD x INT",
]
OF_MYSQL = [
    "ALTER TABLE t ADD x INT INVISIBLE, ALTER COLUMN a SET INVISIBLE",
    "ALTER TABLE t ADD x POINT NOT NULL SRID 4326, ADD y VECTOR(5), ALGORITHM=COPY",
    "ALTER TABLE t ADD x JSON DEFAULT (json_array(1, 2)) AFTER id",
]


def test_statements_say_what_the_catalog_says(shop: Shop) -> None:
    """Each statement makes of the structure before it the one that the server has behind it."""
    config = MysqlConfig(type="mysql", host=shop.server.host, port=shop.server.port, user=CDC,
                         password=SecretStr(CDC), tables=["*.*"])  # fmt: skip
    mariadb = shop.server.is_mariadb
    session = Session(config, "test")
    catalog = Catalog(session, mariadb=mariadb)
    for statement in CATALOG + (OF_MARIADB if mariadb else OF_MYSQL):
        shop.run(
            "DROP TABLE IF EXISTS t",
            "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, s VARCHAR(10), KEY k1 (s))",
        )
        before = catalog.table(shop.name, "t")
        shop.run(statement)
        after = catalog.table(shop.name, "t")
        assert before is not None
        assert after is not None
        found = ddl.read(statement, shop.name, mariadb=mariadb)
        assert isinstance(found, ddl.Altered), statement
        assert found.edits is not None, statement
        parsed = applied(before, found.edits)
        assert parsed is not None, statement
        assert [bare(c) for c in parsed.columns] == [bare(c) for c in after.columns], statement
        assert agree(parsed, after), statement
    session.close()
