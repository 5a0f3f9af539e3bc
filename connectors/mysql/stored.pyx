"""Values as row images store them, into the row layout.

The formats are those of the server's ``Field::pack`` (``field.cc`` of MySQL and MariaDB, and
``decimal.c``, ``sql_type_fixedbin.h``); the sizes are checked by whoever calls.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from connectors.mysql.addresses cimport ADDRESS_TEXT, write_inet4, write_inet6, write_uuid
from connectors.mysql.binaryjson cimport put_json
from connectors.mysql.digits cimport (
    big_endian, little_endian, power_of_ten, write_number, write_padded,
)
from connectors.mysql.fields cimport (
    BITS, BYTES, COMPRESSED, COPIED_TEXT, DATE, DATETIME, DECIMAL, DOUBLE, ENUM, FLOAT, INET4,
    INET6, JSON, OLD_DATETIME, OLD_TIME, SET, SIGNED, TEXT, TIME, TIMESTAMP, UNSIGNED, UUID,
    VECTOR, YEAR, Field, Fields, begin, end, put_bits, put_double, put_float, put_value, put_vector,
)
from connectors.mysql.floats cimport double_at, float_at
from connectors.mysql.moments cimport (
    MOMENT_TEXT, stored_fraction, write_date, write_datetime, write_old_datetime,
    write_old_fine_datetime, write_old_fine_time, write_old_time, write_time, write_timestamp,
)
from ensign_core.rows.text cimport Text, make_room, put

import zlib

from connectors.mysql.damage import DamagedError, MismatchError

cdef enum:
    _INTEGER_TEXT = 20
    # 65 digits, a sign, a zero, a point.
    _DECIMAL_TEXT = 80
    _ADDRESS = 16


cdef int put_stored(
    Fields fields, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    """Write the value of ``size`` bytes; where there is a fixed size, it is that."""
    if field.code == COPIED_TEXT:
        return put_value(text, c't', data, size)
    elif field.code == SIGNED:
        return _put_signed(text, data, size)
    elif field.code == UNSIGNED:
        return _put_integer(text, False, little_endian(data, size))
    elif field.code == TEXT:
        return fields.put_text(text, field, data, size)
    elif field.code == BYTES:
        return _put_padded(text, field, data, size)
    elif field.code == DECIMAL:
        return _put_decimal(text, field, data)
    elif field.code == DOUBLE:
        return put_double(text, double_at(data))
    elif field.code == FLOAT:
        return put_float(text, float_at(data))
    elif field.code == ENUM:
        return _put_label(text, field, little_endian(data, size))
    elif field.code == SET:
        return _put_labels(text, field, little_endian(data, size))
    elif field.code == YEAR:
        return _put_integer(text, False, 1900 + data[0] if data[0] else 0)
    elif field.code == JSON:
        return _put_json(text, data, size)
    elif field.code == BITS:
        return put_bits(text, field, data, size)
    elif field.code == VECTOR:
        return put_vector(text, data, size)
    elif field.code == COMPRESSED:
        return _put_compressed(fields, text, field, data, size)
    elif field.code == UUID or field.code == INET4 or field.code == INET6:
        return _put_address(text, field, data, size)
    return _put_moment(text, field, data, size)


cdef inline int _put_signed(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    cdef uint64_t number = little_endian(data, size)
    cdef uint64_t sign = <uint64_t> 1 << (8 * size - 1)
    if number & sign:
        # Two's complement: what is missing from the next power.
        return _put_integer(text, True, (sign << 1) - number)
    return _put_integer(text, False, number)


cdef inline int _put_integer(Text *text, bint negative, uint64_t number) except -1:
    cdef Py_ssize_t start = begin(text, c't', _INTEGER_TEXT + 1)
    cdef char *to = text.data + start
    if negative:
        to[0] = c'-'
        to += 1
    text.size = write_number(to, number) - text.data
    return end(text, start)


cdef int _put_padded(
    Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    """Raw bytes; those of BINARY(n) lost their zero bytes at the end."""
    cdef Py_ssize_t start
    if not field.padded or size >= field.size:
        return put_value(text, c'b', data, size)
    start = begin(text, c'b', field.size)
    memcpy(text.data + start, data, size)
    memset(text.data + start + size, 0, field.size - size)
    text.size += field.size
    return end(text, start)


cdef int _put_moment(
    Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    cdef Py_ssize_t start = begin(text, c't', MOMENT_TEXT)
    cdef char *to = text.data + start
    cdef int scale = field.scale
    if field.code == TIMESTAMP:
        to = write_timestamp(
            to, <uint32_t> big_endian(data, 4), stored_fraction(data + 4, scale), scale
        )
    elif field.code == DATETIME:
        to = write_datetime(to, data, scale)
    elif field.code == DATE:
        to = write_date(to, data)
    elif field.code == TIME:
        to = write_time(to, data, scale)
    elif field.code == OLD_TIME:
        to = write_old_fine_time(to, data, size, scale) if scale else write_old_time(to, data)
    elif field.code == OLD_DATETIME:
        to = (
            write_old_fine_datetime(to, data, size, scale) if scale
            else write_old_datetime(to, data)
        )
    elif scale:
        to = write_timestamp(
            to, <uint32_t> big_endian(data, 4), <uint32_t> big_endian(data + 4, size - 4), scale
        )
    else:
        to = write_timestamp(to, <uint32_t> little_endian(data, 4), 0, 0)
    if to == NULL:
        raise DamagedError("a date or time that no server writes")
    text.size = to - text.data
    return end(text, start)


cdef int _put_decimal(Text *text, const Field *field, const uint8_t *data) except -1:
    """Groups of digits as big-endian numbers; the first bit is the sign's, lifted so that bytes
    sort as numbers do, and a negative number has all bits inverted."""
    cdef Py_ssize_t start = begin(text, c't', _DECIMAL_TEXT)
    cdef char *to = text.data + start
    cdef uint8_t flip = 0 if data[0] & 0x80 else 0xFF
    cdef uint8_t first = 0x80
    cdef int left = field.digits - field.scale
    cdef int width, size, i
    cdef bint fraction = False, leading = True
    cdef uint32_t group
    if flip:
        to[0] = c'-'
        to += 1
    while True:
        if not fraction and not left:
            if leading:
                to[0] = c'0'
                to += 1
            if not field.scale:
                break
            to[0] = c'.'
            to += 1
            fraction, leading, left = True, False, field.scale
        width = (9 if left >= 9 else left) if fraction else (left % 9 or 9)
        size = (width + 1) // 2 if width < 9 else 4
        group = 0
        for i in range(size):
            group = group << 8 | (data[i] ^ flip ^ first)
            first = 0
        data += size
        if group >= power_of_ten(width):
            raise DamagedError("a DECIMAL with a digit that is none")
        if not leading:
            to = write_padded(to, group, width)
        elif group:
            to = write_number(to, group)
            leading = False
        left -= width
        if fraction and not left:
            break
    text.size = to - text.data
    return end(text, start)


cdef int _put_label(Text *text, const Field *field, uint64_t index) except -1:
    """An index from 1; 0 is the label of what was no label."""
    if index == 0:
        return put_value(text, c't', <const uint8_t *> b"", 0)
    if index > <uint64_t> field.label_count:
        raise MismatchError("an ENUM has more labels than were told")
    return put_value(
        text, c't', <const uint8_t *> field.labels[index - 1].data, field.labels[index - 1].size
    )


cdef int _put_labels(Text *text, const Field *field, uint64_t bits) except -1:
    cdef Py_ssize_t start = begin(text, c't', 0)
    cdef Py_ssize_t i
    if field.label_count < 64 and bits >> field.label_count:
        raise MismatchError("a SET has more labels than were told")
    for i in range(min(field.label_count, 64)):
        if bits >> i & 1:
            if text.size > start:
                put(text, b",", 1)
            put(text, field.labels[i].data, field.labels[i].size)
    return end(text, start)


cdef int _put_json(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """Binary JSON; the server reads a value of no bytes as null."""
    cdef Py_ssize_t start
    if not size:
        return put_value(text, c't', <const uint8_t *> b"null", 4)
    start = begin(text, c't', 2 * size)
    put_json(text, data, size)
    return end(text, start)


cdef int _put_address(
    Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    """UUID, INET4 and INET6 of MariaDB, in the order of their text whatever the storage's; zero
    bytes at the end are left out as those of a BINARY are."""
    cdef uint8_t[_ADDRESS] whole
    cdef Py_ssize_t start
    if size > field.size:
        raise DamagedError("a UUID, INET4 or INET6 is too long")
    memset(whole, 0, _ADDRESS)
    memcpy(whole, data, size)
    start = begin(text, c't', ADDRESS_TEXT)
    if field.code == UUID:
        text.size = write_uuid(text.data + start, whole) - text.data
    elif field.code == INET4:
        text.size = write_inet4(text.data + start, whole) - text.data
    else:
        text.size = write_inet6(text.data + start, whole) - text.data
    return end(text, start)


cdef int _put_compressed(
    Fields fields, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) except -1:
    """A COMPRESSED column of MariaDB (``Field_longstr::compress``): a byte that says how; for zlib
    0x80, how many bytes the length behind it takes, and 8 if zlib's own header is left out."""
    cdef Py_ssize_t length, width
    cdef bytes found
    if size == 0 or data[0] == 0:
        found = <bytes> data[min(size, 1) : size]
    else:
        width = data[0] & 7
        if data[0] & 0xF0 != 0x80 or not 1 <= width <= 4 or size <= width:
            raise DamagedError("a compressed column in a way that nobody knows")
        length = big_endian(data + 1, width)
        found = _inflated(<bytes> data[1 + width : size], -15 if data[0] & 8 else 15, length)
    data = <const uint8_t *> PyBytes_AS_STRING(found)
    return fields.put_text(text, field, data, PyBytes_GET_SIZE(found))


def _inflated(data, window_bits, Py_ssize_t length):
    inflating = zlib.decompressobj(window_bits)
    try:
        # One more, to see that there are no more.
        found = inflating.decompress(data, length + 1)
    except zlib.error:
        raise DamagedError("a compressed column that zlib cannot read") from None
    if len(found) != length:
        raise DamagedError("a compressed column of another length than it says")
    return found
