from libc.stdint cimport uint8_t

from connectors.mysql.fields cimport Field, Fields
from ensign_core.rows.text cimport Text

cdef int put_stored(
    Fields fields, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1
