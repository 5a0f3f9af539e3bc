cimport cython
from libc.stdint cimport uint8_t

from ensign_core.rows.text cimport Text, make_room

cdef enum Code:
    # What is done with the bytes of a column.
    SIGNED
    UNSIGNED
    FLOAT
    DOUBLE
    DECIMAL
    YEAR
    DATE
    OLD_TIME
    TIME
    OLD_DATETIME
    DATETIME
    OLD_TIMESTAMP
    TIMESTAMP
    COPIED_TEXT
    TEXT
    BYTES
    COMPRESSED
    BITS
    ENUM
    SET
    JSON
    VECTOR
    UUID
    INET4
    INET6

cdef enum Conversion:
    # Of a charset's bytes to UTF-8: none, each byte by itself, or by Python.
    COPIED
    BY_LETTER
    BY_PYTHON
    # Bytes, not text.
    NO_TEXT

cdef struct Letter:
    # What a byte of a charset of 8 bits is in UTF-8; of size 0 if it stands for nothing.
    uint8_t size
    char text[7]

cdef struct Piece:
    # Bytes that are owned elsewhere.
    const char *data
    Py_ssize_t size

cdef struct Field:
    Code code
    Conversion conversion
    # Bytes of the length before the value; if 0, ``size`` are those of the value. Of a value with
    # ``padded``, ``size`` is what it is padded to with zero bytes.
    int prefix
    Py_ssize_t size
    bint padded
    # Digits of a second's fraction or of a decimal's; ``digits`` are all of a decimal's, or bits.
    int scale
    int digits
    bint kept
    bint in_key
    # The bytes are ASCII wherever they are below 0x80.
    bint ascii
    Letter *letters
    Piece *labels
    Py_ssize_t label_count
    Py_ssize_t index


@cython.final
cdef class Fields:
    cdef Field *all
    cdef Py_ssize_t count
    cdef Py_ssize_t kept
    cdef Py_ssize_t json_count
    cdef tuple charsets
    cdef list owned

    cdef Field *_at(self, Py_ssize_t index) except NULL
    cdef int _make(self, Field *field, column) except -1
    cdef int _make_decimal(self, Field *field, int digits, int scale) except -1
    cdef int _make_large(self, Field *field, column) except -1
    cdef int _make_string(self, Field *field, column) except -1
    cdef int _make_labels(self, Field *field, labels) except -1
    cdef int _make_text(self, Field *field, column, bint compressed) except -1
    cdef int _make_conversion(self, Field *field, charset) except -1
    cdef int put_text(
        self, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
    ) except -1


cdef inline Py_ssize_t begin(Text *text, char kind, Py_ssize_t room) except -1:
    """Kind and length of a column, for `end` to fill in, and room for ``room`` bytes behind them;
    where the value starts."""
    make_room(text, room + 5)
    text.data[text.size] = kind
    text.size += 5
    return text.size


cdef inline int end(Text *text, Py_ssize_t start) except -1:
    """What was written since ``start`` is the value."""
    cdef Py_ssize_t size = text.size - start
    if size > 0xFFFFFFFF:
        raise OverflowError("a value has less than 4 GiB")
    write_length(text.data + start - 4, size)
    return 0


cdef inline void write_length(char *to, Py_ssize_t size) noexcept:
    to[0] = <char> (size >> 24)
    to[1] = <char> (size >> 16 & 255)
    to[2] = <char> (size >> 8 & 255)
    to[3] = <char> (size & 255)


cdef int put_value(Text *text, char kind, const uint8_t *data, Py_ssize_t size) except -1
cdef int put_double(Text *text, double value) except -1
cdef int put_float(Text *text, float value) except -1
cdef int put_bits(Text *text, const Field *field, const uint8_t *data, Py_ssize_t size) except -1
cdef int put_vector(Text *text, const uint8_t *data, Py_ssize_t size) except -1
