"""The packets of a binlog dump to events; typed for Python in ``framing.pyi``.

Formats: MySQL Source Code Documentation, "MySQL Packets", "ERR_Packet", "EOF_Packet", "Binlog
Network Stream" and "Binlog Event". A packet is three bytes of length, one of its sequence number,
and its payload; one of 2^24 - 1 bytes goes on in the next. A payload is 0x00 and an event, 0xFF and
an error, or 0xFE and less than 8 bytes more, the end.

Packets up to 256 KiB are taken whole out of what was received. A larger one is gathered in the very
object that is then given out, so that each byte is copied once.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from ensign_core.rows.text cimport data_of, new_bytes, resize

from zlib import crc32

from connectors.mysql.bounds import EVENT_BYTES_MAX
from connectors.mysql.damage import DamagedError, ServerError
from connectors.mysql.events import describes_checksums

cdef enum:
    _HEAD = 4
    _PACKET_MAX = 0xFFFFFF
    _ROOM = 1 << 20
    _ROOM_MIN = 1 << 18
    _WHOLE_MAX = 1 << 18
    _EVENT_HEAD = 19
    _CHECKSUM = 4
    _FORMAT_DESCRIPTION = 15
    # In a format description: binlog version, server version, time, length of an event's header.
    _VERSION_AT = 21
    _VERSION_SIZE = 50
    _DESCRIPTION_MIN = 76
    _OK = 0x00
    _EOF = 0xFE
    _ERR = 0xFF


cdef inline uint32_t _uint24(const uint8_t *at) noexcept:
    return at[0] | <uint32_t> at[1] << 8 | <uint32_t> at[2] << 16


cdef inline uint32_t _uint32(const uint8_t *at) noexcept:
    return _uint24(at) | <uint32_t> at[3] << 24


cdef class Framer:
    cdef bytearray _room
    cdef uint8_t *_data
    # What was received and not taken is between these places of the room.
    cdef Py_ssize_t _start, _stop
    # The payload being gathered, without its 0x00, how much of it has come, how much of its current
    # packet has not, and whether that packet is followed by another of the same payload.
    cdef PyObject *_payload
    cdef Py_ssize_t _size, _missing
    cdef bint _goes_on
    cdef uint8_t _sequence
    cdef readonly bint checksums, ended
    cdef object _failure

    def __cinit__(self, bint checksums):
        self._room = bytearray(_ROOM)
        self._data = <uint8_t *> PyByteArray_AS_STRING(self._room)
        self._payload = NULL
        self._sequence = 1
        self.checksums = checksums

    def __dealloc__(self):
        Py_CLEAR(self._payload)

    def buffer(self):
        if self._start == self._stop:
            self._start = self._stop = 0
        elif _ROOM - self._stop < _ROOM_MIN:
            memmove(self._data, self._data + self._start, self._stop - self._start)
            self._stop -= self._start
            self._start = 0
            if _ROOM - self._stop < _ROOM_MIN:
                raise ValueError("there are events to take first")
        return memoryview(self._room)[self._stop:]

    def filled(self, Py_ssize_t count):
        if not 0 <= count <= _ROOM - self._stop:
            raise ValueError("more than there was room for")
        self._stop += count

    def events(self, Py_ssize_t size_max=_ROOM):
        cdef list found = []
        cdef Py_ssize_t size = 0
        cdef bytes event
        if self._failure is not None:
            raise self._failure
        try:
            while not self.ended and (not size or size < size_max):
                event = self._next()
                if event is None:
                    break
                size += PyBytes_GET_SIZE(event)
                found.append(event)
        except (DamagedError, ServerError) as failure:
            # The events before it are good; whoever took them meets it with the next call.
            self._failure = failure
            if not found:
                raise
        return found

    cdef bytes _next(self):
        """The next event, or None where it has not come whole."""
        cdef const uint8_t *at
        cdef Py_ssize_t there, length
        if self._payload != NULL:
            return self._gathered()
        at = self._data + self._start
        there = self._stop - self._start
        if there < _HEAD + 1:
            # The shortest packet has one byte; an empty one comes only as the last of several.
            if there == _HEAD and _uint24(at) == 0:
                raise DamagedError("an empty packet")
            return None
        length = _uint24(at)
        if length == 0:
            raise DamagedError("an empty packet")
        if there < _HEAD + length and length <= _WHOLE_MAX:
            return None
        self._numbered(at[3])
        if length > _WHOLE_MAX:
            if at[_HEAD] != _OK:
                raise DamagedError("a large packet without an event")
            self._start += _HEAD + 1
            self._begin(length - 1, length == _PACKET_MAX)
            return self._gathered()
        self._start += _HEAD + length
        if at[_HEAD] != _OK:
            return self._special(at + _HEAD, length)
        return self._event(at + _HEAD + 1, length - 1)

    cdef int _numbered(self, uint8_t sequence) except -1:
        if sequence != self._sequence:
            raise DamagedError("a packet out of sequence")
        self._sequence += 1
        return 0

    cdef bytes _special(self, const uint8_t *payload, Py_ssize_t length):
        """An EOF packet, which ends the stream, or an ERR packet, which is raised."""
        if payload[0] == _EOF and length < 9:
            self.ended = True
            return None
        if payload[0] == _ERR and length >= 3:
            state = b"HY000"
            if length >= 9 and payload[3] == c'#':
                state = payload[4:9]
            raise ServerError(payload[1] | payload[2] << 8, state.decode("ascii", "replace"))
        raise DamagedError("a packet of an unknown kind")

    cdef int _begin(self, Py_ssize_t size, bint goes_on) except -1:
        self._payload = new_bytes(NULL, size)
        self._size, self._missing, self._goes_on = 0, size, goes_on
        return 0

    cdef bytes _gathered(self):
        """Move what has come of a large payload to where it is gathered; the event, once whole."""
        cdef Py_ssize_t step
        cdef const uint8_t *at
        while True:
            step = min(self._missing, self._stop - self._start)
            memcpy(data_of(self._payload) + self._size, self._data + self._start, step)
            self._start += step
            self._size += step
            self._missing -= step
            if self._missing:
                return None
            if not self._goes_on:
                return self._large()
            at = self._data + self._start
            if self._stop - self._start < _HEAD:
                return None
            self._numbered(at[3])
            self._start += _HEAD
            self._missing = _uint24(at)
            self._goes_on = self._missing == _PACKET_MAX
            self._bounded(<const uint8_t *> data_of(self._payload))
            resize(&self._payload, self._size + self._missing)

    cdef int _bounded(self, const uint8_t *data) except -1:
        """What an event says of its own size, before more of it than a packet is held."""
        cdef Py_ssize_t size = _uint32(data + 9)
        if size > EVENT_BYTES_MAX:
            raise DamagedError("an event of more than 1 GiB")
        if self._size + self._missing > size:
            raise DamagedError("an event that is not as long as it says")
        return 0

    cdef bytes _large(self):
        cdef PyObject *payload = self._payload
        cdef const uint8_t *data = <const uint8_t *> data_of(payload)
        cdef Py_ssize_t size = self._size, tail
        cdef uint32_t checksum = 0
        self._payload = NULL
        try:
            if size >= _EVENT_HEAD and data[4] == _FORMAT_DESCRIPTION:
                raise DamagedError("a format description of this size")
            tail = self._tail(data, size)
            if tail:
                checksum = _uint32(data + size - tail)
                resize(&payload, size - tail)
            event = <bytes> payload
        finally:
            if payload != NULL:
                Py_DECREF(<object> payload)
        return self._verified(event, checksum, tail != 0)

    cdef Py_ssize_t _tail(self, const uint8_t *data, Py_ssize_t size) except -1:
        """How many bytes at an event's end are its checksum; the event's own size is checked."""
        cdef Py_ssize_t tail = _CHECKSUM if self.checksums else 0
        if size < _EVENT_HEAD + tail or _uint32(data + 9) != <uint32_t> size:
            raise DamagedError("an event that is not as long as it says")
        return tail

    cdef bytes _event(self, const uint8_t *data, Py_ssize_t size):
        cdef Py_ssize_t tail
        if size >= _EVENT_HEAD and data[4] == _FORMAT_DESCRIPTION:
            return self._description(data, size)
        tail = self._tail(data, size)
        event = PyBytes_FromStringAndSize(<const char *> data, size - tail)
        return self._verified(event, _uint32(data + size - tail) if tail else 0, tail != 0)

    cdef bytes _description(self, const uint8_t *data, Py_ssize_t size):
        """A format description, and the checksums of what follows as it tells them. It has a
        checksum itself even where they are off, which then is not the right one if the server
        changed the event on its way."""
        cdef uint8_t algorithm = 0
        if size < _DESCRIPTION_MIN + 1 + _CHECKSUM or _uint32(data + 9) != <uint32_t> size:
            raise DamagedError("a format description that is not as long as it says")
        version = data[_VERSION_AT:_VERSION_AT + _VERSION_SIZE]
        if not describes_checksums(version.partition(b"\0")[0]):
            self.checksums = False
            return PyBytes_FromStringAndSize(<const char *> data, size)
        algorithm = data[size - _CHECKSUM - 1]
        if algorithm > 1 and algorithm != 255:
            raise DamagedError("checksums of an unknown algorithm")
        self.checksums = algorithm == 1
        event = PyBytes_FromStringAndSize(<const char *> data, size - _CHECKSUM)
        return self._verified(event, _uint32(data + size - _CHECKSUM), self.checksums)

    cdef bytes _verified(self, bytes event, uint32_t checksum, bint has_one):
        if has_one and <uint32_t> crc32(event) != checksum:
            raise DamagedError(f"an event of type {event[4]} whose checksum is wrong")
        return event
