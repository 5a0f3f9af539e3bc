"""``python -m tests.bench mysql``: from a server's binary log into a durable encrypted topic.

Each run of ours goes on from a position that was made durable before the rows were written. The
clock runs from the moment that the server shows our dump to the end of the process, so it includes
the shutdown; mysql-replication's from its first event to its last row, its start left out. CPU and
peak RSS are the process's own, its start included.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from ensign_core.broker import Broker
from tests.bench.measured import Run, finished, ratio, told
from tests.services.mysql import CDC, MysqlServer
from tests.services.mysql_programs import installations
from tests.services.ready import wait_until

TABLE = """
CREATE TABLE bench (
    id bigint PRIMARY KEY, number int, title varchar(60), price decimal(12, 2), placed datetime(6),
    paid tinyint(1), token binary(16), detail json, weight double, code varchar(20)
)
"""
ROW = (
    "i, i % 1000, concat('title of row ', i), (i % 100000) / 100, "
    "'2026-11-23 00:00:00.5' + INTERVAL i SECOND, i % 2, unhex(left(sha2(i, 256), 32)), "
    "json_object('n', i), i / 7.0e0, concat('code', i % 10000)"
)
SERIES = {
    True: "SELECT seq AS i FROM seq_1_to_{rows}",
    False: "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    "SELECT i FROM n",
}
ONE_BY_ONE = f"""
CREATE PROCEDURE fill(rows_wanted int) BEGIN
    DECLARE i bigint DEFAULT 1;
    WHILE i <= rows_wanted DO
        INSERT INTO bench VALUES ({ROW});
        SET i = i + 1;
    END WHILE;
END
"""
CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  bench:
    source: {{type: mysql, host: {host}, port: {port}, user: {user}, password: {password},
      tables: ["{database}.bench"], snapshot: {snapshot}}}
"""
DUMPS = "SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
SETTINGS = {
    "innodb_buffer_pool_size": "1G",
    "max_binlog_size": "1G",
    "sync_binlog": "0",
    "innodb_flush_log_at_trx_commit": "2",
}
SHAPES = ("one", "large", "many", "snapshot", "decode")
RIVAL_ROWS_MAX = 100_000


class Place(NamedTuple):
    """Where the rows of a shape begin in the log."""

    gtids: str
    file: str
    offset: int


class Bench:
    """A database with a table, and a broker for each run, whose position is before the rows."""

    def __init__(self, server: MysqlServer, folder: Path, runs: int) -> None:
        self.server = server
        self.database = server.new_database()
        self.run_sql(TABLE)
        self.folders = [folder / f"{self.database}-{i}" for i in range(runs)]
        for each in self.folders:
            each.mkdir()
            config = self.config(each, "never")
            command = [*ENSIGN, "run", str(config), "--until-caught-up"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        file, offset = server.position()
        self.place = Place(server.gtids(), file, offset)

    def run_sql(self, *statements: str) -> None:
        self.server.run(*statements, database=self.database)

    def config(self, folder: Path, snapshot: str) -> Path:
        path = folder / "ensign.yaml"
        path.write_text(
            CONFIG.format(
                folder=folder, host=self.server.host, port=self.server.port, user=CDC,
                password=CDC, database=self.database, snapshot=snapshot,
            )
        )  # fmt: skip
        return path

    def one_transaction(self, rows: int) -> None:
        series = SERIES[self.server.is_mariadb].format(rows=rows)
        depth = "" if self.server.is_mariadb else "SET SESSION cte_max_recursion_depth = 1000000000"
        insert = f"INSERT INTO bench SELECT {ROW} FROM ({series}) AS numbers"
        self.run_sql(*filter(None, [depth]), insert)

    def many_transactions(self, rows: int) -> None:
        self.run_sql(ONE_BY_ONE, f"CALL fill({rows})")

    def ensign(self, number: int, rows: int) -> Run:
        """Us: `ensign run --until-caught-up` on from the position."""
        folder = self.folders[number]
        command = [*ENSIGN, "run", str(folder / "ensign.yaml"), "--until-caught-up"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with self.server.connect() as connection, connection.cursor() as cursor:

            def dumping() -> bool:
                cursor.execute(DUMPS)
                return bool(cursor.fetchall()[0][0])

            began = wait_until(dumping, 30)
        cpu_s, rss = finished(process)
        assert process.returncode == 0
        run = Run(rows, time.monotonic() - began, cpu_s, rss)
        count_events(folder, rows)
        return run

    def rival(self, rows: int) -> Run:
        """mysql-replication's read loop, rows dropped."""
        rows = min(rows, RIVAL_ROWS_MAX)
        command = [
            sys.executable, "-m", "tests.bench.rival_mysql_replication", self.server.host,
            str(self.server.port), CDC, CDC, str(int(self.server.is_mariadb)), self.place.gtids,
            self.place.file, str(self.place.offset), str(rows),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        cpu_s, rss = finished(process)
        seconds = float(process.stdout.read())
        process.stdout.close()
        return Run(rows, seconds, cpu_s, rss)


ENSIGN = [sys.executable, "-m", "ensign_core.cli"]


def count_events(folder: Path, rows: int) -> None:
    """What was measured did the work."""
    with Broker.open(folder / "broker", create=False) as broker:
        (topic,) = broker.topics()
    assert topic.events == rows, (topic.events, rows)


def stream(server: MysqlServer, title: str, rows: int, options: Namespace, shape: str) -> None:
    """Runs of one shape, alternating; prints them with their ratio."""
    times = 1 if shape == "large" else options.times
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(server, Path(name), times)
        (bench.many_transactions if shape == "many" else bench.one_transaction)(rows)
        ours: list[Run] = []
        rival: list[Run] = []
        for number in range(times):
            if shape != "large":
                rival.append(bench.rival(rows))
            ours.append(bench.ensign(number, rows))
    print(f"{title}, {times} times, alternating")
    if rival:
        print(told("mysql-replication's loop, dropped", rival))
    print(told("ensign, to durable encrypted topic", ours))
    if rival:
        print(ratio("rows/s, ensign / mysql-replication", ours, rival))
    server.drop_database(bench.database)


def snapshot(server: MysqlServer, rows: int, times: int) -> None:
    """The rows that are there already, beside SELECT * through the server's own client."""
    limit: list[Run] = []
    ours: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(server, Path(name), 0)
        bench.one_transaction(rows)
        client = server.client("--quick", "-e", "SELECT * FROM bench", database=bench.database)
        for number in range(times):
            limit.append(_timed(client, rows))
            folder = Path(name) / str(number)
            folder.mkdir()
            config = bench.config(folder, "only")
            ours.append(_timed([*ENSIGN, "run", str(config)], rows))
            count_events(folder, rows)
    print(f"Snapshot of {rows:,} rows of 10 columns, {times} times each, alternating")
    print(told("mariadb --quick, to /dev/null", limit))
    print(told("ensign, to durable encrypted topic", ours))
    print(ratio("rows/s, ensign / client", ours, limit))
    server.drop_database(bench.database)


def _timed(command: list[str], rows: int) -> Run:
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cpu_s, rss = finished(process)
    assert process.returncode == 0
    return Run(rows, time.monotonic() - began, cpu_s, rss)


def main(arguments: list[str]) -> None:
    found = installations()
    parser = ArgumentParser(prog="python -m tests.bench mysql")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--only", choices=SHAPES, action="append")
    parser.add_argument("--server", choices=list(found), default=list(found)[-1])
    options = parser.parse_args(arguments)
    rows, times = options.rows, options.times
    with MysqlServer(found[options.server], settings=SETTINGS) as server:
        print(options.server)
        for shape in options.only or SHAPES:
            if shape == "one":
                stream(server, f"{rows:,} rows in one transaction", rows, options, shape)
            elif shape == "large":
                stream(server, f"{4 * rows:,} rows in one transaction", 4 * rows, options, shape)
            elif shape == "many":
                title = f"{rows // 10:,} rows in as many transactions"
                stream(server, title, rows // 10, options, shape)
            elif shape == "snapshot":
                snapshot(server, 4 * rows, times)
            else:
                import_module("tests.bench.mysql_decode").measure()
