"""Values as the server shows them in a text result, into the row layout: byte for byte what
`connectors.mysql.stored` makes of the same values in a row image."""

from cpython.object cimport PyObject
from libc.math cimport HUGE_VAL
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from connectors.mysql.fields cimport (
    BITS, BYTES, COMPRESSED, DECIMAL, DOUBLE, ENUM, FLOAT, SET, SIGNED, TEXT, UNSIGNED, VECTOR,
    YEAR, Field, Fields, begin, end, put_bits, put_double, put_float, put_value,
    put_vector,
)
from ensign_core.rows.text cimport Text, put

from connectors.mysql.damage import DamagedError

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *, char **end, PyObject *overflow) except? -1.0

cdef enum:
    # DOUBLE(255, 30) has the longest.
    _FLOAT_TEXT_MAX = 400
    _DIGITS_MAX = 18
    _EXPONENT_MAX = 22
    # Whole numbers of so many bits are all floats.
    _MANTISSA_BITS = 53

cdef double[_EXPONENT_MAX + 1] _POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
]


cdef int put_shown(
    Fields fields, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    if field.code == SIGNED or field.code == UNSIGNED or field.code == DECIMAL:
        return _put_number(text, data, size)
    elif (
        field.code == TEXT or field.code == BYTES or field.code == COMPRESSED
        or field.code == ENUM or field.code == SET
    ):
        return fields.put_text(text, field, data, size)
    elif field.code == DOUBLE:
        return put_double(text, _double_of(data, size))
    elif field.code == FLOAT:
        return put_float(text, <float> _double_of(data, size))
    elif field.code == YEAR:
        return _put_year(text, data, size)
    elif field.code == VECTOR:
        return put_vector(text, data, size)
    elif field.code == BITS:
        if size > 8:
            raise DamagedError("a BIT column has 1 to 64 bits")
        return put_bits(text, field, data, size)
    # Text that is copied, dates and times, JSON, UUID, INET4 and INET6: the server's text is ours.
    return put_value(text, c't', data, size)


cdef int _put_number(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """Without the zeros before it that ZEROFILL shows."""
    cdef Py_ssize_t start = begin(text, c't', size), at = 0
    if size and data[0] == c'-':
        text.data[start] = c'-'
        text.size += 1
        at = 1
    while size - at > 1 and data[at] == c'0' and data[at + 1] != c'.':
        at += 1
    if at == size:
        raise DamagedError("a number without digits")
    put(text, data + at, size - at)
    return end(text, start)


cdef int _put_year(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """YEAR(2) of MariaDB shows the last two digits of the years from 1970 to 2069."""
    cdef Py_ssize_t start
    if size != 2:
        return _put_number(text, data, size)
    start = begin(text, c't', 4)
    put(text, b"19" if data[0] >= c'7' else b"20", 2)
    put(text, data, 2)
    return end(text, start)


cdef double _double_of(const uint8_t *data, Py_ssize_t size) except? -1:
    """The number that a text means, exactly; ValueError if it is none. Few digits and a small power
    of ten are floats, and so one division or multiplication gives what a careful reader gets
    (William D. Clinger, "How to Read Floating Point Numbers Accurately")."""
    cdef char[_FLOAT_TEXT_MAX + 1] copy
    cdef uint64_t mantissa = 0
    cdef Py_ssize_t at = 0, digits = 0, fraction = 0
    cdef bint negative = size > 0 and data[0] == c'-', point = False
    cdef double found
    at = negative
    while at < size and digits <= _DIGITS_MAX:
        if c'0' <= data[at] <= c'9':
            mantissa = mantissa * 10 + (data[at] - c'0')
            digits += 1
            fraction += point
        elif data[at] == c'.' and not point:
            point = True
        else:
            break
        at += 1
    if at == size and digits and not mantissa >> _MANTISSA_BITS and fraction <= _EXPONENT_MAX:
        found = <double> mantissa / _POWERS[fraction]
        return -found if negative else found
    if size > _FLOAT_TEXT_MAX:
        raise DamagedError("a float of too many digits")
    memcpy(copy, data, size)
    copy[size] = 0
    found = PyOS_string_to_double(copy, NULL, NULL)
    if found == HUGE_VAL or found == -HUGE_VAL:
        raise DamagedError("a float that is too large")
    return found
