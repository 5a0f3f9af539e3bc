"""The usual texts of numbers and times in Debezium's encodings. Each function writes what the
function of Python for the column would write (`ensign_core.formats.debezium_values` and
``debezium_mysql``), or returns False, having written nothing, for a text that is not as usual:
the function of Python is called then."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ensign_core.rows.text cimport Text, make_room, put, put_base64, put_byte, put_number

cdef enum:
    # What always fits into 64 bits.
    DIGITS_MAX = 18


cdef inline bint put_decimal(
    Text *text, const uint8_t *at, Py_ssize_t size, Py_ssize_t scale
) except -1:
    """A decimal with exactly ``scale`` digits behind the point as its unscaled bytes in base64."""
    cdef const uint8_t *end = at + size
    cdef bint negative = size > 0 and at[0] == c'-'
    cdef Py_ssize_t digits = 0, behind = -1
    cdef int64_t number = 0, rest
    cdef uint8_t data[9]
    cdef int count = 1, i
    if negative:
        at += 1
    while at < end:
        if at[0] == c'.' and behind < 0 and digits > 0:
            behind = 0
        elif c'0' <= at[0] <= c'9' and digits < DIGITS_MAX:
            number = number * 10 + (at[0] - c'0')
            digits += 1
            if behind >= 0:
                behind += 1
        else:
            return False
        at += 1
    if digits == 0 or behind == 0 or (0 if behind < 0 else behind) != scale:
        return False
    rest = number = -number if negative else number
    while not -128 <= rest <= 127:
        rest >>= 8
        count += 1
    for i in range(count):
        data[i] = <uint8_t> (number >> (8 * (count - 1 - i)) & 0xFF)
    put_base64(text, data, count)
    return True


cdef inline int two(const uint8_t *at) noexcept:
    """The number of two digits, or one below 0."""
    if not (c'0' <= at[0] <= c'9' and c'0' <= at[1] <= c'9'):
        return -1000
    return (at[0] - c'0') * 10 + at[1] - c'0'


cdef inline bint is_date(const uint8_t *at) noexcept:
    """Whether the ten bytes there have a date's form, and so far as days up to 28 go its sense."""
    return (
        two(at) >= 0 and two(at + 2) >= 0 and (at[0] | at[1] | at[2] | at[3]) != c'0'
        and at[4] == c'-' and 1 <= two(at + 5) <= 12 and at[7] == c'-' and 1 <= two(at + 8) <= 31
    )


cdef inline bint is_clock(const uint8_t *at) noexcept:
    """The same of the eight bytes of a time."""
    return (
        0 <= two(at) <= 23 and at[2] == c':' and 0 <= two(at + 3) <= 59 and at[5] == c':'
        and 0 <= two(at + 6) <= 59
    )


cdef inline Py_ssize_t fraction_size(const uint8_t *at, const uint8_t *end) noexcept:
    """How many digits of a fraction stand between the point at ``at`` and ``end``; 0 for nothing at
    all, -1 for what is no fraction of up to six digits."""
    cdef Py_ssize_t size = end - at - 1, i
    if at == end:
        return 0
    if at[0] != c'.' or not 1 <= size <= 6:
        return -1
    for i in range(1, size + 1):
        if not c'0' <= at[i] <= c'9':
            return -1
    return size


cdef inline bint put_utc(
    Text *text, const uint8_t *at, Py_ssize_t size, Py_ssize_t digits
) except -1:
    """``2026-11-23 10:00:00.5+00`` as ISO 8601 with so many digits of the fraction."""
    cdef Py_ssize_t fraction, i
    cdef char *to
    if size < 22 or at[size - 3] != c'+' or at[size - 2] != c'0' or at[size - 1] != c'0':
        return False
    if not is_date(at) or at[10] != c' ' or not is_clock(at + 11):
        return False
    fraction = fraction_size(at + 19, at + size - 3)
    if fraction < 0 or fraction > digits:
        return False
    put_byte(text, c'"')
    put(text, at, 10)
    put_byte(text, c'T')
    put(text, at + 11, 8)
    if digits:
        make_room(text, digits + 1)
        to = text.data + text.size
        to[0] = c'.'
        for i in range(digits):
            to[i + 1] = <char> at[20 + i] if i < fraction else c'0'
        text.size += digits + 1
    return put(text, b'Z"', 2) == 0


cdef inline bint put_since_epoch(
    Text *text, const uint8_t *at, Py_ssize_t size, int64_t unit_us
) except -1:
    """``2026-11-23`` or ``2026-11-23 10:00:00.5`` as a count of units since 1970. Days by
    "days_from_civil" of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms"."""
    cdef int64_t year, month, day, era, of_era, of_year, us = 0, scale
    cdef Py_ssize_t fraction, i
    if size < 10 or not is_date(at):
        return False
    year, month, day = two(at) * 100 + two(at + 2), two(at + 5), two(at + 8)
    if day > 28 and (month == 2 or day > 30 and (month == 4 or month == 6 or month == 9
                                                 or month == 11)):
        return False
    if size > 10:
        if size < 19 or at[10] != c' ' or not is_clock(at + 11):
            return False
        fraction = fraction_size(at + 19, at + size)
        if fraction < 0:
            return False
        scale = 100_000
        for i in range(fraction):
            us += (at[20 + i] - c'0') * scale
            scale //= 10
        us += ((two(at + 11) * 60 + two(at + 14)) * 60 + two(at + 17)) * <int64_t> 1_000_000
    year -= month <= 2
    era, of_era = year // 400, year % 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    us = (us + day * 86_400_000_000) // unit_us
    if us < 0:
        put_byte(text, c'-')
        us = -us
    return put_number(text, <uint64_t> us) == 0
