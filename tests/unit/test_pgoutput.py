"""The wire formats of the PostgreSQL source, its snapshot rules, and its positions; no server."""

from __future__ import annotations

import re
import struct
from typing import cast

import pytest
from pydantic import SecretStr

from connectors.postgres import pgoutput
from connectors.postgres.catalog import KeyPart
from connectors.postgres.columns import project
from connectors.postgres.config import PostgresConfig, derived_name
from connectors.postgres.copytext import RowCopier
from connectors.postgres.errors import ERRORS, STATES, by_state, error
from connectors.postgres.messages import options
from connectors.postgres.pgoutput import EPOCH_US
from connectors.postgres.position import Origin, Partial, PositionWriter, Snapshots, decode
from connectors.postgres.session import Session
from connectors.postgres.signals import take_in
from connectors.postgres.snapshot import Asked, AsOf, TableSnapshot, Visible, judge, judge_truncate
from ensign_core.change import Column, Op, Position, Schema
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from ensign_core.rows import ABSENT, Value, encode, new_image

SCHEMA = Schema("s.t", (), (Column("id", "int4", "int", False, True), Column("v", "text", "text")))
NO_SERVER = cast(Session, None)
CONFIG = PostgresConfig(type="postgres", dsn=SecretStr("x"))
HEAD = b"w" + bytes(24)


def old(*values: Value, full: bool = False) -> bytes:
    return (b"O" if full else b"K") + encode(values)


def table(**state: object) -> TableSnapshot:
    """A table of which the keys to 10 are read as of 100:100: and to 20 as of 200:200:."""
    found = TableSnapshot(1, begun=True, key=(KeyPart("id", "int"),))
    found.read((10,), AsOf(Visible.parse("100:100:"), 1000))
    found.read((20,), AsOf(Visible.parse("200:200:"), 2000))
    for name, value in state.items():
        setattr(found, name, value)
    return found


def test_messages() -> None:
    begin = HEAD + b"B" + struct.pack(">QqI", 0x1_0000_0010, 5, 742)
    assert pgoutput.parse_begin(begin) == (0x1_0000_0010, EPOCH_US + 5, 742)
    commit = HEAD + b"C" + struct.pack(">BQQq", 0, 1, 2, 3)
    assert pgoutput.parse_commit(commit) == (1, 2)
    columns = b"\x01id\0" + struct.pack(">Ii", 23, -1) + b"\x00v\0" + struct.pack(">Ii", 25, -1)
    relation = HEAD + b"R" + struct.pack(">I", 9) + b"s\0t\0d" + struct.pack(">H", 2) + columns
    found = pgoutput.parse_relation(relation)
    assert found[:4] == (9, "s", "t", "d")
    assert found.columns == ((True, "id", 23, -1), (False, "v", 25, -1))
    truncate = HEAD + b"T" + struct.pack(">IBII", 2, 0, 9, 10)
    assert pgoutput.parse_truncate(truncate) == (9, 10)
    for lsn, place in (
        (7, 7),
        (0xF35C028, 0xF35C000),
        (0xF35C018, 0xF35C000),
        (0xF35C030, 0xF35C030),
    ):
        alive = b"k" + struct.pack(">QqB", lsn, 0, 1)
        assert pgoutput.parse_keepalive(alive, 8192) == (place, True)
    said = HEAD + b"M" + struct.pack(">BQ", 1, 9) + b"app\0" + struct.pack(">I", 2) + b"\xffx"
    assert pgoutput.parse_message(said) == (True, 9, "app", b"\xffx")
    parsers = (
        pgoutput.parse_begin, pgoutput.parse_commit, pgoutput.parse_relation,
        pgoutput.parse_message,
    )  # fmt: skip
    for parse, message in zip(parsers, (begin, commit, relation, said), strict=True):
        for end in range(25, len(message)):
            with pytest.raises(EnsignError, match="protocol_damaged"):
                parse(message[:end])


def test_options() -> None:
    plain = CONFIG
    assert options(plain, 140000) == ", messages 'true'"
    origin = PostgresConfig(type="postgres", dsn=SecretStr("x"), origin="none")
    assert options(origin, 160000) == ", messages 'true', origin 'none'"
    with pytest.raises(EnsignError, match="origin_unsupported"):
        options(origin, 150010)


def test_rows_are_reduced_to_the_captured_columns() -> None:
    body = old("1", None, "s") + new_image(("2", ABSENT, b"\xff"))
    assert project(body, (0, 1)) == old("1", None) + new_image(("2", ABSENT))
    assert project(body, (2,)) == old("s") + new_image((b"\xff",))
    assert project(b"", (0,)) == b""
    for end in set(range(1, len(body))) - {len(old("1", None, "s"))}:
        with pytest.raises((EnsignError, IndexError, struct.error)):
            project(body[:end], (0, 2))


def test_status_update() -> None:
    message = pgoutput.status_update(5, EPOCH_US + 6, reply=True)
    assert struct.unpack(">cQQQqB", message) == (b"r", 5, 5, 5, 6, 1)


def test_lsn() -> None:
    assert pgoutput.lsn_text(0x1_016B_3748) == "1/16B3748"
    assert pgoutput.lsn_value("1/16B3748") == 0x1_016B_3748


def test_snapshot_sees_across_epochs() -> None:
    epoch = 3 << 32
    visible = Visible(epoch + 5, epoch + 8, frozenset({epoch + 6}))
    seen = [x for x in (2, 4, 5, 6, 7, 8, 9, 0xFFFFFFFF, 0x7FFFFFFF) if visible.sees(x)]
    assert seen == [2, 4, 5, 7, 0xFFFFFFFF]
    assert Visible.parse(str(visible)) == visible


@pytest.mark.parametrize(
    ("op", "xid", "body", "expected"),
    [
        (Op.INSERT, 50, new_image(("5", "a")), None),
        (Op.INSERT, 150, new_image(("5", "a")), Op.INSERT),
        (Op.INSERT, 150, new_image(("15", "a")), None),
        (Op.DELETE, 250, old("15", None), Op.DELETE),
        (Op.DELETE, 250, old("25", None), None),
        (Op.UPDATE, 250, new_image(("15", ABSENT)), Op.UPDATE),
        (Op.UPDATE, 150, old("5", None) + new_image(("6", "a")), Op.UPDATE),
        (Op.UPDATE, 150, old("5", None) + new_image(("15", "a")), Op.DELETE),
        (Op.UPDATE, 150, old("5", None) + new_image(("25", "a")), Op.DELETE),
        (Op.UPDATE, 150, old("15", None) + new_image(("5", "a")), Op.INSERT),
        (Op.UPDATE, 250, old("25", None) + new_image(("5", "a")), Op.INSERT),
        (Op.UPDATE, 250, old("25", "a", full=True) + new_image(("5", ABSENT)), Op.INSERT),
        (Op.UPDATE, 250, old("25", None) + new_image(("5", ABSENT)), None),
        (Op.UPDATE, 250, old("25", None) + new_image(("26", "a")), None),
    ],
)
def test_judge(op: Op, xid: int, body: bytes, expected: Op | None) -> None:
    state = table()
    seen = judge(state, SCHEMA, op, xid, body)
    assert (seen and seen[0]) == expected
    if seen and seen[0] is Op.INSERT and op is Op.UPDATE:
        assert seen[1] == new_image(("5", "a"))
    assert state.owed == ({xid} if b"25" in body or b"26" in body else set())


def test_row_that_is_to_be_read_again() -> None:
    state = table(complete=True)
    body = old("15", None) + new_image(("5", ABSENT))
    assert judge(state, SCHEMA, Op.UPDATE, 150, body) is None
    assert state.pending_point() == (5,)
    assert judge(state, SCHEMA, Op.UPDATE, 300, new_image(("5", "b"))) is None
    assert not state.ready(Visible.parse("250:250:"))
    state.read_point((5,), AsOf(Visible.parse("400:400:"), 4000))
    assert judge(state, SCHEMA, Op.UPDATE, 350, new_image(("5", "c"))) is None
    assert judge(state, SCHEMA, Op.UPDATE, 450, new_image(("5", "d"))) is not None
    state.passed(3999)
    assert not state.settled
    state.passed(4000)
    assert judge(state, SCHEMA, Op.UPDATE, 350, new_image(("5", "c"))) is not None


def test_truncate() -> None:
    state = table()
    assert not judge_truncate(state, 50)
    assert state.owed == {50}
    assert judge_truncate(state, 250)
    assert state.cursor == (20,)
    assert judge_truncate(state, 150)
    assert state == TableSnapshot(1, owed={50, 150, 250})
    passed = table()
    passed.passed(1000)
    assert judge_truncate(passed, 150)
    assert passed.cursor is None


def test_another_key_voids_what_was_read() -> None:
    state = table()
    columns = (SCHEMA.columns[0]._replace(key=False), SCHEMA.columns[1]._replace(key=True))
    other = Schema("s.t", (), columns)
    assert judge(state, other, Op.INSERT, 150, new_image(("5", "a"))) is None
    assert (state.wipe, state.begun, state.owed) == (True, False, {150})


def test_transactions_before_a_table_was_published() -> None:
    state = TableSnapshot(1, bound=120)
    assert not state.ready(Visible.parse("119:130:119"))
    assert state.ready(Visible.parse("120:130:"))


def test_position() -> None:
    snapshots = Snapshots({3, 4}, {1: table(wipe=True), 2: TableSnapshot(2, bound=9, owed={7})})
    snapshots.tables[1].points = {(5,): None, (6,): AsOf(Visible.parse("1:3:2"), 8)}
    text = TableSnapshot(5, begun=True, key=(KeyPart("k", "text"),), cursor=(b"\xffx",))
    snapshots.tables[5] = text
    origin = Origin("77", "shop", "slot", 12, 1)
    writer = PositionWriter(origin)
    position = writer.encode(0x10, Partial(0x20, 742, 5, marked=True), snapshots)
    assert decode(position) == (origin, 0x10, Partial(0x20, 742, 5, marked=True), snapshots)
    assert decode(writer.encode(1, None, Snapshots())) == (origin, 1, None, Snapshots())
    for damaged in (b"", b"[]", b"1", position[:-1], position.replace(b'"v": 1', b'"v": 9')):
        with pytest.raises(EnsignError, match="position_damaged"):
            decode(Position(damaged))


def test_copied_lines() -> None:
    copier = RowCopier(3)
    assert copier.body(b"1\t\tx\n") == new_image(("1", "", "x"))
    assert copier.body(b"\\N\ta\\tb\\\\\\nc\t\\\\N\n") == new_image((None, "a\tb\\\nc", "\\N"))
    assert copier.body(b"1\t" + b"x" * 5000 + b"\t\n") == new_image(("1", "x" * 5000, ""))
    assert RowCopier(0).body(b"\n") == new_image(())


def test_every_error_has_a_remedy() -> None:
    assert set(STATES.values()) <= ERRORS.keys()
    for word in ERRORS:
        made = error(word)
        assert made.code == f"postgres.{word}"
        assert made.sentence.endswith(".")
        assert made.remedy
    assert by_state("08006").code == "postgres.connection_lost"
    assert by_state("XX000", doing="testing").code == "postgres.refused"


def test_pipelines_do_not_share_a_slot() -> None:
    names = ["shop", "a-b", "a_b", "A_b", "x" * 63, "x" * 62 + "y"]
    derived = [derived_name(name) for name in names]
    assert len(set(derived)) == len(names)
    assert derived[0] == "ensign_shop"
    assert all(re.fullmatch(r"[a-z0-9_]{1,63}", name) for name in derived)


def test_what_closes_a_gap_is_not_stopped() -> None:
    asked = [Asked(1, reconcile=True)]
    for gap in (True, False):
        snapshots = Snapshots(gap=gap, asked=list(asked))
        failed = take_in(NO_SERVER, CONFIG, snapshots, [Signal(3, "stop")])
        assert [error.code for error in failed] == (["postgres.gap_open"] if gap else [])
        assert snapshots.asked == (asked if gap else [])
        assert snapshots.signal == 3
