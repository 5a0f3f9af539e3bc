cimport cython
from libc.stdint cimport int64_t, uint8_t

from ensign_core.rows.table cimport Image, RowTable
from ensign_core.rows.text cimport Text


@cython.final
cdef class Texts:
    cdef readonly bytes block
    cdef Text ends


cdef class Lines:
    cdef Text line
    cdef Image old, new
    cdef Texts texts
    cdef list tables, indexes
    cdef tuple marks
    cdef bytes body
    cdef Py_ssize_t count
    cdef int64_t shift
    cdef bint in_run

    cdef int begin_run(self, run) except -1
    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1
    cdef int end_line(self, Py_ssize_t index) except -1
    cdef int walk(self, batch) except -1
    cdef tuple written(self, batch)


cdef int put_image(Text *text, RowTable table, Image image, bint there, bint key_only) except -1
cdef int put_plain(Text *text, str found) except -1
cdef int put_str(Text *text, str found) except -1
