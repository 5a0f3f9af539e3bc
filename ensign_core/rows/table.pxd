cimport cython
from libc.stdint cimport int64_t, uint8_t

from ensign_core.rows.text cimport Text

cdef enum:
    # Which images an event has; KEY_ONLY beside OLD.
    OLD = 1
    NEW = 2
    KEY_ONLY = 4

cdef struct Piece:
    # Bytes that are owned elsewhere.
    const char *data
    Py_ssize_t size

cdef struct Cell:
    # A column's name and value within an image's text; both are the same for a gap.
    Py_ssize_t start
    Py_ssize_t end


@cython.final
cdef class Image:
    cdef Text text
    cdef Cell *cells
    cdef Py_ssize_t columns
    cdef Py_ssize_t gaps

    cdef int begin(self, Py_ssize_t columns) except -1
    cdef inline bint has(self, Py_ssize_t column) noexcept


@cython.final
cdef class RowTable:
    cdef readonly Py_ssize_t columns
    cdef bytes codes
    cdef bytes in_key
    cdef tuple renders
    cdef tuple owned
    cdef tuple key
    cdef int64_t[:] arguments
    cdef Piece name
    cdef Piece *labels
    cdef Piece *placeholders

    cdef const uint8_t *read(
        self, const uint8_t *at, const uint8_t *end, Image image, bint key_only
    ) except NULL
    cdef inline int put_value(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1
    cdef bint put_usual(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1
    cdef int put_any(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1
    cdef int put_fields(self, Text *text, Image image, Image older, bint whole) except -1
    cdef int put_key(self, Text *text, Image image, Image older) except -1
    cdef int key_changed(self, Image old, Image new) except -1
    cdef int put_gaps(self, Text *text, Image image) except -1


cdef int read_images(
    RowTable table, const uint8_t *at, const uint8_t *end, Image old, Image new
) except -1
