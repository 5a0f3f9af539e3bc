"""Floats as the shortest text that reads back as the same number; typed for Python in
``floats.pyi``.

Most floats in databases are short decimals. One of at most 15 digits (6 for a float of 32 bits) is
the only one of its length within half a unit of a float, so if it reads back as the float, and none
shorter does, it is what is looked for. ``number / power``, both exact, is what a reader that rounds
correctly gets from its digits.
"""

from libc.math cimport INFINITY, signbit
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from connectors.mysql.digits cimport write_number

cdef extern from "Python.h":
    char *PyOS_double_to_string(double, char code, int precision, int flags, int *type) except NULL
    double PyOS_string_to_double(const char *, char **end, object overflow) except? -1.0
    void PyMem_Free(void *) noexcept

cdef enum:
    _FRACTION_MAX = 6

cdef double[_FRACTION_MAX + 1] _POWERS = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]


cdef double double_at(const uint8_t *at) noexcept:
    """Little-endian, as in a row image."""
    cdef uint64_t bits = (
        <uint64_t> at[0] | <uint64_t> at[1] << 8 | <uint64_t> at[2] << 16 | <uint64_t> at[3] << 24
        | <uint64_t> at[4] << 32 | <uint64_t> at[5] << 40 | <uint64_t> at[6] << 48
        | <uint64_t> at[7] << 56
    )
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef float float_at(const uint8_t *at) noexcept:
    cdef uint32_t bits = at[0] | at[1] << 8 | at[2] << 16 | <uint32_t> at[3] << 24
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef inline char *_write_special(char *to, double value) noexcept:
    """Infinity and NaN, which no server stores but any bytes may be."""
    if value == value:
        memcpy(to, b"Infinity", 8)
        return to + 8
    memcpy(to, b"NaN", 3)
    return to + 3


cdef inline char *_write_fixed(char *to, uint64_t number, int fraction) noexcept:
    """``number`` divided by 10 to the power of ``fraction``."""
    cdef char *end
    cdef char digits[20]
    cdef Py_ssize_t count
    if not fraction:
        return write_number(to, number)
    end = write_number(digits, number)
    count = end - digits
    if count <= fraction:
        to[0], to[1] = c'0', c'.'
        to += 2
        while count < fraction:
            to[0] = c'0'
            to += 1
            fraction -= 1
        memcpy(to, digits, count)
        return to + count
    memcpy(to, digits, count - fraction)
    to += count - fraction
    to[0] = c'.'
    memcpy(to + 1, end - fraction, fraction)
    return to + 1 + fraction


cdef char *_write_shortest(char *to, double value) except NULL:
    cdef char *text = PyOS_double_to_string(value, c'r', 0, 0, NULL)
    cdef size_t size = strlen(text)
    memcpy(to, text, size)
    PyMem_Free(text)
    return to + size


cdef char *write_double(char *to, double value) except NULL:
    """At most `FLOAT_TEXT` bytes; where they end."""
    cdef int fraction
    cdef uint64_t number
    cdef double scaled
    if signbit(value) and value == value:
        to[0] = c'-'
        to += 1
        value = -value
    if not value < INFINITY:
        return _write_special(to, value)
    if value >= 1e-4 or value == 0:
        for fraction in range(_FRACTION_MAX + 1):
            scaled = value * _POWERS[fraction]
            if scaled >= 1e15:
                break
            number = <uint64_t> (scaled + 0.5)
            if <double> number / _POWERS[fraction] == value:
                return _write_fixed(to, number, fraction)
    return _write_shortest(to, value)


cdef char *write_float(char *to, float value) except NULL:
    """At most `FLOAT_TEXT` bytes; where they end."""
    cdef int fraction
    cdef uint64_t number
    cdef double scaled
    if signbit(value) and value == value:
        to[0] = c'-'
        to += 1
        value = -value
    if not value < INFINITY:
        return _write_special(to, value)
    if value < 16777216.0 and <float> <uint32_t> value == value:
        # Whole numbers up to here are all floats, so none can be told by fewer digits.
        return write_number(to, <uint32_t> value)
    if value >= 1e-4:
        for fraction in range(1, _FRACTION_MAX + 1):
            scaled = <double> value * _POWERS[fraction]
            if scaled >= 1e6:
                break
            number = <uint64_t> (scaled + 0.5)
            if <float> (<double> number / _POWERS[fraction]) == value:
                return _write_fixed(to, number, fraction)
    return _write_shortest_float(to, value)


cdef char *_write_shortest_float(char *to, float value) except NULL:
    """Nine digits tell all floats apart (IEEE 754), six do not always; subnormal ones have less
    precision and may need fewer."""
    cdef int digits
    cdef char *text
    cdef double found
    for digits in range(6 if value >= 1.17549435e-38 else 1, 10):
        text = PyOS_double_to_string(value, c'e', digits - 1, 0, NULL)
        try:
            found = PyOS_string_to_double(text, NULL, None)
        finally:
            PyMem_Free(text)
        if <float> found == value:
            break
    return write_double(to, found)


def double_text(double value):
    cdef char text[FLOAT_TEXT]
    return text[: write_double(text, value) - text].decode("ascii")


def float_text(float value):
    cdef char text[FLOAT_TEXT]
    return text[: write_float(text, value) - text].decode("ascii")
