"""Records of Kafka to bodies in the row layout; typed for Python in ``records.pyi``.

A body is what `ensign_core.rows.new_image` makes of a row of `record_schema`. All that is read is
objects of Python with a size of their own; what is written grows as needed.
"""

cimport cython
from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from ensign_core.rows.text cimport (
    Text,
    hold_in_bytes,
    is_utf8,
    make_room,
    prefer_huge_pages,
    put,
    put_byte,
    put_string,
    put_undecodable,
    release,
    taken,
)

from array import array as new_array

cdef array.array _ENDS = new_array("I"), _SCHEMAS = new_array("H")

cdef enum:
    _FIRST_ROOM = 1 << 16
    _MANY = 1000
    # A column's kind and length.
    _HEAD = 5
    # What a body has beside its bytes and headers: at most 3 bytes, 9 heads, 3 integers of 20.
    _FIXED_ROOM = 3 + 9 * _HEAD + 3 * 20
    # RD_KAFKA_RESP_ERR__PARTITION_EOF: where reading has come to the end, control records and what
    # was aborted included.
    _PARTITION_EOF = -191


cdef inline char *put_length(char *to, uint64_t size) noexcept:
    to[0], to[1] = size >> 24, size >> 16 & 255
    to[2], to[3] = size >> 8 & 255, size & 255
    return to + 4


cdef inline char *put_value(char *to, char kind, const char *data, Py_ssize_t size) noexcept:
    """A column, for which there is room."""
    to[0] = kind
    to = put_length(to + 1, size)
    memcpy(to, data, size)
    return to + size


cdef inline char *put_data(char *to, object data) noexcept:
    """A column of bytes, or null."""
    if data is None:
        to[0] = c'n'
        return to + 1
    return put_value(to, c'b', PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline char *put_int(char *to, int64_t number) noexcept:
    """A column with an integer as text, 20 characters at most."""
    cdef char digits[20]
    cdef int at = 20
    cdef uint64_t left = -(<uint64_t> number) if number < 0 else number
    while True:
        at -= 1
        digits[at] = c'0' + <char> (left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        at -= 1
        digits[at] = c'-'
    return put_value(to, c't', digits + at, 20 - at)


cdef inline Py_ssize_t size_of(object data) except -1:
    """Of bytes or None, which a column can hold."""
    cdef Py_ssize_t size = 0 if data is None else PyBytes_GET_SIZE(<bytes?> data)
    if size > 0x7FFFFFFF:
        raise OverflowError("a column has less than 2 GiB")
    return size


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
    cdef Py_ssize_t start = text.size + _HEAD, size
    cdef const char *data
    cdef bint behind = False
    put(text, b"t\0\0\0\0[", _HEAD + 1)
    for name, value in headers:
        put(text, b",[" if behind else b"[", 2 if behind else 1)
        behind = True
        data = PyUnicode_AsUTF8AndSize(name, &size)
        put_string(text, <const uint8_t *> data, size)
        put_byte(text, c',')
        put_header_value(text, value)
        put_byte(text, c']')
    put_byte(text, c']')
    size = text.size - start
    if size > 0x7FFFFFFF:
        raise OverflowError("a column has less than 2 GiB")
    put_length(text.data + start - 4, size)
    return 0


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
    cdef object key = message.key(), value = message.value(), headers = message.headers()
    cdef object kind = mimetype(headers) if headers else None
    cdef tuple timestamp = message.timestamp()
    cdef int64_t timestamp_ms = timestamp[1]
    cdef char *to
    make_room(text, size_of(key) + size_of(value) + size_of(kind) + _FIXED_ROOM)
    to = text.data + text.size
    to[0], to[1], to[2] = c'N', 0, 9
    to = put_data(put_data(to + 3, key), value)
    to[0] = c'n'
    if kind is None:
        to[1] = c'n'
        to += 2
    else:
        to = put_value(to + 1, c't', PyBytes_AS_STRING(kind), PyBytes_GET_SIZE(kind))
    to[0] = c'n'
    to += 1
    if headers:
        text.size = to - text.data
        put_headers(text, headers)
        make_room(text, _FIXED_ROOM)
        to = text.data + text.size
    else:
        to[0] = c'n'
        to += 1
    to = put_int(put_int(to, partition), offset)
    # 0 is RD_KAFKA_TIMESTAMP_NOT_AVAILABLE, and -1 what stands in its place in a record.
    if timestamp_ms == -1 or <int> timestamp[0] == 0:
        to[0] = c'n'
        to += 1
    else:
        to = put_int(to, timestamp_ms)
    text.size = to - text.data
    return 0


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
    # Many messages fill a batch: growing step by step would cost as much as writing it.
    hold_in_bytes(&text, _FIRST_ROOM + (bytes_max if count - start >= _MANY else 0))
    prefer_huge_pages(text.data, text.room)
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
