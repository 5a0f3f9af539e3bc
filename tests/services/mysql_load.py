"""Tables of all kinds of keys, writers that change them at random, and what a capture has seen held
against the table."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pymysql

from ensign_core.change import Op
from ensign_core.rows import ABSENT, Value
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture
from tests.services.postgres_capture import ROWS, Seen, fold

if TYPE_CHECKING:
    Connection = pymysql.connections.Connection[Any]

KEYS = 160
"""How many keys the writers use."""

ANSWERED = (1062, 1205, 1213)
"""A key that is taken, a lock that is not had, a deadlock: the transaction is given up."""

UNKNOWN = (1044, 1146, 1317, 2006, 2013)

LONG = "repeat(sha2(rand(), 256), 75)"


def _number(n: int) -> str:
    return f"{n}"


def _bytes(n: int) -> str:
    return f"X'{n * 7919 % 65536:04x}{'00' * (n % 3)}'"


def _padded(n: int) -> str:
    """Trailing tabs and spaces, which sort before and as the padding, and letters of all widths."""
    text = "aé😀\t~"[n % 5] * (n % 3) + str(n) + ("\t", " ", "", "")[n % 4]
    return f"_utf8mb4 X'{text.encode().hex()}'"


def _day(n: int) -> str:
    if n < 2:
        return ("'0000-00-00'", "'1999-05-00'")[n]
    return f"'{date(2000, 1, 1) + timedelta(n)}'"


def _word(n: int) -> str:
    return f"'{'kK'[n % 2]}{n}'"


class Plan(NamedTuple):
    """A table: the declaration of its key's column ``id`` and of its key, its engine, how the key
    of a number is written in SQL."""

    column: str
    key: str = "PRIMARY KEY (id)"
    engine: str = "InnoDB"
    spelled: Callable[[int], str] = _number

    def create(self, name: str = "t") -> str:
        key = f", {self.key}" if self.key else ""
        return (
            f"CREATE TABLE {name} (id {self.column} NOT NULL, part int NOT NULL, v int, note text"
            f"{key}) ENGINE={self.engine}"
        )


PLANS = {
    "int": Plan("int"),
    "composite": Plan("int", "PRIMARY KEY (part, id)"),
    "binary": Plan("varbinary(9)", spelled=_bytes),
    "fixed": Plan("binary(6)", spelled=_bytes),
    "padded": Plan("varchar(12) COLLATE utf8mb4_bin", spelled=_padded),
    "ascii": Plan("char(9) CHARACTER SET ascii COLLATE ascii_bin", spelled=_word),
    "date": Plan("date", spelled=_day),
    "unordered": Plan("varchar(9) COLLATE utf8mb4_general_ci", spelled=_word),
    "keyless": Plan("int", ""),
    "MyISAM": Plan("int", engine="MyISAM"),
    "Aria": Plan("int", engine="Aria"),
}


def filled(server: MysqlServer, database: str, plan: Plan, name: str = "t") -> None:
    """Make the table ``name``, with a row for each even number."""
    rows = ", ".join(
        f"({plan.spelled(n)}, {n % 3}, 0, {LONG if n % 4 == 0 else repr('short')})"
        for n in range(0, KEYS, 2)
    )
    statement = f"INSERT INTO {name} VALUES {rows}"
    server.run("SET sql_mode = ''", plan.create(name), statement, database=database)


class Load:
    """Writers that change a table at random until they are stopped: inserts, updates that leave a
    long value alone, moved keys, deletes, savepoints, rollbacks, and truncates where asked.
    ``image`` is the writers' binlog_row_image. A server that goes away is waited for."""

    def __init__(
        self,
        server: MysqlServer,
        database: str,
        plan: Plan,
        seed: int,
        *,
        writers: int = 2,
        truncates: bool = False,
        image: str = "FULL",
    ) -> None:
        self._server = server
        self._database = database
        self._plan = plan
        self._truncates = truncates
        self._settings = (
            f"SET SESSION sql_mode = '', binlog_row_image = '{image}'",
            "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5",
        )
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self.transactions = 0
        self._calls = 0
        self._permits = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(seed + n),), daemon=True)
            for n in range(writers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert self.failures == []

    def go_on(self) -> None:
        """Allow a few transactions more, so that the load keeps step with the reader."""
        self._permits.release(6)

    def now_and_then(self) -> None:
        """Allow them every fourth time: a source that is replaced at every batch gets on only where
        the stream has nothing for a moment."""
        self._calls += 1
        if self._calls % 4 == 0:
            self.go_on()

    def _write(self, dice: random.Random) -> None:
        connection: Connection | None = None
        try:
            while not self._stop.is_set():
                if not self._permits.acquire(timeout=0.1):
                    continue
                try:
                    connection = connection or self._connect()
                    self._transaction(connection, dice)
                    self.transactions += 1
                except (pymysql.OperationalError, pymysql.InterfaceError, ConnectionError):
                    connection = None
                    self._stop.wait(0.02)
        except BaseException as failure:
            self.failures.append(failure)
            raise
        finally:
            if connection is not None:
                connection.close()

    def _connect(self) -> Connection:
        connection = self._server.connect(self._database)
        with connection.cursor() as cursor:
            for setting in self._settings:
                cursor.execute(setting)
        return connection

    def _transaction(self, connection: Connection, dice: random.Random) -> None:
        with connection.cursor() as cursor:
            try:
                if self._plan.engine != "InnoDB":
                    cursor.execute(self._statement(dice))
                    return
                cursor.execute("BEGIN")
                for _ in range(dice.choice((1, 1, 1, 3, 12))):
                    cursor.execute(self._statement(dice))
                if dice.random() < 0.05:
                    cursor.execute("SAVEPOINT here")
                    cursor.execute(self._statement(dice))
                    cursor.execute("ROLLBACK TO here")
                cursor.execute("ROLLBACK" if dice.random() < 0.05 else "COMMIT")
            except pymysql.MySQLError as failed:
                if failed.args[0] not in ANSWERED:
                    raise
                cursor.execute("ROLLBACK")

    def _statement(self, dice: random.Random) -> str:
        spelled = self._plan.spelled
        one, two, n = dice.randrange(KEYS), dice.randrange(KEYS), dice.randrange(1000)
        key, other = spelled(one), spelled(two)
        kind = dice.random()
        if self._truncates and kind < 0.004:
            return "TRUNCATE t"
        if kind < 0.3:
            note = LONG if dice.random() < 0.4 else "'short'"
            return f"INSERT IGNORE INTO t VALUES ({key}, {one % 3}, {n}, {note})"
        if kind < 0.6:
            return f"UPDATE t SET v = {n} WHERE id = {key}"
        if kind < 0.8:
            return f"UPDATE t SET id = {other}, part = {two % 3}, v = {n} WHERE id = {key}"
        return f"DELETE FROM t WHERE id = {key}"


def table(server: MysqlServer, database: str, plan: Plan, name: str = "t") -> list[tuple[Any, ...]]:
    """The rows of a table as a capture has them."""
    shown = "id" if plan.spelled in (_bytes, _padded, _word) else "CAST(id AS CHAR)"
    return sorted(
        server.run(
            f"SELECT {shown}, CAST(part AS CHAR), CAST(v AS CHAR), note FROM {name}",
            database=database,
        ),
        key=str,
    )


def bag(seen: list[Seen]) -> Counter[tuple[Value, ...]]:
    """The rows that the events of a table without a key make. Raises where one goes that is not
    there."""
    rows: Counter[tuple[Value, ...]] = Counter()
    for event in seen:
        if event.op is Op.TRUNCATE:
            rows.clear()
        if event.op not in ROWS:
            continue
        if event.old is not None:
            gone = tuple(event.old.values())
            assert rows[gone] > 0, f"{event} has no base"
            rows[gone] -= 1
        if event.new is not None:
            row = tuple(event.new.values())
            assert ABSENT not in row
            rows[row] += 1
    return +rows


def assert_equal_to_table(server: MysqlServer, database: str, plan: Plan, seen: list[Seen]) -> None:
    """The state folded from the events is the table's, value by value."""
    if plan.key:
        state = [(s["id"], s["part"], s["v"], s["note"]) for s in fold(seen).values()]
    else:
        state = [tuple(row) for row in bag(seen).elements()]  # type: ignore[misc]  # four columns
    assert sorted(state, key=str) == table(server, database, plan)


def place_of(event: Seen) -> tuple[int, int]:
    """Where the event's transaction starts, as places compare."""
    assert event.tx is not None
    file, _, offset = event.tx.position.partition(":")
    return int(file.rpartition(".")[2]), int(offset)


def assert_ordered(capture: Capture) -> None:
    """No change of a transaction comes twice, transactions come in the order of the log, and
    ordinals rise within each."""
    streamed = [e for e in capture.seen if e.op in ROWS and e.tx is not None and e.tx.id]
    places = [(event.tx.id, event.ordinal) for event in streamed if event.tx is not None]
    assert len(set(places)) == len(places)
    last: dict[str | None, int] = {}
    for tx, ordinal in places:
        assert ordinal > last.get(tx, -1)
        last[tx] = ordinal
    order = [place_of(event) for event in streamed]
    assert order == sorted(order)
