"""The columns of a table as their values are decoded; typed for Python in ``fields.pyi``.

A value is written as a column of the row layout: `begin`, its bytes, `end`. Sizes are those of the
table map's metadata (MySQL Internals, "Table_map_event"; the server's ``rpl_utility.cc``).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from connectors.mysql.digits cimport big_endian
from connectors.mysql.floats cimport FLOAT_TEXT, float_at, write_double, write_float
from connectors.mysql.moments cimport fraction_size
from ensign_core.rows.text cimport Text, ascii_span, make_room, put

from connectors.mysql import charsets
from connectors.mysql.damage import DamagedError
from connectors.mysql.wire import Type, string_meta

cdef enum:
    _PRECISION_MAX = 65
    _SCALE_MAX = 38
    _LETTER_MAX = 4

# Charsets whose bytes are UTF-8.
_COPIED = frozenset(("utf8mb4", "utf8mb3", "utf8", "ascii"))

# Of types of one size: what is done with them, and that size.
_FIXED = {
    Type.TINY: (SIGNED, 1), Type.SHORT: (SIGNED, 2), Type.INT24: (SIGNED, 3),
    Type.LONG: (SIGNED, 4), Type.LONGLONG: (SIGNED, 8), Type.FLOAT: (FLOAT, 4),
    Type.DOUBLE: (DOUBLE, 8), Type.YEAR: (YEAR, 1), Type.DATE: (DATE, 3), Type.NEWDATE: (DATE, 3),
    Type.TIME: (OLD_TIME, 3), Type.DATETIME: (OLD_DATETIME, 8), Type.TIMESTAMP: (OLD_TIMESTAMP, 4),
}
# Of these the sizes with a fraction of one to six digits (MariaDB before 10.1, or with
# mysql56_temporal_format=OFF). A table map does not say the digits: ``meta`` is for who knows them.
_FINE = {
    Type.TIME: (4, 4, 5, 5, 5, 6), Type.DATETIME: (6, 6, 7, 7, 7, 8),
    Type.TIMESTAMP: (5, 5, 6, 6, 7, 7),
}
# Of types with a fraction of seconds: the same, without the fraction.
_FRACTIONAL = {
    Type.TIME2: (TIME, 3), Type.DATETIME2: (DATETIME, 5), Type.TIMESTAMP2: (TIMESTAMP, 4),
}
# Of types with a length before the value: the bytes of that where the metadata does not say it.
_LARGE = {
    Type.TINY_BLOB: 1, Type.BLOB: 2, Type.MEDIUM_BLOB: 3, Type.LONG_BLOB: 4, Type.JSON: 4,
    Type.GEOMETRY: 4, Type.VECTOR: 4, Type.BLOB_COMPRESSED: 2,
}
_SPECIAL = {"uuid": (UUID, 16), "inet4": (INET4, 4), "inet6": (INET6, 16)}


cdef class Fields:
    def __cinit__(self, columns, key, keep=None):
        cdef Py_ssize_t i
        cdef tuple found = tuple(columns)
        self.count = len(found)
        self.owned = []
        self.charsets = tuple([column.charset for column in found])
        if not self.count <= 0xFFFF:
            raise ValueError("a row has at most 65,535 columns")
        self.all = <Field *> calloc(self.count + 1, sizeof(Field))
        if self.all == NULL:
            raise MemoryError
        for i in range(self.count):
            self.all[i].index = i
            self._make(&self.all[i], found[i])
        for index in range(self.count) if keep is None else keep:
            self._at(index).kept = True
        for index in key:
            self._at(index).in_key = True
        for i in range(self.count):
            self.kept += self.all[i].kept
            self.json_count += self.all[i].code == JSON

    def __dealloc__(self):
        free(self.all)

    cdef Field *_at(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError("there is no such column")
        return &self.all[index]

    cdef int _make(self, Field *field, column) except -1:
        cdef int meta = column.meta
        code = column.type
        special = column.special
        if code in _FIXED:
            field.code, field.size = _FIXED[code]
            if code in _FINE and 1 <= meta <= 6:
                field.size, field.scale = _FINE[code][meta - 1], meta
            if field.code == SIGNED and column.unsigned:
                field.code = UNSIGNED
        elif code in _FRACTIONAL:
            field.code, field.size = _FRACTIONAL[code]
            field.scale = meta & 0xFF
            if field.scale > 6:
                raise DamagedError("a fraction of a second has at most 6 digits")
            field.size += fraction_size(field.scale)
        elif code == Type.NEWDECIMAL:
            self._make_decimal(field, meta & 0xFF, meta >> 8)
        elif code == Type.BIT:
            field.code = BITS
            field.digits = (meta >> 8) * 8 + (meta & 0xFF)
            field.size = (field.digits + 7) // 8
            if not 1 <= field.digits <= 64:
                raise DamagedError("a BIT column has 1 to 64 bits")
        elif code in _LARGE:
            self._make_large(field, column)
        elif code in (Type.STRING, Type.ENUM, Type.SET):
            self._make_string(field, column)
        elif code in (Type.VARCHAR, Type.VAR_STRING, Type.VARCHAR_COMPRESSED):
            field.prefix = 1 if meta < 256 else 2
            self._make_text(field, column, code == Type.VARCHAR_COMPRESSED)
        elif code == Type.DECIMAL and meta:
            field.code, field.size = COPIED_TEXT, meta & 0xFF
        else:
            raise LookupError(f"type {int(code)}")
        if special == "vector":
            field.code = VECTOR
        return 0

    cdef int _make_decimal(self, Field *field, int digits, int scale) except -1:
        """Nine digits in four bytes; the digits before the first nine and behind the last nine of
        the point take as few bytes as they can (the server's ``decimal.c``)."""
        cdef int whole = digits - scale
        if not 1 <= digits <= _PRECISION_MAX or whole < 0 or scale > _SCALE_MAX:
            raise DamagedError("a DECIMAL with more digits than a server has")
        field.code, field.digits, field.scale = DECIMAL, digits, scale
        field.size = (
            whole // 9 * 4 + (whole % 9 + 1) // 2 + scale // 9 * 4 + (scale % 9 + 1) // 2
        )
        return 0

    cdef int _make_large(self, Field *field, column) except -1:
        field.prefix = column.meta & 0xFF or _LARGE[column.type]
        if field.prefix > 4:
            raise DamagedError("the length of a BLOB takes at most 4 bytes")
        if column.type == Type.JSON:
            field.code = JSON
        elif column.type == Type.VECTOR:
            field.code = VECTOR
        elif column.type == Type.GEOMETRY:
            field.code, field.conversion = BYTES, NO_TEXT
        else:
            self._make_text(field, column, column.type == Type.BLOB_COMPRESSED)
        return 0

    cdef int _make_string(self, Field *field, column) except -1:
        code = column.type
        code, size = string_meta(column.meta) if code == Type.STRING else (code, column.meta >> 8)
        if code in (Type.ENUM, Type.SET):
            field.code = ENUM if code == Type.ENUM else SET
            field.size = size
            if not 1 <= size <= (2 if code == Type.ENUM else 8):
                raise DamagedError("an ENUM takes 1 or 2 bytes, a SET 1 to 8")
            self._make_labels(field, column.labels)
            # Text results have the label in the column's charset.
            self._make_conversion(field, column.charset or "utf8mb4")
        elif code == Type.STRING:
            field.prefix = 1 if size < 256 else 2
            field.size = size
            if column.special in _SPECIAL:
                field.code, field.size = _SPECIAL[column.special]
            else:
                self._make_text(field, column, False)
                field.padded = field.code == BYTES
        else:
            raise DamagedError("no server writes such metadata of a STRING")
        return 0

    cdef int _make_labels(self, Field *field, labels) except -1:
        cdef list texts = [label.encode("utf-8", "surrogateescape") for label in labels]
        cdef bytearray pieces = bytearray(len(texts) * sizeof(Piece))
        cdef Py_ssize_t i
        field.label_count = len(texts)
        field.labels = <Piece *> <char *> pieces
        for i in range(field.label_count):
            field.labels[i].data = PyBytes_AS_STRING(texts[i])
            field.labels[i].size = PyBytes_GET_SIZE(texts[i])
        self.owned.append((texts, pieces))
        return 0

    cdef int _make_text(self, Field *field, column, bint compressed) except -1:
        if column.charset in ("", "binary"):
            field.code, field.conversion = BYTES, NO_TEXT
        else:
            self._make_conversion(field, column.charset)
            field.code = COPIED_TEXT if field.conversion == COPIED else TEXT
        if compressed:
            field.code = COMPRESSED
        return 0

    cdef int _make_conversion(self, Field *field, charset) except -1:
        cdef bytearray letters
        cdef Py_ssize_t i, size
        if charset in _COPIED or charset == "binary":
            field.conversion = COPIED
            return 0
        table = charsets.table(charset)
        if table is None:
            # Whoever does not know the charset raises LookupError.
            charsets.decode(charset, b"")
            field.conversion = BY_PYTHON
            return 0
        field.conversion = BY_LETTER
        field.ascii = all([table[i] == bytes((i,)) for i in range(0x80)])
        letters = bytearray(256 * sizeof(Letter))
        field.letters = <Letter *> <char *> letters
        for i in range(256):
            size = len(table[i])
            if size > _LETTER_MAX:
                raise ValueError("a letter has at most 4 bytes of UTF-8")
            field.letters[i].size = size
            memcpy(field.letters[i].text, PyBytes_AS_STRING(table[i]), size)
        self.owned.append(letters)
        return 0

    cdef int put_text(
        self, Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
    ) except -1:
        """Text in the column's charset. What does not stand for text in it stays as it is, as raw
        bytes, so that the row is not lost."""
        cdef Py_ssize_t start
        cdef bytes decoded
        if field.conversion == COPIED or field.conversion == NO_TEXT:
            return put_value(text, c'b' if field.conversion == NO_TEXT else c't', data, size)
        if field.conversion == BY_LETTER:
            start = begin(text, c't', _LETTER_MAX * size)
            if _put_letters(text, field, data, size):
                return end(text, start)
            text.size = start - 5
            return put_value(text, c'b', data, size)
        try:
            decoded = charsets.decode(self.charsets[field.index], <bytes> data[:size])
        except ValueError:
            return put_value(text, c'b', data, size)
        return put_value(
            text, c't', <const uint8_t *> PyBytes_AS_STRING(decoded), PyBytes_GET_SIZE(decoded)
        )


cdef inline bint _put_letters(
    Text *text, const Field *field, const uint8_t *data, Py_ssize_t size
) noexcept:
    """Whether all bytes stand for something. There is room for them."""
    cdef char *to = text.data + text.size
    cdef const Letter *letter
    cdef Py_ssize_t at = ascii_span(data, size) if field.ascii else 0
    memcpy(to, data, at)
    to += at
    while at < size:
        letter = &field.letters[data[at]]
        if not letter.size:
            return False
        memcpy(to, letter.text, _LETTER_MAX)
        to += letter.size
        at += 1
    text.size = to - text.data
    return True


cdef int put_value(Text *text, char kind, const uint8_t *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t start = begin(text, kind, size)
    if size > 0xFFFFFFFF:
        raise OverflowError("a value has less than 4 GiB")
    write_length(text.data + start - 4, size)
    memcpy(text.data + start, data, size)
    text.size += size
    return 0


cdef int put_double(Text *text, double value) except -1:
    cdef Py_ssize_t start = begin(text, c't', FLOAT_TEXT)
    text.size = write_double(text.data + start, value) - text.data
    return end(text, start)


cdef int put_float(Text *text, float value) except -1:
    cdef Py_ssize_t start = begin(text, c't', FLOAT_TEXT)
    text.size = write_float(text.data + start, value) - text.data
    return end(text, start)


cdef int put_bits(Text *text, const Field *field, const uint8_t *data, Py_ssize_t size) except -1:
    """At most eight bytes as a digit for each bit of the column."""
    cdef Py_ssize_t start = begin(text, c't', field.digits)
    cdef uint64_t bits = big_endian(data, size)
    cdef int i
    for i in range(field.digits - 1, -1, -1):
        text.data[text.size] = c'0' + <char> (bits >> i & 1)
        text.size += 1
    return end(text, start)


cdef int put_vector(Text *text, const uint8_t *data, Py_ssize_t size) except -1:
    """Floats of 32 bits, little-endian, as a list; other bytes as they are."""
    cdef Py_ssize_t start, at
    if size & 3:
        return put_value(text, c'b', data, size)
    start = begin(text, c't', 1)
    text.data[text.size] = c'['
    text.size += 1
    for at in range(0, size, 4):
        make_room(text, FLOAT_TEXT + 2)
        if at:
            text.data[text.size] = c','
            text.size += 1
        text.size = write_float(text.data + text.size, float_at(data + at)) - text.data
    put(text, b"]", 1)
    return end(text, start)
