"""A stand-in until the real module is merged: the oracle's decoder."""

from libc.stdint cimport uint8_t

from ensign_core.rows.text cimport Text, put_bytes


cdef int put_json(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    raise ValueError("no JSON yet")


cdef int put_json_patched(
    Text *text, const uint8_t *old, Py_ssize_t old_size, const uint8_t *diff, Py_ssize_t diff_size
) except -1:
    raise ValueError("no JSON yet")
