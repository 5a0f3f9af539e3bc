cimport cython
from libc.stdint cimport uint8_t

from ensign_core.rows.text cimport Text


@cython.final
cdef class EventTable:
    cdef bytes codes
    cdef tuple labels
    cdef Py_ssize_t mimetype

    cdef bint put(
        self, Text *text, const uint8_t *at, const uint8_t *end, bytes before, bytes between,
        bytes behind,
    ) except -1
