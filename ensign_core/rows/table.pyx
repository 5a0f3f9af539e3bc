"""A schema compiled for writing its rows as JSON: what the lines of all formats are put together
from (`ensign_core.rows.json`). Typed for Python in ``table.pyi``."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from ensign_core.rows.fastvalues cimport put_decimal, put_since_epoch, put_utc
from ensign_core.rows.layout cimport column_end
from ensign_core.rows.text cimport (
    Text,
    copied,
    is_utf8,
    make_room,
    put,
    put_base64,
    put_byte,
    put_bytes,
    put_string,
    put_undecodable,
    release,
)

from array import array

from ensign_core.rows.damage import damaged

cdef enum:
    _CALL = 0
    _STRING = 1
    _RAW = 2
    _ONE_LINE = 3
    _NUMBER = 4
    _BOOLEAN = 5
    _HEX = 6
    _BYTES = 7
    _DECIMAL = 8
    _UTC = 9
    _SINCE_EPOCH = 10

CALL, STRING, RAW, ONE_LINE, NUMBER, BOOLEAN, HEX, BYTES, DECIMAL, UTC, SINCE_EPOCH = (
    _CALL, _STRING, _RAW, _ONE_LINE, _NUMBER, _BOOLEAN, _HEX, _BYTES, _DECIMAL, _UTC, _SINCE_EPOCH,
)  # fmt: skip

cdef enum:
    _LABEL = 16
    _SPARE = 48

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


@cython.final
cdef class Image:
    """One row as text, ``"name":value`` with commas between, and where each column stands in it.
    Used again for row after row."""

    def __cinit__(self):
        make_room(&self.text, 512)

    def __dealloc__(self):
        release(&self.text)
        free(self.cells)

    cdef int begin(self, Py_ssize_t columns) except -1:
        """Empty, with cells for ``columns``."""
        cdef Cell *cells
        if columns > self.columns:
            cells = <Cell *> realloc(self.cells, columns * sizeof(Cell))
            if cells == NULL:
                raise MemoryError
            self.cells, self.columns = cells, columns
        self.text.size = self.gaps = 0
        return 0

    cdef inline bint has(self, Py_ssize_t column) noexcept:
        return self.cells[column].start != self.cells[column].end


@cython.final
cdef class RowTable:
    def __cinit__(self, str name, names, key, codes, renders, placeholders, arguments=()):
        cdef Py_ssize_t i, count
        self.renders = tuple(renders)
        self.columns = count = len(self.renders)
        self.codes = bytes(codes)
        # As many bytes of a label are copied in any case.
        labels = tuple([b"%s:%s" % (text.encode(), bytes(_LABEL)) for text in names])
        fills = tuple([l[:-_LABEL] + text.encode() for l, text in zip(labels, placeholders)])
        quoted = name.encode()
        self.owned = (quoted, labels, fills)
        self.key = tuple(key)
        self.arguments = array("q", arguments or [0] * count)
        if len(self.arguments) != count:
            raise ValueError("one argument per column, or none at all")
        if not (len(labels) == len(self.codes) == count and len(fills) in (0, count)):
            raise ValueError("one name, code and render per column, and a placeholder or none")
        in_key = bytearray(count)
        for i in self.key:
            if not 0 <= i < count:
                raise ValueError("a column of the key is not there")
            in_key[i] = 1
        self.in_key = bytes(in_key)
        self.name = _piece(quoted)
        self.labels = <Piece *> calloc(count + 1, sizeof(Piece))
        self.placeholders = <Piece *> calloc(count + 1, sizeof(Piece))
        if self.labels == NULL or self.placeholders == NULL:
            raise MemoryError
        for i, label in enumerate(labels):
            self.labels[i] = _piece(label)
            self.labels[i].size -= _LABEL
        for i, label in enumerate(fills):
            self.placeholders[i] = _piece(label)

    def __dealloc__(self):
        free(self.labels)
        free(self.placeholders)

    cdef const uint8_t *read(
        self, const uint8_t *at, const uint8_t *end, Image image, bint key_only
    ) except NULL:
        """Read the row at ``at`` (behind its marker) into ``image``; where it ends. Raises
        ``rows.damaged`` unless that is before or at ``end``."""
        cdef Text *text = &image.text
        cdef const uint8_t *value
        cdef const uint8_t *codes = <const uint8_t *> PyBytes_AS_STRING(self.codes)
        cdef const uint8_t *in_key = <const uint8_t *> PyBytes_AS_STRING(self.in_key)
        cdef Py_ssize_t i, size
        cdef Piece label
        cdef uint8_t kind
        if end - at < 2 or (at[0] << 8 | at[1]) != self.columns:
            raise damaged()
        at += 2
        image.begin(self.columns)
        for i in range(self.columns):
            kind, value = at[0] if at < end else 0, at + 5
            at = column_end(at, end)
            if at == NULL:
                raise damaged()
            size = at - value if kind == c't' or kind == c'b' else 0
            image.cells[i].start = image.cells[i].end = 0
            if kind == c'u' or (key_only and not in_key[i]):
                image.gaps += 1
                continue
            label = self.labels[i]
            make_room(text, label.size + size + _SPARE)
            if text.size:
                text.data[text.size] = c','
                text.size += 1
            image.cells[i].start = text.size
            _copy_label(text.data + text.size, label)
            text.size += label.size
            if kind == c't':
                self.put_value(text, codes[i], i, value, size)
            elif kind == c'n':
                put(text, b"null", 4)
            elif codes[i] == _BYTES:
                data = PyBytes_FromStringAndSize(<const char *> value, size)
                _put_written(text, self.renders[i](data))
            else:
                put_base64(text, value, size)
            image.cells[i].end = text.size
        return at

    cdef inline int put_value(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1:
        """A value of kind ``t`` as JSON; `_SPARE` and its size are there to be written to. Most
        values are clean ASCII: those that are not are tried here and done once more."""
        cdef char *to = text.data + text.size
        if code == _STRING:
            to[0] = c'"'
            if copied(to + 1, value, size, True):
                to[size + 1] = c'"'
                text.size += size + 2
                return 0
        elif code == _RAW or code == _ONE_LINE or code == _NUMBER:
            if size and copied(to, value, size, False) and (
                code != _NUMBER or c'0' <= value[size - 1] <= c'9'
            ):
                text.size += size
                return 0
        elif code >= _DECIMAL:
            if self.put_usual(text, code, column, value, size):
                return 0
        elif code == _BOOLEAN and size == 1 and value[0] == c't':
            return put(text, b"true", 4)
        elif code == _BOOLEAN and size == 1 and value[0] == c'f':
            return put(text, b"false", 5)
        return self.put_any(text, code, column, value, size)

    cdef bint put_usual(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1:
        """Whether the text is one that needs no function of Python."""
        cdef int64_t argument = self.arguments[column]
        if code == _DECIMAL:
            return put_decimal(text, value, size, argument)
        if code == _UTC:
            return put_utc(text, value, size, argument)
        return put_since_epoch(text, value, size, argument)

    cdef int put_any(
        self, Text *text, int code, Py_ssize_t column, const uint8_t *value, Py_ssize_t size
    ) except -1:
        """The same for every value."""
        cdef Py_ssize_t start
        if not is_utf8(value, size):
            return put_undecodable(text, value, size)
        if code == _CALL or code >= _DECIMAL:
            return _put_called(text, self.renders[column], value, size)
        if code == _HEX:
            return _put_hex(text, value, size)
        if code == _STRING or code == _BOOLEAN or code == _BYTES or size == 0 or (
            code == _NUMBER and not c'0' <= value[size - 1] <= c'9'
        ):
            return put_string(text, value, size)
        start = text.size
        put(text, value, size)
        if code == _ONE_LINE:
            for start in range(start, text.size):
                if text.data[start] == c'\n' or text.data[start] == c'\r':
                    text.data[start] = c' '
        return 0

    cdef int put_fields(self, Text *text, Image image, Image older, bint whole) except -1:
        """The inside of a row's object. Gaps are taken from ``older`` if it is not None, then, if
        ``whole``, filled with placeholders; what is left of them is left out."""
        cdef Py_ssize_t i, start = text.size
        cdef Piece piece
        if image.gaps == 0 or (older is None and not whole):
            return put(text, image.text.data, image.text.size)
        for i in range(self.columns):
            if image.has(i):
                piece = _cell(image, i)
            elif older is not None and older.has(i):
                piece = _cell(older, i)
            elif whole:
                piece = self.placeholders[i]
            else:
                continue
            if text.size > start:
                put_byte(text, c',')
            put(text, piece.data, piece.size)
        return 0

    cdef int put_key(self, Text *text, Image image, Image older) except -1:
        """The inside of the key's object, its gaps taken from ``older`` if that is not None."""
        cdef Py_ssize_t i, start = text.size
        cdef Image found
        for i in self.key:
            found = image
            if older is not None and not image.has(i):
                found = older
            if found.has(i):
                if text.size > start:
                    put_byte(text, c',')
                put(text, found.text.data + found.cells[i].start,
                    found.cells[i].end - found.cells[i].start)
        return 0

    cdef int key_changed(self, Image old, Image new) except -1:
        """Whether a column of the key that the new image has differs from the old one's."""
        cdef Py_ssize_t i
        cdef Piece before, after
        for i in self.key:
            if new.has(i):
                before, after = _cell(old, i), _cell(new, i)
                if before.size != after.size or memcmp(before.data, after.data, after.size):
                    return True
        return False

    cdef int put_gaps(self, Text *text, Image image) except -1:
        """The list of the names of the columns that an image lacks."""
        cdef Py_ssize_t i, start
        put_byte(text, c'[')
        start = text.size
        if image.gaps:
            for i in range(self.columns):
                if not image.has(i):
                    if text.size > start:
                        put_byte(text, c',')
                    put(text, self.labels[i].data, self.labels[i].size - 1)
        return put_byte(text, c']')


cdef Piece _piece(bytes data) noexcept:
    cdef Piece piece
    piece.data = PyBytes_AS_STRING(data)
    piece.size = PyBytes_GET_SIZE(data)
    return piece


cdef inline void _copy_label(char *to, Piece label) noexcept:
    memcpy(to, label.data, _LABEL)
    if label.size > _LABEL:
        memcpy(to + _LABEL, label.data + _LABEL, label.size - _LABEL)


cdef inline Piece _cell(Image image, Py_ssize_t column) noexcept:
    cdef Piece piece
    piece.data = image.text.data + image.cells[column].start
    piece.size = image.cells[column].end - image.cells[column].start
    return piece


cdef int _put_called(Text *text, render, const uint8_t *value, Py_ssize_t size) except -1:
    """A value as a function of Python writes it. No JSON is empty."""
    return _put_written(text, render(PyUnicode_DecodeUTF8(<const char *> value, size, NULL)))


cdef int _put_written(Text *text, str found) except -1:
    cdef Py_ssize_t count = 0
    cdef const char *data = PyUnicode_AsUTF8AndSize(found, &count)
    return put(text, data, count) if count else put(text, b'""', 2)


cdef inline int _digit(uint8_t byte) noexcept:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef int _put_hex(Text *text, const uint8_t *value, Py_ssize_t size) except -1:
    """A bytea in hex format as base64; other text stands for its own bytes."""
    cdef Py_ssize_t i, count = size // 2 - 1
    cdef Py_ssize_t written
    cdef uint8_t *decoded
    cdef int high, low
    if size < 2 or size % 2 or value[0] != c'\\' or value[1] != c'x':
        return put_base64(text, value, size)
    written = (count + 2) // 3 * 4 + 2
    # Decoded behind the place where the base64 goes.
    make_room(text, written + count)
    decoded = <uint8_t *> text.data + text.size + written
    for i in range(count):
        high, low = _digit(value[2 * i + 2]), _digit(value[2 * i + 3])
        if high < 0 or low < 0:
            return put_base64(text, value, size)
        decoded[i] = high << 4 | low
    return put_base64(text, decoded, count)


cdef int read_images(
    RowTable table, const uint8_t *at, const uint8_t *end, Image old, Image new
) except -1:
    """Read an event's images; which there are, as bits. Raises ``rows.damaged``."""
    cdef int found = 0
    if at < end and at[0] != c'N':
        found = OLD | KEY_ONLY if at[0] == c'K' else OLD
        if at[0] != c'K' and at[0] != c'O':
            raise damaged()
        at = table.read(at + 1, end, old, found & KEY_ONLY)
    if at < end:
        if at[0] != c'N':
            raise damaged()
        at = table.read(at + 1, end, new, False)
        found |= NEW
    if at != end:
        raise damaged()
    return found
