"""The lines of the formats json, flat and debezium; typed for Python in ``json.pyi``."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ensign_core.rows.published cimport EventTable
from ensign_core.rows.lines cimport Lines, put_image, put_instant, put_plain, put_str
from ensign_core.rows.table cimport KEY_ONLY, NEW, OLD, Image, RowTable, read_images
from ensign_core.rows.text cimport Text, put, put_byte, put_bytes, put_number, release

from ensign_core.change import Op

cdef int _EVENT = Op.EVENT, _UPDATE = Op.UPDATE, _MESSAGE = Op.MESSAGE


@cython.final
cdef class _JsonLines(Lines):
    cdef bytes head
    cdef object published
    cdef list events
    cdef uint64_t offset
    cdef Text behind, tx

    def __cinit__(self, batch, tables, marks, events, published):
        cdef Py_ssize_t at
        self.events = list(events)
        self.published = published
        self.offset = batch.offset
        put(&self.behind, b'{"topic":', 9)
        put_str(&self.behind, batch.topic)
        put(&self.behind, b',"offset":', 10)
        self.head = PyBytes_FromStringAndSize(self.behind.data, self.behind.size)

    def __dealloc__(self):
        release(&self.behind)
        release(&self.tx)

    cdef int begin_run(self, run) except -1:
        """Prepare the transaction's object before and behind the ordinal, or null."""
        self.tx.size = self.behind.size = 0
        put(&self.tx, b',"tx":', 6)
        if run is None:
            put(&self.tx, b"null", 4)
            return put_byte(&self.behind, c'}')
        number, position, committed_at = run[2]
        put(&self.tx, b'{"id":', 6)
        if number is None:
            put(&self.tx, b"null", 4)
        else:
            put_str(&self.tx, number)
        put(&self.tx, b',"position":', 12)
        put_str(&self.tx, position)
        put(&self.tx, b',"ordinal":', 11)
        put(&self.behind, b',"committed_at":', 16)
        if committed_at is None:
            put(&self.behind, b"null", 4)
        else:
            put_instant(&self.behind, committed_at)
        return put(&self.behind, b"}}", 2)

    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1:
        cdef Text *line = &self.line
        cdef int64_t ordinal
        put_bytes(line, self.head)
        put_number(line, self.offset + index)
        put_bytes(line, mark)
        if op == _EVENT:
            put_event(line, self.events, self.published, number, at, end, b"",
                      b',"before":null,"after":{', b'},"unchanged":[]')
        else:
            self.put_change(index, op, table, at, end)
        put(line, b',"schema":', 10)
        put(line, table.name.data, table.name.size)
        put(line, self.tx.data, self.tx.size)
        if self.in_run:
            ordinal = index + self.shift
            if ordinal < 0:
                put_byte(line, c'-')
                ordinal = -ordinal
            put_number(line, ordinal)
        put(line, self.behind.data, self.behind.size)
        return self.end_line(index)

    cdef int put_change(
        self, Py_ssize_t index, int op, RowTable table, const uint8_t *at, const uint8_t *end
    ) except -1:
        """Key to unchanged of a row's event."""
        cdef Text *line = &self.line
        cdef Image old = self.old, new = self.new
        cdef int found = read_images(table, at, end, old, new)
        cdef Py_ssize_t start
        self.leave_old_key(index, op, table, found)
        start = line.size
        if not table.key or not found:
            put(line, b"null", 4)
        else:
            put_byte(line, c'{')
            if not found & NEW:
                table.put_key(line, old, None)
            else:
                table.put_key(line, new, old if found & OLD else None)
            put_byte(line, c'}')
            self.note_key(line.data + start, line.size - start)
        put(line, b',"before":', 10)
        put_image(line, table, old, found & OLD, found & KEY_ONLY)
        put(line, b',"after":', 9)
        put_image(line, table, new, found & NEW, False)
        put(line, b',"unchanged":', 13)
        if not found & NEW:
            return put(line, b"[]", 2)
        return table.put_gaps(line, new)


@cython.final
cdef class _FlatLines(Lines):
    cdef object published
    cdef list events
    cdef Text behind

    def __cinit__(self, batch, tables, marks, events, published):
        self.events = list(events)
        self.published = published

    def __dealloc__(self):
        release(&self.behind)

    cdef int begin_run(self, run) except -1:
        """Prepare what all events of a transaction end with."""
        cdef Text *text = &self.behind
        text.size = 0
        _, position, committed_at = run[2] if run is not None else (None, None, None)
        put(text, b'"__ts_ms":', 10)
        put_plain(text, "null" if committed_at is None else str(committed_at // 1000))
        put(text, b',"__position":', 14)
        if run is None:
            put(text, b"null", 4)
        else:
            put_str(text, position)
        return put_byte(text, c'}')

    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1:
        cdef Text *line = &self.line
        cdef Py_ssize_t start
        cdef int found
        put_byte(line, c'{')
        start = line.size
        if op == _EVENT:
            put_event(line, self.events, self.published, number, at, end, b'"key":', b",", b"")
        else:
            found = read_images(table, at, end, self.old, self.new)
            if found & NEW:
                full = found & OLD and not found & KEY_ONLY
                table.put_fields(line, self.new, self.old if full else None, False)
            elif found & KEY_ONLY:
                table.put_key(line, self.old, None)
            elif found & OLD:
                table.put_fields(line, self.old, None, False)
            self.leave_old_key(index, op, table, found)
            self.name_row(table, found)
        if line.size > start:
            put_byte(line, c',')
        put_bytes(line, mark)
        put(line, self.behind.data, self.behind.size)
        return self.end_line(index)


@cython.final
cdef class _DebeziumLines(Lines):
    cdef object source, run
    cdef bytes tail
    cdef list sources

    def __cinit__(self, batch, tables, marks, source, tail):
        self.source = source
        self.tail = tail

    cdef int begin_run(self, run) except -1:
        self.run = run
        self.sources = [None] * len(self.tables)
        return 0

    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1:
        """One line, or two for a changed key: a delete and a create."""
        cdef Text *line = &self.line
        cdef int found
        cdef Image old = self.old, new = self.new, older = None
        if self.sources[number] is None:
            # Rows of one transaction and table share this part.
            self.sources[number] = self.source(number, self.run)
        found = read_images(table, at, end, old, new)
        if op == _MESSAGE:
            put(line, b'{"message":', 11)
            put_image(line, table, new, found & NEW, False)
            return self.end_change(index, number, mark)
        put(line, b'{"before":', 10)
        if op == _UPDATE and found & OLD and found & NEW and table.key_changed(old, new):
            self.name_key(table, old, None)
            self.gone = True
            put_image(line, table, old, True, found & KEY_ONLY)
            put(line, b',"after":null', 13)
            self.end_change(index, number, b"d")
            put(line, b'{"before":null', 14)
            mark = b"c"
            self.gone = False
        else:
            put_image(line, table, old, found & OLD, found & KEY_ONLY)
        self.name_row(table, found)
        put(line, b',"after":', 9)
        if not found & NEW:
            put(line, b"null", 4)
        else:
            if found & OLD and not found & KEY_ONLY:
                older = old
            put_byte(line, c'{')
            table.put_fields(line, new, older, True)
            put_byte(line, c'}')
        return self.end_change(index, number, mark)

    cdef int end_change(self, Py_ssize_t index, Py_ssize_t number, bytes letter) except -1:
        cdef Text *line = &self.line
        put(line, b',"source":', 10)
        put_bytes(line, self.sources[number])
        put(line, b',"transaction":null,"op":"', 26)
        put_bytes(line, letter)
        put_byte(line, c'"')
        put_bytes(line, self.tail)
        return self.end_line(index)


cdef int put_event(
    Text *line, list events, published, Py_ssize_t number, const uint8_t *at, const uint8_t *end,
    bytes before, bytes between, bytes behind,
) except -1:
    """A published event: as most are by its table, else by the function ``published``."""
    cdef EventTable table = events[number]
    if table is not None and table.put(line, at, end, before, between, behind):
        return 0
    body = PyBytes_FromStringAndSize(<const char *> at, end - at)
    return put_plain(line, published(number, body))


def json_lines(batch, tables, marks, events, published):
    return (<Lines> _JsonLines(batch, tables, marks, events, published)).written(batch)


def json_messages(batch, tables, marks, events, published, event_key):
    return (<Lines> _JsonLines(batch, tables, marks, events, published)).sent(batch, event_key)


def flat_lines(batch, tables, marks, events, published):
    return (<Lines> _FlatLines(batch, tables, marks, events, published)).written(batch)


def flat_messages(batch, tables, marks, events, published, event_key):
    return (<Lines> _FlatLines(batch, tables, marks, events, published)).sent(batch, event_key)


def debezium_lines(batch, tables, marks, source, tail):
    return (<Lines> _DebeziumLines(batch, tables, marks, source, tail)).written(batch)


def debezium_messages(batch, tables, marks, source, tail):
    return (<Lines> _DebeziumLines(batch, tables, marks, source, tail)).sent(batch, None)
