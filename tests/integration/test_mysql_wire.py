"""The binlog's wire between a real server and the framing: what is too large to be recorded, and
what a server refuses."""

from __future__ import annotations

from uuid import uuid4

import pytest

from connectors.mysql import commands, events
from connectors.mysql.damage import ServerError
from connectors.mysql.gtids import GtidPosition, GtidSet
from connectors.mysql.rowevents import INSERTS
from connectors.mysql.statements import query
from tests.fixtures.mysql import framed
from tests.fixtures.mysql.record import dumped
from tests.services.mysql import MysqlServer

SERVER_ID = 78
PACKET_MAX = 0xFFFFFF


def prepared(server: MysqlServer, had: GtidPosition | None = None) -> list[str]:
    return commands.settings(server.is_mariadb, heartbeat_s=10, uuid=uuid4(), had=had)


def received(server: MysqlServer, payload: bytes, settings: list[str]) -> list[bytes]:
    with server.connect() as connection, connection.cursor() as cursor:
        for statement in settings:
            cursor.execute(statement)
        return list(framed(dumped(connection, payload)))


def behind(server: MysqlServer, gtids: str) -> list[bytes]:
    """The events behind these transactions, up to the end of the log."""
    flags = commands.NON_BLOCKING
    if server.is_mariadb:
        had = GtidPosition.parse(gtids)
        payload = commands.dump(SERVER_ID, "", commands.START_OF_FILE, flags)
        return received(server, payload, prepared(server, had))
    payload = commands.dump_gtid(SERVER_ID, GtidSet.parse(gtids), flags)
    return received(server, payload, prepared(server))


def test_events_of_several_packets(mysql: MysqlServer) -> None:
    """Rows whose events end in, at and behind the limit of a packet."""
    database = mysql.new_database()
    mysql.run("CREATE TABLE t (a INT PRIMARY KEY, b LONGBLOB)", database=database)
    before = mysql.gtids()
    mysql.run("INSERT INTO t VALUES (0, REPEAT('x', 300000))", database=database)
    (row,) = [e for e in behind(mysql, before) if e[events.TYPE_AT] in INSERTS]
    besides = len(row) - 300_000
    # A packet's payload has a byte before the event and a checksum behind it.
    sizes = [PACKET_MAX - besides - 5 + extra for extra in (-1, 0, 1)]
    before = mysql.gtids()
    for i, size in enumerate(sizes, 1):
        mysql.run(f"INSERT INTO t VALUES ({i}, REPEAT('y', {size}))", database=database)
    found = [e for e in behind(mysql, before) if e[events.TYPE_AT] in INSERTS]
    assert [len(e) - besides for e in found] == sizes
    assert all(e.endswith(b"y" * size) for e, size in zip(found, sizes, strict=True))
    mysql.drop_database(database)


@pytest.mark.parametrize("checksum", ["CRC32", "NONE"])
def test_a_dump_from_the_middle_of_a_file(mysql: MysqlServer, checksum: str) -> None:
    """The format description is then changed on its way, and without checksums has a wrong one."""
    mysql.configure(binlog_checksum=checksum)
    try:
        file, offset = mysql.position()
        database = mysql.new_database()
        payload = commands.dump(SERVER_ID, file, offset, commands.NON_BLOCKING)
        found = received(mysql, payload, prepared(mysql))
    finally:
        mysql.configure(binlog_checksum="CRC32")
    assert events.rotate(found[0]) == (file, offset)
    assert events.format_description(found[1]).checksum == (checksum == "CRC32")
    (statement,) = [query(e).statement for e in found if e[events.TYPE_AT] == events.QUERY]
    assert statement == f"CREATE DATABASE {database}".encode()
    mysql.drop_database(database)


def test_a_file_that_is_not_there(mysql: MysqlServer) -> None:
    payload = commands.dump(SERVER_ID, "nothing.000009", commands.START_OF_FILE)
    with pytest.raises(ServerError) as raised:
        received(mysql, payload, prepared(mysql))
    assert (raised.value.number, raised.value.sqlstate) == (1236, "HY000")


def test_a_position_ahead_of_the_server(mysql: MysqlServer) -> None:
    """MariaDB refuses transactions that its log does not have, and MySQL its own that it did not
    make."""
    gtids = mysql.gtids()
    if mysql.is_mariadb:
        position = GtidPosition.parse(gtids)
        for domain, last in position.domains().items():
            position.advance(domain, last.server_id, last.sequence + 5)
        gtids = str(position)
    else:
        executed = GtidSet.parse(gtids)
        (uuid,) = mysql.run("SELECT @@GLOBAL.server_uuid")[0]
        executed.add(uuid, "", 1 << 40)
        gtids = str(executed)
    with pytest.raises(ServerError) as raised:
        behind(mysql, gtids)
    assert raised.value.number == 1236


def test_a_replica_that_registers(mysql: MysqlServer) -> None:
    registered = commands.register(SERVER_ID, "here", 3307)
    with mysql.connect() as connection:
        socket = connection._sock  # type: ignore[attr-defined]  # PyMySQL has no name for it.
        socket.sendall(commands.packet(registered))
        # An OK packet: its length, its number, and a byte that is 0.
        assert socket.recv(100)[3:5] == b"\1\0"
