"""Transactions that run while a table is read again: what they wrote stays in the topic, whatever a
snapshot says of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from connectors.postgres.position import decode
from ensign_core.change import Op, Position
from ensign_core.plugin import Signal
from tests.conftest import Database
from tests.integration.test_postgres_adhoc import over
from tests.services.postgres_capture import Capture


def test_a_commit_that_was_streamed_before_it_can_be_seen(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """Synchronous replication whose standby is away: the change is sent, the row still looks old to
    everybody, also after a restart of the worker."""
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)",
        "SET synchronous_commit = local",
    )  # fmt: skip
    one = capture()
    one.caught_up()
    hanging = database.server.connect(database.name)
    updating = threading.Thread(target=hanging.execute, args=("UPDATE t SET v = 1",))
    try:
        database.server.lose_standby()
        updating.start()
        one.until(lambda: one.seen[-1].op is Op.UPDATE)
        assert database.value("SELECT v FROM t") == 0
        one.open()
        one.told.asked = [Signal(1, "snapshot")]
        one.until(lambda: decode(one.position or Position(b"")).snapshots.signal == 1)
        for _ in range(5):
            one.step()
        assert one.seen[-1].op is Op.UPDATE, "an old row comes after the change of it"
    finally:
        database.server.configure(synchronous_standby_names="")
        if updating.ident is not None:
            updating.join()
        hanging.close()
    one.until(lambda: over(one))
    assert [e.new and e.new["v"] for e in one.seen] == ["0", "1", "1"]
