"""The scalars of MySQL's binary JSON to text; declared in ``jsonscalars.pxd``, nothing for Python.

What they look like is what the server's ``json_dom.cc`` and what it calls make of them.
"""

from base64 import encodebytes

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ensign_core.rows.text cimport Text, put, put_byte, put_bytes, put_number, put_padded

from connectors.mysql.jsondiff import JsonError

cdef extern from "Python.h":
    char *shortest "PyOS_double_to_string" (
        double value, char code, int precision, int flags, int *kind
    ) except NULL

cdef enum:
    # Types of columns that an opaque value may have been.
    _TIMESTAMP = 7
    _DATE = 10
    _TIME = 11
    _DATETIME = 12
    _NEWDECIMAL = 246

    # Digits of a double that stand before the point, and places of its first behind it, before an
    # exponent is written (MAX_DECPT_FOR_F_FORMAT of m_string.h).
    _POINT_MAX = 15

    # Digits of a decimal before and behind the point together, and in each word of four bytes.
    _DIGITS_MAX = 81
    _WORD_DIGITS = 9


cdef int put_double(Text *text, uint64_t bits) except -1:
    """As the server's ``my_gcvt`` writes it, with ``.0`` behind what would look like an integer:
    the digits of Python's ``repr``, which are the shortest that read back as the same double."""
    cdef double number
    cdef char *digits
    memcpy(&number, &bits, 8)
    if not isfinite(number):
        raise JsonError("a document has a number that is none")
    digits = shortest(number, c'r', 0, 0, NULL)
    try:
        return _put_digits(text, digits)
    finally:
        PyMem_Free(digits)


cdef int _put_digits(Text *text, const char *at) except -1:
    """A number in Python's notation in that of the server."""
    cdef char digits[24]
    cdef int count = 0, point = 0, exponent = 0, index
    cdef bint seen = False, negative
    if at[0] == c'-':
        put_byte(text, at[0])
        at += 1
    while at[0] and at[0] != c'e':
        if at[0] == c'.':
            seen = True
        else:
            # Zeros before the first other digit only move the point.
            if count or at[0] != c'0':
                digits[count] = at[0]
                count += 1
            elif seen:
                point -= 1
            if count and not seen:
                point += 1
        at += 1
    if at[0]:
        negative = at[1] == c'-'
        at += 2
        while at[0]:
            exponent = exponent * 10 + at[0] - c'0'
            at += 1
        point += -exponent if negative else exponent
    while count and digits[count - 1] == c'0':
        count -= 1
    if count == 0:
        return put(text, b"0.0", 3)
    if point < 1 - _POINT_MAX or (point > _POINT_MAX and count <= point):
        return _put_exponential(text, digits, count, point - 1)
    if point <= 0:
        put(text, b"0.", 2)
        for index in range(-point):
            put_byte(text, c'0')
        return put(text, digits, count)
    for index in range(point):
        put_byte(text, digits[index] if index < count else c'0')
    put_byte(text, c'.')
    return put(text, digits + point, count - point) if count > point else put_byte(text, c'0')


cdef int _put_exponential(Text *text, const char *digits, int count, int exponent) except -1:
    put_byte(text, digits[0])
    if count > 1:
        put_byte(text, c'.')
        put(text, digits + 1, count - 1)
    put_byte(text, c'e')
    return put_signed(text, exponent)


cdef int put_opaque(
    Text *text, uint8_t type, const uint8_t *data, Py_ssize_t size
) except -1:
    """A value that JSON has no type for."""
    if type == _NEWDECIMAL:
        return _put_decimal(text, data, size)
    if type == _DATE or type == _TIME or type == _DATETIME or type == _TIMESTAMP:
        if size != 8:
            raise JsonError("a document has a time of another length")
        return _put_time(text, type, <int64_t> little_endian(data, 8))
    put(text, b'"base64:type', 12)
    put_number(text, type)
    put_byte(text, c':')
    # The server breaks base64 into lines of 76 characters, as MIME does.
    raw = PyBytes_FromStringAndSize(<const char *> data, size)
    put_bytes(text, encodebytes(raw)[:-1].replace(b"\n", b"\\n"))
    return put_byte(text, c'"')


cdef int _put_time(Text *text, uint8_t type, int64_t packed) except -1:
    """From the server's packed form (``my_time.cc``): microseconds in 24 bits, six each for second
    and minute, then the hour, or five bits for it, five for the day, and 13 months a year."""
    cdef uint64_t bits = <uint64_t> packed if packed >= 0 else 0 - <uint64_t> packed
    cdef uint64_t fraction = bits & 0xFFFFFF, second = bits >> 24 & 63, minute = bits >> 30 & 63
    cdef uint64_t hour = bits >> 36, day = 0, month = 0, year = 0
    if type != _TIME:
        day, month, year = bits >> 41 & 31, (bits >> 46) % 13, (bits >> 46) // 13
        hour &= 31
    if (
        fraction >= 1_000_000 or second >= 60 or minute >= 60 or year > 9999
        or hour >= (1024 if type == _TIME else 24) or (packed < 0 and type != _TIME)
    ):
        raise JsonError("a document has a time that is none")
    put_byte(text, c'"')
    if type == _TIME:
        if packed < 0:
            put_byte(text, c'-')
    else:
        put_padded(text, year, 4)
        put_byte(text, c'-')
        put_padded(text, month, 2)
        put_byte(text, c'-')
        put_padded(text, day, 2)
        if type == _DATE:
            return put_byte(text, c'"')
        put_byte(text, c' ')
    put_padded(text, hour, 2 if hour < 100 else 3 if hour < 1000 else 4)
    put_byte(text, c':')
    put_padded(text, minute, 2)
    put_byte(text, c':')
    put_padded(text, second, 2)
    put_byte(text, c'.')
    put_padded(text, fraction, 6)
    return put_byte(text, c'"')


cdef int _put_decimal(Text *text, const uint8_t *at, Py_ssize_t size) except -1:
    """Precision, scale, and the number as a column has it ("decimal2bin" of ``decimal.c``): nine
    digits in four bytes, most significant first, fewer at both ends; the first bit is inverted, and
    all bits are too if the number is negative."""
    cdef uint8_t *widths = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    cdef int whole, scale, digits
    cdef uint32_t flip, first
    cdef bint begun = False
    cdef const uint8_t *end = at + size
    if size < 3 or at[1] > at[0] or not 0 < at[0] <= _DIGITS_MAX:
        raise JsonError("a document has a decimal that is none")
    scale = at[1]
    whole = at[0] - scale
    at += 2
    if end - at != (
        whole // _WORD_DIGITS * 4 + widths[whole % _WORD_DIGITS]
        + scale // _WORD_DIGITS * 4 + widths[scale % _WORD_DIGITS]
    ):
        raise JsonError("a document has a decimal of another length")
    flip = 0 if at[0] & 0x80 else 0xFF
    first = 0x80
    if flip:
        put_byte(text, c'-')
    digits = whole % _WORD_DIGITS
    while whole > 0:
        if digits == 0:
            digits = _WORD_DIGITS
        begun = _put_word(text, at, widths[digits], flip, first, digits, begun)
        at += widths[digits]
        whole -= digits
        first = digits = 0
    if not begun:
        put_byte(text, c'0')
    if scale:
        put_byte(text, c'.')
    while scale > 0:
        digits = scale if scale < _WORD_DIGITS else _WORD_DIGITS
        _put_word(text, at, widths[digits], flip, first, digits, True)
        at += widths[digits]
        scale -= digits
        first = 0
    return 0


cdef int _put_word(
    Text *text, const uint8_t *at, int width, uint32_t flip, uint32_t first, int digits, bint begun
) except -1:
    """``digits`` digits, without zeros before them if the number has not ``begun``; whether it has
    then."""
    cdef uint32_t word = 0, bound = 1
    cdef int index
    for index in range(width):
        word = word << 8 | (at[index] ^ flip)
    word ^= first << 8 * (width - 1)
    for index in range(digits):
        bound *= 10
    if word >= bound:
        raise JsonError("a document has a decimal that is none")
    if begun:
        put_padded(text, word, digits)
    elif word:
        put_number(text, word)
    return begun or word != 0
