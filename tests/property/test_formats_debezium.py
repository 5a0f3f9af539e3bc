"""Debezium's value encodings, read back as its consumers read them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Column, Logical
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


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1))
def test_arrays_of_text_are_lists(values: list[str | None]) -> None:
    escaped = [
        "NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for v in values
    ]
    assert encoded("text[]", "other", f"{{{','.join(escaped)}}}") == values
