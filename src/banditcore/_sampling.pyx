# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False
"""Binds the compiled kernels. `banditcore.sampling` is the validated door; tests turn knobs here.

Callers have checked every array: float64, C-contiguous, of equal lengths, finite, positive.
"""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from banditcore.errors import InvalidValueError, describe


cdef extern from "kernel.h" namespace "banditcore" nogil:
    cppclass StreamKey:
        uint32_t low
        uint32_t high
    cppclass Arms:
        int64_t size
    cppclass Kernel:
        const char* name
        int lanes
        void philox(const uint32_t* counter, StreamKey key, uint32_t* out) noexcept

cdef extern from "dispatch.h" namespace "banditcore" nogil:
    const Kernel* choose_kernel(const char* name) noexcept
    const char* available_kernels() noexcept

cdef extern from "rows.h" namespace "banditcore" nogil:
    cppclass Columns:
        Columns(const Kernel& kernel, const double* a, const double* b, const double* weight,
                const int32_t* arm, int64_t size) except +
        const Arms& arms() noexcept
    cppclass Heaps:
        Heaps(int threads, int64_t places) except +
    enum class Draws:
        rates
        log_odds
    void fill_rows(const Kernel& kernel, const Arms& arms, StreamKey key, uint64_t first,
                   int64_t rows, int threads, Draws draws, double* out) noexcept
    void topk_rows(const Kernel& kernel, const Arms& arms, StreamKey key, uint64_t first,
                   int64_t rows, int64_t k, Heaps& heaps, int32_t* out) noexcept


# Draws between two looks at pending signals, a thread: some tens of milliseconds.
BLOCK_DRAWS = 1 << 21

cdef const Kernel* _kernel = NULL


def _choose(name):
    """Return the name of the kernel chosen for `name` ("" for the best), and use it from now on."""
    global _kernel
    encoded = name.encode("utf-8", "surrogateescape")
    cdef const Kernel* found = choose_kernel(encoded)
    if found == NULL:
        raise InvalidValueError(
            describe(
                "BANDITCORE_KERNEL",
                name,
                f"this machine runs: {available_kernels().decode()}; unset it for the best one",
            )
        )
    _kernel = found
    return found.name.decode()


_choose(os.environ.get("BANDITCORE_KERNEL", ""))


def kernel_name():
    """Return the name of the kernel in use."""
    return _kernel.name.decode()


def kernel_names():
    """Return the names of the kernels this machine can run, best first."""
    return tuple(available_kernels().decode().split(", "))


def lanes():
    """Return the arms that the kernel in use draws at once."""
    return _kernel.lanes


def philox(counter, key):
    """Return one Philox 4x32-10 block: four words from four counter words and two key words."""
    cdef uint32_t words[4]
    cdef uint32_t out[4]
    cdef StreamKey stream
    for i in range(4):
        words[i] = counter[i]
    stream.low, stream.high = key
    _kernel.philox(words, stream, out)
    return out[0], out[1], out[2], out[3]


def first_unfit(const double[::1] values, double low, double high):
    """Return the first index whose value is not in [low, high] (NaN never is), or -1."""
    cdef Py_ssize_t i, found = -1
    cdef Py_ssize_t n = values.shape[0]
    with nogil:
        for i in range(n):
            if not (low <= values[i] <= high):
                found = i
                break
    return found


cdef StreamKey _stream(uint64_t key) noexcept nogil:
    cdef StreamKey stream
    stream.low = <uint32_t>key
    stream.high = <uint32_t>(key >> 32)
    return stream


cdef const double* _pointer(const double[::1] values) noexcept nogil:
    return &values[0] if values is not None and values.shape[0] > 0 else NULL


cdef int64_t _block_rows(int64_t arms, int64_t threads, int64_t block) noexcept nogil:
    cdef int64_t rows = block * threads // max(arms, 1)
    return max(rows, 1)


def fill(const double[::1] alpha, const double[::1] beta, double[:, ::1] out, uint64_t key,
         int threads, bint log_odds=False, uint64_t first_row=0, int64_t block=BLOCK_DRAWS):
    """Fill `out`, (rows, n), with Beta draws or their log-odds; row i uses stream first_row + i."""
    cdef int64_t rows = out.shape[0], n = alpha.shape[0], at = 0, step
    cdef StreamKey stream = _stream(key)
    cdef Draws draws = Draws.log_odds if log_odds else Draws.rates
    cdef Columns* columns = NULL
    if rows == 0 or n == 0:
        return
    with nogil:
        columns = new Columns(_kernel[0], _pointer(alpha), _pointer(beta), NULL, NULL, n)
        try:
            step = _block_rows(n, threads, block)
            while at < rows:
                fill_rows(_kernel[0], columns.arms(), stream, first_row + at, min(step, rows - at),
                          threads, draws, &out[at, 0])
                at += step
                if at < rows:
                    with gil:
                        PyErr_CheckSignals()
        finally:
            del columns


def topk(const double[::1] alpha, const double[::1] beta, const double[::1] weight,
         const int32_t[::1] arms, int32_t[:, ::1] out, uint64_t key, int threads,
         uint64_t first_row=0, int64_t block=BLOCK_DRAWS):
    """Fill `out`, (rows, k), with the best arms of each row, then -1.

    `weight` may be None. `arms` are the indices of the arms in play; None for all of them.
    """
    cdef int64_t rows = out.shape[0], k = out.shape[1], at = 0, step
    cdef int64_t n = alpha.shape[0] if arms is None else arms.shape[0]
    cdef const int32_t* chosen = NULL
    cdef StreamKey stream = _stream(key)
    cdef Columns* columns = NULL
    cdef Heaps* heaps = NULL
    if rows == 0 or k == 0:
        return
    if n == 0:
        out[:, :] = -1
        return
    if arms is not None:
        chosen = &arms[0]
    with nogil:
        try:
            columns = new Columns(_kernel[0], _pointer(alpha), _pointer(beta), _pointer(weight),
                                  chosen, n)
            heaps = new Heaps(threads, min(k, n))
            step = _block_rows(n, threads, block)
            while at < rows:
                topk_rows(_kernel[0], columns.arms(), stream, first_row + at, min(step, rows - at),
                          k, heaps[0], &out[at, 0])
                at += step
                if at < rows:
                    with gil:
                        PyErr_CheckSignals()
        finally:
            del heaps
            del columns
