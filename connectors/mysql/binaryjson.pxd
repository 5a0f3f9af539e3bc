"""Binary JSON of MySQL to the server's text, for the modules that write rows."""

from libc.stdint cimport uint8_t

from ensign_core.rows.text cimport Text


cdef int put_json(Text *text, const uint8_t *data, Py_ssize_t size) except -1
cdef int put_json_patched(
    Text *text, const uint8_t *old, Py_ssize_t old_size, const uint8_t *diff, Py_ssize_t diff_size
) except -1
