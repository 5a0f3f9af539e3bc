"""The columns of messages in bulk; typed for Python in ``messages.pyi``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

from ensign_core.rows.layout cimport column_end

from ensign_core.rows import damaged

cdef enum:
    _KEY = 0
    _DATA = 1
    _HEADERS = 2
    _PARTITION = 3
    _TIMESTAMP = 4
    _WANTED = 5
    _DIGITS_MAX = 18
    _UNKNOWN = -1


cdef class _Places:
    """Which columns of a schema's rows are wanted: ``slots[i]`` is one of the above, or
    ``_WANTED``."""

    cdef bytes slots
    cdef int64_t timestamp

    def __cinit__(self, places):
        slots = bytearray([_WANTED]) * (max(places) + 1)
        for slot, column in enumerate(places):
            if column >= 0:
                slots[column] = slot
        self.slots = bytes(slots)
        # A record without one stays without; an event that knows of none gets the time of the call.
        self.timestamp = _UNKNOWN if places[_TIMESTAMP] >= 0 else 0


cdef int64_t _number(const uint8_t *at, Py_ssize_t size) except? -2:
    """Decimal text, as sources write partitions and milliseconds."""
    cdef int64_t found = 0
    cdef bint negative = size > 0 and at[0] == c'-'
    cdef Py_ssize_t i
    if not 0 < size - negative <= _DIGITS_MAX:
        raise damaged()
    for i in range(negative, size):
        if not c'0' <= at[i] <= c'9':
            raise damaged()
        found = found * 10 + (at[i] - c'0')
    return -found if negative else found


def records(batch, int op, places):
    cdef const uint8_t[:] ops = batch.ops
    cdef const unsigned short[:] schema_ids = batch.schema_ids
    cdef const uint32_t[:] ends = batch.ends
    cdef bytes body = bytes(batch.body)
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef const uint8_t *row_end
    cdef const uint8_t *at
    cdef const uint8_t *following
    cdef const uint8_t *slots
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), start = 0, index, columns, known, i, length
    cdef int64_t partition, timestamp
    cdef uint8_t slot
    cdef list wanted = [_Places(of_schema) for of_schema in places]
    cdef list keys = [], values = [], headers = [], partitions = [], timestamps = [], indexes = []
    cdef bint any_header = False, any_partition = False, any_timestamp = False
    cdef _Places of
    if schema_ids.shape[0] != ops.shape[0] or ends.shape[0] != ops.shape[0]:
        raise damaged()
    for index in range(ops.shape[0]):
        if not start <= ends[index] <= size:
            raise damaged()
        at, row_end = data + start, data + ends[index]
        start = ends[index]
        if ops[index] != op:
            continue
        if schema_ids[index] >= PyList_GET_SIZE(wanted) or row_end - at < 3 or at[0] != c'N':
            raise damaged()
        of = <_Places> wanted[schema_ids[index]]
        slots, known = <const uint8_t *> PyBytes_AS_STRING(of.slots), PyBytes_GET_SIZE(of.slots)
        columns = at[1] << 8 | at[2]
        at += 3
        key = value = header = None
        partition, timestamp = _UNKNOWN, of.timestamp
        for i in range(columns):
            following = column_end(at, row_end)
            if following == NULL:
                raise damaged()
            slot = slots[i] if i < known else <uint8_t> _WANTED
            if slot != _WANTED and (at[0] == c't' or at[0] == c'b'):
                length = following - at - 5
                if slot == _DATA:
                    value = PyBytes_FromStringAndSize(<const char *> at + 5, length)
                elif slot == _KEY:
                    key = PyBytes_FromStringAndSize(<const char *> at + 5, length)
                elif slot == _HEADERS:
                    header = PyBytes_FromStringAndSize(<const char *> at + 5, length)
                    any_header = True
                elif slot == _PARTITION:
                    partition = _number(at + 5, length)
                    any_partition = True
                else:
                    timestamp = _number(at + 5, length)
            at = following
        if at != row_end or columns < known:
            raise damaged()
        any_timestamp |= timestamp != 0
        keys.append(key)
        values.append(value)
        headers.append(header)
        partitions.append(partition)
        timestamps.append(timestamp)
        indexes.append(index)
    return (
        keys, values, indexes,
        headers if any_header else None,
        partitions if any_partition else None,
        timestamps if any_timestamp else None,
    )


def largest(keys, values):
    cdef Py_ssize_t found = 0, size
    for key, value in zip(keys, values):
        size = 0
        if key is not None:
            size += PyBytes_GET_SIZE(<bytes?> key)
        if value is not None:
            size += PyBytes_GET_SIZE(<bytes?> value)
        if size > found:
            found = size
    return found
