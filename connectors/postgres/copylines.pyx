"""Lines of COPY's text format to bodies in the row layout; typed for Python in ``copylines.pyi``.

What is read is checked against the line's end. For what is written there is room from the start: a
body is never longer than its line, five bytes for each column, and three; and there is a word
more, since words are copied whole.
"""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ensign_core.rows.text cimport WORD, data_of, new_bytes, resize, word_at, zero_bytes

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

cdef enum:
    _HEAD = 3
    _KIND_AND_LENGTH = 5

cdef array.array _ENDS = new_array("I")


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
        while end - at >= WORD:
            word = word_at(at)
            memcpy(to, &word, WORD)
            flags = 0x8080808080808080u & (
                zero_bytes(word ^ 0x0909090909090909u) | zero_bytes(word ^ 0x5C5C5C5C5C5C5C5Cu)
            )
            step = first_flagged(flags) if flags else WORD
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


cdef uint8_t *_put_row(bytes line, Py_ssize_t columns, uint8_t *to) except NULL:
    """Write the body of a line's row at ``to``; where it ends."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(line)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(line) - 1
    cdef Py_ssize_t i
    if end < at or end[0] != c'\n':
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


def bodies(lines, Py_ssize_t columns):
    # A tuple: nobody can change it meanwhile, so there is the room that is counted here.
    cdef tuple found = tuple(lines)
    cdef Py_ssize_t count = len(found), room = WORD, i
    cdef array.array ends = array.clone(_ENDS, count, zero=False)
    cdef PyObject *body
    cdef uint8_t *start
    cdef uint8_t *to
    cdef bytes line
    if not 0 <= columns <= 0xFFFF:
        raise ValueError("a row has at most 65,535 columns")
    for line in found:
        if line is None:
            raise TypeError("a line is bytes")
        room += _HEAD + _KIND_AND_LENGTH * columns + PyBytes_GET_SIZE(line)
    body = new_bytes(NULL, room)
    try:
        start = to = <uint8_t *> data_of(body)
        for i in range(count):
            to = _put_row(<bytes> found[i], columns, to)
            if to - start > 0xFFFFFFFF:
                raise OverflowError("a batch's body has less than 4 GiB")
            ends.data.as_uints[i] = to - start
        resize(&body, to - start)
        return <bytes> body, ends
    finally:
        Py_XDECREF(body)
