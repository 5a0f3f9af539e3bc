"""Dates and times of row images as the server's text.

The packed formats are those of MySQL Internals, "Date and Time Data Type Representation", and of
the server's ``my_time.cc``. Each function writes at most `MOMENT_TEXT` bytes and says where they
end; NULL for bytes that no server writes. ``digits`` are the column's of a second's fraction.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from connectors.mysql.digits cimport (
    big_endian, little_endian, power_of_ten, write_padded, write_two,
)

cdef enum:
    MOMENT_TEXT = 40
    # One more than 838:59:59.
    _OLD_TIME_SECONDS = 3020400
    _DAY = 86400
    # Years that begin in March, by 400, "eras"; the one from 1600 on is the fourth.
    _ERA_DAYS = 146097
    _DAYS_BEFORE_1970 = 719468 - 4 * 146097


cdef inline char *_write_date(char *to, uint32_t year, uint32_t month, uint32_t day) noexcept:
    """``month`` and ``day`` are below 100."""
    if year > 9999:
        return NULL
    to = write_padded(to, year, 4)
    to[0] = c'-'
    to = write_two(to + 1, month)
    to[0] = c'-'
    return write_two(to + 1, day)


cdef inline char *_write_clock(char *to, uint32_t hour, uint32_t minute, uint32_t second) noexcept:
    """All are below 100 but the hour, which is below 1000."""
    to = write_padded(to, hour, 3 if hour > 99 else 2)
    to[0] = c':'
    to = write_two(to + 1, minute)
    to[0] = c':'
    return write_two(to + 1, second)


cdef inline int fraction_size(int digits) noexcept:
    """How many bytes a fraction takes: two digits in each."""
    return (digits + 1) // 2


cdef inline uint32_t stored_fraction(const uint8_t *at, int digits) noexcept:
    """An even number of digits is stored: the last is too many where ``digits`` are odd."""
    cdef uint32_t fraction = <uint32_t> big_endian(at, fraction_size(digits))
    return fraction // 10 if digits & 1 else fraction


cdef inline char *_write_fraction(char *to, uint32_t fraction, int digits) noexcept:
    if not digits:
        return to
    if fraction >= power_of_ten(digits):
        return NULL
    to[0] = c'.'
    return write_padded(to + 1, fraction, digits)


cdef inline char *write_date(char *to, const uint8_t *at) noexcept:
    """DATE: three bytes of 15, 4 and 5 bits."""
    cdef uint32_t date = at[0] | at[1] << 8 | at[2] << 16
    return _write_date(to, date >> 9, date >> 5 & 15, date & 31)


cdef inline char *write_old_time(char *to, const uint8_t *at) noexcept:
    """TIME before MySQL 5.6: the decimal number HHMMSS in three bytes, signed."""
    cdef uint32_t number = at[0] | at[1] << 8 | at[2] << 16
    if number & 0x800000:
        number = 0x1000000 - number
        to[0] = c'-'
        to += 1
    return _write_clock(to, number // 10000, number // 100 % 100, number % 100)


cdef inline char *write_time(char *to, const uint8_t *at, int digits) noexcept:
    """TIME: sign, an unused bit, 10, 6 and 6 bits, big-endian with the fraction behind them; the
    whole is lifted by half its range, so a negative time's fraction counts from below."""
    cdef int size = fraction_size(digits)
    cdef int64_t packed = <int64_t> big_endian(at, 3 + size) - ((<int64_t> 0x800000) << (8 * size))
    cdef uint32_t clock, fraction
    if packed < 0:
        packed = -packed
        to[0] = c'-'
        to += 1
    fraction = packed & ((<int64_t> 1 << (8 * size)) - 1)
    if digits & 1:
        fraction //= 10
    clock = packed >> (8 * size)
    if clock >> 12 > 999:
        return NULL
    to = _write_clock(to, clock >> 12, clock >> 6 & 63, clock & 63)
    return _write_fraction(to, fraction, digits)


cdef inline char *write_old_datetime(char *to, const uint8_t *at) noexcept:
    """DATETIME before MySQL 5.6: the decimal number YYYYMMDDHHMMSS in eight bytes."""
    cdef uint64_t number = little_endian(at, 8)
    cdef uint32_t date, clock
    if number > 99999999999999u:
        return NULL
    date = number // 1000000
    clock = number % 1000000
    to = _write_date(to, date // 10000, date // 100 % 100, date % 100)
    to[0] = c' '
    return _write_clock(to + 1, clock // 10000, clock // 100 % 100, clock % 100)


cdef inline char *write_old_fine_time(
    char *to, const uint8_t *at, Py_ssize_t size, int digits
) noexcept:
    """TIME with a fraction before MariaDB 10.1 (``Field_time_hires``): fractions of a second above
    the least value, big-endian."""
    cdef int64_t fractions = big_endian(at, size)
    cdef uint32_t unit = power_of_ten(digits), clock
    fractions -= <int64_t> _OLD_TIME_SECONDS * unit
    if fractions < 0:
        fractions = -fractions
        to[0] = c'-'
        to += 1
    if fractions >= <int64_t> _OLD_TIME_SECONDS * unit:
        return NULL
    clock = fractions // unit
    to = _write_clock(to, clock // 3600, clock // 60 % 60, clock % 60)
    return _write_fraction(to, fractions % unit, digits)


cdef inline char *write_old_fine_datetime(
    char *to, const uint8_t *at, Py_ssize_t size, int digits
) noexcept:
    """DATETIME with a fraction before MariaDB 10.1 (``Field_datetime_hires``): the same of years of
    13 months of 32 days."""
    cdef uint64_t fractions = big_endian(at, size), seconds
    cdef uint32_t unit = power_of_ten(digits), date, clock
    seconds = fractions // unit
    if seconds // _DAY >= 10000 * 13 * 32:
        return NULL
    date = seconds // _DAY
    clock = seconds % _DAY
    to = _write_date(to, date // (13 * 32), date // 32 % 13, date & 31)
    to[0] = c' '
    to = _write_clock(to + 1, clock // 3600, clock // 60 % 60, clock % 60)
    return _write_fraction(to, fractions % unit, digits)


cdef inline char *write_datetime(char *to, const uint8_t *at, int digits) noexcept:
    """DATETIME: a sign that is always set, 17 bits of months (13 in a year), 5, 5, 6 and 6 bits,
    big-endian; then the fraction."""
    cdef uint64_t packed = big_endian(at, 5)
    cdef uint32_t clock = packed & 0x1FFFF
    cdef uint32_t date = packed >> 17 & 0x3FFFFF
    to = _write_date(to, (date >> 5) // 13, (date >> 5) % 13, date & 31)
    if to == NULL or not packed >> 39:
        return NULL
    to[0] = c' '
    to = _write_clock(to + 1, clock >> 12, clock >> 6 & 63, clock & 63)
    return _write_fraction(to, stored_fraction(at + 5, digits), digits)


cdef inline char *_write_civil(char *to, uint32_t day) noexcept:
    """The date of a day since 1970, up to 2106, by Howard Hinnant, "chrono-Compatible Low-Level
    Date Algorithms", `civil_from_days`."""
    cdef uint32_t base = 1600, year, month
    day += _DAYS_BEFORE_1970
    if day >= _ERA_DAYS:
        day -= _ERA_DAYS
        base = 2000
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    return _write_date(
        to, base + year + (month >= 10), month + 3 if month < 10 else month - 9, day + 1
    )


cdef inline char *write_timestamp(
    char *to, uint32_t second, uint32_t fraction, int digits
) noexcept:
    """Seconds since 1970 in UTC (MariaDB uses all 32 bits); both zero are the zero date."""
    cdef uint32_t clock = second % _DAY
    if second == 0 and fraction == 0:
        to = _write_date(to, 0, 0, 0)
    else:
        to = _write_civil(to, second // _DAY)
    to[0] = c' '
    to = _write_clock(to + 1, clock // 3600, clock // 60 % 60, clock % 60)
    return _write_fraction(to, fraction, digits)
