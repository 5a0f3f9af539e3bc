"""The row layout: what goes in comes out, and whatever is cut or flipped is told by one code."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ensign_core.change import Column, image_end
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, Value, check_body, decode, encode, named, new_image, split
from tests.property.test_frame import VALUES, bodies, code_of

ROWS = st.lists(VALUES, max_size=8)


@given(ROWS)
@example(["", b"", None, ABSENT, "\0", "é\U0001f600", "\udcff"])
def test_decode_gives_what_was_encoded(values: list[Value]) -> None:
    row = encode(values)
    assert decode(row) == values
    kinds, raw = split(row)
    assert len(kinds) == len(raw) == len(values)
    check_body(new_image(values))


@given(st.binary(max_size=20))
def test_text_that_is_not_utf8_keeps_its_bytes(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert encode(decode(encode([text]))) == encode([text])
    assert split(encode([text]))[1] == [data]


@pytest.mark.parametrize("value", [bytearray(b"x"), memoryview(b"x"), 1, 1.5, True])
def test_a_value_of_another_type_is_refused_and_never_taken_for_unchanged(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        encode([value])  # type: ignore[list-item] # the mistake under test


@given(ROWS.filter(bool))
def test_every_cut_is_refused(values: list[Value]) -> None:
    row = encode(values)
    for cut in range(len(row)):
        with pytest.raises(EnsignError) as raised:
            split(row[:cut])
        assert raised.value.code == "rows.damaged"
    with pytest.raises(EnsignError, match=r"^rows\.damaged"):
        split(row + b"n")


@given(ROWS.filter(bool), st.data())
def test_flipped_structure_is_refused(values: list[Value], data: st.DataObject) -> None:
    row = bytearray(encode(values))
    at, places = 2, [0, 1]
    for value in values:
        places.append(at)
        if value is not None and value is not ABSENT:
            places += range(at + 1, at + 5)
            at += 4 + len(split(encode([value]))[1][0])
        at += 1
    place = data.draw(st.sampled_from(places))
    row[place] ^= data.draw(st.integers(1, 255))
    code = code_of(split, bytes(row))
    if not code:
        # A kind may turn into another that fits, a length move a border: never more, never fewer.
        kinds, raw = split(bytes(row))
        sizes = (5 + len(v) if k in b"tb" else 1 for k, v in zip(kinds, raw, strict=True))
        assert 2 + sum(sizes) == len(row)
    assert code in {"", "rows.damaged"}


@given(st.binary(max_size=60))
@example(b"\xff\xff")
@example(b"\0\1t\xff\xff\xff\xff")
def test_any_bytes_are_a_row_or_damaged(data: bytes) -> None:
    for call in (split, decode, check_body):
        assert code_of(call, data) in {"", "rows.damaged"}


@given(bodies())
def test_bodies_of_images_pass_and_their_cuts_do_not(body: bytes) -> None:
    check_body(body)
    borders = {0, image_end(body, 1)} if body else {0}
    assert {at for at in range(len(body)) if _passes(body[:at])} == borders - {len(body)}
    assert not _passes(body + b"X")


def _passes(body: bytes) -> bool:
    code = code_of(check_body, body)
    assert code in {"", "rows.damaged"}
    return not code


def test_named_pairs_columns_with_values() -> None:
    columns = [Column("id", "int4", "int"), Column("note", "text", "text")]
    assert named(columns, encode(["7", ABSENT])) == {"id": "7", "note": ABSENT}
