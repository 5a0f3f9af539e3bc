cimport cython

from ensign_core.rows.text cimport Text


@cython.final
cdef class Gathered:
    cdef Text text
    # Four bytes each: where events end in the text.
    cdef Text ends

    cdef int end_event(self) except -1
    cdef int cut_to(self, Py_ssize_t size, Py_ssize_t ends_size) except -1
