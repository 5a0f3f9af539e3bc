"""The events of a batch as lines in one piece of text; typed for Python in ``lines.pyi``. What a
line holds is for the formats to say (`ensign_core.rows.json`)."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t

from ensign_core.rows.table cimport NEW, OLD, Image, RowTable
from ensign_core.rows.text cimport (
    Text,
    hold_in_bytes,
    make_room,
    put,
    put_byte,
    put_padded,
    put_string,
    release,
    taken,
)

from collections.abc import Sequence

from ensign_core.change import Op
from ensign_core.rows.damage import damaged

cdef int _DELETE = Op.DELETE, _EVENT = Op.EVENT, _UPDATE = Op.UPDATE

cdef enum:
    _FIRST_ROOM = 4096
    _SAMPLE = 100

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


@cython.final
cdef class Texts:
    """Lines in one piece, each with its newline, of which one is cut out when it is asked for."""

    def __dealloc__(self):
        release(&self.ends)

    def __len__(self):
        return self.ends.size // <Py_ssize_t> sizeof(Py_ssize_t)

    def __getitem__(self, place):
        cdef Py_ssize_t at, start
        cdef Py_ssize_t *ends = <Py_ssize_t *> self.ends.data
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        at = place
        if at < 0:
            at += len(self)
        if not 0 <= at < len(self):
            raise IndexError("there are not so many lines")
        start = ends[at - 1] if at else 0
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.block) + start, ends[at] - start - 1
        )

    def __eq__(self, other):
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented


Sequence.register(Texts)


cdef class Lines:
    """Walks over the events of one batch and keeps their lines. What it reads is checked against
    the batch's ends here and in `RowTable.read`."""

    def __cinit__(self, batch, tables, marks, *_args):
        self.tables = list(tables)
        self.marks = tuple(marks)
        self.old, self.new, self.texts = Image(), Image(), Texts()
        self.body = bytes(batch.body)
        hold_in_bytes(&self.line, _FIRST_ROOM)

    def __dealloc__(self):
        release(&self.line)
        release(&self.key)

    cdef int begin_run(self, run) except -1:
        """What the lines of a run's events have in common; None for events outside any."""
        return 0

    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1:
        """Write the event's line, and call `end_line`. ``at`` to ``end`` is its body."""
        raise NotImplementedError

    cdef int name_row(self, RowTable table, int found) except -1:
        """Note the key of a row's event: of its new image, of its old one where it has no other.
        Not called, and for a table without key, the message has none."""
        if found & NEW:
            return self.name_key(table, self.new, self.old if found & OLD else None)
        return self.name_key(table, self.old, None) if found else 0

    cdef int name_key(self, RowTable table, Image image, Image older) except -1:
        """Note a row's key as that of the message, its gaps taken from ``older`` if that is not
        None."""
        if self.values is None or not table.key:
            return 0
        put_byte(&self.key, c'{')
        table.put_key(&self.key, image, older)
        return put_byte(&self.key, c'}')

    cdef int note_key(self, const char *key, Py_ssize_t size) except -1:
        """The same of a key that is written already."""
        return 0 if self.values is None else put(&self.key, key, size)

    cdef int leave_old_key(
        self, Py_ssize_t index, int op, RowTable table, int found
    ) except -1:
        """A message without value for the old key of an update that changed it."""
        if self.values is None or op != _UPDATE or found & (OLD | NEW) != OLD | NEW:
            return 0
        if not table.key_changed(self.old, self.new):
            return 0
        self.name_key(table, self.old, None)
        self.gone = True
        self.end_message(index, self.noted_key(), None)
        self.gone = False
        return 0

    cdef bytes noted_key(self):
        cdef bytes key = self.own_key
        if self.key.size:
            key = PyBytes_FromStringAndSize(self.key.data, self.key.size)
            self.key.size = 0
        return key

    cdef int end_line(self, Py_ssize_t index) except -1:
        if self.values is not None:
            value = PyBytes_FromStringAndSize(self.line.data, self.line.size)
            self.line.size = 0
            return self.end_message(index, self.noted_key(), value)
        put_byte(&self.line, c'\n')
        if self.indexes is None and index != self.count:
            self.indexes = list(range(self.count))
        if self.indexes is not None:
            self.indexes.append(index)
        self.count += 1
        return put(&self.texts.ends, &self.line.size, sizeof(Py_ssize_t))

    cdef int end_message(self, Py_ssize_t index, bytes key, bytes value) except -1:
        self.keys.append(key)
        self.values.append(value)
        self.indexes.append(index)
        self.deletes.append(self.gone and key is not None)
        return 0

    cdef int walk(self, batch) except -1:
        """Write the lines of all events."""
        cdef const uint8_t[:] ops = batch.ops
        cdef const unsigned short[:] schema_ids = batch.schema_ids
        cdef const unsigned int[:] ends = batch.ends
        cdef const uint8_t *body = <const uint8_t *> PyBytes_AS_STRING(self.body)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.body), count = ops.shape[0]
        cdef Py_ssize_t index, at = 0, end, following = count, number, place = 0
        cdef list runs = list(batch.runs)
        cdef RowTable table
        cdef bytes mark
        cdef int op
        if schema_ids.shape[0] != count or ends.shape[0] != count:
            raise damaged()
        if runs:
            following = runs[0][0]
        if following > 0:
            self.begin_run(None)
        for index in range(count):
            if index >= following:
                while place + 1 < len(runs) and runs[place + 1][0] <= index:
                    place += 1
                start, ordinal, _ = runs[place]
                self.shift, self.in_run = ordinal - start, True
                self.begin_run(runs[place])
                place += 1
                following = runs[place][0] if place < len(runs) else count
            end, number = ends[index], schema_ids[index]
            if end < at or end > size:
                raise damaged()
            op = ops[index]
            mark = self.marks[op] if op < len(self.marks) else None
            if mark is not None:
                if number >= len(self.tables):
                    raise damaged()
                table = self.tables[number]
                self.gone = op == _DELETE
                if op == _EVENT and self.values is not None:
                    own = PyBytes_FromStringAndSize(<const char *> body + at, end - at)
                    self.own_key, self.gone = self.event_key(number, own)
                self.put_line(index, op, number, table, mark, body + at, body + end)
                self.own_key = None
            at = end
            if index == _SAMPLE and self.values is None:
                # Room for all lines, if they are like the first: large texts grow at a price.
                make_room(&self.line, self.line.size // _SAMPLE * (count - index))
        return 0

    cdef tuple written(self, batch):
        """The lines and the indexes of their events."""
        self.walk(batch)
        self.texts.block = taken(&self.line)
        return self.texts, range(self.count) if self.indexes is None else self.indexes

    cdef tuple sent(self, batch, event_key):
        """The lines as messages: keys, values, the indexes of their events, and the marks of those
        after which what the key names is gone. ``event_key(number, body)`` gives key and mark of
        an event of the op EVENT."""
        self.keys, self.values, self.indexes = [], [], []
        self.deletes, self.event_key = bytearray(), event_key
        self.walk(batch)
        return self.keys, self.values, self.indexes, bytes(self.deletes)


cdef int put_image(Text *text, RowTable table, Image image, bint there, bint key_only) except -1:
    """A row's object with what the source sent of it, or null."""
    if not there:
        return put(text, b"null", 4)
    put_byte(text, c'{')
    if key_only:
        table.put_key(text, image, None)
    else:
        table.put_fields(text, image, None, False)
    return put_byte(text, c'}')


cdef int put_plain(Text *text, str found) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *data = PyUnicode_AsUTF8AndSize(found, &size)
    return put(text, data, size)


cdef int put_str(Text *text, str found) except -1:
    """As a JSON string."""
    cdef Py_ssize_t size = 0
    cdef const char *data = PyUnicode_AsUTF8AndSize(found, &size)
    return put_string(text, <const uint8_t *> data, size)


cdef int put_instant(Text *text, int64_t us) except -1:
    """µs since the epoch as RFC 3339 in UTC with six digits. The date by "civil_from_days" of
    Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms"."""
    cdef int64_t second = us // 1_000_000, fraction = us % 1_000_000
    cdef int64_t day = second // 86_400 + 719_468, rest = second % 86_400
    cdef int64_t era = day // 146_097, of_era = day % 146_097
    cdef int64_t year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    cdef int64_t of_year = of_era - (365 * year + year // 4 - year // 100)
    cdef int64_t month = (5 * of_year + 2) // 153
    cdef int64_t of_month = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += era * 400 + (month <= 2)
    if not 1 <= year <= 9999:
        raise OverflowError("a commit's time is outside the years 1 to 9999")
    put_byte(text, c'"')
    put_padded(text, year, 4)
    put_byte(text, c'-')
    put_padded(text, month, 2)
    put_byte(text, c'-')
    put_padded(text, of_month, 2)
    put_byte(text, c'T')
    put_padded(text, rest // 3600, 2)
    put_byte(text, c':')
    put_padded(text, rest // 60 % 60, 2)
    put_byte(text, c':')
    put_padded(text, rest % 60, 2)
    put_byte(text, c'.')
    put_padded(text, fraction, 6)
    return put(text, b'Z"', 2)
