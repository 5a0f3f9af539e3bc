"""The scalars of MySQL's binary JSON."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ensign_core.rows.text cimport Text, put_byte, put_number


cdef inline uint64_t little_endian(const uint8_t *at, int size) noexcept:
    cdef uint64_t bits = 0
    cdef int index
    for index in range(size):
        bits |= <uint64_t> at[index] << 8 * index
    return bits


cdef inline int put_signed(Text *text, int64_t number) except -1:
    if number >= 0:
        return put_number(text, number)
    put_byte(text, c'-')
    return put_number(text, 0 - <uint64_t> number)


cdef int put_double(Text *text, uint64_t bits) except -1
cdef int put_opaque(Text *text, uint8_t type, const uint8_t *data, Py_ssize_t size) except -1
