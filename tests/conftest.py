"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.services.postgres import PostgresServer, ends, installations

EVERY_VERSION = "every_version"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{EVERY_VERSION}: run on every PostgreSQL found, not on the oldest and the newest only",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which servers a test meets that uses `postgres`, itself or through another fixture."""
    if "postgres" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker(EVERY_VERSION) is not None
        versions = list(installations()) if every else ends()
        metafunc.parametrize("postgres", versions, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A running server of each version, for all tests of the session; on a machine without any,
    its tests are skipped."""
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
