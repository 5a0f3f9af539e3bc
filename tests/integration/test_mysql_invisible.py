"""A MySQL server shows a transaction in its tables only some time after it is in the binary log,
and longer where it waits for a semi-synchronous replica. Here it waits for one that never comes:
the snapshot neither loses what is in the log and not shown yet, nor repeats it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from connectors.mysql import routes
from connectors.mysql.position import decode
from ensign_core.plugin import Signal
from tests.integration.test_mysql_snapshot import settled
from tests.services.mysql import MysqlServer, installations
from tests.services.mysql_capture import Capture, captures
from tests.services.postgres_capture import fold
from tests.services.ready import wait_until

PATIENCE_S = 30.0
HELD_MS = 400
MODES = {
    "gtid": ({}, {}),
    "anonymous": ({"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}, {}),
    "file": ({}, {"position": "file"}),
}
"""Settings of the server, options of the source."""

HELD = (
    "UPDATE t SET v = 1 WHERE id = 50",
    "INSERT INTO t VALUES (55, 1, 'new')",
    "DELETE FROM t WHERE id = 60",
    "UPDATE t SET id = 75, v = 1 WHERE id = 20",
)


class Waiting:
    """A server that lets transactions wait for a replica, and a database with a table."""

    def __init__(self, server: MysqlServer, database: str) -> None:
        self.server = server
        self.database = database

    @contextmanager
    def held(self, *statements: str) -> Iterator[None]:
        """A transaction is in the log and is not shown for a while (`HELD_MS`)."""
        server = self.server
        server.configure(rpl_semi_sync_source_enabled="OFF")
        server.configure(rpl_semi_sync_source_enabled="ON")
        place = server.position()
        thread = threading.Thread(
            target=server.run, args=("BEGIN", *statements, "COMMIT"),
            kwargs={"database": self.database},
        )  # fmt: skip
        thread.start()
        wait_until(lambda: server.position() != place, PATIENCE_S)
        before = self.rows()
        yield
        thread.join(PATIENCE_S)
        assert self.rows() != before

    def rows(self) -> list[tuple[str, str, str]]:
        query = "SELECT CAST(id AS CHAR), CAST(v AS CHAR), note FROM t"
        return sorted(self.server.run(query, database=self.database))


@pytest.fixture(scope="module", params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    scope="module", params=[p.name for p in installations().values() if p.product == "mysql"]
)
def server(request: pytest.FixtureRequest, mode: str) -> Iterator[MysqlServer]:
    settings = {
        "plugin_load_add": "semisync_source.so",
        "rpl_semi_sync_source_timeout": str(HELD_MS),
        **MODES[mode][0],
    }
    with MysqlServer(installations()[request.param], settings=settings) as started:
        yield started


@pytest.fixture
def waiting(server: MysqlServer) -> Iterator[Waiting]:
    name = server.new_database()
    server.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int, note text)",
        "INSERT INTO t SELECT n, 0, repeat('x', 100) FROM (WITH RECURSIVE g (n) AS "
        "(SELECT 0 UNION ALL SELECT n + 10 FROM g WHERE n < 990) SELECT n FROM g) g",
        database=name,
    )
    yield Waiting(server, name)
    server.drop_database(name)


@pytest.fixture
def capture(
    waiting: Waiting, mode: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Capture]]:
    monkeypatch.setattr(routes, "RECENT_S", 2 * HELD_MS / 1000)
    yield from captures(waiting.server, waiting.database, chunk_rows=9, **MODES[mode][1])


def assert_equal_to_table(waiting: Waiting, capture: Capture) -> None:
    state = [(r["id"], r["v"], r["note"]) for r in fold(capture.seen).values()]
    assert sorted(state, key=str) == waiting.rows()


def passed(capture: Capture, place: tuple[str, int]) -> bool:
    """Whether the stream has had all before a place."""
    return capture.position is not None and decode(capture.position).place >= place


def test_it_waits_when_the_pipeline_begins(
    waiting: Waiting, capture: Callable[..., Capture]
) -> None:
    one = capture()
    with waiting.held(*HELD):
        one.caught_up()
    one.caught_up()
    assert_equal_to_table(waiting, one)


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("rows", [1, 40])
def test_it_comes_and_waits_while_the_table_is_read(
    waiting: Waiting, capture: Callable[..., Capture], rows: int, reopen: bool
) -> None:
    """The stream has had it before the next chunk begins, which does not see it."""
    one = capture()
    one.open()
    one.until(lambda: len(one.seen) >= rows)
    one.told.asked = [Signal(1, "pause")]
    one.step()
    with waiting.held(*HELD):
        place = waiting.server.position()
        one.until(lambda: passed(one, place))
        one.told.asked.append(Signal(2, "resume"))
        if reopen:
            one.open()
        one.until(lambda: settled(one))
    one.caught_up()
    assert_equal_to_table(waiting, one)
