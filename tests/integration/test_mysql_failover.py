"""A source moves from one server to another that has the same transactions: nothing is lost or
repeated by GTID, and what cannot go on is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ensign_core.errors import EnsignError
from tests.services.mysql import MysqlServer, installations
from tests.services.mysql_capture import Capture
from tests.services.ready import wait_until

PATIENCE_S = 30.0


class Pair:
    """A server and its replica; both write all they do into their logs."""

    def __init__(self, first: MysqlServer, second: MysqlServer) -> None:
        self.first, self.second = first, second
        self.database = "shop"

    def replicate(self) -> None:
        """The second follows the first, from the beginning."""
        first, second = self.first, self.second
        first.new_user("replica", "replica", privileges="REPLICATION SLAVE")
        place = f"='127.0.0.1', {{0}}_PORT={first.port}, {{0}}_USER='replica', "
        place += "{0}_PASSWORD='replica', "
        if second.is_mariadb:
            change = "CHANGE MASTER TO MASTER_HOST" + place.format("MASTER")
            follow = "MASTER_USE_GTID=slave_pos, MASTER_SSL_VERIFY_SERVER_CERT=0"
            second.run(change + follow, "START SLAVE")
        else:
            change = "CHANGE REPLICATION SOURCE TO SOURCE_HOST" + place.format("SOURCE")
            options = "SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_SSL=0"
            second.run(change + options, "START REPLICA")

    def pause(self) -> None:
        self.second.run("STOP SLAVE" if self.second.is_mariadb else "STOP REPLICA")

    def resume(self) -> None:
        self.second.run("START SLAVE" if self.second.is_mariadb else "START REPLICA")

    def write(self, server: MysqlServer, *numbers: int) -> None:
        values = ", ".join(f"({n})" for n in numbers)
        server.run(f"INSERT INTO t VALUES {values}", database=self.database)

    def level(self) -> None:
        """Wait until the replica has all."""
        wait_until(self._has, PATIENCE_S, 0.02)

    def _has(self) -> bool:
        mine, other = self.first.gtids(), self.second.gtids()
        if self.second.is_mariadb:
            return mine == other
        return bool(self.second.run(f"SELECT GTID_SUBSET('{mine}', '{other}')")[0][0])


@pytest.fixture(scope="module", params=list(installations()))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    programs = installations()[request.param]
    settings = {"log_slave_updates": "ON"} if programs.product == "mariadb" else {}
    with (
        MysqlServer(programs, settings=settings) as first,
        MysqlServer(programs, settings={**settings, "server_id": "2"}) as second,
    ):
        made = Pair(first, second)
        # Other offsets, and more files, than the first has.
        second.run("SET SESSION sql_log_bin = 0", "FLUSH LOCAL BINARY LOGS")
        made.replicate()
        first.run("CREATE DATABASE shop", "CREATE TABLE shop.t (id int PRIMARY KEY)")
        made.level()
        yield made


@pytest.fixture
def moved(pair: Pair) -> Iterator[Callable[[Capture, MysqlServer], Capture]]:
    """Makes a source on another server that goes on where one stands; the first two are closed."""
    made: list[Capture] = []

    def move(one: Capture, server: MysqlServer, **options: object) -> Capture:
        one.close()
        other = Capture(server, pair.database, **options)
        other.position, other.told = one.position, one.told
        made.append(other)
        return other

    pair.first.run("DELETE FROM shop.t")
    pair.resume()
    pair.level()
    yield move
    for one in made:
        one.close()


def ids(capture: Capture) -> list[object]:
    return [event.new and event.new["id"] for event in capture.seen if event.new is not None]


def test_the_source_goes_to_the_replica_and_back(pair: Pair, moved: Callable[..., Capture]) -> None:
    one = Capture(pair.first, pair.database, batch_bytes_max=1)
    one.caught_up()
    pair.write(pair.first, 1, 2)
    one.caught_up()
    pair.write(pair.first, 3, 4)
    pair.level()
    other = moved(one, pair.second, batch_bytes_max=1)
    other.caught_up(reopen_each=1)
    assert ids(other) == ["3", "4"]
    pair.write(pair.first, 5)
    pair.level()
    assert len(other.caught_up()) == 1
    back = moved(other, pair.first)
    assert back.caught_up() == []
    pair.write(pair.first, 6)
    assert len(back.caught_up()) == 1


def test_the_source_moves_in_the_middle_of_a_transaction(
    pair: Pair, moved: Callable[..., Capture]
) -> None:
    one = Capture(pair.first, pair.database, batch_bytes_max=1)
    one.caught_up()
    rows = [f"INSERT INTO t VALUES ({n})" for n in range(10, 16)]
    pair.first.run("BEGIN", *rows, "COMMIT", database=pair.database)
    pair.level()
    one.until(lambda: len(one.seen) == 3)
    other = moved(one, pair.second, batch_bytes_max=1)
    other.caught_up(reopen_each=1)
    assert ids(one) + ids(other) == [str(n) for n in range(10, 16)]
    assert [event.ordinal for event in other.seen] == [3, 4, 5]


def test_a_server_that_is_behind_is_refused(pair: Pair, moved: Callable[..., Capture]) -> None:
    one = Capture(pair.first, pair.database)
    one.caught_up()
    pair.pause()
    pair.write(pair.first, 20)
    one.caught_up()
    other = moved(one, pair.second)
    with pytest.raises(EnsignError, match=r"mysql\.server_behind"):
        other.open()
    pair.resume()
    pair.level()
    assert other.caught_up() == []


def test_files_and_offsets_do_not_move(pair: Pair, moved: Callable[..., Capture]) -> None:
    one = Capture(pair.first, pair.database, position="file", snapshot="never")
    one.caught_up()
    other = moved(one, pair.second, position="file", snapshot="never")
    with pytest.raises(EnsignError, match=r"mysql\.server_changed"):
        other.open()


def test_a_transaction_that_was_prepared_at_the_other_server(
    pair: Pair, moved: Callable[..., Capture]
) -> None:
    """Its rows are in the other server's log: where they were is told, not passed by."""
    one = Capture(pair.first, pair.database)
    one.caught_up()
    pair.first.run("XA START 'x'", "INSERT INTO t VALUES (30)", "INSERT INTO t VALUES (31)",
                   "XA END 'x'", "XA PREPARE 'x'", database=pair.database)  # fmt: skip
    pair.write(pair.first, 32)
    one.caught_up()
    assert ids(one) == ["32"]
    pair.first.run("XA COMMIT 'x'")
    pair.level()
    other = moved(one, pair.second)
    with pytest.raises(EnsignError, match=r"mysql\.prepared_lost"):
        other.caught_up()


def test_the_other_server_has_transactions_in_another_order(
    pair: Pair, moved: Callable[..., Capture]
) -> None:
    """As a replica of MySQL without replica_preserve_commit_order, and domains of MariaDB. What was
    consumed of one is still known when others come first, also while these are half consumed."""
    one = Capture(pair.first, pair.database, batch_bytes_max=1)
    one.caught_up()
    pair.pause()
    mariadb = pair.first.is_mariadb
    begun = []
    for domain, numbers in enumerate((range(40, 46), range(50, 53))):
        names = [f"SET gtid_domain_id = {domain}"] if mariadb else []
        rows = [f"INSERT INTO t VALUES ({n})" for n in numbers]
        pair.first.run(*names, "BEGIN", *rows, "COMMIT", database=pair.database)
        last = pair.first.gtids().split(",")[-1]
        again = [f"SET gtid_next = '{last.split(':')[0]}:{last.split('-')[-1].split(':')[-1]}'"]
        if mariadb:
            _, server_id, number = last.split("-")
            again = [*names, f"SET server_id = {server_id}", f"SET gtid_seq_no = {number}"]
        begun.append([*again, "BEGIN", *rows, "COMMIT"])
    one.until(lambda: len(one.seen) == 3)
    for statements in reversed(begun):
        pair.second.run(*statements, database=pair.database)
    if mariadb:
        pair.second.run(f"SET GLOBAL gtid_slave_pos = '{pair.first.gtids()}'")
    other = moved(one, pair.second, batch_bytes_max=1)
    other.caught_up(reopen_each=1)
    assert ids(one) + ids(other) == ["40", "41", "42", "50", "51", "52", "43", "44", "45"]
    pair.resume()


def test_a_server_without_a_transaction_that_is_half_consumed(
    pair: Pair, moved: Callable[..., Capture]
) -> None:
    one = Capture(pair.first, pair.database, batch_bytes_max=1)
    one.caught_up()
    pair.pause()
    rows = [f"INSERT INTO t VALUES ({n})" for n in range(60, 66)]
    pair.first.run("BEGIN", *rows, "COMMIT", database=pair.database)
    one.until(lambda: len(one.seen) == 3)
    other = moved(one, pair.second, batch_bytes_max=1)
    with pytest.raises(EnsignError, match=r"mysql\.server_behind"):
        other.open()
    pair.resume()
    pair.level()
    other.caught_up(reopen_each=1)
    assert ids(one) + ids(other) == [str(n) for n in range(60, 66)]
