"""The lines of the format cloudevents; typed for Python in ``cloudevents.pyi``."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ensign_core.rows.lines cimport Lines, put_image, put_instant, put_plain, put_str
from ensign_core.rows.table cimport KEY_ONLY, NEW, OLD, Image, RowTable, read_images
from ensign_core.rows.text cimport (
    Text,
    put,
    put_byte,
    put_bytes,
    put_number,
    put_string,
    release,
)

from ensign_core.change import Op

cdef int _EVENT = Op.EVENT


@cython.final
cdef class _CloudLines(Lines):
    cdef bytes head, source
    cdef object published
    cdef uint64_t offset
    cdef Text tx, named

    def __cinit__(self, batch, tables, marks, head, source, published):
        self.head, self.source = head, source
        self.published = published
        self.offset = batch.offset

    def __dealloc__(self):
        release(&self.tx)
        release(&self.named)

    cdef int begin_run(self, run) except -1:
        """Prepare what all events of a transaction have of it."""
        cdef Text *text = &self.tx
        text.size = 0
        if run is None:
            return 0
        number, position, committed_at = run[2]
        if committed_at is not None:
            put(text, b',"time":', 8)
            put_instant(text, committed_at)
        if number:
            put(text, b',"ensigntxid":', 14)
            put_str(text, number)
        if position:
            put(text, b',"ensignposition":', 18)
            put_str(text, position)
        return 0

    cdef int put_line(
        self, Py_ssize_t index, int op, Py_ssize_t number, RowTable table, bytes mark,
        const uint8_t *at, const uint8_t *end,
    ) except -1:
        cdef Text *line = &self.line
        put_bytes(line, self.head)
        put_number(line, self.offset + index)
        put_bytes(line, self.source)
        put(line, self.tx.data, self.tx.size)
        put(line, b',"subject":', 11)
        put(line, table.name.data, table.name.size)
        if op == _EVENT:
            body = PyBytes_FromStringAndSize(<const char *> at, end - at)
            put_plain(line, self.published(number, body))
        else:
            put_bytes(line, mark)
            self.put_change(index, op, table, at, end)
        put_byte(line, c'}')
        return self.end_line(index)

    cdef int put_change(
        self, Py_ssize_t index, int op, RowTable table, const uint8_t *at, const uint8_t *end
    ) except -1:
        """The key and the images of a row's event."""
        cdef Text *line = &self.line
        cdef Text *named = &self.named
        cdef Image old = self.old, new = self.new
        cdef int found = read_images(table, at, end, old, new)
        self.leave_old_key(index, op, table, found)
        if table.key and found:
            named.size = 0
            put_byte(named, c'{')
            if not found & NEW:
                table.put_key(named, old, None)
            else:
                table.put_key(named, new, old if found & OLD else None)
            put_byte(named, c'}')
            put(line, b',"partitionkey":', 16)
            put_string(line, <const uint8_t *> named.data, named.size)
            self.note_key(named.data, named.size)
        put(line, b',"datacontenttype":"application/json","data":{"before":', 55)
        put_image(line, table, old, found & OLD, found & KEY_ONLY)
        put(line, b',"after":', 9)
        put_image(line, table, new, found & NEW, False)
        put(line, b',"unchanged":', 13)
        if found & NEW:
            table.put_gaps(line, new)
        else:
            put(line, b"[]", 2)
        return put_byte(line, c'}')


def lines(batch, tables, marks, head, source, published):
    return (<Lines> _CloudLines(batch, tables, marks, head, source, published)).written(batch)


def messages(batch, tables, marks, head, source, published, event_key):
    cdef Lines found = _CloudLines(batch, tables, marks, head, source, published)
    return found.sent(batch, event_key)
