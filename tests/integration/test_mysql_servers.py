"""The MySQL and MariaDB servers that tests start: what they promise to the tests that use them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.services.mysql import CDC, MysqlServer, installations


@pytest.fixture(params=list(installations()))
def server(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """A server of its own, which may be killed."""
    with MysqlServer(installations()[request.param]) as started:
        yield started


def test_a_killed_server_keeps_what_was_committed(server: MysqlServer) -> None:
    database = server.new_database()
    server.run("CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (7)", database=database)
    place, gtids = server.position(), server.gtids()
    server.restart("kill")
    with server.connect(database, user=CDC) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT a FROM t")
        assert cursor.fetchall() == ((7,),)
    assert server.gtids() == gtids
    assert server.position()[0] > place[0]


def test_old_logs_are_purged(mysql: MysqlServer) -> None:
    newest = mysql.rotate()
    mysql.purge()
    assert mysql.logs() == [newest]


def test_the_command_line_client_reads_tables(mysql: MysqlServer) -> None:
    database = mysql.new_database()
    mysql.run("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1), (2)", database=database)
    command = mysql.client("--quick", "--batch", "-N", "-e", "SELECT a FROM t", database=database)
    if command:
        assert subprocess.run(command, check=True, capture_output=True).stdout == b"1\n2\n"
    mysql.drop_database(database)
