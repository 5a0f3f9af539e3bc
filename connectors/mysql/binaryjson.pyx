"""Binary JSON of MySQL to its text; typed for Python in ``binaryjson.pyi``.

The format is that of the server's ``json_binary.h``: a type byte and a value; values of arrays and
objects are found through offsets, which count from the container's start and point behind its head.
A document is read as the server reads it, within the bounds of the container that each value is in.
Nothing in the format keeps two offsets from pointing to one place, so whatever is read is counted
(`Walk`): a document in which nothing is read twice has no more than its own bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from connectors.mysql.jsonscalars cimport little_endian, put_double, put_opaque, put_signed
from ensign_core.rows.text cimport (
    Text, hold_in_bytes, is_utf8, put, put_byte, put_bytes, put_number, put_string, release, taken,
)

from connectors.mysql import jsondiff
from connectors.mysql.jsondiff import JsonError as JsonError

cdef enum:
    _SMALL_OBJECT = 0
    _LARGE_OBJECT = 1
    _SMALL_ARRAY = 2
    _LARGE_ARRAY = 3
    _LITERAL = 4
    _INT16 = 5
    _UINT16 = 6
    _INT32 = 7
    _UINT32 = 8
    _INT64 = 9
    _UINT64 = 10
    _DOUBLE = 11
    _STRING = 12
    _OPAQUE = 15

    # JSON_DOCUMENT_MAX_DEPTH.
    _DEPTH_MAX = 100

cdef struct Walk:
    # Bytes that may still be read, and containers that may still be entered.
    Py_ssize_t left
    int depth

cdef struct Value:
    uint8_t type
    const uint8_t *at
    # The end of the container that it is in, or of the inlined value.
    const uint8_t *end

cdef struct Container:
    bint is_object
    bint large
    Py_ssize_t count
    const uint8_t *start
    const uint8_t *keys
    const uint8_t *values
    const uint8_t *behind_head
    const uint8_t *end


cdef inline int _read(Walk *walk, Value *value, Py_ssize_t size) except -1:
    """Whoever reads ``size`` bytes of a value has asked here."""
    if value.end - value.at < size or walk.left < size:
        raise JsonError("a document's bytes are damaged")
    walk.left -= size
    return 0


cdef inline uint32_t _offset(const uint8_t *at, bint large) noexcept:
    if large:
        return at[0] | at[1] << 8 | at[2] << 16 | <uint32_t> at[3] << 24
    return at[0] | at[1] << 8


cdef inline int _enter(Walk *walk, Value *value, Container *container) except -1:
    cdef Py_ssize_t width, size, head
    container.is_object = value.type <= _LARGE_OBJECT
    container.large = value.type & 1
    width = 4 if container.large else 2
    if walk.depth == 0:
        raise JsonError("a document is nested too deeply")
    walk.depth -= 1
    _read(walk, value, 2 * width)
    container.start = value.at
    container.count = _offset(value.at, container.large)
    size = _offset(value.at + width, container.large)
    head = container.count * (1 + width)
    container.keys = value.at + 2 * width
    container.values = container.keys
    if container.is_object:
        head += container.count * (2 + width)
        container.values += container.count * (2 + width)
    if size > value.end - value.at or head > size - 2 * width or head > walk.left:
        raise JsonError("a document's bytes are damaged")
    walk.left -= head
    container.behind_head = container.keys + head
    container.end = value.at + size
    return 0


cdef inline int _key_of(
    Walk *walk, Container *container, Py_ssize_t index, const uint8_t **key, Py_ssize_t *size
) except -1:
    cdef Py_ssize_t width = 4 if container.large else 2
    cdef const uint8_t *entry = container.keys + index * (2 + width)
    cdef Value value
    value.end = container.end
    value.at = _pointed(container, entry)
    size[0] = _offset(entry + width, False)
    _read(walk, &value, size[0])
    key[0] = value.at
    return 0


cdef inline int _value_of(
    Walk *walk, Container *container, Py_ssize_t index, Value *value
) except -1:
    cdef Py_ssize_t width = 4 if container.large else 2
    cdef const uint8_t *entry = container.values + index * (1 + width)
    value.type = entry[0]
    if _LITERAL <= value.type <= _UINT16 or (
        container.large and (value.type == _INT32 or value.type == _UINT32)
    ):
        value.at = entry + 1
        value.end = value.at + width
        # It was counted as a part of the head.
        walk.left += width
    else:
        value.at = _pointed(container, entry + 1)
        value.end = container.end
    return 0


cdef inline const uint8_t *_pointed(Container *container, const uint8_t *entry) except NULL:
    cdef Py_ssize_t offset = _offset(entry, container.large)
    if (
        offset < container.behind_head - container.start
        or offset > container.end - container.start
    ):
        raise JsonError("a document's bytes are damaged")
    return container.start + offset


cdef int _put_value(Text *text, Walk *walk, Value *value) except -1:
    cdef Container container
    cdef Value child
    cdef const uint8_t *key
    cdef Py_ssize_t index, size
    if value.type > _LARGE_ARRAY:
        return _put_scalar(text, walk, value)
    _enter(walk, value, &container)
    put_byte(text, c'{' if container.is_object else c'[')
    for index in range(container.count):
        if index:
            put(text, b", ", 2)
        if container.is_object:
            _key_of(walk, &container, index, &key, &size)
            put_string(text, key, size)
            put(text, b": ", 2)
        _value_of(walk, &container, index, &child)
        _put_value(text, walk, &child)
    walk.depth += 1
    return put_byte(text, c'}' if container.is_object else c']')


cdef int _put_scalar(Text *text, Walk *walk, Value *value) except -1:
    cdef const uint8_t *at = value.at
    cdef uint64_t bits
    if value.type == _STRING:
        _read_length(walk, value)
        return put_string(text, value.at, value.end - value.at)
    if value.type == _LITERAL:
        return _put_literal(text, walk, value)
    if value.type == _OPAQUE:
        _read(walk, value, 1)
        value.at += 1
        _read_length(walk, value)
        return put_opaque(text, at[0], value.at, value.end - value.at)
    if value.type == _INT16 or value.type == _UINT16:
        _read(walk, value, 2)
        bits = little_endian(at, 2)
        return put_signed(text, <int16_t> bits) if value.type == _INT16 else put_number(text, bits)
    if value.type == _INT32 or value.type == _UINT32:
        _read(walk, value, 4)
        bits = little_endian(at, 4)
        return put_signed(text, <int32_t> bits) if value.type == _INT32 else put_number(text, bits)
    if value.type < _INT64 or value.type > _DOUBLE:
        raise JsonError("a document has a value of an unknown type")
    _read(walk, value, 8)
    bits = little_endian(at, 8)
    if value.type == _DOUBLE:
        return put_double(text, bits)
    return put_signed(text, <int64_t> bits) if value.type == _INT64 else put_number(text, bits)


cdef inline int _read_length(Walk *walk, Value *value) except -1:
    """The length before a string's or an opaque value's bytes, which are then the value: seven bits
    a byte, the least significant first, five bytes at most."""
    cdef uint64_t size = 0
    cdef int shift
    for shift in range(0, 35, 7):
        _read(walk, value, 1)
        size |= <uint64_t> (value.at[0] & 0x7F) << shift
        value.at += 1
        if not value.at[-1] & 0x80:
            _read(walk, value, <Py_ssize_t> size)
            value.end = value.at + size
            return 0
    raise JsonError("a document's bytes are damaged")


cdef int _put_literal(Text *text, Walk *walk, Value *value) except -1:
    _read(walk, value, 1)
    if value.at[0] == 0:
        return put(text, b"null", 4)
    if value.at[0] == 1:
        return put(text, b"true", 4)
    if value.at[0] == 2:
        return put(text, b"false", 5)
    raise JsonError("a document has an unknown literal")


cdef inline int _begin(
    Walk *walk, Value *value, const uint8_t *data, Py_ssize_t size
) except -1:
    walk.depth = _DEPTH_MAX
    walk.left = size - 1
    value.type = data[0]
    value.at = data + 1
    value.end = data + size
    return 0


cdef int put_json(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    cdef Walk walk
    cdef Value value
    cdef Py_ssize_t before = text.size
    if size == 0:
        return put(text, b"null", 4)
    _begin(&walk, &value, data, size)
    _put_value(text, &walk, &value)
    # Between strings there is ASCII only, so that what is no UTF-8 in one of them is none here.
    if not is_utf8(<const uint8_t *> text.data + before, text.size - before):
        raise JsonError("a document's text is not UTF-8")
    return 0


cdef _tree(Walk *walk, Value *value):
    """A value as `jsondiff` has it."""
    cdef Container container
    cdef Value child
    cdef const uint8_t *key
    cdef Py_ssize_t index, size
    cdef Text text
    if value.type > _LARGE_ARRAY:
        text.data, text.size, text.room, text.bytes = NULL, 0, 0, NULL
        try:
            hold_in_bytes(&text, 32)
            _put_scalar(&text, walk, value)
            return taken(&text)
        finally:
            release(&text)
    _enter(walk, value, &container)
    tree = {} if container.is_object else []
    for index in range(container.count):
        _value_of(walk, &container, index, &child)
        if container.is_object:
            _key_of(walk, &container, index, &key, &size)
            name = PyBytes_FromStringAndSize(<const char *> key, size)
            (<dict> tree)[name] = _tree(walk, &child)
        else:
            (<list> tree).append(_tree(walk, &child))
    walk.depth += 1
    return tree


cdef object _tree_of(const uint8_t *data, Py_ssize_t size):
    cdef Walk walk
    cdef Value value
    if size == 0:
        return b"null"
    _begin(&walk, &value, data, size)
    return _tree(&walk, &value)


def _tree_of_bytes(bytes data not None):
    return _tree_of(<const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef int put_json_patched(
    Text *text, const uint8_t *old, Py_ssize_t old_size, const uint8_t *diff, Py_ssize_t diff_size
) except -1:
    cdef bytes changes = PyBytes_FromStringAndSize(<const char *> diff, diff_size)
    cdef bytes patched = jsondiff.patched(_tree_of(old, old_size), changes, _tree_of_bytes)
    return put_bytes(text, patched)


def json_text(bytes data not None):
    cdef Text text
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    text.data, text.size, text.room, text.bytes = NULL, 0, 0, NULL
    try:
        hold_in_bytes(&text, size + (size >> 1) + 16)
        put_json(&text, <const uint8_t *> PyBytes_AS_STRING(data), size)
        return taken(&text)
    finally:
        release(&text)


def json_patched(bytes old not None, bytes diff not None):
    return jsondiff.patched(_tree_of_bytes(old), diff, _tree_of_bytes)
