"""How the MySQL source gets to its server: TLS in all its modes, every authentication plugin, and
what each refusal is called."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from cryptography.hazmat.primitives import serialization

from connectors.mysql.config import MysqlConfig
from connectors.mysql.connecting import connect
from connectors.mysql.errors import by_exception
from ensign_core.errors import EnsignError
from tests.services.certificates import Authority
from tests.services.mysql import CDC, Certificates, MysqlServer, installations
from tests.services.mysql_capture import Capture
from tests.services.postgres import free_port
from tests.services.proxy import FaultProxy

PASSWORD = "pferd-Ünter→batterie"
PLUGINS = {
    "mariadb": {"mysql_native_password": "", "ed25519": "auth_ed25519", "parsec": "auth_parsec"},
    "mysql": {"caching_sha2_password": "", "sha256_password": ""},
}
"""Plugins of each product, and the libraries that bring them."""


class Guarded:
    """A server with TLS and two authorities, of which it trusts one."""

    def __init__(self, server: MysqlServer, ours: Authority, theirs: Authority) -> None:
        self.server = server
        self.ours = ours
        self.theirs = theirs

    def shows(self, name: str, *, valid: bool = True, by: Authority | None = None) -> None:
        """Have the server show a certificate for ``name``."""
        self.server.renew(
            Certificates(self.ours.path, *(by or self.ours).sign(name, "s", valid=valid))
        )


@pytest.fixture(scope="module", params=list(installations()))
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    shown = Certificates(ours.path, *ours.sign("127.0.0.1", "server"))
    settings = {"performance_schema": "ON", "performance_schema_max_digest_length": "0"}
    with MysqlServer(installations()[request.param], settings=settings, tls=shown) as server:
        yield Guarded(server, ours, theirs)


def configured(server: MysqlServer, **given: Any) -> MysqlConfig:
    user = given.get("user", CDC)
    place = {"host": server.host, "port": server.port, "user": user, "connect_timeout_s": 5}
    password = server.passwords.get(user, "")
    return MysqlConfig(type="mysql", databases=["*"], **{**place, "password": password, **given})


def asked(server: MysqlServer, statement: str, **given: Any) -> tuple[Any, ...]:
    """The first row of a statement on a connection of the source."""
    connection = connect(configured(server, **given), pipeline="shop")
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return tuple(cursor.fetchall()[0])


def encrypted(server: MysqlServer, **given: Any) -> bool:
    return bool(asked(server, "SHOW STATUS LIKE 'Ssl_cipher'", **given)[1])


def refusal(server: MysqlServer, *, database: str = "", **given: Any) -> str:
    """The code with which a connection fails; what is told holds no secret and no blank."""
    config = configured(server, **given)
    with pytest.raises(EnsignError) as caught:
        connect(config, database=database, pipeline="shop")
    assert "(unknown)" not in str(caught.value)
    secret = config.password.get_secret_value() if config.password is not None else ""
    assert len(secret) < 5 or secret not in str(caught.value)
    return caught.value.code.removeprefix("mysql.")


def test_tls_modes(guarded: Guarded) -> None:
    server = guarded.server
    assert not encrypted(server, tls={"mode": "disabled"})
    assert encrypted(server)
    assert encrypted(server, tls={"mode": "required"})
    ours, theirs = str(guarded.ours.path), str(guarded.theirs.path)
    for mode in ("verify_ca", "verify_identity"):
        assert encrypted(server, tls={"mode": mode, "ca": ours})
        assert refusal(server, tls={"mode": mode, "ca": theirs}) == "certificate_untrusted"
        assert refusal(server, tls={"mode": mode}) == "certificate_untrusted"
    assert encrypted(server, host="localhost", tls={"mode": "verify_ca", "ca": ours})
    named = {"mode": "verify_identity", "ca": ours}
    assert refusal(server, host="localhost", tls=named) == "certificate_name"


def test_a_certificate_that_has_expired(guarded: Guarded) -> None:
    if not guarded.server.is_mariadb:
        return  # MySQL takes none that has expired already
    ours = str(guarded.ours.path)
    guarded.shows("127.0.0.1", valid=False)
    try:
        assert encrypted(guarded.server, tls={"mode": "required"})
        refused = refusal(guarded.server, tls={"mode": "verify_ca", "ca": ours})
        assert refused == "certificate_expired"
    finally:
        guarded.shows("127.0.0.1")


def test_a_server_without_tls(mysql: MysqlServer) -> None:
    assert not encrypted(mysql)
    for mode in ("required", "verify_ca", "verify_identity"):
        assert refusal(mysql, tls={"mode": mode}) == "tls_refused"


def test_a_server_with_tls_only(guarded: Guarded) -> None:
    server = guarded.server
    server.configure(require_secure_transport="ON")
    try:
        assert encrypted(server)
        refused = refusal(server, tls={"mode": "disabled"})
    finally:
        server.configure(require_secure_transport="OFF")
    # MariaDB 10 says no more than that it refuses.
    told = server.is_mariadb and server.version < (11,)
    assert refused == ("password_rejected" if told else "tls_needed")


def test_client_certificates(guarded: Guarded) -> None:
    server = guarded.server
    server.new_user("certified", "pw", options="REQUIRE X509")
    cert, key = map(str, guarded.ours.sign("certified", "client"))
    for mode in ("preferred", "required"):
        assert encrypted(server, user="certified", tls={"mode": mode, "cert": cert, "key": key})
    assert refusal(server, user="certified") == "password_rejected"
    cert, key = map(str, guarded.theirs.sign("certified", "foreign"))
    tls = {"mode": "required", "cert": cert, "key": key}
    assert refusal(server, user="certified", tls=tls) == "client_certificate_refused"


def test_files_that_are_not_what_they_should_be(mysql: MysqlServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    cert, key = authority.sign("cdc", "client")
    other = authority.sign("cdc", "other")[1]
    garbage = tmp_path / "garbage"
    garbage.write_text("nothing")
    locked = tmp_path / "locked"
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(
        loaded.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"phrase"))
    )
    for given in (
        {"mode": "verify_ca", "ca": str(tmp_path / "nowhere")},
        {"mode": "verify_ca", "ca": str(garbage)},
        {"cert": str(garbage)},
        {"cert": str(cert), "key": str(tmp_path)},
        {"cert": str(cert), "key": str(other)},
        {"cert": str(cert), "key": str(locked)},
    ):
        assert refusal(mysql, tls=given) == "tls_file"


def test_every_plugin(guarded: Guarded) -> None:
    server = guarded.server
    for plugin, library in PLUGINS[server.programs.product].items():
        file = server.programs.root / "usr/lib/mysql/plugin" / f"{library}.so"
        if library and not file.exists():
            continue
        if library:
            server.run(f"INSTALL SONAME '{library}'")
        user = f"u_{plugin}"
        # First without TLS: what the server remembers of a login would shorten those that follow.
        for modes in (("disabled", "disabled", "required"), ("required", "required", "disabled")):
            server.new_user(user, PASSWORD, plugin=plugin)
            for mode in modes:
                assert encrypted(server, user=user, tls={"mode": mode}) == (mode == "required")
        for mode in ("disabled", "required"):
            tls = {"mode": mode}
            assert refusal(server, user=user, password="wrong", tls=tls) == "password_rejected"
            assert refusal(server, user=user, password="", tls=tls) == "password_missing"
        server.run(f"DROP USER '{user}'")


def test_a_plugin_that_is_not_spoken(guarded: Guarded) -> None:
    server = guarded.server
    if server.is_mariadb:
        old = "VIA mysql_old_password USING '1234567812345678'"
        server.run("SET GLOBAL secure_auth = OFF", f"CREATE USER odd IDENTIFIED {old}")
        assert refusal(server, user="odd", password="pw") == "auth_unsupported"
        server.run("SET GLOBAL secure_auth = ON")
    else:
        server.run("INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'")
        server.run("CREATE USER odd IDENTIFIED WITH auth_socket")
    assert refusal(server, user="odd", password="pw") in ("auth_unsupported", "password_rejected")
    server.run("DROP USER odd")


def test_logins_that_are_refused(guarded: Guarded) -> None:
    server = guarded.server
    assert refusal(server, user="nobody", password="guess") == "password_rejected"
    assert refusal(server, database="nowhere") == "database_missing"
    server.run("CREATE DATABASE IF NOT EXISTS shut", "CREATE USER low IDENTIFIED BY 'low'")
    assert refusal(server, user="low", password="low", database="shut") == "login_refused"
    server.new_user("locked", "pw", options="ACCOUNT LOCK")
    assert refusal(server, user="locked") == "account_locked"
    server.new_user("single", "pw", options="WITH MAX_USER_CONNECTIONS 1")
    with connect(configured(server, user="single"), pipeline="shop"):
        assert refusal(server, user="single") == "too_many_connections"


def test_nobody_may_come_from_here(guarded: Guarded) -> None:
    server = guarded.server
    with server.connect() as root, root.cursor() as cursor:
        cursor.execute("SELECT user, host FROM mysql.user WHERE host IN ('%', '127.0.0.1')")
        for user, host in cursor.fetchall():
            cursor.execute(f"RENAME USER '{user}'@'{host}' TO '{user}'@'10.0.0.1'")
        try:
            cursor.execute("FLUSH PRIVILEGES")
            assert refusal(server) == "login_refused"
        finally:
            cursor.execute(f"RENAME USER '{CDC}'@'10.0.0.1' TO '{CDC}'@'%'")


def test_no_connection_left(guarded: Guarded) -> None:
    server = guarded.server
    before = server.run("SELECT @@max_connections")[0][0]
    least = 10 if server.is_mariadb else 1
    server.configure(max_connections=str(least))
    held: list[Any] = []
    try:
        while len(held) <= least:
            try:
                held.append(connect(configured(server), pipeline="shop"))
            except EnsignError as failed:
                code = failed.code
                break
    finally:
        for connection in held:
            connection.close()
        server.configure(max_connections=str(before))
    assert code == "mysql.too_many_connections"


def test_an_expired_password(guarded: Guarded) -> None:
    server = guarded.server
    server.new_user("stale", "pw")
    server.run("ALTER USER 'stale' PASSWORD EXPIRE")
    if server.is_mariadb:
        # It lets such a user in by default, and refuses the first statement.
        connection = connect(configured(server, user="stale"), pipeline="shop")
        with connection, connection.cursor() as cursor:
            with pytest.raises(pymysql.MySQLError) as failed:
                cursor.execute("SELECT 1")
            assert by_exception(failed.value).code == "mysql.password_expired"
        server.configure(disconnect_on_expired_password="ON")
    assert refusal(server, user="stale") == "password_expired"


def test_what_the_server_is_told(guarded: Guarded) -> None:
    row = asked(
        guarded.server,
        "SELECT attr_value, @@autocommit, @@character_set_client FROM "
        "performance_schema.session_connect_attrs WHERE attr_name = 'program_name' "
        "AND processlist_id = CONNECTION_ID()",
    )
    assert row == ("ensign shop", 1, "utf8mb4")


def test_places_where_no_server_is(mysql: MysqlServer) -> None:
    assert refusal(mysql, port=free_port()) == "unreachable"
    assert refusal(mysql, host="nowhere.invalid") == "unreachable"
    assert refusal(mysql, host="no..name") == "unreachable"
    with FaultProxy(mysql.host, mysql.port) as proxy:
        place: dict[str, Any] = {"host": proxy.host, "port": proxy.port}
        assert asked(mysql, "SELECT 7", **place) == (7,)
        proxy.black_hole()
        assert refusal(mysql, **place, connect_timeout_s=0.2) == "unreachable"


def test_nobody_connects_again_by_himself(mysql: MysqlServer) -> None:
    connection = connect(configured(mysql), pipeline="shop")
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        mysql.run(f"KILL {cursor.fetchall()[0][0]}")
        for _ in range(2):
            with pytest.raises(pymysql.MySQLError) as failed:
                cursor.execute("SELECT 1")
            word = by_exception(failed.value).code.removeprefix("mysql.")
            assert word in ("connection_lost", "restarting")
    who = f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{CDC}'"
    assert mysql.run(who) == [(0,)]


def test_an_answer_that_does_not_come(mysql: MysqlServer) -> None:
    connection = connect(configured(mysql, query_timeout_s=0.1), pipeline="shop")
    with connection.cursor() as cursor, pytest.raises(pymysql.MySQLError) as failed:
        cursor.execute("SELECT SLEEP(2)")
    error = by_exception(failed.value, doing="reading the catalog")
    assert error.code == "mysql.timeout"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_password_of_a_program(mysql: MysqlServer, tmp_path: Path) -> None:
    count = tmp_path / "count"
    counted = f"open({str(count)!r}, 'a').write('x'); print({CDC!r})"
    for _ in range(2):
        command = program(counted)
        assert asked(mysql, "SELECT 1", password="stale", password_command=command) == (1,)
    assert count.read_text() == "xx"
    refused = refusal(mysql, password_command=program("print('wrong')"))
    assert refused == "password_rejected"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["/nowhere/token"], "password_command_invalid"),
        (["/tmp"], "password_command_invalid"),
        (program("import sys; print('cdc'); sys.exit(3)"), "password_command.unreachable"),
        (program("pass"), "password_command.unreachable"),
        (program(r"import sys; sys.stdout.buffer.write(b'\xff')"), "password_command.unreachable"),
        (program("import time; time.sleep(60)"), "password_command.timeout"),
    ],
)
def test_program_that_gives_no_password(command: list[str], word: str) -> None:
    config = MysqlConfig(
        type="mysql", databases=["*"], host="127.0.0.1", user=CDC, password="",
        password_command=command, connect_timeout_s=0.5,
    )  # fmt: skip
    with pytest.raises(EnsignError) as caught:
        connect(config, pipeline="shop")
    assert caught.value.code == f"mysql.{word}"
    assert command[0] in caught.value.sentence


LIMITS = {
    "sql_select_limit": ("3", "18446744073709551615"),
    "completion_type": ("2", "0"),
    "wait_timeout": ("1", "28800"),
}


@pytest.fixture
def limited(mysql: MysqlServer) -> Iterator[str]:
    """A database with a table of many rows, on a server that holds applications to limits."""
    database = mysql.new_database()
    mysql.run(
        "CREATE TABLE t (v text)", "INSERT INTO t VALUES (REPEAT('x', 1000))",
        *["INSERT INTO t SELECT * FROM t"] * 14, database=database,
    )  # fmt: skip
    name, slow = (
        ("max_statement_time", "0.02") if mysql.is_mariadb else ("max_execution_time", "20")
    )
    mysql.configure(**{limit: given for limit, (given, _) in LIMITS.items()}, **{name: slow})
    yield database
    mysql.configure(**{limit: usual for limit, (_, usual) in LIMITS.items()}, **{name: "0"})
    mysql.drop_database(database)


def test_limits_for_applications_cut_nothing_short(mysql: MysqlServer, limited: str) -> None:
    """All rows of a table that takes longer to read than a statement may, and a connection that
    has nothing to do for longer than it may be idle."""
    one = Capture(mysql, limited)
    one.caught_up()
    until = time.monotonic() + 2.5
    one.until(lambda: time.monotonic() > until)
    one.close()
    assert len(one.seen) == 1 << 14
