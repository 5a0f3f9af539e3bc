"""Values that compiled code writes in Debezium's encodings, against the functions of Python that it
stands for: the same for whatever text there may be."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ensign_core.change import BatchBuilder, Column, Logical, Op, Schema
from ensign_core.formats import debezium_mysql, debezium_values, formatter
from ensign_core.rows import new_image

TYPES: list[tuple[str, str, Logical]] = [
    ("schema", "numeric(12,2)", "decimal"), ("schema", "numeric(5,0)", "decimal"),
    ("schema", "numeric(3,-2)", "decimal"), ("schema", "numeric", "decimal"),
    ("schema", "timestamp with time zone", "timestamptz"),
    ("schema", "timestamp(0) with time zone", "timestamptz"),
    ("schema", "timestamp(3) with time zone", "timestamptz"),
    ("schema", "timestamp without time zone", "timestamp"),
    ("schema", "timestamp(3) without time zone", "timestamp"), ("schema", "date", "date"),
    ("table", "decimal(12,2)", "decimal"), ("table", "decimal(65,30)", "decimal"),
    ("table", "date", "date"), ("table", "datetime", "timestamp"),
    ("table", "datetime(6)", "timestamp"), ("table", "timestamp(3)", "timestamptz"),
]  # fmt: skip

DAYS = st.dates(date(1, 1, 1)).map(date.isoformat)
MOMENTS = st.datetimes(datetime(1, 1, 1)).map(lambda at: at.isoformat(" "))
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=2).map(lambda n: f"{n:f}")
ODD = st.sampled_from([
    "", "-", ".", "0000-00-00", "2023-02-30", "2023-02-29", "2024-02-29", "1900-02-29", "infinity",
    "0044-03-15 BC", "2026-11-23 24:00:00", "2026-11-23 10:00:60", "2026-11-23 10:00:00.1234567",
    "2026-11-23 10:00", "2026-11-23T10:00:00+00", "2026-11-23 10:00:00.+00", "2026-13-01+00",
    "2026-11-23 10:00:00+02", "12026-11-23 10:00:00+00", "-0.00", "00.10", "1.", ".5", "1_0.00",
    "+1.00", "١.٠٠", "NaN", "1.2.3", "127", "128", "-128", "-129", "999999999999999999",
    "9999999999999999999", "-1.28", "-1.29", "0.00", "1969-12-31 23:59:59.999999",
])  # fmt: skip
SUFFIXES = st.sampled_from(["", "+00", ".5+00", ".000001", " BC", "0", ".00"])
TEXTS = st.one_of(
    ODD,
    st.builds(str.__add__, DAYS | MOMENTS | NUMBERS | st.integers().map(str), SUFFIXES),
    st.text("0123456789-: .+", max_size=26),
)


@pytest.mark.parametrize(("part", "native", "logical"), TYPES)
@given(text=TEXTS, nullable=st.booleans())
@example(text="2026-11-23 10:00:00.5+00", nullable=True)
def test_usual_values_are_those_of_python(
    part: str, native: str, logical: Logical, text: str, nullable: bool
) -> None:
    column = Column("v", native, logical, nullable)
    names = (("database", "d"), ("schema", "s"), ("table", "t"))
    schema = Schema("t", names if part == "schema" else names[::2], (column,))
    builder = BatchBuilder()
    builder.add(Op.INSERT, schema, new_image([text]))
    (line,) = formatter("debezium").lines(builder.take(None)).texts
    render = (debezium_values if part == "schema" else debezium_mysql).render(column)
    assert render is not None
    expected = f'{{"before":null,"after":{{"v":{render(text)}}},"source":'
    assert line.startswith(expected.encode())
