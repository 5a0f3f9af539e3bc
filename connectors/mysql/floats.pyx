"""Floats as the shortest text that reads back as the same number; typed for Python in
``floats.pyi``.

The digits are found as in Raffaello Giulietti, "The Schubfach way to render doubles" (2021): of the
decimals of one length, two at most are next to a float, and of those ten times as coarse one at
most is nearer to it than to its neighbours. All is exact in products of 64 and 128 bits, rounded
to odd. The text has the form of Python's ``repr``.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset

from connectors.mysql.digits cimport little_endian, write_number, write_padded

cdef enum:
    # Powers of ten that doubles and their neighbours need.
    _POWER_MIN = -292
    _POWER_MAX = 324
    # Exponents from which on, and up to which, a text has one.
    _FIXED_MAX = 16
    _FIXED_MIN = -4

cdef struct Power:
    # A power of ten as 128 bits of which the first is set, rounded up.
    uint64_t high
    uint64_t low

cdef struct Decimal:
    uint64_t digits
    int exponent

cdef Power *_POWERS = _powers()


cdef Power *_powers() except NULL:
    """In the order of their exponents; they live as long as the process."""
    cdef Power *powers = <Power *> malloc((_POWER_MAX - _POWER_MIN + 1) * sizeof(Power))
    cdef int i, shift
    # Whole numbers of any size.
    cdef object ten = 10, above, below, bits
    if powers == NULL:
        raise MemoryError
    for i in range(_POWER_MIN, _POWER_MAX + 1):
        shift = 127 - ((i * 1741647) >> 19)
        above = ten ** max(i, 0) << <object> max(shift, 0)
        below = ten ** max(-i, 0) << <object> max(-shift, 0)
        bits = -(-above // below)
        powers[i - _POWER_MIN].high = bits >> 64
        powers[i - _POWER_MIN].low = bits & 0xFFFFFFFFFFFFFFFF
    return powers


cdef double double_at(const uint8_t *at) noexcept:
    """Little-endian, as in a row image."""
    cdef uint64_t bits = little_endian(at, 8)
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef float float_at(const uint8_t *at) noexcept:
    cdef uint32_t bits = <uint32_t> little_endian(at, 4)
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef inline uint64_t _product(uint64_t a, uint64_t b, uint64_t *low) noexcept:
    """Both halves of the product of 128 bits."""
    cdef uint64_t a0 = a & 0xFFFFFFFFu, a1 = a >> 32, b0 = b & 0xFFFFFFFFu, b1 = b >> 32
    cdef uint64_t bottom = a0 * b0, left = a1 * b0, right = a0 * b1
    cdef uint64_t middle = (bottom >> 32) + (left & 0xFFFFFFFFu) + right
    low[0] = middle << 32 | (bottom & 0xFFFFFFFFu)
    return a1 * b1 + (left >> 32) + (middle >> 32)


cdef inline uint64_t _scaled(const Power *power, uint64_t number) noexcept:
    """The product's bits from the 128th on; the last is set if any behind it is."""
    cdef uint64_t high, low, carry, below
    carry = _product(power.low, number, &below)
    high = _product(power.high, number, &low)
    low += carry
    high += low < carry
    return high | (low > 1)


cdef inline Decimal _shortest(uint64_t mantissa, int exponent, bint closer) noexcept:
    """The decimal that stands for ``mantissa`` (not 0) times 2 to the power of ``exponent``; with
    ``closer`` the next smaller float is half as far away as the next greater one."""
    cdef Decimal found
    cdef int power = (exponent * 1262611 - (524031 if closer else 0)) >> 22
    cdef int shift = exponent + ((-power * 1741647) >> 19) + 1
    cdef const Power *factor = &_POWERS[-power - _POWER_MIN]
    cdef uint64_t odd = mantissa & 1
    # Four times the float and the ends of what reads back as it; an even one's ends do too.
    cdef uint64_t lower = _scaled(factor, (4 * mantissa - 2 + closer) << shift) + odd
    cdef uint64_t middle = _scaled(factor, 4 * mantissa << shift)
    cdef uint64_t upper = _scaled(factor, (4 * mantissa + 2) << shift) - odd
    cdef uint64_t near = middle // 4, coarse = near // 10
    cdef bint below, above
    if near >= 10:
        below = lower <= 40 * coarse
        above = 40 * coarse + 40 <= upper
        if below != above:
            found.digits, found.exponent = coarse + above, power + 1
            return found
    below = lower <= 4 * near
    above = 4 * near + 4 <= upper
    if below == above:
        # Both or none: the nearer one, the even one of two equally near.
        above = middle > 4 * near + 2 or (middle == 4 * near + 2 and near & 1)
    found.digits, found.exponent = near + above, power
    return found


cdef char *_write_decimal(char *to, Decimal decimal) noexcept:
    """As ``repr`` writes it: with an exponent where it is large or small."""
    cdef char[20] digits
    cdef Py_ssize_t count, point
    while decimal.digits % 10 == 0:
        decimal.digits //= 10
        decimal.exponent += 1
    count = write_number(digits, decimal.digits) - digits
    # Where the point is among the digits.
    point = count + decimal.exponent
    if not _FIXED_MIN < point <= _FIXED_MAX:
        return _write_exponent(to, digits, count, point - 1)
    if point <= 0:
        memcpy(to, b"0.", 2)
        memset(to + 2, c'0', -point)
        memcpy(to + 2 - point, digits, count)
        return to + 2 - point + count
    if point >= count:
        memcpy(to, digits, count)
        memset(to + count, c'0', point - count)
        return to + point
    memcpy(to, digits, point)
    to[point] = c'.'
    memcpy(to + point + 1, digits + point, count - point)
    return to + count + 1


cdef char *_write_exponent(
    char *to, const char *digits, Py_ssize_t count, int exponent
) noexcept:
    to[0] = digits[0]
    to += 1
    if count > 1:
        to[0] = c'.'
        memcpy(to + 1, digits + 1, count - 1)
        to += count
    to[0], to[1] = c'e', c'-' if exponent < 0 else c'+'
    exponent = -exponent if exponent < 0 else exponent
    return write_padded(to + 2, exponent, 3 if exponent > 99 else 2)


cdef inline char *_write_special(char *to, bint infinite) noexcept:
    """Infinity and NaN, which no server stores but any bytes may be."""
    if infinite:
        memcpy(to, b"Infinity", 8)
        return to + 8
    memcpy(to, b"NaN", 3)
    return to + 3


cdef char *write_double(char *to, double value) noexcept:
    """At most `FLOAT_TEXT` bytes; where they end."""
    cdef uint64_t bits, mantissa
    cdef int exponent
    memcpy(&bits, &value, 8)
    mantissa = bits & 0xFFFFFFFFFFFFFu
    exponent = bits >> 52 & 0x7FF
    if exponent == 0x7FF and mantissa:
        return _write_special(to, False)
    if bits >> 63:
        to[0] = c'-'
        to += 1
        value = -value
    if value < 1e15 and <double> <uint64_t> value == value:
        return write_number(to, <uint64_t> value)
    if exponent == 0x7FF:
        return _write_special(to, True)
    if not exponent:
        return _write_decimal(to, _shortest(mantissa, -1074, False))
    return _write_decimal(
        to, _shortest(mantissa | 1ull << 52, exponent - 1075, not mantissa and exponent > 1)
    )


cdef char *write_float(char *to, float value) noexcept:
    """At most `FLOAT_TEXT` bytes; where they end."""
    cdef uint32_t bits, mantissa
    cdef int exponent
    memcpy(&bits, &value, 4)
    mantissa = bits & 0x7FFFFF
    exponent = bits >> 23 & 0xFF
    if exponent == 0xFF and mantissa:
        return _write_special(to, False)
    if bits >> 31:
        to[0] = c'-'
        to += 1
        value = -value
    if value < 16777216.0 and <float> <uint32_t> value == value:
        # Whole numbers up to here are all floats, so none can be told by fewer digits.
        return write_number(to, <uint32_t> value)
    if exponent == 0xFF:
        return _write_special(to, True)
    if not exponent:
        return _write_decimal(to, _shortest(mantissa, -149, False))
    return _write_decimal(
        to, _shortest(mantissa | 1 << 23, exponent - 150, not mantissa and exponent > 1)
    )


def double_text(double value):
    cdef char[FLOAT_TEXT] text
    return text[: write_double(text, value) - text].decode("ascii")


def float_text(float value):
    cdef char[FLOAT_TEXT] text
    return text[: write_float(text, value) - text].decode("ascii")
