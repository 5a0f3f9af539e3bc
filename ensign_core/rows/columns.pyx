"""Single columns of many events; typed for Python in ``columns.pyi``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from ensign_core.rows.layout cimport column_end

from ensign_core.rows.damage import damaged


def columns(batch, bytes ops not None, places):
    cdef const uint8_t[:] batch_ops = batch.ops
    cdef const unsigned short[:] schema_ids = batch.schema_ids
    cdef const unsigned int[:] ends = batch.ends
    cdef bytes body = bytes(batch.body)
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), at = 0, end, index, number
    cdef list found = [], indexes = []
    cdef list wanted = [_wanted(of_schema) for of_schema in places]
    if schema_ids.shape[0] != batch_ops.shape[0] or ends.shape[0] != batch_ops.shape[0]:
        raise damaged()
    for index in range(batch_ops.shape[0]):
        end, number = ends[index], schema_ids[index]
        if end < at or end > size:
            raise damaged()
        if batch_ops[index] in ops:
            if number >= len(wanted):
                raise damaged()
            found.append(_picked(data + at, data + end, <tuple> wanted[number]))
            indexes.append(index)
        at = end
    return found, indexes


cdef tuple _wanted(of_schema):
    """For each column the place of it in the result, or -1, behind the number of results."""
    cdef list slots = [-1] * (max(of_schema, default=-1) + 1)
    for slot, column in enumerate(of_schema):
        if column >= 0:
            slots[column] = slot
    return len(of_schema), bytes([slot & 0xFF for slot in slots])


cdef tuple _picked(const uint8_t *at, const uint8_t *end, tuple wanted):
    """The columns of the row that is the event's only image."""
    cdef list values = [None] * <Py_ssize_t> wanted[0]
    cdef bytes slots = wanted[1]
    cdef const uint8_t *slot = <const uint8_t *> PyBytes_AS_STRING(slots)
    cdef const uint8_t *following
    cdef Py_ssize_t count, i, known = PyBytes_GET_SIZE(slots)
    if end - at < 3 or at[0] != c'N':
        raise damaged()
    count = at[1] << 8 | at[2]
    at += 3
    for i in range(count):
        following = column_end(at, end)
        if following == NULL:
            raise damaged()
        if i < known and slot[i] != 0xFF and (at[0] == c't' or at[0] == c'b'):
            values[slot[i]] = PyBytes_FromStringAndSize(
                <const char *> at + 5, following - at - 5
            )
        at = following
    if at != end or count < known:
        raise damaged()
    return tuple(values)
