"""The fixtures of most tests of the PostgreSQL source, and of those of the MySQL source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import Database
from tests.services import kinesis_capture, mysql_capture
from tests.services.kinesis import KinesisServer
from tests.services.mysql import MysqlServer
from tests.services.postgres_capture import Capture, captures


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's tables; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["public.*"])


class Shop(NamedTuple):
    """A database of one test on a MySQL or MariaDB server."""

    server: MysqlServer
    name: str

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as root in it; the rows of the last one."""
        return self.server.run(*statements, database=self.name)


@pytest.fixture
def shop(mysql: MysqlServer) -> Iterator[Shop]:
    """A fresh database, dropped afterwards."""
    found = Shop(mysql, mysql.new_database())
    yield found
    mysql.drop_database(found.name)


@pytest.fixture
def follow(shop: Shop) -> Iterator[Callable[..., mysql_capture.Capture]]:
    """Makes captures of the test's tables; they are closed afterwards."""
    yield from mysql_capture.captures(shop.server, shop.name)


@pytest.fixture
def metadata(request: pytest.FixtureRequest, mysql: MysqlServer) -> Iterator[str]:
    """What the server's log tells of columns: the test's parameter, or on a server that does not
    have it the next that tells more."""
    wanted = "MINIMAL" if request.param == "NO_LOG" and not mysql.is_mariadb else request.param
    mysql.configure(binlog_row_metadata=wanted)
    yield wanted
    mysql.configure(binlog_row_metadata="FULL")


@pytest.fixture
def read_stream(kinesis: KinesisServer) -> Iterator[Callable[..., kinesis_capture.Capture]]:
    """Makes captures of streams; they are closed afterwards, and the server's faults healed."""
    yield from kinesis_capture.captures(kinesis)
    kinesis.proxy.heal()
