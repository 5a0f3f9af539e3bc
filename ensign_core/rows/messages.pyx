"""What brokers' messages are made of, in bulk; typed for Python in ``messages.pyi``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

from ensign_core.rows.layout cimport column_end

from ensign_core.rows.damage import damaged

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


cdef class _Columns:
    """What `records` gives, as far as it was read."""

    cdef list keys, values, headers, partitions, timestamps, indexes
    cdef bint any_header, any_partition, any_timestamp

    def __cinit__(self):
        self.keys, self.values, self.headers = [], [], []
        self.partitions, self.timestamps, self.indexes = [], [], []

    cdef int add(
        self, Py_ssize_t index, const uint8_t *at, const uint8_t *end, _Places of
    ) except -1:
        """Take in the event whose body, one new image, is ``at`` to ``end``."""
        cdef const uint8_t *slots = <const uint8_t *> PyBytes_AS_STRING(of.slots)
        cdef const uint8_t *following
        cdef Py_ssize_t known = PyBytes_GET_SIZE(of.slots), columns, i, size
        cdef int64_t partition = _UNKNOWN, timestamp = of.timestamp
        key = value = header = None
        if end - at < 3 or at[0] != c'N':
            raise damaged()
        columns = at[1] << 8 | at[2]
        at += 3
        for i in range(columns):
            following = column_end(at, end)
            if following == NULL:
                raise damaged()
            if i < known and slots[i] != _WANTED and (at[0] == c't' or at[0] == c'b'):
                size = following - at - 5
                if slots[i] == _PARTITION:
                    partition = _number(at + 5, size)
                    self.any_partition = True
                elif slots[i] == _TIMESTAMP:
                    timestamp = _number(at + 5, size)
                elif slots[i] == _KEY:
                    key = PyBytes_FromStringAndSize(<const char *> at + 5, size)
                elif slots[i] == _DATA:
                    value = PyBytes_FromStringAndSize(<const char *> at + 5, size)
                else:
                    header = PyBytes_FromStringAndSize(<const char *> at + 5, size)
                    self.any_header = True
            at = following
        if at != end or columns < known:
            raise damaged()
        self.any_timestamp |= timestamp != 0
        self.keys.append(key)
        self.values.append(value)
        self.headers.append(header)
        self.partitions.append(partition)
        self.timestamps.append(timestamp)
        self.indexes.append(index)
        return 0


def records(batch, int op, places):
    cdef const uint8_t[:] ops = batch.ops
    cdef const unsigned short[:] schema_ids = batch.schema_ids
    cdef const uint32_t[:] ends = batch.ends
    cdef bytes body = bytes(batch.body)
    cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), start = 0, index
    cdef list wanted = [_Places(of_schema) for of_schema in places]
    cdef _Columns found = _Columns()
    if schema_ids.shape[0] != ops.shape[0] or ends.shape[0] != ops.shape[0]:
        raise damaged()
    for index in range(ops.shape[0]):
        if not start <= ends[index] <= size:
            raise damaged()
        if ops[index] == op:
            if schema_ids[index] >= PyList_GET_SIZE(wanted):
                raise damaged()
            found.add(
                index, data + start, data + ends[index], <_Places> wanted[schema_ids[index]]
            )
        start = ends[index]
    return (
        found.keys, found.values, found.indexes,
        found.headers if found.any_header else None,
        found.partitions if found.any_partition else None,
        found.timestamps if found.any_timestamp else None,
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
