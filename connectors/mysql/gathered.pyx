"""The body of a batch while it grows; typed for Python in ``gathered.pyi``.

Decoders write into ``text`` and call `end_event` behind each event. One that fails calls `cut_to`
with the sizes that it found.
"""

from cpython cimport array
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from ensign_core.rows.text cimport hold_in_bytes, put, put_bytes, release, taken

from array import array as new_array

cdef enum:
    _END = 4
    # What the next batch starts with: about what the last one took, within these.
    _ROOM_MIN = 1 << 12
    _ROOM_MAX = 1 << 22

cdef array.array _ENDS = new_array("I")


cdef class Gathered:
    def __cinit__(self):
        hold_in_bytes(&self.text, _ROOM_MIN)

    def __dealloc__(self):
        release(&self.text)
        release(&self.ends)

    def __len__(self):
        return self.ends.size // _END

    @property
    def size(self):
        return self.text.size

    cdef int end_event(self) except -1:
        """What was written since the last event's end is an event."""
        cdef uint32_t end = <uint32_t> self.text.size
        if self.text.size > 0xFFFFFFFF:
            raise OverflowError("a batch's body has less than 4 GiB")
        return put(&self.ends, &end, _END)

    cdef int cut_to(self, Py_ssize_t size, Py_ssize_t ends_size) except -1:
        if self.text.data == NULL:
            # There was no memory to grow into, and what there was is lost with it.
            self.text.size = self.ends.size = 0
            return hold_in_bytes(&self.text, _ROOM_MIN)
        self.text.size, self.ends.size = size, ends_size
        return 0

    def append(self, bytes body not None):
        cdef Py_ssize_t size = self.text.size
        put_bytes(&self.text, body)
        try:
            self.end_event()
        except BaseException:
            self.text.size = size
            raise

    def body(self, Py_ssize_t index):
        cdef Py_ssize_t start
        if not 0 <= index < self.ends.size // _END:
            raise IndexError("there is no such event")
        start = _end(&self.ends, index - 1)
        return PyBytes_FromStringAndSize(
            self.text.data + start, _end(&self.ends, index) - start
        )

    def bodies(self, Py_ssize_t start=0):
        cdef Py_ssize_t i
        if start < 0:
            raise IndexError("there is no such event")
        return [self.body(i) for i in range(start, self.ends.size // _END)]

    def cut(self, Py_ssize_t start):
        if not 0 <= start <= self.ends.size // _END:
            raise IndexError("there is no such event")
        self.cut_to(_end(&self.ends, start - 1), start * _END)

    def take(self):
        cdef Py_ssize_t size = self.text.size
        cdef array.array ends = array.clone(_ENDS, self.ends.size // _END, zero=False)
        if self.ends.size:
            memcpy(ends.data.as_uints, self.ends.data, self.ends.size)
        body = taken(&self.text)
        self.ends.size = 0
        if self.ends.room > _ROOM_MAX:
            release(&self.ends)
        hold_in_bytes(&self.text, min(max(size, _ROOM_MIN), _ROOM_MAX))
        return body, ends


cdef inline Py_ssize_t _end(Text *ends, Py_ssize_t index) noexcept:
    """Where the event at ``index`` ends, 0 for -1."""
    cdef uint32_t end
    if index < 0:
        return 0
    memcpy(&end, ends.data + index * _END, _END)
    return end
