"""Properties of the PostgreSQL source's codecs: COPY's lines, images, and arbitrary bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres import pgoutput
from connectors.postgres.copytext import RowCopier
from connectors.postgres.position import decode
from ensign_core.change import Position
from ensign_core.errors import EnsignError
from ensign_core.rows import Value, encode, new_image

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
        pgoutput.parse_begin, pgoutput.parse_commit, pgoutput.parse_keepalive,
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
