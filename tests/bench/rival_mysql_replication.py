"""mysql-replication's plain read loop: ``python -m tests.bench.rival_mysql_replication HOST PORT
USER PASSWORD MARIADB GTIDS FILE OFFSET ROWS`` reads so many inserted rows, drops them and prints
the seconds from its first event to its last row."""

from __future__ import annotations

import sys
import time

from pymysqlreplication import (  # type: ignore[import-untyped]  # It has no types.
    BinLogStreamReader,
)
from pymysqlreplication.row_event import (  # type: ignore[import-untyped]  # It has no types.
    WriteRowsEvent,
)


def main() -> None:
    host, port, user, password, mariadb, gtids, file, offset, rows = sys.argv[1:]
    place = (
        {"is_mariadb": True, "auto_position": gtids}
        if mariadb == "1"
        else {"log_file": file, "log_pos": int(offset), "resume_stream": True}
    )
    reader = BinLogStreamReader(
        {"host": host, "port": int(port), "user": user, "passwd": password},
        server_id=4242, blocking=True, only_events=[WriteRowsEvent], **place,
    )  # fmt: skip
    left = int(rows)
    began = 0.0
    for event in reader:
        began = began or time.monotonic()
        left -= len(event.rows)
        if left <= 0:
            break
    print(time.monotonic() - began)
    reader.close()


if __name__ == "__main__":
    main()
