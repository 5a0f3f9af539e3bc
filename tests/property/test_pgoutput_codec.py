"""Properties of the PostgreSQL source's codecs: COPY's lines, images, and arbitrary bytes."""

from __future__ import annotations

import struct
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres import pgoutput
from connectors.postgres.copytext import RowCopier
from connectors.postgres.position import decode
from ensign_core.change import Position
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, Value, encode, new_image

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.lists(st.one_of(st.none(), TEXTS, st.text("\\tnrN\t\n\r\b\f\v.")), min_size=1)
ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
ESCAPES["\v"] = "\\v"


def line(values: list[str | None]) -> bytes:
    """A line as COPY TO writes it (``CopyAttributeOutText``)."""
    texts = ["\\N" if v is None else "".join(ESCAPES.get(c, c) for c in v) for v in values]
    return "\t".join(texts).encode() + b"\n"


@given(ROWS)
def test_copied_lines_become_rows(values: list[str | None]) -> None:
    assert RowCopier(len(values)).body(line(values)) == new_image(values)


@given(st.lists(st.one_of(st.none(), TEXTS)), st.lists(st.one_of(st.none(), TEXTS)))
def test_images_are_split(before: list[Value], after: list[Value]) -> None:
    old, new = b"K" + encode(before), new_image(after)
    assert pgoutput.split_images(old + new) == (old, new)
    assert pgoutput.split_images(old) == (old, b"")
    assert pgoutput.split_images(new) == (b"", new)


@given(st.binary(min_size=26, max_size=80))
def test_arbitrary_messages_are_refused_or_read(data: bytes) -> None:
    for parse in (
        pgoutput.parse_begin, pgoutput.parse_commit,
        partial(pgoutput.parse_keepalive, wal_page=8192),
        pgoutput.parse_relation, pgoutput.parse_type, pgoutput.parse_truncate,
        pgoutput.relation_oid, pgoutput.split_images,
    ):  # fmt: skip
        try:
            parse(data)
        except EnsignError as error:
            assert error.code == "postgres.protocol_damaged"  # noqa: PT017


@given(st.binary(max_size=80))
def test_arbitrary_positions_are_refused(data: bytes) -> None:
    try:
        decode(Position(data))
    except EnsignError as error:
        assert error.code == "postgres.position_damaged"  # noqa: PT017
    else:
        raise AssertionError("bytes that nobody wrote were taken for a position")


HEAD = b"w" + bytes(24)
_COLUMN = b"\x01id\0" + struct.pack(">Ii", 23, -1)
MESSAGES = [
    HEAD + b"B" + struct.pack(">QqI", 100, 5, 742),
    HEAD + b"C" + struct.pack(">BQQq", 0, 100, 110, 3),
    HEAD + b"R" + struct.pack(">I", 9) + b"s\0t\0d" + struct.pack(">H", 1) + _COLUMN,
    HEAD + b"Y" + struct.pack(">I", 70000) + b"s\0mood\0",
    HEAD + b"O" + struct.pack(">Q", 5) + b"elsewhere\0",
    HEAD + b"M" + struct.pack(">BQ", 1, 90) + b"app\0" + struct.pack(">I", 2) + b"hi",
    HEAD + b"M" + struct.pack(">BQ", 0, 90) + b"app\0" + struct.pack(">I", 2) + b"hi",
    HEAD + b"I" + struct.pack(">I", 9) + new_image(("1", "a", None)),
    HEAD
    + b"U"
    + struct.pack(">I", 9)
    + b"K"
    + encode(("1", None, None))
    + new_image(("2", "", "")),
    HEAD + b"U" + struct.pack(">I", 8) + new_image(("2", ABSENT, b"x")),
    HEAD + b"D" + struct.pack(">I", 8) + b"O" + encode(("1", "a", None)),
    HEAD + b"T" + struct.pack(">IBII", 2, 0, 9, 8),
]
PARSERS = {
    b"B": pgoutput.parse_begin, b"C": pgoutput.parse_commit, b"R": pgoutput.parse_relation,
    b"Y": pgoutput.parse_type, b"M": pgoutput.parse_message, b"T": pgoutput.parse_truncate,
}  # fmt: skip


@st.composite
def damaged_messages(draw: st.DrawFn) -> bytes:
    """A message of any tag, cut, with bytes of it flipped, or lengthened."""
    message = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(0, 4))):
        message[draw(st.integers(25, len(message) - 1))] ^= draw(st.integers(1, 255))
    if draw(st.booleans()):
        del message[draw(st.integers(26, len(message))) :]
    return bytes(message) + draw(st.binary(max_size=8))


@given(damaged_messages())
def test_damaged_messages_are_refused_or_read(data: bytes) -> None:
    parse = PARSERS.get(data[25:26], pgoutput.relation_oid)
    try:
        parse(data)
    except EnsignError as error:
        assert error.code == "postgres.protocol_damaged"  # noqa: PT017
