"""Lines of COPY's text format to bodies in the row layout; typed for Python in ``copylines.pyi``.

What is read is checked against the line's end. For what is written there is room from the start: a
body is never longer than its line, five bytes for each column, and three; and there is a word
more, since words are copied whole.
"""

from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from array import array as new_array

from connectors.postgres.errors import error

cdef extern from *:
    """
    /* Which byte in memory is the first whose bit 7 is set: of flags that are exact up to that. */
    static inline Py_ssize_t first_flagged(uint64_t flags) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        return __builtin_ctzll(flags) >> 3;
    #else
        return 0;
    #endif
    }
    """
    Py_ssize_t first_flagged(uint64_t flags) noexcept

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *, Py_ssize_t size) except NULL
    char *bytes_of "PyBytes_AS_STRING" (PyObject *data) noexcept
    int resize "_PyBytes_Resize" (PyObject **data, Py_ssize_t size) except -1

cdef enum:
    _WORD = 8
    _HEAD = 3
    _KIND_AND_LENGTH = 5

cdef array.array _ENDS = new_array("I")


cdef inline uint64_t _bytes_of(uint64_t word, uint64_t byte) noexcept:
    """Bit 7 of some byte is set if one of the word's bytes is ``byte`` ("Bit Twiddling Hacks",
    "Determine if a word has a zero byte")."""
    word ^= byte * 0x0101010101010101u
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u


cdef inline uint8_t _unescaped(uint8_t byte) noexcept:
    """What a backslash and ``byte`` stand for; 0 for what ``COPY TO`` never writes."""
    if byte == c'\\':
        return byte
    if byte == c'n':
        return c'\n'
    if byte == c't':
        return c'\t'
    if byte == c'r':
        return c'\r'
    if byte == c'b':
        return c'\b'
    if byte == c'f':
        return c'\f'
    return c'\v' if byte == c'v' else 0


cdef inline uint8_t *_put_column(
    const uint8_t **place, const uint8_t *end, uint8_t *to
) except NULL:
    """Read the column at ``place`` and move that to the tab or the end behind it; where what was
    written at ``to`` ends."""
    cdef const uint8_t *at = place[0]
    cdef uint8_t *start = to + _KIND_AND_LENGTH
    cdef uint64_t word, flags
    cdef Py_ssize_t step
    cdef uint32_t size
    cdef uint8_t byte
    if end - at >= 2 and at[0] == c'\\' and at[1] == c'N':
        to[0] = c'n'
        place[0] = at + 2
        return to + 1
    to[0] = c't'
    to = start
    while True:
        while end - at >= _WORD:
            memcpy(&word, at, _WORD)
            memcpy(to, &word, _WORD)
            flags = _bytes_of(word, c'\t') | _bytes_of(word, c'\\')
            step = first_flagged(flags) if flags else _WORD
            at += step
            to += step
            if flags:
                break
        while at < end and at[0] != c'\t' and at[0] != c'\\':
            to[0] = at[0]
            at += 1
            to += 1
        if at == end or at[0] == c'\t':
            break
        byte = _unescaped(at[1]) if end - at >= 2 else 0
        if not byte:
            raise error("protocol_damaged")
        to[0] = byte
        at += 2
        to += 1
    size = to - start
    start[-4], start[-3] = size >> 24, size >> 16 & 255
    start[-2], start[-1] = size >> 8 & 255, size & 255
    place[0] = at
    return to


cdef uint8_t *_put_row(
    const uint8_t *at, Py_ssize_t size, Py_ssize_t columns, uint8_t *to, const uint8_t *limit
) except NULL:
    """Write the body of a line's row at ``to``, where there is room to ``limit``; where it ends."""
    cdef const uint8_t *end = at + size - 1
    cdef Py_ssize_t i
    if limit - to < _room(columns) + size + _WORD:
        raise ValueError("lines are bytes or views of bytes, and stay as they are meanwhile")
    if size < 1 or end[0] != c'\n':
        raise error("protocol_damaged")
    to[0], to[1], to[2] = c'N', columns >> 8, columns & 255
    to += _HEAD
    for i in range(columns):
        if i:
            if at == end or at[0] != c'\t':
                raise error("protocol_damaged")
            at += 1
        to = _put_column(&at, end, to)
    if at != end:
        raise error("protocol_damaged")
    return to


cdef inline Py_ssize_t _room(Py_ssize_t columns) noexcept:
    """What a body may have beyond the bytes of its line."""
    return _HEAD + _KIND_AND_LENGTH * columns


cdef inline uint8_t *_put_line(
    object line, Py_ssize_t columns, uint8_t *to, const uint8_t *limit
) except NULL:
    cdef Py_buffer view
    cdef const uint8_t *data
    if PyBytes_CheckExact(line):
        data = <const uint8_t *> PyBytes_AS_STRING(line)
        return _put_row(data, PyBytes_GET_SIZE(line), columns, to, limit)
    PyObject_GetBuffer(line, &view, PyBUF_SIMPLE)
    try:
        return _put_row(<const uint8_t *> view.buf, view.len, columns, to, limit)
    finally:
        PyBuffer_Release(&view)


def bodies(lines, Py_ssize_t columns):
    cdef list found = lines if type(lines) is list else list(lines)
    cdef Py_ssize_t count = len(found), room = _WORD, i
    cdef array.array ends = array.clone(_ENDS, count, zero=False)
    cdef PyObject *body
    cdef uint8_t *start
    cdef uint8_t *to
    if not 0 <= columns <= 0xFFFF:
        raise ValueError("a row has at most 65,535 columns")
    for i in range(count):
        room += _room(columns) + len(found[i])
    body = new_bytes(NULL, room)
    try:
        start = to = <uint8_t *> bytes_of(body)
        for i in range(count):
            to = _put_line(found[i], columns, to, start + room)
            if to - start > 0xFFFFFFFF:
                raise OverflowError("a batch's body has less than 4 GiB")
            ends.data.as_uints[i] = to - start
        resize(&body, to - start)
        return <bytes> body, ends
    finally:
        Py_XDECREF(body)
