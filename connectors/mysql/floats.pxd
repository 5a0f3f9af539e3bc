from libc.stdint cimport uint8_t

cdef enum:
    # No float's text is longer.
    FLOAT_TEXT = 32


cdef char *write_double(char *to, double value) noexcept
cdef char *write_float(char *to, float value) noexcept
cdef double double_at(const uint8_t *at) noexcept
cdef float float_at(const uint8_t *at) noexcept
