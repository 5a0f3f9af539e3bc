"""The row layout taken apart; typed for Python in ``layout.pyi``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from ensign_core.rows.damage import damaged


cdef const uint8_t *_row_end(const uint8_t *at, const uint8_t *end) except NULL:
    """Where the row at ``at`` ends. Raises ``rows.damaged`` unless that is before or at ``end``."""
    cdef Py_ssize_t columns
    if end - at < 2:
        raise damaged()
    columns = at[0] << 8 | at[1]
    at += 2
    for _ in range(columns):
        at = column_end(at, end)
        if at == NULL:
            raise damaged()
    return at


def split(bytes row not None):
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(row)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(row)
    cdef const uint8_t *following
    cdef list values = []
    cdef bytes kinds
    cdef char *kind
    cdef Py_ssize_t columns, i
    if end - at < 2:
        raise damaged()
    columns = at[0] << 8 | at[1]
    at += 2
    if columns > end - at:
        raise damaged()
    kinds = PyBytes_FromStringAndSize(NULL, columns)
    kind = PyBytes_AS_STRING(kinds)
    for i in range(columns):
        following = column_end(at, end)
        if following == NULL:
            raise damaged()
        kind[i] = at[0]
        if following - at > 1:
            values.append(PyBytes_FromStringAndSize(<const char *> at + 5, following - at - 5))
        else:
            values.append(b"")
        at = following
    if at != end:
        raise damaged()
    return kinds, values


def join(bytes kinds not None, list values not None):
    cdef Py_ssize_t columns = PyBytes_GET_SIZE(kinds), size = 2, i, length
    cdef const char *kind = PyBytes_AS_STRING(kinds)
    cdef char *to
    cdef bytes row, value
    if len(values) != columns or columns > 0xFFFF:
        raise ValueError("a row has one value for each kind, and at most 65,535")
    for i in range(columns):
        size += 1
        if kind[i] == c't' or kind[i] == c'b':
            value = values[i]
            length = len(value)
            if length > 0xFFFFFFFF:
                raise ValueError("a value has at most 4 GiB")
            size += 4 + length
        elif kind[i] != c'n' and kind[i] != c'u':
            raise ValueError("that is no kind of a column")
    row = PyBytes_FromStringAndSize(NULL, size)
    to = PyBytes_AS_STRING(row)
    to[0], to[1] = columns >> 8, columns & 0xFF
    to += 2
    for i in range(columns):
        to[0] = kind[i]
        to += 1
        if kind[i] == c't' or kind[i] == c'b':
            value = values[i]
            length = PyBytes_GET_SIZE(value)
            to[0], to[1] = length >> 24 & 0xFF, length >> 16 & 0xFF
            to[2], to[3] = length >> 8 & 0xFF, length & 0xFF
            memcpy(to + 4, PyBytes_AS_STRING(value), length)
            to += 4 + length
    return row


def check_body(bytes body not None):
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(body)
    if at < end and (at[0] == c'K' or at[0] == c'O'):
        at = _row_end(at + 1, end)
    if at < end and at[0] == c'N':
        at = _row_end(at + 1, end)
    if at != end:
        raise damaged()
