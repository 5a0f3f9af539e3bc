"""Records of Kafka to bodies in the row layout; typed for Python in ``records.pyi``.

A body is what `ensign_core.rows.new_image` makes of a row of `record_schema`. All that is read is
objects of Python with a size of their own; what is written grows as needed.
"""

cimport cython
from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from ensign_core.rows.text cimport (
    Text,
    hold_in_bytes,
    is_utf8,
    put,
    put_byte,
    put_number,
    put_string,
    put_undecodable,
    release,
    taken,
)

from array import array as new_array

cdef array.array _ENDS = new_array("I"), _SCHEMAS = new_array("H")

cdef enum:
    _FIRST_ROOM = 1 << 16
    # RD_KAFKA_RESP_ERR__PARTITION_EOF: where reading has come to the end, control records and what
    # was aborted included.
    _PARTITION_EOF = -191


cdef inline int put_length(Text *text, uint64_t size) except -1:
    cdef char length[4]
    if size > 0x7FFFFFFF:
        raise OverflowError("a column has less than 2 GiB")
    length[0], length[1] = size >> 24, size >> 16 & 255
    length[2], length[3] = size >> 8 & 255, size & 255
    return put(text, length, 4)


cdef inline int put_binary(Text *text, object data) except -1:
    """A column of bytes, or null."""
    if data is None:
        return put_byte(text, c'n')
    put_byte(text, c'b')
    put_length(text, PyBytes_GET_SIZE(<bytes?> data))
    return put(text, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline Py_ssize_t begin_text(Text *text) except -1:
    """Begin a column of text; where it begins."""
    put(text, b"t\0\0\0\0", 5)
    return text.size


cdef inline int end_text(Text *text, Py_ssize_t start) except -1:
    """Write the length before the text that began at ``start``."""
    cdef uint64_t size = text.size - start
    if size > 0x7FFFFFFF:
        raise OverflowError("a column has less than 2 GiB")
    cdef char *at = text.data + start
    at[-4], at[-3] = size >> 24, size >> 16 & 255
    at[-2], at[-1] = size >> 8 & 255, size & 255
    return 0


cdef inline int put_int(Text *text, int64_t number) except -1:
    """A column with an integer as text."""
    cdef Py_ssize_t start = begin_text(text)
    if number < 0:
        put_byte(text, c'-')
        put_number(text, -(<uint64_t> number))
    else:
        put_number(text, number)
    return end_text(text, start)


cdef int put_header_value(Text *text, object value) except -1:
    """A header's value in JSON, as `ensign_core.formats.headers` says."""
    cdef const uint8_t *data
    cdef Py_ssize_t size
    if value is None:
        return put(text, b"null", 4)
    data = <const uint8_t *> PyBytes_AS_STRING(<bytes?> value)
    size = PyBytes_GET_SIZE(value)
    if is_utf8(data, size):
        return put_string(text, data, size)
    return put_undecodable(text, data, size)


cdef int put_headers(Text *text, list headers) except -1:
    """The column of headers."""
    cdef Py_ssize_t start = begin_text(text), size
    cdef const char *data
    cdef bint behind = False
    put_byte(text, c'[')
    for name, value in headers:
        put(text, b",[" if behind else b"[", 2 if behind else 1)
        behind = True
        data = PyUnicode_AsUTF8AndSize(name, &size)
        put_string(text, <const uint8_t *> data, size)
        put_byte(text, c',')
        put_header_value(text, value)
        put_byte(text, c']')
    put_byte(text, c']')
    return end_text(text, start)


cdef object mimetype(list headers):
    """What the header ``content-type`` says, None where there is none that is text."""
    for name, value in headers:
        if value is not None and len(name) == 12 and (<str> name).lower() == "content-type":
            data = <bytes?> value
            if is_utf8(<const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
                return data
    return None


cdef int put_body(Text *text, message, int64_t partition, int64_t offset) except -1:
    """The body of one record."""
    cdef object headers = message.headers()
    cdef tuple timestamp = message.timestamp()
    cdef Py_ssize_t start
    put(text, b"N\0\x09", 3)
    put_binary(text, message.key())
    put_binary(text, message.value())
    put_byte(text, c'n')
    kind = mimetype(headers) if headers else None
    if kind is None:
        put_byte(text, c'n')
    else:
        start = begin_text(text)
        put(text, PyBytes_AS_STRING(kind), PyBytes_GET_SIZE(kind))
        end_text(text, start)
    put_byte(text, c'n')
    if headers:
        put_headers(text, headers)
    else:
        put_byte(text, c'n')
    put_int(text, partition)
    put_int(text, offset)
    # 0 is RD_KAFKA_TIMESTAMP_NOT_AVAILABLE, and -1 what stands in its place in a record.
    if <int> timestamp[0] == 0 or <int64_t> timestamp[1] == -1:
        return put_byte(text, c'n')
    return put_int(text, timestamp[1])


@cython.final
cdef class _Place:
    """Of a call: the topic and partition of the last record, and what comes next there."""
    cdef dict nexts
    cdef dict schemas
    cdef dict partitions
    cdef str topic
    cdef int64_t partition, following
    cdef int known

    def __cinit__(self, dict nexts):
        self.nexts = nexts
        self.schemas = {}
        self.partition = -1
        self.known = -1

    cdef int leave(self) except -1:
        """Write down what comes next where the records are from."""
        if self.partition >= 0:
            self.partitions[self.partition] = self.following
        return 0

    cdef int enter(self, str topic, int64_t partition) except -1:
        self.leave()
        if self.topic is None or topic != self.topic:
            self.topic = topic
            self.partitions = <dict?> self.nexts[topic]
            self.known = -1
        self.partition = partition
        self.following = self.partitions[partition]
        return 0

    cdef inline int schema(self) except -1:
        """The topic's index among those of the call's records."""
        if self.known < 0:
            self.known = self.schemas.setdefault(self.topic, len(self.schemas))
        return self.known


def bodies(list messages, Py_ssize_t start, Py_ssize_t bytes_max, dict nexts):
    cdef Py_ssize_t count = len(messages), at = start, events = 0
    cdef array.array ends = array.clone(_ENDS, count - start, zero=False)
    cdef array.array schemas = array.clone(_SCHEMAS, count - start, zero=False)
    cdef _Place place = _Place(nexts)
    cdef int64_t partition, offset
    cdef Text text
    memset(&text, 0, sizeof(text))
    hold_in_bytes(&text, _FIRST_ROOM)
    try:
        while at < count and text.size < bytes_max:
            message = messages[at]
            failed = message.error()
            if failed is not None and <int> failed.code() != _PARTITION_EOF:
                break
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if partition != place.partition or <str> topic != place.topic:
                place.enter(topic, partition)
            if offset < place.following:
                break
            at += 1
            if failed is not None:
                place.following = offset
                continue
            put_body(&text, message, partition, offset)
            if text.size > 0xFFFFFFFF:
                raise OverflowError("a batch's body has less than 4 GiB")
            ends.data.as_uints[events] = text.size
            schemas.data.as_ushorts[events] = place.schema()
            place.following = offset + 1
            events += 1
        place.leave()
        array.resize(ends, events)
        array.resize(schemas, events)
        return at, list(place.schemas), schemas, ends, taken(&text)
    finally:
        release(&text)
