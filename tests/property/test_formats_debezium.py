"""Debezium's value encodings, read back as its consumers read them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Column, Logical
from ensign_core.formats.arrays import elements
from ensign_core.formats.debezium_values import render
from ensign_core.formats.temporal import civil_from_days, days_from_civil, epoch_us, iso_moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encoded(native: str, logical: Logical, text: str) -> object:
    function = render(Column("c", native, logical))
    return json.loads(function(text) if function else text)


def decimal_of(value: object, scale: int) -> Decimal:
    assert isinstance(value, str)
    digits = int.from_bytes(base64.b64decode(value), "big", signed=True)
    sign, figures, _ = Decimal(digits).as_tuple()
    return Decimal((sign, figures, -scale))


@given(st.decimals(-(10**30), 10**30, places=6))
def test_a_decimal_keeps_its_digits(value: Decimal) -> None:
    text = f"{value:f}"
    assert decimal_of(encoded("numeric(40,6)", "decimal", text), 6) == value
    struct = encoded("numeric", "decimal", text)
    assert isinstance(struct, dict)
    assert decimal_of(struct["value"], struct["scale"]) == value
    assert struct["scale"] == 6


@given(st.integers(-(2**70), 2**70))
def test_unscaled_bytes_are_as_short_as_javas(value: int) -> None:
    found = encoded("numeric(40)", "decimal", str(value))
    assert isinstance(found, str)
    data = base64.b64decode(found)
    assert int.from_bytes(data, "big", signed=True) == value
    shorter = data[1:]
    assert not shorter or int.from_bytes(shorter, "big", signed=True) != value


@given(st.integers(-5_000_000, 200_000_000))
def test_days_and_dates_are_inverse(days: int) -> None:
    year, month, day = civil_from_days(days)
    assert days_from_civil(year, month, day) == days
    if 1 <= year <= 9999:
        assert date(year, month, day).toordinal() - date(1970, 1, 1).toordinal() == days


@given(st.datetimes())
def test_timestamps_count_from_the_epoch(moment: datetime) -> None:
    us = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    text = moment.isoformat(" ")
    assert encoded("timestamp without time zone", "timestamp", text) == us
    assert encoded("timestamp(3) without time zone", "timestamp", text) == us // 1000
    assert encoded("date", "date", text[:10]) == us // 86_400_000_000


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-15 * 60, 15 * 60))
def test_moments_are_in_utc(moment: datetime, offset_minutes: int) -> None:
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    text = f"{moment.isoformat(' ')}{sign}{hours:02}" + (f":{minutes:02}" if minutes else "")
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    expected = zoned.astimezone(UTC)
    assert datetime.fromisoformat(iso_moment(text, 6)) == expected
    assert epoch_us(text) == (expected - EPOCH) // timedelta(microseconds=1)


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def element(value: str | None, delimiter: str) -> str:
    """As array_out writes it (``src/backend/utils/adt/arrayfuncs.c``)."""
    if value is None:
        return "NULL"
    special = set('"\\{} \t\n\r\v\f' + delimiter)
    if value and value.upper() != "NULL" and not special & set(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.none() | ANY), st.integers(-9, 9), st.sampled_from(",;:"))
def test_arrays_come_apart_as_the_server_puts_them_together(
    values: list[str | None], lower: int, delimiter: str
) -> None:
    bounds = f"[{lower}:{lower + len(values) - 1}]=" if values and lower != 1 else ""
    text = f"{bounds}{{{delimiter.join(element(v, delimiter) for v in values)}}}"
    assert elements(text, delimiter) == values
    if values:
        assert elements(f"{{{text[len(bounds) :]}}}", delimiter) is None
    if delimiter == ",":
        assert encoded("text[]", "other", text) == values
        assert encoded("public.mood[]", "other", text) == values


@given(st.dictionaries(ANY, st.none() | ANY))
def test_an_hstore_is_an_object_in_a_string(pairs: dict[str, str | None]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{quoted(name)}=>{'NULL' if value is None else quoted(value)}"
        for name, value in pairs.items()
    )
    found = encoded("public.hstore", "other", text)
    assert isinstance(found, str)
    assert json.loads(found) == pairs


@given(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from(["$%s", "-$%s", "($%s)", "%s €", "Fr. %s"])
)
def test_money_is_its_hundredths(hundredths: int, form: str) -> None:
    whole, cents = divmod(abs(hundredths), 100)
    amount = f"{whole:,}.{cents:02}"
    if "€" in form:
        amount = amount.translate({ord(","): ".", ord("."): ","})
    negative = "-" in form or "(" in form
    expected = Decimal(-abs(hundredths) if negative else abs(hundredths)).scaleb(-2)
    assert decimal_of(encoded("money", "other", form % amount), 2) == expected


CLOCKS = st.tuples(
    st.integers(0, 24),
    st.integers(0, 59),
    st.integers(0, 59),
    st.sampled_from(["", ".5", ".123456"]),
).map(lambda t: f"{t[0]:02}:{t[1]:02}:{t[2]:02}{t[3]}")
OFFSETS = st.sampled_from(["+00", "-15:59:59", "+15:59:59", "+05:45", "-11"])
DAYS = st.tuples(
    st.integers(1, 5_874_897), st.integers(1, 12), st.integers(1, 28), st.sampled_from(["", " BC"])
)
INFINITE = st.sampled_from(["infinity", "-infinity"])
NUMBERS = st.tuples(
    st.sampled_from(["", "-"]), st.integers(0), st.sampled_from(["", ".", ".0"])
).map(lambda t: t[0] + str(t[1]) + (t[2] + "1" if t[2] else ""))
SPANS = st.lists(st.integers(-(2**31), 2**31).map(str), min_size=3, max_size=3).map(
    lambda t: f"{t[0]} years {t[1]} mons {t[2]} days"
)
SERVER: list[tuple[str, Logical, st.SearchStrategy[str]]] = [
    ("date", "date", DAYS.map(lambda t: f"{t[0]:04}-{t[1]:02}-{t[2]:02}{t[3]}") | INFINITE),
    ("time(2) without time zone", "time", CLOCKS),
    ("time with time zone", "timetz", st.tuples(CLOCKS, OFFSETS).map("".join)),
    ("timestamp without time zone", "timestamp",
     st.tuples(DAYS, CLOCKS).map(
         lambda t: f"{t[0][0]:04}-{t[0][1]:02}-{t[0][2]:02} {t[1]}{t[0][3]}") | INFINITE),
    ("timestamp(3) with time zone", "timestamptz",
     st.tuples(DAYS, CLOCKS).map(
         lambda t: f"{t[0][0]:04}-{t[0][1]:02}-{t[0][2]:02} {t[1]}+00{t[0][3]}") | INFINITE),
    ("interval", "interval",
     st.tuples(SPANS, st.sampled_from(["", " -00:00:01.5", " +2562047788:00:54.775807"]))
     .map("".join) | INFINITE),
    ("numeric", "decimal", NUMBERS | st.sampled_from(["NaN", "Infinity", "-Infinity"])),
    ("numeric(9,3)", "decimal", NUMBERS | st.just("NaN")),
    ("numeric(3,-2)", "decimal", NUMBERS),
    ("bit varying", "other", st.text("01")),
    ("bit(5)", "other", st.text("01", min_size=5, max_size=5)),
    ("public.geometry", "other", st.binary().map(bytes.hex)),
]  # fmt: skip
CHECKED = [
    "money", "point", "public.hstore", "public.geometry", "public.vector", "public.sparsevec(3)",
    "bit(3)", "bit varying", "numeric", "numeric(9,3)", "date", "interval", "text[]",
    "numeric[]", "timestamp(3) without time zone[]", "public.geometry[]", "box[]", "jsonpath",
]  # fmt: skip
"""Types whose text is looked at before anything is made of it."""


@pytest.mark.parametrize(("native", "logical", "texts"), SERVER, ids=[s[0] for s in SERVER])
@given(data=st.data())
def test_no_text_of_the_server_is_refused(
    native: str, logical: Logical, texts: st.SearchStrategy[str], data: st.DataObject
) -> None:
    text = data.draw(texts)
    assert encoded(native, logical, text) is not None
    array = f"{{{element(text, ',')},NULL}}"
    found = encoded(f"{native}[]", "other", array)
    if native != "public.geometry":
        assert found == [encoded(native, logical, text), None]


@pytest.mark.parametrize("native", CHECKED)
@given(text=ANY | st.text('{}[]()"\\,:;=>-+.0123456789eENULabc '))
def test_other_text_stays_text(native: str, text: str) -> None:
    logical: Logical = (
        "decimal" if native.startswith("numeric") and "[" not in native
        else "date" if native == "date" else "interval" if native == "interval" else "other"
    )  # fmt: skip
    encoded(native, logical, text)
