"""Published events as rows, and as JSON; typed for Python in ``published.pyi``. JSON of what events
are mostly like is written here, all else by the plain functions of `ensign_core.formats.events`,
which also say what is right: both write the same bytes."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

from ensign_core.rows.layout cimport column_end
from ensign_core.rows.members cimport is_json
from ensign_core.rows.text cimport (
    Text,
    hold_in_bytes,
    is_utf8,
    make_room,
    put,
    put_byte,
    put_bytes,
    put_string,
    release,
    taken,
)

from array import array

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    # As in ``published.pyi``.
    _STRING = 0
    _RAW = 1
    _ONE_LINE = 2
    _PAYLOAD = 3
    _MIMETYPE = 4

STRING, RAW, ONE_LINE, PAYLOAD, MIMETYPE = _STRING, _RAW, _ONE_LINE, _PAYLOAD, _MIMETYPE


@cython.final
cdef class EventTable:
    def __cinit__(self, bytes codes not None, labels):
        self.codes = codes
        self.labels = tuple(labels)
        self.mimetype = codes.find(_MIMETYPE)
        if len(self.labels) != len(codes) or not all(type(x) is bytes for x in self.labels):
            raise ValueError("a column has a code and a label")

    cdef bint put(
        self, Text *text, const uint8_t *at, const uint8_t *end, bytes before, bytes between,
        bytes behind,
    ) except -1:
        """Write the key and the object of the other columns; nothing, and False, for an event that
        is not as most are."""
        cdef Py_ssize_t columns = PyBytes_GET_SIZE(self.codes), column, start = text.size
        cdef const uint8_t *first
        cdef const uint8_t *following
        cdef const uint8_t *mimetype = NULL
        cdef const char *codes = PyBytes_AS_STRING(self.codes)
        if end - at < 3 or at[0] != c'N' or (at[1] << 8 | at[2]) != columns:
            return False
        first = at = at + 3
        for column in range(columns):
            if column == self.mimetype:
                mimetype = at
            at = column_end(at, end)
            if at == NULL:
                return False
        if at != end:
            return False
        at = first
        put_bytes(text, before)
        for column in range(columns):
            following = column_end(at, end)
            if column == 1:
                put_bytes(text, between)
            elif column > 1:
                put_byte(text, c',')
            if column:
                put_bytes(text, <bytes> self.labels[column])
            if not _put_value(text, codes[column], at, following, mimetype, not column):
                text.size = start
                return False
            at = following
        put_bytes(text, behind)
        return True


cdef bint _put_value(
    Text *text, int code, const uint8_t *at, const uint8_t *end, const uint8_t *mimetype, bint key
) except -1:
    cdef const uint8_t *value = at + 5
    cdef Py_ssize_t size = end - value
    if at[0] == c'n':
        put(text, b"null", 4)
        return True
    if at[0] == c'u' or not is_utf8(value, size):
        return False
    if code == _PAYLOAD:
        return _put_payload(text, value, size, mimetype)
    if at[0] != c't' and not key:
        return False
    if code == _STRING or code == _MIMETYPE:
        put_string(text, value, size)
        return True
    if size == 0:
        return False
    return _put_one_line(text, value, size)


cdef bint _put_one_line(Text *text, const uint8_t *value, Py_ssize_t size) except -1:
    if memchr(value, c'\n', size) != NULL or memchr(value, c'\r', size) != NULL:
        return False
    put(text, value, size)
    return True


cdef bint _put_payload(
    Text *text, const uint8_t *value, Py_ssize_t size, const uint8_t *mimetype
) except -1:
    cdef Py_ssize_t length
    cdef bint embed
    if mimetype == NULL or mimetype[0] == c'n':
        if size == 0 or value[0] <= 0x20:
            return False
        embed = value[0] == c'{' or value[0] == c'['
    elif mimetype[0] != c't':
        return False
    else:
        length = mimetype[1] << 24 | mimetype[2] << 16 | mimetype[3] << 8 | mimetype[4]
        if length == 16 and not memcmp(mimetype + 5, b"application/json", 16):
            embed = True
        elif length == 10 and not memcmp(mimetype + 5, b"text/plain", 10):
            embed = False
        else:
            return False
    if not embed:
        put_string(text, value, size)
        return True
    return is_json(value, value + size) and _put_one_line(text, value, size)


def bodies(events, to_json):
    cdef Text text
    cdef list sizes = []
    text.data, text.bytes, text.size, text.room = NULL, NULL, 0, 0
    hold_in_bytes(&text, 4096)
    try:
        for event in events:
            put(&text, b"N\0\5", 3)
            _put_column(&text, event.key, bytes)
            _put_column(&text, event.data, bytes)
            metadata = event.metadata
            _put_column(&text, to_json(metadata) if metadata else None, str)
            _put_column(&text, event.mimetype, str)
            _put_column(&text, event.type, str)
            if text.size > 0xFFFFFFFF:
                raise OverflowError("a batch of events has at most 4 GiB")
            sizes.append(text.size)
        return taken(&text), array("I", sizes)
    finally:
        release(&text)


cdef int _put_column(Text *text, value, kept) except -1:
    cdef Py_ssize_t size = 0
    cdef char kind = c'b'
    cdef const char *data
    if value is None:
        return put_byte(text, c'n')
    if type(value) is not kept:
        raise TypeError("the key and the data of an event are bytes, all else is text")
    if kept is str:
        data = PyUnicode_AsUTF8AndSize(value, &size)
        kind = c't'
    else:
        data, size = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    if size > 0xFFFFFFFF:
        raise OverflowError("a value has at most 4 GiB")
    make_room(text, 5)
    text.data[text.size] = kind
    text.data[text.size + 1], text.data[text.size + 2] = size >> 24 & 0xFF, size >> 16 & 0xFF
    text.data[text.size + 3], text.data[text.size + 4] = size >> 8 & 0xFF, size & 0xFF
    text.size += 5
    return put(text, data, size)
