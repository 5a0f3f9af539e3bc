"""JSON taken apart one level deep, exactly; typed for Python in ``members.pyi``."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from ensign_core.rows.text cimport Text, is_utf8, put, put_byte, release, unescaped_span

cdef enum:
    _DEPTH_MAX = 500

DEPTH_MAX = _DEPTH_MAX

cdef struct Found:
    # A value's kind, and where its text begins and ends: of a string between its quotes.
    uint8_t kind
    bint escaped
    const uint8_t *start
    const uint8_t *end


cdef inline const uint8_t *_space(const uint8_t *at, const uint8_t *end) noexcept:
    while at < end and (at[0] == c' ' or at[0] == c'\n' or at[0] == c'\r' or at[0] == c'\t'):
        at += 1
    return at


cdef const uint8_t *_string(const uint8_t *at, const uint8_t *end, Found *found) noexcept:
    """``at`` is behind the quote. The functions of this kind say where what they look at ends, NULL
    where it is not as RFC 8259 has it."""
    cdef int i
    found.kind, found.escaped, found.start = c's', False, at
    while True:
        at += unescaped_span(at, end - at)
        if at == end or at[0] < 0x20:
            return NULL
        if at[0] == c'"':
            found.end = at
            return at + 1
        found.escaped = True
        if end - at < 2:
            return NULL
        if at[1] == c'u':
            if end - at < 6:
                return NULL
            for i in range(2, 6):
                if _digit(at[i]) < 0:
                    return NULL
            at += 6
        elif at[1] in b'"\\/bfnrt':
            at += 2
        else:
            return NULL


cdef inline int _digit(uint8_t byte) noexcept:
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 0x20
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef inline const uint8_t *_digits(const uint8_t *at, const uint8_t *end) noexcept:
    """One or more."""
    cdef const uint8_t *start = at
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return at if at > start else NULL


cdef const uint8_t *_number(const uint8_t *at, const uint8_t *end, Found *found) noexcept:
    found.kind, found.escaped, found.start = c'i', False, at
    if at[0] == c'-':
        at += 1
    if at < end and at[0] == c'0':
        at += 1
    else:
        at = _digits(at, end)
        if at == NULL:
            return NULL
    if at < end and at[0] == c'.':
        found.kind = c'f'
        at = _digits(at + 1, end)
        if at == NULL:
            return NULL
    if at < end and (at[0] == c'e' or at[0] == c'E'):
        found.kind = c'f'
        at += 1
        if at < end and (at[0] == c'+' or at[0] == c'-'):
            at += 1
        at = _digits(at, end)
    found.end = at
    return at


cdef const uint8_t *_word(
    const uint8_t *at, const uint8_t *end, const char *word, Py_ssize_t size, Found *found
) noexcept:
    if end - at < size or memcmp(at, word, size):
        return NULL
    found.escaped, found.start, found.end = False, at, at + size
    return at + size


cdef const uint8_t *_value(
    const uint8_t *at, const uint8_t *end, int depth, Found *found
) except? NULL:
    cdef Found inner
    cdef uint8_t first, close
    if at == end:
        return NULL
    first = at[0]
    if first == c'"':
        return _string(at + 1, end, found)
    if first == c'-' or c'0' <= first <= c'9':
        return _number(at, end, found)
    if first == c'n':
        found.kind = c'n'
        return _word(at, end, "null", 4, found)
    if first == c't':
        found.kind = c'b'
        return _word(at, end, "true", 4, found)
    if first == c'f':
        found.kind = c'b'
        return _word(at, end, "false", 5, found)
    if first != c'{' and first != c'[':
        return NULL
    if depth == _DEPTH_MAX:
        raise RecursionError
    found.kind, found.escaped, found.start = first, False, at
    close = c'}' if first == c'{' else c']'
    at = _space(at + 1, end)
    if at < end and at[0] == close:
        found.end = at + 1
        return at + 1
    while True:
        if first == c'{':
            at = _name(at, end, &inner)
            if at == NULL:
                return NULL
        at = _value(at, end, depth + 1, &inner)
        if at == NULL:
            return NULL
        at = _space(at, end)
        if at == end or (at[0] != c',' and at[0] != close):
            return NULL
        if at[0] == close:
            found.end = at + 1
            return at + 1
        at = _space(at + 1, end)


cdef const uint8_t *_name(const uint8_t *at, const uint8_t *end, Found *found) noexcept:
    """A member's name, the colon, and the space behind it."""
    if at == end or at[0] != c'"':
        return NULL
    at = _string(at + 1, end, found)
    if at == NULL:
        return NULL
    at = _space(at, end)
    if at == end or at[0] != c':':
        return NULL
    return _space(at + 1, end)


cdef bint is_json(const uint8_t *at, const uint8_t *end) noexcept:
    """Whether UTF-8 is one value of RFC 8259, no more nested than this module takes apart."""
    cdef Found found
    try:
        at = _value(_space(at, end), end, 0, &found)
    except RecursionError:
        return False
    return at != NULL and _space(at, end) == end


cdef bytes _text(Found *found):
    """A value's text; a string's is its own, but of one that is no Unicode, which becomes of the
    kind ``S``, it is that in the JSON."""
    cdef Text text
    cdef bint whole
    if found.kind == c'b':
        return b"t" if found.start[0] == c't' else b"f"
    if not found.escaped:
        return PyBytes_FromStringAndSize(<const char *> found.start, found.end - found.start)
    text.data, text.bytes, text.size, text.room = NULL, NULL, 0, 0
    try:
        whole = _put_unescaped(&text, found.start, found.end)
        if whole:
            return PyBytes_FromStringAndSize(text.data, text.size)
    finally:
        release(&text)
    found.kind = c'S'
    return PyBytes_FromStringAndSize(
        <const char *> found.start - 1, found.end - found.start + 2
    )


cdef bint _put_unescaped(Text *text, const uint8_t *at, const uint8_t *end) except -1:
    """False for half of a surrogate pair."""
    cdef const char *letters = b'"\\/bfnrt'
    cdef const char *meant = b'"\\/\b\f\n\r\t'
    cdef uint32_t code, low
    cdef Py_ssize_t span
    cdef int i
    while at < end:
        span = 0
        while at + span < end and at[span] != c'\\':
            span += 1
        put(text, at, span)
        at += span
        if at == end:
            return True
        if at[1] != c'u':
            for i in range(8):
                if letters[i] == <char> at[1]:
                    put_byte(text, meant[i])
            at += 2
            continue
        code = _code(at + 2)
        at += 6
        if 0xDC00 <= code < 0xE000:
            return False
        if 0xD800 <= code < 0xDC00:
            if end - at < 6 or at[0] != c'\\' or at[1] != c'u':
                return False
            low = _code(at + 2)
            if not 0xDC00 <= low < 0xE000:
                return False
            code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00))
            at += 6
        _put_code(text, code)
    return True


cdef inline uint32_t _code(const uint8_t *at) noexcept:
    return _digit(at[0]) << 12 | _digit(at[1]) << 8 | _digit(at[2]) << 4 | _digit(at[3])


cdef int _put_code(Text *text, uint32_t code) except -1:
    """A code point in UTF-8."""
    if code < 0x80:
        return put_byte(text, code)
    if code < 0x800:
        put_byte(text, <char> (0xC0 | code >> 6))
    else:
        if code < 0x10000:
            put_byte(text, <char> (0xE0 | code >> 12))
        else:
            put_byte(text, <char> (0xF0 | code >> 18))
            put_byte(text, <char> (0x80 | (code >> 12 & 0x3F)))
        put_byte(text, <char> (0x80 | (code >> 6 & 0x3F)))
    return put_byte(text, <char> (0x80 | (code & 0x3F)))


def members(bytes data not None):
    cdef list names = []
    cdef tuple found = _taken_apart(data, c'{', names)
    return None if found is None else (tuple(names), found[0], found[1])


def items(bytes data not None):
    return _taken_apart(data, c'[', None)


cdef tuple _taken_apart(bytes data, uint8_t opening, list names):
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(data)
    cdef Found found
    cdef list values = []
    cdef bytearray kinds = bytearray()
    cdef uint8_t close = c'}' if opening == c'{' else c']'
    if not is_utf8(at, end - at):
        raise ValueError
    at = _space(at, end)
    if at == end or at[0] != opening:
        at = _value(at, end, 0, &found)
        if at == NULL or _space(at, end) != end:
            raise ValueError
        return None
    at = _space(at + 1, end)
    if at < end and at[0] == close:
        at += 1
    else:
        while True:
            if names is not None:
                at = _name(at, end, &found)
                if at == NULL:
                    raise ValueError
                name = _text(&found)
                if found.kind == c'S':
                    raise UnicodeError
                names.append(PyUnicode_DecodeUTF8(
                    PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), NULL
                ))
            at = _value(at, end, 1, &found)
            if at == NULL:
                raise ValueError
            values.append(_text(&found))
            kinds.append(found.kind)
            at = _space(at, end)
            if at == end or (at[0] != c',' and at[0] != close):
                raise ValueError
            at += 1
            if at[-1] == close:
                break
            at = _space(at, end)
    if _space(at, end) != end:
        raise ValueError
    return bytes(kinds), values
