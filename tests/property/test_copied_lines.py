"""COPY's lines in bulk, in compiled code, against the plain conversion of one line."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.postgres.copytext import RowCopier, bodies, last_body
from ensign_core.errors import EnsignError
from ensign_core.rows import check_body
from tests.property.test_pgoutput_codec import line

COLUMNS = st.integers(0, 5)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VALUES = st.none() | TEXTS | st.text("\\tnrN\t\n\r\b\f\v.", max_size=20)
DAMAGED = "postgres.protocol_damaged"


def one_by_one(lines: list[bytes], columns: int) -> list[bytes] | str:
    """The plain version's bodies, or the code of its error."""
    copier = RowCopier(columns)
    try:
        return [copier.body(each) for each in lines]
    except EnsignError as error:
        return error.code


def in_bulk(lines: list[bytes], columns: int) -> list[bytes] | str:
    try:
        body, ends = bodies(lines, columns)
    except EnsignError as error:
        return error.code
    assert ends.typecode == "I"
    assert len(body) == (ends[-1] if ends else 0)
    found = [body[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert last_body(body, ends) == (found[-1] if found else b"")
    return found


@given(st.data(), COLUMNS.filter(bool))
def test_rows_are_those_of_the_plain_version(data: st.DataObject, columns: int) -> None:
    rows = data.draw(st.lists(st.lists(VALUES, min_size=columns, max_size=columns)))
    lines = [line(row) for row in rows]
    found = in_bulk(lines, columns)
    assert found == one_by_one(lines, columns)
    assert not isinstance(found, str)
    for body in found:
        check_body(body)


@given(
    st.lists(st.binary(max_size=20) | st.text("\\N\t\nnx1", max_size=20).map(str.encode)), COLUMNS
)
@example([b"\n"], 0)
@example([b""], 1)
@example([b"\\N\n"], 1)
@example([b"\\Nx\n"], 1)
@example([b"x\\\n"], 1)
@example([b"\\N\t\\N\n"], 1)
@example([b"1234567\\"], 1)
@example([b"\\x41\n"], 1)
@example([b"1\t2\t\n"], 2)
def test_any_lines_are_read_alike_or_damaged(lines: list[bytes], columns: int) -> None:
    whole = [each + b"\n" for each in lines]
    for given_lines in (lines, whole):
        found = in_bulk(given_lines, columns)
        assert found == one_by_one(given_lines, columns)
        assert not isinstance(found, str) or found == DAMAGED


def test_every_length_and_place_of_an_escape() -> None:
    values = ["0" * at + odd + "0" * (n - at) for n in range(20) for at in range(n + 1)
              for odd in ("\\", "\t", "")]  # fmt: skip
    lines = [line([value, None, value]) for value in values]
    expected = one_by_one(lines, 3)
    assert in_bulk(lines, 3) == expected
    assert bodies(lines, 3)[1] == array("I", accumulate(map(len, expected)))


def test_what_is_not_a_line_of_bytes_is_refused() -> None:
    others: list[object] = ["1\n", bytearray(b"1\n"), None]
    for other in others:
        with pytest.raises(TypeError):
            bodies([b"1\n", other], 1)  # type: ignore[list-item] # the mistake under test
    for columns in (-1, 1 << 16):
        with pytest.raises(ValueError, match="columns"):
            bodies([], columns)
