"""The case of the source ``mysql``: a stream of transactions that waits in the binary log."""

from __future__ import annotations

from contextlib import closing
from functools import cache
from pathlib import Path

from ensign_core.change import Batch
from tests.conformance.driver import drain, make_source
from tests.services.mysql import CDC, MysqlServer, installations
from tests.services.service import lasting


@cache
def server() -> MysqlServer:
    """One server for all cases, up to the end of the tests."""
    return lasting(MysqlServer(list(installations().values())[-1]))


class MysqlCase:
    """A source without a position begins at the log's end: it has `begun` before the rows came. The
    snapshot is left out, so that what comes is the same at every resume: as-of points are not."""

    def __init__(self, folder: Path) -> None:
        self._database = server().new_database()
        server().run(
            "CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(20))",
            database=self._database,
        )
        self.options: dict[str, object] = {
            "type": "mysql", "host": server().host, "port": server().port, "user": CDC,
            "password": CDC, "databases": [self._database], "snapshot": "never",
            "batch_bytes_max": 100, "heartbeat_s": 0.1,
        }  # fmt: skip
        self.begun: list[Batch] = []
        with closing(make_source("mysql", self.options)) as source:
            source.open(None)
            self.begun += drain(source)
        for _ in range(4):
            self.more()

    def more(self) -> bool:
        server().run(
            "BEGIN",
            "INSERT INTO orders (note) VALUES ('tea'), (NULL), ('cake')",
            "UPDATE orders SET note = 'ü' WHERE id % 3 = 0",
            "DELETE FROM orders WHERE id % 7 = 5",
            "COMMIT",
            database=self._database,
        )
        return True

    def close(self) -> None:
        server().drop_database(self._database)
