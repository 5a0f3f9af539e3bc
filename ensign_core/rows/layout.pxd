from libc.stdint cimport uint8_t, uint32_t


cdef inline const uint8_t *column_end(const uint8_t *at, const uint8_t *end) noexcept:
    """Where the column at ``at`` ends; NULL unless it is one that ends before or at ``end``."""
    cdef Py_ssize_t size
    if at < end and (at[0] == c'n' or at[0] == c'u'):
        return at + 1
    if end - at < 5 or (at[0] != c't' and at[0] != c'b'):
        return NULL
    size = <uint32_t> at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4]
    return at + 5 + size if size <= end - at - 5 else NULL
