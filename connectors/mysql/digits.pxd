"""Numbers as decimal digits, written where there is room for them: no call and no format."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    static const char digit_pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    /* 10 to a power of at most 9. */
    static inline uint32_t power_of_ten(int exponent) {
        static const uint32_t powers[10] = {
            1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000
        };
        return powers[exponent];
    }
    """
    const char digit_pairs[]
    uint32_t power_of_ten(int exponent) noexcept


cdef inline char *write_two(char *to, uint32_t number) noexcept:
    """``number`` is below 100; where the text ends."""
    memcpy(to, digit_pairs + 2 * number, 2)
    return to + 2


cdef inline char *write_padded(char *to, uint32_t number, int width) noexcept:
    """``number`` with zeros before it; it has at most ``width`` digits."""
    cdef int at = width
    while at >= 2:
        at -= 2
        memcpy(to + at, digit_pairs + 2 * (number % 100), 2)
        number //= 100
    if at:
        to[0] = c'0' + <char> number
    return to + width


cdef inline int digit_count(uint64_t number) noexcept:
    cdef int count = 1
    while number >= 10000:
        number //= 10000
        count += 4
    if number >= 1000:
        return count + 3
    if number >= 100:
        return count + 2
    return count + 1 if number >= 10 else count


cdef inline char *write_number(char *to, uint64_t number) noexcept:
    """At most 20 digits; where the text ends."""
    cdef int at
    cdef char *end
    if number < 10:
        to[0] = c'0' + <char> number
        return to + 1
    at = digit_count(number)
    end = to + at
    while at > 2:
        at -= 2
        memcpy(to + at, digit_pairs + 2 * (number % 100), 2)
        number //= 100
    if at == 2:
        memcpy(to, digit_pairs + 2 * number, 2)
    else:
        to[0] = c'0' + <char> number
    return end


cdef inline uint64_t big_endian(const uint8_t *at, Py_ssize_t size) noexcept:
    """An unsigned number of at most 8 bytes."""
    cdef uint64_t number = 0
    cdef Py_ssize_t i
    for i in range(size):
        number = number << 8 | at[i]
    return number


cdef inline uint64_t little_endian(const uint8_t *at, Py_ssize_t size) noexcept:
    """An unsigned number of at most 8 bytes. Compilers make one load of those of 2, 4 and 8."""
    cdef uint64_t number = 0
    cdef Py_ssize_t i
    if size == 1:
        return at[0]
    elif size == 2:
        return at[0] | at[1] << 8
    elif size == 4:
        return at[0] | at[1] << 8 | at[2] << 16 | <uint32_t> at[3] << 24
    elif size == 8:
        return (
            <uint64_t> at[0] | <uint64_t> at[1] << 8 | <uint64_t> at[2] << 16
            | <uint64_t> at[3] << 24 | <uint64_t> at[4] << 32 | <uint64_t> at[5] << 40
            | <uint64_t> at[6] << 48 | <uint64_t> at[7] << 56
        )
    for i in range(size):
        number |= <uint64_t> at[i] << (8 * i)
    return number
