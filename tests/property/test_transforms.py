"""Compiled changes of rows, and conditions on columns, beside their plain versions."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import BatchBuilder, Op, Tx
from ensign_core.config.conditions import Term, condition
from ensign_core.rows import ABSENT, Unchanged, Value, check_body, edit, encode
from ensign_core.transforms.filters import Filter
from ensign_core.transforms.pieces import cut, joined
from tests.plain.edits import Edit, edited_body, truth, value_of
from tests.property.test_frame import code_of
from tests.transforms import batch_of, config, table

COLUMNS = 4

condition("TRUE")  # What it imports would count as time of the first example.

values = st.one_of(
    st.none(), st.just(ABSENT), st.text(max_size=6), st.binary(max_size=6),
    st.integers(-(10**25), 10**25).map(str),
)  # fmt: skip
rows = st.lists(values, min_size=COLUMNS, max_size=COLUMNS).map(encode)
bodies = st.one_of(
    st.just(b""),
    rows.map(lambda row: b"N" + row),
    st.tuples(st.sampled_from((b"K", b"O")), rows).map(b"".join),
    st.tuples(st.sampled_from((b"K", b"O")), rows, st.just(b"N"), rows).map(b"".join),
)
edits = st.one_of(
    st.none(), st.integers(0, 5), st.binary(max_size=4),
    st.just(lambda value: value[::-1]),
)  # fmt: skip


def ends_of(parts: Sequence[bytes]) -> array[int]:
    return array("I", accumulate(map(len, parts)))


def is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(bodies, max_size=8), st.lists(st.tuples(st.integers(0, 3), edits), max_size=6))
def test_rows_are_edited(parts: list[bytes], plan: list[tuple[int, Edit]]) -> None:
    picked, chosen = [place for place, _ in plan], [edit_ for _, edit_ in plan]
    compiled = edit.Plan(COLUMNS, picked, chosen)
    ids = array("H", (index % 2 for index in range(len(parts))))
    body, ends = edit.edited(b"".join(parts), ends_of(parts), ids, [compiled, None])
    expected = [
        part if index % 2 else edited_body(part, picked, chosen) for index, part in enumerate(parts)
    ]
    # What is not UTF-8 is cut anywhere: the plain version decodes it otherwise.
    if all(edit_ is None or not isinstance(edit_, int) for edit_ in chosen) or is_utf8(body):
        assert ends == ends_of(expected)
        assert body == b"".join(expected)
    edit.check(body, ends, ids, [len(picked), COLUMNS])
    for part in expected:
        check_body(part)


@given(st.lists(bodies, max_size=8), st.integers(0, 3), st.booleans(), st.booleans())
def test_columns_are_read(parts: list[bytes], place: int, in_key: bool, old_first: bool) -> None:
    ids = array("H", bytes(2 * len(parts)))
    found, unknown = edit.column(
        b"".join(parts), ends_of(parts), ids, 0, COLUMNS, place, in_key, old_first, None
    )
    plain = [value_of(part, place, in_key=in_key, old_first=old_first) for part in parts]
    assert unknown == [at for at, value in enumerate(plain) if isinstance(value, Unchanged)]
    assert found == [
        None if isinstance(value, Unchanged)
        else value.decode("utf-8", "surrogateescape") if isinstance(value, bytes)
        else value
        for value in plain
    ]  # fmt: skip


@given(st.lists(st.integers(-(10**30), 10**30).map(str)))
def test_whole_numbers_of_any_size(texts: list[str]) -> None:
    parts = [b"N" + encode([text]) for text in texts]
    ids = array("H", bytes(2 * len(parts)))
    found, _ = edit.column(b"".join(parts), ends_of(parts), ids, 0, 1, 0, True, False, int)
    assert found == [int(text) for text in texts]


@given(st.lists(bodies, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_damage_is_an_error_and_no_crash(parts: list[bytes], draw: random.Random) -> None:
    body = bytearray(b"".join(parts))
    for _ in range(draw.randint(1, 3)):
        if body:
            body[draw.randrange(len(body))] = draw.randrange(256)
    ends = ends_of(parts)
    if draw.random() < 0.3:
        ends[draw.randrange(len(ends))] = draw.randrange(2 * len(body) + 2)
    damaged, ids = (
        bytes(body[: draw.randint(len(body) // 2, len(body))]),
        array("H", [0] * len(parts)),
    )
    plan = edit.Plan(COLUMNS, [3, 1], [b"***", 2])
    for work in (
        lambda: edit.edited(damaged, ends, ids, [plan]),
        lambda: edit.column(damaged, ends, ids, 0, COLUMNS, 2, False, False, None),
        lambda: edit.check(damaged, ends, ids, [COLUMNS]),
    ):
        assert code_of(work) in ("", "rows.damaged")


TABLE = table("t", ("a", "int"), ("b", "int"), "s", key=("a",))
numbers = st.sampled_from(["a", "b", "0", "1", "-2", "NULL"])
texts = st.sampled_from(["s", "'x'", "'y'", "NULL"])
simple = st.one_of(
    st.tuples(numbers, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), numbers).map(" ".join),
    st.tuples(texts, st.sampled_from(["=", "<>", "<"]), texts).map(" ".join),
    st.sampled_from(["a IS NULL", "b IS NOT NULL", "s IS NULL", "TRUE", "NULL", "a IN (1, 2)",
                     "s NOT IN ('x', NULL)", "b BETWEEN 0 AND 1", "a IN (b, 1)"]),
)  # fmt: skip
conditions = st.recursive(
    simple,
    lambda inner: st.one_of(
        inner.map(lambda one: f"NOT ({one})"),
        st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map(
            lambda parts: f"({parts[0]}){parts[1]}({parts[2]})"
        ),
    ),
    max_leaves=5,
)
small = st.one_of(st.none(), st.just(ABSENT), st.sampled_from(["-2", "0", "1", "2"]))
states = st.tuples(small, small, st.one_of(st.none(), st.just(ABSENT), st.sampled_from("xyz")))


def unknown_in(term: Term, row: Mapping[str, object]) -> bool:
    return any(row[name] is ABSENT for name in term.columns())


@given(conditions, st.lists(states, min_size=1, max_size=10))
def test_conditions_mean_what_they_mean_for_each_row(
    where: str, drawn: list[tuple[Value, Value, Value]]
) -> None:
    term = condition(where)
    batch = batch_of(*((Op.UPDATE, TABLE, b"N" + encode(row)) for row in drawn))
    options = config(type="filter", where=where)
    made = Filter(options)  # type: ignore[arg-type]  # it is a filter's
    found = made.apply(batch, made.plans(batch, lambda _schema: True))
    for op, (a, b, s) in zip(found.ops, drawn, strict=True):
        row = {
            name: int(value) if isinstance(value, str) and name != "s" else value
            for name, value in (("a", a), ("b", b), ("s", s))
        }
        value = truth(term, row)
        kept = value is True or (value is None and unknown_in(term, row))
        assert kept == (op != Op.REMOVED), (where, row)


@given(
    st.lists(bodies, min_size=1, max_size=12),
    st.sets(st.integers(1, 11)),
    st.sets(st.integers(0, 11)),
)
def test_what_is_cut_and_joined_is_the_same(
    parts: list[bytes], places: set[int], begins: set[int]
) -> None:
    schema = table("t", "id", "b", "c", "d")
    builder = BatchBuilder()
    for index, part in enumerate(parts):
        if index in begins:
            builder.begin(Tx(str(index), "0/1", index), 10 * index)
        builder.add(Op.UPDATE, schema, part)
    batch = builder.take(None)
    batch.topic, batch.offset = "t", 5
    stops = sorted({place for place in places if place < len(parts)} | {len(parts)})
    pieces = list(cut(batch, stops))
    assert [change.ordinal for piece in pieces for change in piece] == [
        change.ordinal for change in batch
    ]
    assert [change.offset for piece in pieces for change in piece] == [
        change.offset for change in batch
    ]
    for piece, start, stop in zip(pieces, [0, *stops], stops, strict=False):
        assert piece == batch.part(start, stop)
    assert joined(batch, pieces) == batch
