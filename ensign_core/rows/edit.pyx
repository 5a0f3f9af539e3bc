"""The rows of a whole batch changed or looked at without leaving the row layout; what transforms
are made of. Typed for Python in ``edit.pyi``."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc

from ensign_core.rows.layout cimport column_end
from ensign_core.rows.text cimport Text, hold_in_bytes, make_room, put, put_byte, release, taken

from array import array

from ensign_core.rows.damage import damaged

cdef enum:
    _KEEP = 0
    _CONSTANT = 1
    _CUT = 2
    _CALL = 3
    _COLUMNS_MAX = 65535
    _DIGITS_MAX = 18


@cython.final
cdef class Row:
    """Where the columns of one row start, and behind them its end. Used again for row after row."""

    cdef const uint8_t **starts
    cdef Py_ssize_t count

    def __cinit__(self):
        self.starts = <const uint8_t **> realloc(NULL, (_COLUMNS_MAX + 1) * sizeof(uint8_t *))
        if self.starts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.starts)

    cdef const uint8_t *read(self, const uint8_t *at, const uint8_t *end) except NULL:
        """Read the row at ``at`` (behind its marker); where it ends. Raises ``rows.damaged`` unless
        that is before or at ``end``."""
        cdef Py_ssize_t i
        if end - at < 2:
            raise damaged()
        self.count = at[0] << 8 | at[1]
        at += 2
        for i in range(self.count):
            self.starts[i] = at
            at = column_end(at, end)
            if at == NULL:
                raise damaged()
        self.starts[self.count] = at
        return at


@cython.final
cdef class Plan:
    cdef Py_ssize_t *places
    cdef Py_ssize_t columns, count
    cdef bytes codes
    cdef tuple edits

    def __cinit__(self, Py_ssize_t columns, picked, edits):
        cdef Py_ssize_t i, count
        self.columns = columns
        self.edits = tuple(edits)
        places = tuple(picked)
        self.count = count = len(places)
        if len(self.edits) != count or count > _COLUMNS_MAX or columns > _COLUMNS_MAX:
            raise ValueError("one edit per picked column")
        self.places = <Py_ssize_t *> realloc(NULL, (count + 1) * sizeof(Py_ssize_t))
        if self.places == NULL:
            raise MemoryError
        for i in range(count):
            self.places[i] = places[i]
            if not 0 <= self.places[i] < columns:
                raise ValueError("a picked column is not there")
        self.codes = bytes([
            _KEEP if edit is None else _CONSTANT if isinstance(edit, bytes)
            else _CUT if isinstance(edit, int) else _CALL
            for edit in self.edits
        ])  # fmt: skip

    def __dealloc__(self):
        free(self.places)

    cdef int write(self, Text *text, Row row) except -1:
        """The row as the plan has it."""
        cdef Py_ssize_t i
        cdef const uint8_t *start
        cdef const uint8_t *codes = <const uint8_t *> PyBytes_AS_STRING(self.codes)
        if row.count != self.columns:
            raise damaged()
        put_byte(text, <char> (self.count >> 8))
        put_byte(text, <char> (self.count & 0xFF))
        for i in range(self.count):
            start = row.starts[self.places[i]]
            if codes[i] == _KEEP or start[0] == c'n' or start[0] == c'u':
                put(text, start, row.starts[self.places[i] + 1] - start)
            else:
                self.write_edited(text, codes[i], i, start, row.starts[self.places[i] + 1])
        return 0

    cdef int write_edited(
        self, Text *text, int code, Py_ssize_t i, const uint8_t *start, const uint8_t *end
    ) except -1:
        """A column of the kind ``t`` or ``b``, edited; ``end`` is its end."""
        cdef const uint8_t *data = start + 5
        cdef Py_ssize_t size = end - data
        cdef bytes found
        if code == _CUT:
            return _put_value(text, start[0], data, _cut(data, size, self.edits[i]))
        if code == _CONSTANT:
            found = self.edits[i]
        else:
            found = self.edits[i](PyBytes_FromStringAndSize(<const char *> data, size))
        return _put_value(
            text, c't', <const uint8_t *> PyBytes_AS_STRING(found), PyBytes_GET_SIZE(found)
        )


cdef int _put_value(Text *text, uint8_t kind, const uint8_t *data, Py_ssize_t size) except -1:
    make_room(text, size + 5)
    put_byte(text, kind)
    for shift in (24, 16, 8, 0):
        put_byte(text, <char> (<uint32_t> size >> shift & 0xFF))
    return put(text, data, size)


cdef Py_ssize_t _cut(const uint8_t *data, Py_ssize_t size, Py_ssize_t characters) noexcept:
    """How many bytes the first ``characters`` of UTF-8 take: what is no continuation byte begins
    one, so text that is not UTF-8 is cut somewhere, too."""
    cdef Py_ssize_t at
    if size <= characters:
        return size
    for at in range(size):
        if data[at] & 0xC0 != 0x80:
            if characters == 0:
                return at
            characters -= 1
    return size


def edited(bytes body not None, ends, schema_ids, plans):
    cdef const unsigned short[:] ids = schema_ids
    cdef const unsigned int[:] stops = ends
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), index, at = 0, count = stops.shape[0]
    cdef list by_schema = list(plans)
    cdef Row row = Row()
    cdef Plan plan
    cdef Text text
    found = array("I", bytes(4 * count))
    cdef unsigned int[:] written = found
    if ids.shape[0] != count:
        raise damaged()
    hold_in_bytes(&text, size + 1024)
    text.size = 0
    try:
        for index in range(count):
            if stops[index] < at or stops[index] > size or ids[index] >= len(by_schema):
                raise damaged()
            plan = by_schema[ids[index]]
            if plan is None:
                put(&text, start + at, stops[index] - at)
            else:
                _edit(&text, plan, row, start + at, start + stops[index])
            if text.size > <Py_ssize_t> 0xFFFFFFFF:
                raise MemoryError("a batch holds less than 4 GiB")
            written[index] = <unsigned int> text.size
            at = stops[index]
        return taken(&text), found
    finally:
        release(&text)


cdef int _edit(
    Text *text, Plan plan, Row row, const uint8_t *at, const uint8_t *end
) except -1:
    """All images of one event."""
    cdef bint first = True
    cdef const uint8_t *behind
    while at < end:
        if at[0] != c'N' and not (first and (at[0] == c'K' or at[0] == c'O')):
            raise damaged()
        first = False
        behind = row.read(at + 1, end)
        put_byte(text, at[0])
        plan.write(text, row)
        if at[0] == c'N' and behind != end:
            raise damaged()
        at = behind
    return 0


cdef const uint8_t *_column(
    const uint8_t *at, const uint8_t *end, Py_ssize_t columns, Py_ssize_t column
) except NULL:
    """Where the column of the row at ``at`` (behind its marker) starts; all before it is checked,
    and it itself, too."""
    cdef Py_ssize_t i
    if end - at < 2 or (at[0] << 8 | at[1]) != columns:
        raise damaged()
    at += 2
    for i in range(column):
        at = column_end(at, end)
        if at == NULL:
            raise damaged()
    if column_end(at, end) == NULL:
        raise damaged()
    return at


cdef const uint8_t *_behind(
    const uint8_t *at, const uint8_t *end, Py_ssize_t columns, Py_ssize_t column
) except NULL:
    """Where the row ends whose column ``column`` is at ``at``."""
    cdef Py_ssize_t i
    for i in range(column, columns):
        at = column_end(at, end)
        if at == NULL:
            raise damaged()
    return at


cdef object _value(const uint8_t *at, const uint8_t *end, convert, bint whole_number):
    """The value of the column at ``at``, which has been checked, of kind ``t`` or ``b``."""
    cdef Py_ssize_t size = <uint32_t> at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4]
    cdef const uint8_t *data = at + 5
    cdef int64_t number = 0
    cdef Py_ssize_t i
    cdef bint negative
    if whole_number and 0 < size <= _DIGITS_MAX:
        negative = data[0] == c'-'
        if not (negative and size == 1):
            for i in range(negative, size):
                if not c'0' <= data[i] <= c'9':
                    break
                number = number * 10 + data[i] - c'0'
            else:
                return -number if negative else number
    text = PyUnicode_DecodeUTF8(<const char *> data, size, "surrogateescape")
    return text if convert is None else convert(text)


def column(
    bytes body not None, ends, schema_ids, int schema_id, Py_ssize_t columns, Py_ssize_t place,
    bint in_key, bint old_first, convert,
):
    cdef const unsigned short[:] ids = schema_ids
    cdef const unsigned int[:] stops = ends
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), index, begin = 0, count = stops.shape[0]
    cdef const uint8_t *found
    cdef list values = [], unknown = []
    cdef bint whole_number = convert is int
    if ids.shape[0] != count or not 0 <= place < columns:
        raise damaged()
    for index in range(count):
        if stops[index] < begin or stops[index] > size:
            raise damaged()
        if ids[index] == schema_id:
            found = _known(
                start + begin, start + stops[index], columns, place, in_key, old_first
            )
            if found == NULL:
                unknown.append(len(values))
                values.append(None)
            elif found[0] == c'n':
                values.append(None)
            else:
                values.append(_value(found, start + size, convert, whole_number))
        begin = stops[index]
    return values, unknown


cdef const uint8_t *_known(
    const uint8_t *at, const uint8_t *end, Py_ssize_t columns, Py_ssize_t place, bint in_key,
    bint old_first,
) except? NULL:
    """Where an event has the column's value: in one image or, where that has none or left it out,
    in the other one; NULL where it is in neither."""
    cdef const uint8_t *old = NULL
    cdef const uint8_t *new = NULL
    cdef uint8_t marker
    if at == end:
        return NULL
    marker = at[0]
    if marker == c'K' or marker == c'O':
        old = _column(at + 1, end, columns, place)
        at = _behind(old, end, columns, place)
        if old[0] == c'u' or (marker == c'K' and not in_key):
            old = NULL
    if at < end:
        if at[0] != c'N':
            raise damaged()
        new = _column(at + 1, end, columns, place)
        if new[0] == c'u':
            # Unchanged: the old value is the new one.
            return old
    if old_first:
        return old if old != NULL or marker != c'N' else new
    return new if new != NULL else old


def check(bytes body not None, ends, schema_ids, columns):
    cdef const unsigned short[:] ids = schema_ids
    cdef const unsigned int[:] stops = ends
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef const uint8_t *at
    cdef const uint8_t *end
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body), index, begin = 0, count = stops.shape[0]
    cdef list counts = list(columns)
    cdef Row row = Row()
    cdef bint first, new
    if ids.shape[0] != count:
        raise damaged()
    for index in range(count):
        if stops[index] < begin or stops[index] > size or ids[index] >= len(counts):
            raise damaged()
        at, end, first = start + begin, start + stops[index], True
        while at < end:
            if at[0] != c'N' and not (first and (at[0] == c'K' or at[0] == c'O')):
                raise damaged()
            first = False
            new = at[0] == c'N'
            at = row.read(at + 1, end)
            if row.count != counts[ids[index]] or (new and at != end):
                raise damaged()
        begin = stops[index]
    if begin != size:
        raise damaged()
