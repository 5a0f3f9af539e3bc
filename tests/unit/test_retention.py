"""When a source warns of what its slot keeps, and when it stops to: pure, with made-up clocks."""

from __future__ import annotations

from connectors.postgres.retention import (
    CALM_S,
    STALL_BYTES,
    STALL_S,
    Judge,
    Progress,
    Retention,
    amount,
)

GB = 1 << 30
AT = Progress(GB, 0, False)


def kept(size: int, **facts: object) -> Retention:
    found = Retention(10 * GB, 10 * GB - size, 10 * GB - size, "reserved", None, None)
    return found._replace(**facts)  # type: ignore[arg-type]  # facts are fields of any type


def codes(judge: Judge, now: float, found: Retention, at: Progress = AT) -> list[str]:
    return [w.code.removeprefix("postgres.") for w in judge.judge(now, found, at)]


def test_kept_wal_is_warned_of_and_does_not_flap() -> None:
    judge = Judge("s", 4 * GB)
    assert codes(judge, 0, kept(3 * GB)) == []
    assert codes(judge, 1, kept(4 * GB)) == ["wal_kept"]
    # Around the threshold it stays, however long.
    for now in range(2, 200, 2):
        assert codes(judge, now, kept(4 * GB - (now % 4) * GB // 8)) == ["wal_kept"]
    assert codes(judge, 200, kept(4 * GB)) == ["wal_kept"]
    assert codes(judge, 199 + CALM_S, kept(GB)) == ["wal_kept"]
    assert codes(judge, 200 + CALM_S, kept(GB)) == []


def test_half_of_the_servers_limit_counts_if_that_is_less() -> None:
    judge = Judge("s", 4 * GB)
    assert codes(judge, 0, kept(GB, limit_bytes=2 * GB, safe_bytes=GB)) == ["wal_kept"]
    assert "limit 2.0 GB" in judge.judge(1, kept(GB, limit_bytes=2 * GB), AT)[0].sentence


def test_extended_wal_is_warned_of() -> None:
    assert codes(Judge("s", 4 * GB), 0, kept(1, wal_status="extended")) == ["wal_kept"]


def test_open_transaction_that_holds_wal_is_named() -> None:
    found = kept(5 * GB, confirmed=9 * GB)
    assert codes(Judge("s", 4 * GB), 0, found) == ["wal_kept_open"]


def test_slot_that_may_be_lost() -> None:
    judge = Judge("s", 4 * GB)
    assert codes(judge, 0, kept(0, wal_status="unreserved")) == ["slot_endangered"]
    judge = Judge("s", 100 * GB)
    facts: dict[str, object] = {"limit_bytes": 100 * GB}
    assert codes(judge, 0, kept(GB, **facts, safe_bytes=26 * GB)) == []
    assert codes(judge, 1, kept(GB, **facts, safe_bytes=24 * GB)) == ["slot_endangered"]
    assert codes(judge, 99, kept(GB, **facts, safe_bytes=26 * GB)) == ["slot_endangered"]
    assert codes(judge, 100, kept(GB, **facts, safe_bytes=90 * GB)) == ["slot_endangered"]
    assert codes(judge, 101 + CALM_S, kept(GB, **facts, safe_bytes=90 * GB)) == []


def test_position_that_does_not_move_while_the_log_grows() -> None:
    judge = Judge("s", 100 * GB)
    start = kept(0)
    assert codes(judge, 0, start) == []
    grown = start._replace(end=start.end + STALL_BYTES)
    assert codes(judge, STALL_S - 1, grown) == []
    assert codes(judge, STALL_S, grown) == ["stalled"]
    # Rows of a transaction that is large are progress too.
    assert codes(judge, STALL_S + 1, grown, AT._replace(rows=5, within=True)) == ["stalled"]
    later = STALL_S + 2 + CALM_S
    assert codes(judge, later, grown, AT._replace(rows=9, within=True)) == []


def test_idle_server_is_no_stall() -> None:
    judge = Judge("s", 100 * GB)
    found = kept(0)
    assert codes(judge, 0, found) == []
    assert codes(judge, 10 * STALL_S, found._replace(end=found.end + 1000)) == []


def test_confirmed_position_that_does_not_move() -> None:
    judge = Judge("s", 100 * GB)
    found = kept(0, confirmed=GB)
    for step in range(int(STALL_S)):
        at = Progress(2 * GB + step, 0, False)
        now = found._replace(end=found.end + step * STALL_BYTES)
        assert codes(judge, step, now, at) == []
    last = judge.judge(STALL_S, found._replace(end=found.end + 99 * STALL_BYTES), at)
    assert ["what the server was told" in w.sentence for w in last] == [True]


def test_amounts() -> None:
    assert [amount(n) for n in (0, 1023, 1024, 5 * GB)] == ["0 bytes", "1023 bytes", "1.0 KB",
                                                            "5.0 GB"]  # fmt: skip
