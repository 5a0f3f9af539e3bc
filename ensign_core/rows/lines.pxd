cimport cython
from libc.stdint cimport int64_t, uint8_t

from ensign_core.rows.table cimport Image, RowTable
from ensign_core.rows.text cimport Text


@cython.final
cdef class Texts:
    cdef readonly bytes block
    cdef Text ends


cdef class Lines:
    cdef Text line, key
    cdef Image old, new
    cdef Texts texts
    cdef list tables, indexes, keys, values
    cdef bytearray deletes
    cdef object event_key
    cdef bytes own_key
    cdef tuple marks
    cdef bytes body
    cdef Py_ssize_t count
    cdef int64_t shift
    cdef bint in_run, gone

    cdef int begin_run(self, run) except -1
    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1
    cdef int name_row(self, RowTable table, int found) except -1
    cdef int name_key(self, RowTable table, Image image, Image older) except -1
    cdef int note_key(self, const char *key, Py_ssize_t size) except -1
    cdef int leave_old_key(
        self, Py_ssize_t index, int op, RowTable table, int found
    ) except -1
    cdef bytes noted_key(self)
    cdef int end_line(self, Py_ssize_t index) except -1
    cdef int end_message(self, Py_ssize_t index, bytes key, bytes value) except -1
    cdef int walk(self, batch) except -1
    cdef tuple written(self, batch)
    cdef tuple sent(self, batch, event_key)


cdef int put_image(Text *text, RowTable table, Image image, bint there, bint key_only) except -1
cdef int put_plain(Text *text, str found) except -1
cdef int put_str(Text *text, str found) except -1
cdef int put_instant(Text *text, int64_t us) except -1
