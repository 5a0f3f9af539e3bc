"""Dates and times of ISO text as numbers and as ISO 8601 in UTC: pure functions.

The text is that of Postgres under ``datestyle=ISO`` (PostgreSQL documentation, "Date/Time Output"):
years beyond 9999, a trailing `` BC``, ``24:00:00`` and offsets of hours, minutes and seconds occur,
which Python's `datetime` cannot hold; it serves as the fast way for all others. Functions raise
ValueError for text that is no date or time, ``infinity`` among it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

DAY_US = 86_400_000_000

_NAIVE_EPOCH = datetime(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK = r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-]\d\d(?::\d\d){0,2})?"
_TIME = re.compile(_CLOCK, re.ASCII)
_MOMENT = re.compile(rf"(\d+)-(\d\d)-(\d\d)(?: {_CLOCK})?( BC)?", re.ASCII)
_SPAN = re.compile(r"([+-]?\d+) (year|mon|day)s?\b", re.ASCII)
_SPAN_CLOCK = re.compile(r"([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?$", re.ASCII)

_SPAN_US = {"year": 12 * 2_629_800_000_000, "mon": 2_629_800_000_000, "day": DAY_US}
"""A month is 365.25 / 12 days, as in Debezium's MicroDuration."""


def epoch_us(text: str) -> int:
    """µs from 1970-01-01 to a timestamp (in UTC, or with an offset) or date."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _epoch_us(text)
    since = moment - (_EPOCH if moment.tzinfo else _NAIVE_EPOCH)
    return since.days * DAY_US + since.seconds * 1_000_000 + since.microseconds


def _epoch_us(text: str) -> int:
    match = _MOMENT.fullmatch(text)
    if not match:
        raise ValueError
    *date, hours, minutes, seconds, fraction, offset, era = match.groups()
    clock = [hours, minutes, seconds, fraction]
    year, month, day = map(int, date)
    if not (year and 1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError
    days = days_from_civil(1 - year if era else year, month, day)
    return days * DAY_US + _clock_us(clock) - _offset_us(offset)


def epoch_days(text: str) -> int:
    """Days from 1970-01-01 to a date."""
    return epoch_us(text) // DAY_US


def clock_us(text: str) -> tuple[int, int]:
    """A time of day in µs since midnight, ``24:00:00`` included, and its offset from UTC in µs."""
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError
    *clock, offset = match.groups()
    return _clock_us(clock), _offset_us(offset)


def _clock_us(clock: Sequence[str | None]) -> int:
    """Hours, minutes, seconds and fraction; all None in a date."""
    hours, minutes, seconds, fraction = clock
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole * 1_000_000 + int((fraction or "").ljust(6, "0"))


def _offset_us(text: str | None) -> int:
    if not text:
        return 0
    hours, minutes, seconds = ([int(p) for p in text[1:].split(":")] + [0, 0])[:3]
    us = (hours * 3600 + minutes * 60 + seconds) * 1_000_000
    return -us if text[0] == "-" else us


def span_us(text: str) -> int:
    """An interval under ``intervalstyle=postgres`` in µs."""
    total = 0
    rest = text
    for match in _SPAN.finditer(text):
        total += int(match[1]) * _SPAN_US[match[2]]
        rest = text[match.end() :].strip()
    if rest:
        match_clock = _SPAN_CLOCK.match(rest)
        if not match_clock:
            raise ValueError
        sign, *clock = match_clock.groups()
        us = _clock_us(clock)
        total += -us if sign == "-" else us
    return total


def iso_time(us: int) -> str:
    """A time of day with as many digits of the fraction as it needs."""
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def iso_moment(text: str, digits: int) -> str:
    """A timestamp with an offset as ISO 8601 in UTC, its fraction exactly ``digits`` long."""
    if text.endswith("+00") and text[10:11] == " ":
        date, time = text[:10], text[11:-3]
    else:
        days, us = divmod(epoch_us(text), DAY_US)
        date, time = _iso_date(days), iso_time(us)
    whole, _, fraction = time.partition(".")
    return f"{date}T{whole}.{fraction:0<{digits}}Z" if digits else f"{date}T{whole}Z"


def _iso_date(days: int) -> str:
    """Beyond four digits a year has a sign, before year 1 it is astronomical (ISO 8601)."""
    year, month, day = civil_from_days(days)
    era = "-" if year < 0 else "+" if year > 9999 else ""
    return f"{era}{abs(year):04}-{month:02}-{day:02}"


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the proleptic Gregorian calendar, for any year. After
    Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil_from_days(days: int) -> tuple[int, int, int]:
    """The inverse of `days_from_civil`: year, month, day."""
    era, of_era = divmod(days + 719_468, 146_097)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
