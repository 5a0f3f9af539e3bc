"""Rows events of a binlog to bodies in the row layout; typed for Python in ``rowimage.pyi``.

The format is that of MySQL Internals, "Rows_event", and of the server's ``unpack_row``: a number of
columns, a bitmap of those present in the images (for updates one for the old and one for the new),
then for each row its images: a bitmap of nulls among the columns present, and the values of those
that are not null. All that is read is checked against the event's end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from connectors.mysql.binaryjson cimport put_json_patched
from connectors.mysql.digits cimport little_endian
from connectors.mysql.fields cimport JSON, Field, Fields, begin, end as end_value
from connectors.mysql.gathered cimport Gathered
from connectors.mysql.stored cimport put_stored
from ensign_core.rows.layout cimport column_end
from ensign_core.rows.text cimport Text, make_room

from connectors.mysql.damage import DamagedError, MismatchError, NoBaseError

cdef enum:
    _WRITE = 0
    _UPDATE = 1
    _DELETE = 2
    _PARTIAL_UPDATE = 3
    # Of the value options of a partial update (WL#2955).
    _PARTIAL_JSON = 1
    _NULL = -1

_OURS = (DamagedError, MismatchError, NoBaseError)

WRITE, UPDATE, DELETE, PARTIAL_UPDATE = _WRITE, _UPDATE, _DELETE, _PARTIAL_UPDATE

cdef struct Image:
    # Which columns are there, as the event says it.
    const uint8_t *present
    bint whole
    Py_ssize_t nulls_size
    char marker
    # Kind of the columns that are not there.
    char absent

cdef struct Value:
    # Of a column of the old image: where it starts in the text, and its bytes in the event; NULL if
    # it is not there, or null, which ``size`` tells.
    Py_ssize_t start
    const uint8_t *data
    Py_ssize_t size


cdef inline bint _bit(const uint8_t *bits, Py_ssize_t index) noexcept:
    return bits[index >> 3] >> (index & 7) & 1


cdef class RowDecoder:
    cdef Fields fields
    # Values of the old image, kept where the new one may need them; as many as there are columns.
    cdef Value *olds
    cdef const uint8_t *end

    def __cinit__(self, columns, key, keep=None):
        self.fields = Fields(columns, key, keep)
        self.olds = <Value *> calloc(self.fields.count + 1, sizeof(Value))
        if self.olds == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.olds)

    def rows(self, bytes event not None, Py_ssize_t at, int kind, Gathered into not None):
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(event)
        cdef Py_ssize_t size = into.text.size, ends_size = into.ends.size
        if not 0 <= at <= PyBytes_GET_SIZE(event):
            raise DamagedError("a rows event ends before its rows")
        if not _WRITE <= kind <= _PARTIAL_UPDATE:
            raise ValueError("there is no such kind of rows event")
        self.end = data + PyBytes_GET_SIZE(event)
        try:
            return self._rows(data + at, kind, into)
        except BaseException as error:
            into.cut_to(size, ends_size)
            if isinstance(error, ValueError) and not isinstance(error, _OURS):
                raise DamagedError("a value that is not as its type says") from None
            raise

    cdef Py_ssize_t _rows(self, const uint8_t *at, int kind, Gathered into) except -1:
        """All rows. One that says nothing of any column, as MINIMAL images are of an INSERT without
        values, is alone in its event and takes no byte of it."""
        cdef Image old, new
        cdef Py_ssize_t count = 0
        cdef bint updates = kind == _UPDATE or kind == _PARTIAL_UPDATE
        at = self._column_count(at)
        at = self._image(at, &old)
        if kind == _WRITE:
            old.marker, old.absent = c'N', c'u'
        else:
            self._mark_old(&old)
        if updates:
            at = self._image(at, &new)
            new.marker, new.absent = c'N', c'u'
        if not old.nulls_size and (kind != _WRITE or at < self.end):
            raise DamagedError("a row image without columns")
        while at < self.end or not (old.nulls_size or count):
            at = self._row(at, &old, &into.text, updates and not new.whole, kind == _PARTIAL_UPDATE)
            if updates:
                at = self._new_row(at, &new, &into.text, kind == _PARTIAL_UPDATE)
            into.end_event()
            count += 1
        return count

    cdef const uint8_t *_column_count(self, const uint8_t *at) except NULL:
        """The number of columns, which must be that of the fields: a length-encoded integer (MySQL
        Client/Server Protocol, "Protocol::LengthEncodedInteger")."""
        cdef Py_ssize_t width
        cdef uint64_t count
        if at == self.end:
            raise DamagedError("a rows event ends before its columns")
        count = at[0]
        at += 1
        if count > 250:
            width = 2 if count == 252 else 3 if count == 253 else 8 if count == 254 else 0
            if not width or self.end - at < width:
                raise DamagedError("a rows event ends before its columns")
            count = little_endian(at, width)
            at += width
        if count != <uint64_t> self.fields.count:
            raise MismatchError("a rows event has another number of columns than its table")
        return at

    cdef const uint8_t *_image(self, const uint8_t *at, Image *image) except NULL:
        """Read a bitmap of columns present."""
        cdef Py_ssize_t size = (self.fields.count + 7) // 8, i, there = 0
        if self.end - at < size:
            raise DamagedError("a rows event ends before its bitmaps")
        image.present = at
        for i in range(self.fields.count):
            there += _bit(at, i)
        image.whole = there == self.fields.count
        image.nulls_size = (there + 7) // 8
        return at + size

    cdef int _mark_old(self, Image *image) except -1:
        """An image of the key's columns and no others is key-only; all others say of each column
        whether they have it."""
        cdef bint key_only = not image.whole and image.nulls_size > 0
        cdef Py_ssize_t i
        for i in range(self.fields.count):
            key_only = key_only and _bit(image.present, i) == self.fields.all[i].in_key
        image.marker, image.absent = c'K' if key_only else c'O', c'n' if key_only else c'u'
        return 0

    cdef int _begin_row(self, Text *text, char marker) except -1:
        make_room(text, 3)
        text.data[text.size] = marker
        text.data[text.size + 1] = <char> (self.fields.kept >> 8)
        text.data[text.size + 2] = <char> (self.fields.kept & 255)
        text.size += 3
        return 0

    cdef inline const uint8_t *_value(
        self, const Field *field, const uint8_t *at, Py_ssize_t *size
    ) except NULL:
        """Where the bytes of the value at ``at`` begin, and how many they are."""
        size[0] = field.size
        if field.prefix:
            if self.end - at < field.prefix:
                raise DamagedError("a row image ends within a length")
            size[0] = little_endian(at, field.prefix)
            at += field.prefix
        if self.end - at < size[0]:
            raise DamagedError("a row image ends within a value")
        return at

    cdef const uint8_t *_row(
        self, const uint8_t *at, const Image *image, Text *text, bint to_fill, bint partial
    ) except NULL:
        """Read an image that stands by itself. With ``to_fill`` or ``partial`` a new image follows
        that may need its values."""
        cdef const uint8_t *nulls = at
        cdef const Field *field
        cdef Py_ssize_t i, null = 0, size
        if self.end - at < image.nulls_size:
            raise DamagedError("a row image ends within its nulls")
        at += image.nulls_size
        self._begin_row(text, image.marker)
        if to_fill or partial:
            memset(self.olds, 0, self.fields.count * sizeof(Value))
        for i in range(self.fields.count):
            field = &self.fields.all[i]
            if to_fill or partial:
                self.olds[i].start = text.size
            if not image.whole and not _bit(image.present, i):
                if field.kept:
                    _put_kind(text, image.absent)
                continue
            null += 1
            if _bit(nulls, null - 1):
                self.olds[i].size = _NULL
                if field.kept:
                    _put_kind(text, c'n')
                continue
            at = self._value(field, at, &size)
            if partial:
                self.olds[i].data, self.olds[i].size = at, size
            if field.kept:
                put_stored(self.fields, text, field, at, size)
            at += size
        return at

    cdef const uint8_t *_new_row(
        self, const uint8_t *at, const Image *image, Text *text, bint partial
    ) except NULL:
        """Read the new image of an update, behind its old one."""
        if image.whole and not partial:
            return self._row(at, image, text, False, False)
        return self._new_row_of_parts(at, image, text, partial)

    cdef const uint8_t *_new_row_of_parts(
        self, const uint8_t *at, const Image *image, Text *text, bint partial
    ) except NULL:
        """Read a new image that needs the old one: for columns of the key that it lacks, or for
        JSON columns that it has as changes to the old value."""
        cdef const uint8_t *parts = NULL
        cdef const uint8_t *nulls
        cdef const Field *field
        cdef Py_ssize_t i, null = 0, json = 0, size
        cdef bint changes
        if partial:
            at = self._value_options(at, &parts)
        nulls = at
        if self.end - at < image.nulls_size:
            raise DamagedError("a row image ends within its nulls")
        at += image.nulls_size
        self._begin_row(text, image.marker)
        for i in range(self.fields.count):
            field = &self.fields.all[i]
            changes = False
            if parts != NULL and field.code == JSON:
                # A bit for each JSON column, present or not.
                changes = _bit(parts, json)
                json += 1
            if not _bit(image.present, i):
                if field.kept:
                    self._put_absent(text, field)
                continue
            null += 1
            if _bit(nulls, null - 1):
                if field.kept:
                    _put_kind(text, c'n')
                continue
            at = self._value(field, at, &size)
            if field.kept and changes:
                self._put_patched(text, i, at, size)
            elif field.kept:
                put_stored(self.fields, text, field, at, size)
            at += size
        return at

    cdef const uint8_t *_value_options(
        self, const uint8_t *at, const uint8_t **parts
    ) except NULL:
        """What is before the nulls in the new image of a partial update."""
        cdef Py_ssize_t size = (self.fields.json_count + 7) // 8
        if at == self.end:
            raise DamagedError("a row image ends before its options")
        if at[0] > _PARTIAL_JSON:
            raise DamagedError("a row image has options that nobody knows")
        if at[0] == 0:
            return at + 1
        at += 1
        if self.end - at < size:
            raise DamagedError("a row image ends within its options")
        parts[0] = at
        return at + size

    cdef int _put_absent(self, Text *text, const Field *field) except -1:
        """A column that a new image lacks; those of the key are in the old one."""
        cdef Py_ssize_t start = self.olds[field.index].start, size
        cdef const uint8_t *column
        if not field.in_key:
            return _put_kind(text, c'u')
        column = <const uint8_t *> text.data + start
        size = column_end(column, <const uint8_t *> text.data + text.size) - column
        make_room(text, size)
        memcpy(text.data + text.size, text.data + start, size)
        text.size += size
        return 0

    cdef int _put_patched(
        self, Text *text, Py_ssize_t index, const uint8_t *data, Py_ssize_t size
    ) except -1:
        """JSON as changes to the old value. Where the old image lacks that (a MINIMAL one), nobody
        knows the new one, and it is not unchanged."""
        cdef const Value *old = &self.olds[index]
        cdef Py_ssize_t start
        if old.data == NULL:
            if old.size == _NULL:
                raise DamagedError("changes to a JSON value that is null")
            raise NoBaseError("changes to a JSON value that the old image lacks")
        start = begin(text, c't', 2 * old.size)
        put_json_patched(text, old.data, old.size, data, size)
        return end_value(text, start)


cdef inline int _put_kind(Text *text, char kind) except -1:
    make_room(text, 1)
    text.data[text.size] = kind
    text.size += 1
    return 0
