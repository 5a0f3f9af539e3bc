"""UUID, INET4 and INET6 of MariaDB as the server's text; each at most `ADDRESS_TEXT` bytes."""

from libc.stdint cimport uint8_t

from connectors.mysql.digits cimport write_number

cdef enum:
    ADDRESS_TEXT = 48
    _WORDS = 8


cdef inline char *write_uuid(char *to, const uint8_t *data) noexcept:
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef int i
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            to[0] = c'-'
            to += 1
        to[0] = hexadecimal[data[i] >> 4]
        to[1] = hexadecimal[data[i] & 15]
        to += 2
    return to


cdef inline char *write_inet4(char *to, const uint8_t *data) noexcept:
    cdef int i
    for i in range(4):
        if i:
            to[0] = c'.'
            to += 1
        to = write_number(to, data[i])
    return to


cdef inline char *write_inet6(char *to, const uint8_t *data) noexcept:
    """As ``Inet6::to_string`` of MariaDB: the first of the longest runs of zeros is left out, be it
    one zero only, and what looks like an IPv4 address in it is written as one."""
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef int gap = _WORDS, gap_size = 0, start = 0, i = 0, shift
    cdef unsigned int word
    for i in range(_WORDS):
        if data[2 * i] or data[2 * i + 1]:
            start = i + 1
        elif i + 1 - start > gap_size:
            gap, gap_size = start, i + 1 - start
    i = 0
    while i < _WORDS:
        if i == gap:
            if i == 0:
                to[0] = c':'
                to += 1
            to[0] = c':'
            to += 1
            i += gap_size
            continue
        if i == 6 and gap == 0 and (
            gap_size == 6 or (gap_size == 5 and data[10] == 0xFF and data[11] == 0xFF)
        ):
            return write_inet4(to, data + 12)
        word = data[2 * i] << 8 | data[2 * i + 1]
        shift = 12
        while shift and not word >> shift:
            shift -= 4
        while shift >= 0:
            to[0] = hexadecimal[word >> shift & 15]
            to += 1
            shift -= 4
        i += 1
        if i < _WORDS:
            to[0] = c':'
            to += 1
    return to
