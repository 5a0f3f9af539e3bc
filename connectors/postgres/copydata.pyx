"""Rows of a COPY TO STDOUT, many in one call; typed for Python in ``copydata.pyi``.

libpq's functions are called by their addresses (`connectors.postgres.receiving` finds them): what
is compiled here is linked to no libpq of its own.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize

ctypedef int (*get_copy_data)(void *conn, char **buffer, int no_wait) noexcept
ctypedef void (*free_memory)(void *buffer) noexcept


def receive(size_t conn, size_t get, size_t free, Py_ssize_t bytes_max):
    """Rows that have arrived, until there are ``bytes_max`` bytes of them; their bytes; and what
    PQgetCopyData returned last (libpq documentation, "Functions for Receiving COPY Data"): the
    length of a row, 0 when no more have arrived, -1 at the end, -2 for an error."""
    cdef char *buffer = NULL
    cdef int count = 0
    cdef Py_ssize_t size = 0
    rows = []
    while size < bytes_max:
        count = (<get_copy_data>get)(<void *>conn, &buffer, 1)
        if count <= 0:
            break
        try:
            rows.append(PyBytes_FromStringAndSize(buffer, count))
        finally:
            (<free_memory>free)(buffer)
        size += count
    return rows, size, count
