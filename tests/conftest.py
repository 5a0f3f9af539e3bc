"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.services.postgres import PostgresServer, installations


@pytest.fixture(scope="session", params=sorted(installations()))
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A running server of each version that this machine has, for all tests of the session."""
    with PostgresServer(installations()[request.param]) as server:
        yield server


class Database:
    """A database of one test: its name, dsn, and a superuser's connection that commits each
    statement."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.dsn = server.dsn(name)
        self.connection: psycopg.Connection[tuple[object, ...]] = server.connect(name)

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements; the rows of the last one."""
        cursor = None
        for statement in statements:
            cursor = self.connection.execute(statement.encode())
        if cursor is None or cursor.description is None:
            return []
        return cursor.fetchall()

    def value(self, statement: str) -> object:
        return self.run(statement)[0][0]


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """A fresh database, dropped with its slots afterwards."""
    found = Database(postgres, postgres.new_database())
    yield found
    found.connection.close()
    postgres.drop_database(found.name)
