"""Fixtures that several folders of tests share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import hypothesis
import psycopg
import pytest

from tests.services import kafka_programs
from tests.services import kinesis as kinesis_services
from tests.services import mysql as mysql_services
from tests.services.kafka import KafkaServer
from tests.services.kinesis import KinesisServer
from tests.services.kms import KmsServer
from tests.services.mysql import MysqlServer
from tests.services.postgres import PostgresServer, ends, installations

ROOT = Path(__file__).parents[1]
EVERY_VERSION = "every_version"

# How long an example takes is the machine's affair: `python -m tests.bench` measures.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    if stale := [source for source in compiled_sources() if not is_built(source)]:
        names = ", ".join(source.relative_to(ROOT).as_posix() for source in stale)
        raise pytest.UsageError(
            f"to be compiled, by `make check` or `pip install --editable '.[dev]'`: {names}"
        )
    config.addinivalue_line(
        "markers",
        f"{EVERY_VERSION}: run on every PostgreSQL found, not on the oldest and the newest only",
    )


def compiled_sources() -> list[Path]:
    """What is compiled."""
    return sorted(
        f for folder in ("ensign_core", "connectors") for f in ROOT.glob(f"{folder}/**/*.pyx")
    )


def is_built(source: Path) -> bool:
    """Whether there is a build for this Python that is not older than its sources."""
    built = source.with_suffix(EXTENSION_SUFFIXES[0])
    newest = max(path.stat().st_mtime for path in {source, *declarations(source)})
    return built.exists() and built.stat().st_mtime >= newest


def declarations(source: Path) -> Iterator[Path]:
    """The declarations that a source has in it, its own among them."""
    for name in re.findall(r"^from ([\w.]+) cimport", source.read_text(), re.MULTILINE):
        found = ROOT.joinpath(*name.split(".")).with_suffix(".pxd")
        if found.exists() and found != source:
            yield found
            yield from declarations(found)
    if source.suffix == ".pyx" and (own := source.with_suffix(".pxd")).exists():
        yield own
        yield from declarations(own)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which servers a test meets that uses `postgres` or `mysql`, itself or through another
    fixture."""
    if "postgres" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker(EVERY_VERSION) is not None
        versions = list(installations()) if every else ends()
        metafunc.parametrize("postgres", versions, indirect=True, scope="session")
    if "mysql" in metafunc.fixturenames:
        names = list(mysql_services.installations())
        metafunc.parametrize("mysql", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A running server of each version, for all tests of the session; on a machine without any,
    its tests are skipped."""
    with PostgresServer(installations()[request.param]) as server:
        yield server


@pytest.fixture(scope="session")
def mysql(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """A running server of each MySQL and MariaDB found, for all tests of the session; on a machine
    without any, its tests are skipped."""
    with MysqlServer(mysql_services.installations()[request.param]) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_here() -> None:
    """On a machine without Kafka, tests that need it are skipped."""
    if not kafka_programs.jars():
        pytest.skip("no Kafka here: `make kafka` fetches it")


@pytest.fixture(scope="session")
def kafka(kafka_here: None) -> Iterator[KafkaServer]:
    """A running broker for all tests of the session."""
    with KafkaServer() as server:
        yield server


@pytest.fixture(scope="session")
def kinesis_here() -> None:
    """On a machine without kinesis-local, tests that need it are skipped."""
    if kinesis_services.program() is None:
        pytest.skip("no kinesis-local here: `make kinesis` fetches it")


@pytest.fixture(scope="session")
def kinesis(kinesis_here: None) -> Iterator[KinesisServer]:
    """A running Kinesis for all tests of the session. A test that makes it fail heals its proxy
    again."""
    with KinesisServer() as server:
        yield server


@pytest.fixture(scope="session")
def kms() -> Iterator[KmsServer]:
    """A running AWS KMS for all tests of the session. A test that makes it fail heals its proxy
    again."""
    with KmsServer() as server:
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
