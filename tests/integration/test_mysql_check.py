"""`ensign check` of MySQL and MariaDB: what is missing, each with the statement that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from connectors.mysql import CONNECTOR
from connectors.mysql.catalog import Catalog
from connectors.mysql.check import is_loopback
from connectors.mysql.config import MysqlConfig
from connectors.mysql.log import enrol
from connectors.mysql.preflight import tables
from connectors.mysql.session import Session, server
from connectors.mysql.start import check_version
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding
from tests.services.mysql import CDC, MysqlServer, installations
from tests.services.mysql_capture import Capture


def configured(server: MysqlServer, *, user: str = CDC, **options: Any) -> MysqlConfig:
    options = {"databases": ["shop"], "password": user, "port": server.port, **options}
    return MysqlConfig(type="mysql", host=server.host, user=user, **options)


def findings(server: MysqlServer, **options: Any) -> list[Finding]:
    """All findings, which are fit for people."""
    found = list(CONNECTOR.check(configured(server, **options), "test"))
    for one in found:
        assert "\n" not in one.sentence + one.remedy
        assert "(unknown)" not in one.sentence + one.remedy
        assert one.remedy or one.level == "pass"
    return found


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    """What is to be mended."""
    return [(f.level, f.code.removeprefix("mysql.")) for f in found if f.level != "pass"]


def remedies(found: list[Finding], word: str) -> list[str]:
    return [f.remedy for f in found if f.code == f"mysql.{word}"]


@pytest.fixture
def shop(mysql: MysqlServer) -> Iterator[MysqlServer]:
    """A server with a database that has nothing to find fault with."""
    mysql.run("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY, note TEXT)")
    yield mysql
    mysql.drop_database("shop")


@pytest.fixture(params=list(installations()))
def alone(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """A server of its own, whose log has one database only and nothing that it replicates."""
    settings = {"binlog_do_db": "shop", "log_slave_updates": "OFF"}
    with MysqlServer(installations()[request.param], settings=settings) as started:
        started.run("CREATE DATABASE shop", "CREATE DATABASE other")
        for name in ("shop", "other"):
            started.run(f"CREATE TABLE {name}.orders (id INT PRIMARY KEY)")
        yield started


@contextmanager
def setting(server: MysqlServer, **settings: str) -> Iterator[None]:
    """Variables of the running server for a while."""
    before = {name: server.run(f"SELECT @@GLOBAL.{name}")[0][0] for name in settings}
    server.configure(**settings)
    try:
        yield
    finally:
        texts = (str(value) for value in before.values())
        values = (text if text[:1].isdigit() else f"'{text}'" for text in texts)
        server.configure(**dict(zip(before, values, strict=True)))


def test_nothing_to_mend(shop: MysqlServer) -> None:
    found = findings(shop)
    assert codes(found) == []
    assert {f.code.removeprefix("mysql.") for f in found} == {
        "server", "replication", "log", "position", "retention", "tables",
    }  # fmt: skip
    assert CONNECTOR.drop(configured(shop), "test") == ()


def test_a_server_that_is_not_there_or_refuses(shop: MysqlServer) -> None:
    for options, word in (
        ({"port": 1}, "unreachable"),
        ({"password": "wrong"}, "password_rejected"),
        ({"password": ""}, "password_missing"),
        ({"user": "nobody"}, "password_rejected"),
        ({"tls": {"mode": "required"}}, "tls_refused"),
    ):
        found = findings(shop, **options)
        assert codes(found) == [("error", word)]
        assert len(found) == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("binlog_row_image", "'MINIMAL'", ["row_image_minimal"]),
        ("binlog_row_image", "'NOBLOB'", ["row_image_noblob"]),
        ("binlog_row_metadata", "'MINIMAL'", ["row_metadata"]),
        ("binlog_checksum", "'NONE'", ["checksum"]),
    ],
)
def test_what_rows_of_the_log_lack(
    shop: MysqlServer, name: str, value: str, words: list[str]
) -> None:
    with setting(shop, **{name: value}):
        found = findings(shop)
        assert codes(found) == [("warning", word) for word in words]
        assert remedies(found, words[0])[0].startswith(f"SET GLOBAL {name} = '")
    assert codes(findings(shop)) == []


def test_parts_of_documents(shop: MysqlServer) -> None:
    if shop.is_mariadb:
        return
    with setting(shop, binlog_row_value_options="'PARTIAL_JSON'"):
        assert codes(findings(shop)) == []
        with setting(shop, binlog_row_image="'MINIMAL'"):
            assert ("error", "partial_json") in codes(findings(shop))


def test_how_long_the_log_is_kept(shop: MysqlServer) -> None:
    with setting(shop, binlog_expire_logs_seconds="3600"):
        assert codes(found := findings(shop)) == [("warning", "retention_short")]
        assert "1 hours" in next(f.sentence for f in found if f.level == "warning")
        if not shop.is_mariadb:
            with setting(shop, binlog_expire_logs_auto_purge="OFF"):
                assert codes(findings(shop)) == []
    if shop.is_mariadb and shop.version >= (11, 4):
        with setting(shop, binlog_space_limit="1000000"):
            assert codes(findings(shop)) == [("warning", "retention_bytes")]


def test_a_log_of_statements(shop: MysqlServer) -> None:
    for value in ("STATEMENT", "MIXED"):
        with setting(shop, binlog_format=f"'{value}'"):
            assert codes(findings(shop)) == [("error", "log_format")]


def test_replicas_that_do_not_keep_the_order(shop: MysqlServer) -> None:
    if shop.is_mariadb:
        with setting(shop, gtid_strict_mode="OFF"):
            assert codes(findings(shop)) == [("warning", "gtid_not_strict")]
            assert codes(findings(shop, position="file")) == []


def test_privileges(shop: MysqlServer) -> None:
    """Each grant that a remedy gives mends what it is given for."""
    shop.run("CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE = MyISAM")
    shop.new_user("poor", "poor", privileges="USAGE")
    hidden = findings(shop, user="poor")
    assert ("error", "tables_unmatched") in codes(hidden)
    shop.run("GRANT INSERT ON shop.* TO 'poor'@'%'")
    words = [word for level, word in codes(findings(shop, user="poor")) if level == "error"]
    assert words == [
        "replication_privilege", "status_privilege", "select_privilege", "select_privilege",
        "lock_privilege",
    ]  # fmt: skip
    while words:
        found = findings(shop, user="poor")
        (grant, *_) = remedies(found, words.pop(0))
        shop.run(grant.removesuffix("."))
        left = [word for level, word in codes(findings(shop, user="poor")) if level == "error"]
        assert left == words
    assert codes(findings(shop, user="poor")) == [("warning", "engine")]


def test_privileges_of_a_role(shop: MysqlServer) -> None:
    shop.new_user("reader", "reader", privileges="USAGE")
    privileges = "SELECT, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT"
    default = "SET DEFAULT ROLE capture FOR" if shop.is_mariadb else "SET DEFAULT ROLE capture TO"
    shop.run(
        "CREATE ROLE capture",
        f"GRANT {privileges} ON *.* TO capture",
        "GRANT capture TO 'reader'@'%'",
        f"{default} 'reader'@'%'",
    )
    try:
        assert codes(findings(shop, user="reader")) == []
    finally:
        shop.run("DROP ROLE capture")


def test_a_pipeline_that_may_not_read_the_log(shop: MysqlServer) -> None:
    """The source says the same as the check."""
    shop.new_user("dim", "dim", privileges="SELECT, REPLICATION CLIENT")
    one = Capture(shop, "shop")
    one.config = configured(shop, user="dim")
    with pytest.raises(EnsignError) as caught:
        one.open()
    assert caught.value.code == "mysql.replication_privilege"
    assert codes(findings(shop, user="dim")) == [("error", "replication_privilege")]


def test_a_server_id_that_is_taken(shop: MysqlServer) -> None:
    shop.new_user("seer", "seer", privileges="ALL PRIVILEGES")
    with closing(Session(configured(shop), "x")) as session:
        enrol(session, 4711, "ensign other")
        assert codes(findings(shop, user="seer", server_id=4711)) == [("error", "server_id_taken")]
        assert codes(findings(shop, user="seer", server_id=4712)) == []
        enrol(session, 4713, "ensign test")
        found = findings(shop, user="seer", server_id=4713)
        assert codes(found) == []
        assert any("by this pipeline" in f.sentence for f in found)
        if shop.is_mariadb:
            # It takes a privilege that a source does not need.
            found = findings(shop, server_id=4711)
            assert codes(found) == []
            assert any("may not be seen" in f.sentence for f in found)


def test_tables(shop: MysqlServer) -> None:
    shop.run(
        "CREATE TABLE shop.keyless (a INT)",
        "CREATE TABLE shop.named (name VARCHAR(20) PRIMARY KEY)",
        "CREATE TABLE shop.`o'd` (id INT PRIMARY KEY) ENGINE = MEMORY",
        "CREATE VIEW shop.seen AS SELECT 1 AS a",
        f"GRANT LOCK TABLES ON *.* TO '{CDC}'",
    )
    found = findings(shop)
    assert sorted(codes(found)) == [("warning", "engine"), ("warning", "key_missing")]
    assert remedies(found, "key_missing") == ["ALTER TABLE `shop`.`keyless` ADD PRIMARY KEY (...)."]
    assert remedies(found, "engine") == ["ALTER TABLE `shop`.`o'd` ENGINE = InnoDB."]
    assert any(f.code == "mysql.one_chunk" and "shop.named" in f.sentence for f in found)


def test_changes_that_foreign_keys_make(shop: MysqlServer) -> None:
    """MySQL 9.6 and later has them in its log, and lets the storage engine follow them again if it
    is told so at its start."""
    shop.run(
        "CREATE TABLE shop.items (id INT PRIMARY KEY, part INT, CONSTRAINT part_of "
        "FOREIGN KEY (part) REFERENCES shop.orders (id) ON DELETE SET NULL)",
        "CREATE TABLE shop.plain (id INT PRIMARY KEY, part INT, "
        "FOREIGN KEY (part) REFERENCES shop.orders (id))",
        "INSERT INTO shop.orders VALUES (1, 'x')",
        "INSERT INTO shop.items VALUES (1, 1)",
    )
    one = Capture(shop, "shop")
    try:
        one.caught_up()
        shop.run("DELETE FROM shop.orders")
        logged = {event.schema.name for event in one.caught_up()} == {"shop.orders", "shop.items"}
        assert logged == (not shop.is_mariadb and shop.version >= (9, 6))
        assert codes(findings(shop)) == ([] if logged else [("warning", "cascades")])
    finally:
        one.close()
        shop.run("DROP TABLE shop.items, shop.plain")


@pytest.mark.parametrize(
    ("options", "words", "say"),
    [
        ({"databases": ["chop"]}, ["tables_unmatched", "glob_unmatched"], "no database"),
        ({"databases": ["mysql"]}, ["tables_unmatched", "glob_unmatched"], "system databases"),
        ({"tables": ["shop.order", "shop.o*"]}, ["glob_unmatched"], "no table"),
        ({"tables": ["shop.seen"]}, ["glob_unmatched"], "a view"),
        ({"columns": {"exclude": ["shop.orders.nte"]}}, ["glob_unmatched"], "no captured column"),
        ({"columns": {"include": ["shop.orders.note"]}}, [], ""),
    ],
)
def test_globs_that_match_nothing(
    shop: MysqlServer, options: dict[str, Any], words: list[str], say: str
) -> None:
    shop.run("CREATE VIEW shop.seen AS SELECT 1 AS a")
    found = findings(shop, **options)
    assert [word for _, word in codes(found)] == words
    assert say in " ".join(f.sentence for f in found if f.level != "pass")


def test_a_charset_that_nobody_knows(shop: MysqlServer) -> None:
    config = configured(shop)
    with closing(Session(config, "test")) as session:
        catalog = Catalog(session, mariadb=shop.is_mariadb)
        orders = catalog.tables(config)["shop.orders"].structure
    odd = orders.columns[1]._replace(charset="klingon")
    structures = {"shop.orders": orders.__class__("shop", "orders", (odd,))}
    found = list(tables(structures))
    assert ("error", "charset_unknown") in codes(found)


def test_a_log_that_lacks_changes(alone: MysqlServer) -> None:
    found = findings(alone, databases=["shop", "other"])
    assert codes(found) == [("error", "log_filtered")]
    assert "database other" in next(f.sentence for f in found if f.level == "error")
    assert codes(findings(alone)) == [("warning", "log_filters")]
    if alone.is_mariadb:
        alone.new_user("seer", "seer", privileges="ALL PRIVILEGES")
        alone.run("CHANGE MASTER TO MASTER_HOST = 'nowhere.invalid'")
        assert ("error", "replica_unlogged") in codes(findings(alone, user="seer"))
        assert ("error", "replica_unlogged") not in codes(findings(alone))
        alone.run("SET GLOBAL gtid_slave_pos = '0-1-1000,3-2-7'")
    else:
        alone.run("CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'nowhere.invalid'")
    assert ("error", "replica_unlogged") in codes(findings(alone))
    if not alone.is_mariadb:
        _without_gtids(alone)
    del alone.settings["binlog_do_db"]
    alone.settings["skip_log_bin"] = alone.settings.pop("log_bin") and None
    alone.write_settings()
    alone.restart()
    assert codes(findings(alone)) == [("error", "log_disabled")]


def _without_gtids(server: MysqlServer) -> None:
    server.run("RESET REPLICA ALL")
    for mode in ("ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"):
        server.configure(gtid_mode=mode)
    assert codes(findings(server)) == [("warning", "gtid_off"), ("warning", "log_filters")]
    assert ("error", "gtid_disabled") in codes(findings(server, position="gtid"))
    server.run("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
    server.configure(rpl_semi_sync_source_enabled="ON")
    found = findings(server, position="file")
    assert codes(found) == [("warning", "semi_sync_wait"), ("warning", "log_filters")]
    server.run(remedies(found, "semi_sync_wait")[0].partition(",")[0])
    assert codes(findings(server, position="file")) == [("warning", "log_filters")]


def test_a_server_that_is_too_old(shop: MysqlServer) -> None:
    with closing(Session(configured(shop), "test")) as session:
        known = server(session)
    with pytest.raises(EnsignError, match="or later is needed"):
        check_version(known._replace(version=(5, 6, 51) if not known.mariadb else (10, 1, 48)))


def test_where_encryption_is_asked_for() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("10.0.0.1", "192.168.1.5", "fe80::1%eth0", "2001:db8::1")))
