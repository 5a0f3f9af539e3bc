"""Text in a growing buffer, and values written into it as JSON; what the compiled modules share.

JSON is written as the plain functions of `ensign_core.formats.values` write it: strings with the
escapes of Python's own encoder, base64 of RFC 4648, section 4.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *, Py_ssize_t size) except NULL
    char *data_of "PyBytes_AS_STRING" (PyObject *data) noexcept
    int resize "_PyBytes_Resize" (PyObject **data, Py_ssize_t size) except -1

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    /* A hint that counts for large texts only (madvise(2), MADV_HUGEPAGE), as NumPy gives it for
       its arrays: else a page fault for each 4 KiB costs as much as writing the lines. */
    static inline void prefer_huge_pages(char *data, Py_ssize_t size) {
    #ifdef MADV_HUGEPAGE
        Py_ssize_t before = 4096 - (uintptr_t) data % 4096;
        if (size >= (Py_ssize_t) 1 << 22)
            (void) madvise(data + before, (size_t) (size - before), MADV_HUGEPAGE);
    #endif
    }
    """
    void prefer_huge_pages(char *data, Py_ssize_t size) noexcept

cdef struct Text:
    char *data
    Py_ssize_t size
    Py_ssize_t room
    # Holds the data if it is to become an object of Python without being copied, else NULL.
    PyObject *bytes


cdef inline int make_room(Text *text, Py_ssize_t more) except -1:
    """Whoever writes behind ``size`` has asked for the room here."""
    return 0 if text.room - text.size >= more else grow(text, more)


cdef inline int grow(Text *text, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = text.size + more
    cdef char *data
    room += room >> 1
    if text.bytes != NULL:
        # What fails here leaves no object behind.
        text.data, text.room = NULL, 0
        resize(&text.bytes, room)
        data = data_of(text.bytes)
        prefer_huge_pages(data, room)
    else:
        data = <char *> realloc(text.data, room)
        if data == NULL:
            raise MemoryError
    text.data = data
    text.room = room
    return 0


cdef inline int hold_in_bytes(Text *text, Py_ssize_t room) except -1:
    """Begin a text that `taken` takes."""
    text.bytes = new_bytes(NULL, room)
    text.data, text.room = data_of(text.bytes), room
    return 0


cdef inline bytes taken(Text *text):
    """What was written, which is then gone from here."""
    cdef PyObject *found = text.bytes
    text.data, text.bytes, text.room = NULL, NULL, 0
    resize(&found, text.size)
    text.size = 0
    result = <bytes> found
    Py_DECREF(result)
    return result


cdef inline void release(Text *text) noexcept:
    if text.bytes != NULL:
        Py_CLEAR(text.bytes)
    else:
        free(text.data)
    text.data = NULL
    text.size = text.room = 0


cdef inline int put(Text *text, const void *data, Py_ssize_t size) except -1:
    make_room(text, size)
    memcpy(text.data + text.size, data, size)
    text.size += size
    return 0


cdef inline int put_bytes(Text *text, bytes data) except -1:
    return put(text, <const char *> data, len(data))


cdef inline int put_byte(Text *text, char byte) except -1:
    make_room(text, 1)
    text.data[text.size] = byte
    text.size += 1
    return 0


cdef inline int put_number(Text *text, uint64_t number) except -1:
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = c'0' + <char> (number % 10)
        number //= 10
        if number == 0:
            return put(text, digits + at, 20 - at)


cdef inline int put_padded(Text *text, uint64_t number, int width) except -1:
    """``number``, which has at most ``width`` digits, with zeros before it."""
    cdef int at
    make_room(text, width)
    for at in range(width - 1, -1, -1):
        text.data[text.size + at] = c'0' + <char> (number % 10)
        number //= 10
    text.size += width
    return 0


# Eight bytes at a time ("Bit Twiddling Hacks", "Determine if a word has a byte less than n"):
# whether any of them meets a condition, exactly; which one is then looked up byte by byte.
cdef enum:
    WORD = 8

cdef inline uint64_t word_at(const uint8_t *at) noexcept:
    cdef uint64_t word
    memcpy(&word, at, WORD)
    return word


cdef inline uint64_t zero_bytes(uint64_t word) noexcept:
    return (word - 0x0101010101010101u) & ~word


cdef inline uint64_t escapes_in(uint64_t word) noexcept:
    """Bit 7 of some byte is set if a byte below 0x80 must be escaped in a JSON string."""
    return 0x8080808080808080u & (
        ((word - 0x2020202020202020u) & ~word)
        | zero_bytes(word ^ 0x2222222222222222u)
        | zero_bytes(word ^ 0x5C5C5C5C5C5C5C5Cu)
    )


cdef inline uint64_t breaks_in(uint64_t word) noexcept:
    """Bit 7 of some byte is set if a byte below 0x80 is a line break."""
    return 0x8080808080808080u & (
        zero_bytes(word ^ 0x0A0A0A0A0A0A0A0Au) | zero_bytes(word ^ 0x0D0D0D0D0D0D0D0Du)
    )


cdef inline uint64_t unclean(uint64_t word, bint quoted) noexcept:
    """Not 0 if not all bytes are ASCII that goes as it is into a JSON string or, if not
    ``quoted``, into a line."""
    return (word & 0x8080808080808080u) | (escapes_in(word) if quoted else breaks_in(word))


cdef inline bint copied(char *to, const uint8_t *data, Py_ssize_t size, bint quoted) noexcept:
    """Copy ``size`` bytes while they are clean; whether all were. There is room for ``WORD`` bytes
    at least, and what is behind ``size`` may be written over."""
    cdef uint64_t word
    cdef uint32_t first, last
    cdef Py_ssize_t at = 0
    if size >= WORD:
        while size - at >= WORD:
            word = word_at(data + at)
            if unclean(word, quoted):
                return False
            memcpy(to + at, &word, WORD)
            at += WORD
        # The last bytes once more, with some before them.
        word = word_at(data + size - WORD)
        memcpy(to + size - WORD, &word, WORD)
        return not unclean(word, quoted)
    # What stands for the bytes that are not there is clean.
    if size >= 4:
        memcpy(&first, data, 4)
        memcpy(&last, data + size - 4, 4)
        memcpy(to, &first, 4)
        memcpy(to + size - 4, &last, 4)
        return not unclean(<uint64_t> last << 32 | first, quoted)
    word = 0x3030303030303030u
    for at in range(size):
        to[at] = data[at]
        word = word << 8 | data[at]
    return not unclean(word, quoted)


cdef inline bint must_escape(uint8_t byte) noexcept:
    return byte < 0x20 or byte == c'"' or byte == c'\\'


cdef inline Py_ssize_t ascii_span(const uint8_t *data, Py_ssize_t size) noexcept:
    """How many bytes from the start are ASCII."""
    cdef Py_ssize_t at = 0
    while size - at >= WORD and not word_at(data + at) & 0x8080808080808080u:
        at += WORD
    while at < size and data[at] < 0x80:
        at += 1
    return at


cdef inline Py_ssize_t unescaped_span(const uint8_t *data, Py_ssize_t size) noexcept:
    """How many bytes from the start need no escape."""
    cdef Py_ssize_t at = 0
    while size - at >= WORD and not escapes_in(word_at(data + at)):
        at += WORD
    while at < size and not must_escape(data[at]):
        at += 1
    return at


cdef inline bint is_utf8(const uint8_t *data, Py_ssize_t size) noexcept:
    """By the table of well-formed byte sequences of the Unicode Standard (table 3-7)."""
    cdef Py_ssize_t at = 0, more, i
    cdef uint8_t byte, low, high
    while True:
        at += ascii_span(data + at, size - at)
        if at == size:
            return True
        byte = data[at]
        low, high = 0x80, 0xBF
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
            low = 0xA0 if byte == 0xE0 else 0x80
            high = 0x9F if byte == 0xED else 0xBF
        elif 0xF0 <= byte <= 0xF4:
            more = 3
            low = 0x90 if byte == 0xF0 else 0x80
            high = 0x8F if byte == 0xF4 else 0xBF
        else:
            return False
        if size - at <= more or not low <= data[at + 1] <= high:
            return False
        for i in range(2, more + 1):
            if data[at + i] & 0xC0 != 0x80:
                return False
        at += more + 1


cdef inline int put_escape(Text *text, uint8_t byte) except -1:
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef char short = 0
    if byte == c'"' or byte == c'\\':
        short = byte
    elif byte == c'\n':
        short = c'n'
    elif byte == c'\r':
        short = c'r'
    elif byte == c'\t':
        short = c't'
    elif byte == c'\b':
        short = c'b'
    elif byte == c'\f':
        short = c'f'
    put_byte(text, c'\\')
    if short:
        return put_byte(text, short)
    put(text, b"u00", 3)
    put_byte(text, hexadecimal[byte >> 4])
    return put_byte(text, hexadecimal[byte & 15])


cdef inline int put_string(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """UTF-8 as a JSON string."""
    cdef Py_ssize_t span
    put_byte(text, c'"')
    while True:
        span = unescaped_span(data, size)
        put(text, data, span)
        if span == size:
            return put_byte(text, c'"')
        put_escape(text, data[span])
        data += span + 1
        size -= span + 1


cdef inline int put_base64(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """Bytes as base64 in a JSON string."""
    cdef const char *digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef char *to
    cdef uint8_t first, second, third
    make_room(text, (size + 2) // 3 * 4 + 2)
    to = text.data + text.size
    to[0] = c'"'
    to += 1
    while size > 0:
        first = data[0]
        second = data[1] if size > 1 else 0
        third = data[2] if size > 2 else 0
        to[0] = digits[first >> 2]
        to[1] = digits[(first & 3) << 4 | second >> 4]
        to[2] = digits[(second & 15) << 2 | third >> 6] if size > 1 else c'='
        to[3] = digits[third & 63] if size > 2 else c'='
        to += 4
        data += 3
        size -= 3
    to[0] = c'"'
    text.size = to + 1 - text.data
    return 0


cdef inline int put_undecodable(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """Bytes in a place where text is expected."""
    put(text, b'{"base64":', 10)
    put_base64(text, data, size)
    return put_byte(text, c'}')
