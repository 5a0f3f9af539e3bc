"""The case of the source ``postgres``: a stream of transactions that waits in a slot."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path

from tests.services.postgres import PostgresServer, installations


@cache
def server() -> PostgresServer:
    """One server for all cases, up to the end of the tests."""
    running = PostgresServer(list(installations().values())[-1])
    running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return running


class PostgresCase:
    """The slot is made before the rows and the snapshot is left out, so that what comes is the same
    at every resume: as-of points are not."""

    def __init__(self, folder: Path) -> None:
        self._database = server().new_database()
        self._db = server().connect(self._database)
        self._slot = f"slot_{self._database}"
        self._db.execute("CREATE TABLE orders (id serial PRIMARY KEY, note text)")
        self._db.execute("CREATE PUBLICATION ensign FOR TABLE orders")
        self._db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self._slot,))
        for _ in range(4):
            self.more()
        self.options: dict[str, object] = {
            "type": "postgres", "dsn": server().dsn(self._database), "tables": ["public.orders"],
            "slot": self._slot, "publication": "ensign", "snapshot": "never",
            "batch_bytes_max": 150, "heartbeat_s": 0.1,
        }  # fmt: skip

    def more(self) -> bool:
        with self._db.transaction():
            self._db.execute("INSERT INTO orders (note) VALUES ('tea'), (NULL), ('cake')")
            self._db.execute("UPDATE orders SET note = 'ü' WHERE id % 3 = 0")
            self._db.execute("DELETE FROM orders WHERE id % 7 = 5")
        return True

    def close(self) -> None:
        self._db.close()
        server().drop_database(self._database)
