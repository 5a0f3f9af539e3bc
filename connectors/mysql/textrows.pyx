"""Text result sets of the client protocol to bodies in the row layout; typed for Python in
``textrows.pyi``.

The format is that of MySQL Client/Server Protocol, "COM_QUERY Response" and "Protocol::Packet". An
EOF behind the column definitions comes unless CLIENT_DEPRECATE_EOF was agreed, which ends the rows
with an OK packet; both are told from a row by their length.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from connectors.mysql.digits cimport little_endian
from connectors.mysql.fields cimport Fields
from connectors.mysql.gathered cimport Gathered
from connectors.mysql.shown cimport put_shown
from ensign_core.rows.text cimport Text, make_room, put, release

from connectors.mysql.damage import DamagedError, MismatchError, ServerError

cdef enum:
    _HEAD = 4
    # A payload of this size is continued in the next packet.
    _PAYLOAD_MAX = 0xFFFFFF
    _ROOM_KEPT_MAX = 1 << 22
    # First bytes of payloads, and of values.
    _OK = 0x00
    _NULL = 0xFB
    _EOF = 0xFE
    _ERR = 0xFF
    _EOF_SIZE = 5
    _MORE_RESULTS = 8

cdef enum Phase:
    _COUNT
    _COLUMNS
    _FIRST_ROW
    _ROWS
    _ENDED

_OURS = (DamagedError, MismatchError)


cdef class TextRows:
    cdef Fields fields
    cdef Phase phase
    # What came and is not read yet starts at ``at``.
    cdef Text buffer
    cdef Py_ssize_t at
    # The payload of a packet that is continued.
    cdef Text joined
    cdef uint8_t sequence
    cdef Py_ssize_t columns_left
    # Where each column of the last row starts in the text, and the key's values in it.
    cdef Py_ssize_t *starts
    cdef tuple key
    cdef tuple found_key

    def __cinit__(self, columns, key):
        self.fields = Fields(columns, key)
        self.key = tuple(key)
        self.phase = _COUNT
        self.sequence = 1
        self.starts = <Py_ssize_t *> calloc(self.fields.count + 1, sizeof(Py_ssize_t))
        if self.starts == NULL:
            raise MemoryError

    def __dealloc__(self):
        release(&self.buffer)
        release(&self.joined)
        free(self.starts)

    @property
    def ended(self):
        return self.phase == _ENDED

    def last_key(self):
        return self.found_key

    def feed(self, data):
        cdef Py_buffer view
        self._make_space()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            put(&self.buffer, view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int _make_space(self) except -1:
        """Drop what was read, unless that would move more than it wins."""
        cdef Py_ssize_t left = self.buffer.size - self.at
        if left > self.at:
            return 0
        if not left and self.buffer.room > _ROOM_KEPT_MAX:
            release(&self.buffer)
        elif left:
            memmove(self.buffer.data, self.buffer.data + self.at, left)
        self.buffer.size = left
        self.at = 0
        return 0

    def rows(self, Gathered into not None, Py_ssize_t bytes_max):
        cdef Py_ssize_t size = into.text.size, ends_size = into.ends.size
        cdef Py_ssize_t count = 0
        cdef const uint8_t *payload
        cdef Py_ssize_t payload_size
        try:
            while into.text.size - size < bytes_max:
                payload = self._payload(&payload_size)
                if payload == NULL:
                    break
                if self._is_row(payload, payload_size):
                    self._row(payload, payload + payload_size, &into.text)
                    into.end_event()
                    count += 1
                self.joined.size = 0
            if count:
                self._find_key(&into.text)
            return count
        except BaseException as error:
            into.cut_to(size, ends_size)
            if isinstance(error, ValueError) and not isinstance(error, _OURS):
                raise DamagedError("a value that is not as its type says") from None
            raise

    cdef const uint8_t *_payload(self, Py_ssize_t *size) except? NULL:
        """The next packet's payload, joined if it is continued, for as long as nothing is fed;
        NULL if it has not come whole."""
        cdef const uint8_t *head
        cdef Py_ssize_t length
        while self.buffer.size - self.at >= _HEAD:
            head = <const uint8_t *> self.buffer.data + self.at
            length = little_endian(head, 3)
            if head[3] != self.sequence or self.phase == _ENDED:
                raise DamagedError("a packet out of order")
            if self.buffer.size - self.at - _HEAD < length:
                return NULL
            self.sequence += 1
            self.at += _HEAD + length
            if length < _PAYLOAD_MAX and not self.joined.size:
                size[0] = length
                return head + _HEAD
            put(&self.joined, head + _HEAD, length)
            if length < _PAYLOAD_MAX:
                size[0] = self.joined.size
                return <const uint8_t *> self.joined.data
        return NULL

    cdef bint _is_row(self, const uint8_t *payload, Py_ssize_t size) except -1:
        """Whether a packet is a row; what is none is dealt with."""
        if size and payload[0] == _ERR:
            raise _server_error(<bytes> payload[:size])
        if self.phase >= _FIRST_ROW:
            if not size or payload[0] != _EOF or size >= _PAYLOAD_MAX:
                self.phase = _ROWS
                return True
            self._end(payload, size)
        elif self.phase == _COLUMNS:
            self.columns_left -= 1
            if not self.columns_left:
                self.phase = _FIRST_ROW
        else:
            self._begin(payload, size)
        return False

    cdef int _begin(self, const uint8_t *payload, Py_ssize_t size) except -1:
        """The first packet: the number of columns."""
        cdef const uint8_t *at = payload
        cdef Py_ssize_t count = 0
        if not size or payload[0] == _OK or payload[0] == _NULL:
            raise DamagedError("an answer without rows")
        at = _length(at, payload + size, &count)
        if at != payload + size:
            raise DamagedError("an answer that does not begin with its columns")
        # An answer has at least one column, also where none is wanted of its rows.
        if count != (self.fields.count or 1):
            raise MismatchError("an answer has another number of columns than was asked for")
        self.columns_left = count
        self.phase = _COLUMNS
        return 0

    cdef int _end(self, const uint8_t *payload, Py_ssize_t size) except -1:
        """An EOF, or an OK that stands for it, of which what counts is whether more follows."""
        cdef const uint8_t *at = payload + 1
        cdef const uint8_t *end = payload + size
        cdef Py_ssize_t number
        if size == _EOF_SIZE:
            if self.phase == _FIRST_ROW:
                self.phase = _ROWS
                return 0
            at += 2
        else:
            # Affected rows and the last id.
            at = _length(at, end, &number)
            at = _length(at, end, &number)
        if end - at < 2:
            raise DamagedError("an end that is cut")
        if at[0] & _MORE_RESULTS:
            raise DamagedError("more results than were asked for")
        self.phase = _ENDED
        return 0

    cdef int _row(self, const uint8_t *at, const uint8_t *end, Text *text) except -1:
        cdef Py_ssize_t i, size
        make_room(text, 3)
        text.data[text.size] = c'N'
        text.data[text.size + 1] = <char> (self.fields.count >> 8)
        text.data[text.size + 2] = <char> (self.fields.count & 255)
        text.size += 3
        for i in range(self.fields.count):
            self.starts[i] = text.size
            if at == end:
                raise DamagedError("a row ends before its columns")
            if at[0] == _NULL:
                at += 1
                put(text, b"n", 1)
                continue
            at = _length(at, end, &size)
            if end - at < size:
                raise DamagedError("a row ends within a value")
            put_shown(self.fields, text, &self.fields.all[i], at, size)
            at += size
        if at != end and self.fields.count:
            raise DamagedError("a row has more columns than were asked for")
        return 0

    cdef int _find_key(self, Text *text) except -1:
        cdef Py_ssize_t index
        cdef const uint8_t *at
        cdef list found = []
        for index in self.key:
            at = <const uint8_t *> text.data + self.starts[index]
            if at[0] == c'n':
                found.append(None)
            else:
                found.append(PyBytes_FromStringAndSize(
                    <const char *> at + 5,
                    <uint32_t> at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4],
                ))
        self.found_key = tuple(found)
        return 0


cdef inline const uint8_t *_length(
    const uint8_t *at, const uint8_t *end, Py_ssize_t *number
) except NULL:
    """A length-encoded integer (MySQL Client/Server Protocol, "Protocol::LengthEncodedInteger")."""
    cdef int width
    cdef uint64_t found
    if at == end:
        raise DamagedError("a packet ends before a length")
    if at[0] < _NULL:
        number[0] = at[0]
        return at + 1
    width = 2 if at[0] == 0xFC else 3 if at[0] == 0xFD else 8
    if at[0] == _NULL or at[0] == _ERR or end - at <= width:
        raise DamagedError("a packet ends within a length")
    found = little_endian(at + 1, width)
    if found >> 62:
        raise DamagedError("a length that no packet has")
    number[0] = found
    return at + 1 + width


def _server_error(bytes payload):
    """Of an ERR packet: number, a mark, SQLSTATE; the text behind them is not for us."""
    if len(payload) < 3:
        return DamagedError("an error that is cut")
    marked = payload[3:4] == b"#"
    return ServerError(
        int.from_bytes(payload[1:3], "little"),
        payload[4:9].decode("ascii", "replace") if marked else "HY000",
    )
