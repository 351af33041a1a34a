# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False
"""Binds the compiled kernels. `banditcore.sampling` is the validated door; tests turn knobs here.

Callers have checked every number: in range, indices too. What is checked here is what could read
or write beyond an array: types, layout and lengths.
"""

import os

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from banditcore.errors import InvalidValueError, describe

cnp.import_array()


cdef extern from "kernel/kernel.h" namespace "banditcore" nogil:
    cppclass StreamKey:
        uint32_t low
        uint32_t high
    cppclass Arms:
        int64_t size
        const uint32_t* arm
        const double* a
        const double* b
        const double* weight
        double lightest
        double heaviest
        bint boosted
    cppclass Range:
        double least
        double most
    enum class Draws:
        rates
        log_odds
    cppclass Kernel:
        const char* name
        int lanes
        Range range(const double* values, int64_t size) noexcept
        void philox(const uint32_t* counter, StreamKey key, uint32_t* out) noexcept

cdef extern from "kernel/dispatch.h" namespace "banditcore" nogil:
    const Kernel* choose_kernel(const char* name) noexcept
    const char* available_kernels() noexcept

cdef extern from "runtime/pool.h" namespace "banditcore" nogil:
    cppclass PoolFunctions:
        pass
    const PoolFunctions pool_functions

cdef extern from "runtime/process.h" namespace "banditcore" nogil:
    unsigned int forks() noexcept

cdef extern from "kernel/rows.h" namespace "banditcore" nogil:
    cppclass Fill:
        Fill(const Kernel& kernel, const Arms& arms, StreamKey key, uint64_t first_row,
             int64_t rows, int threads, int64_t block, Draws draws, double* out) noexcept
        bint advance() noexcept
    cppclass Ranks:
        Ranks(const Kernel& kernel, const Arms& arms, StreamKey key, uint64_t first_row,
              int64_t rows, int64_t k, int threads, int64_t block, int32_t* out) except +
        bint advance() noexcept


# The threads of this module, for `_race`: a process has one pool.
pool = PyCapsule_New(<void*>&pool_functions, b"banditcore._sampling.pool", NULL)

# Draws between two looks at pending signals, a thread: some tens of milliseconds.
BLOCK_DRAWS = 1 << 22
cdef int64_t _BLOCK_DRAWS = BLOCK_DRAWS

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


cdef StreamKey _stream(uint64_t key) noexcept nogil:
    cdef StreamKey stream
    stream.low = <uint32_t>key
    stream.high = <uint32_t>(key >> 32)
    return stream


cdef uint64_t _process_key = 0
cdef uint64_t _process_calls = 0
cdef unsigned int _process_forks = 0


cdef uint64_t _fresh_key() except? 0:
    global _process_key, _process_calls, _process_forks
    cdef uint32_t counter[4]
    cdef uint32_t out[4]
    cdef unsigned int now = forks()
    if _process_calls == 0 or now != _process_forks:
        _process_key = int.from_bytes(os.urandom(8), "little")
        _process_forks = now
        _process_calls = 0
    counter[0] = <uint32_t>_process_calls
    counter[1] = <uint32_t>(_process_calls >> 32)
    counter[2] = 0
    counter[3] = 7  # a purpose that no draw has
    _process_calls += 1
    _kernel.philox(counter, _stream(_process_key), out)
    return (<uint64_t>out[1] << 32) | out[0]


def fresh_key():
    """Return 64 bits no other call has had, of this process or another: a cipher over a counter."""
    return _fresh_key()


cdef bint _is_column(object values) noexcept:
    return (
        cnp.PyArray_CheckExact(values)
        and cnp.PyArray_NDIM(values) == 1
        and cnp.PyArray_TYPE(values) == cnp.NPY_FLOAT64
        and cnp.PyArray_ISCARRAY_RO(values)
    )


cpdef int fit(values, double low, double high) except -1:
    """Return how a column stands to [low, high]; 0 asks for a closer look.

    1 for a contiguous float64 array with every value in the range and at least 1, 2 for one with
    every value in the range, 0 for all else.
    """
    cdef Range found
    if not _is_column(values):
        return 0
    found = _kernel.range(<const double*>cnp.PyArray_DATA(values), cnp.PyArray_SIZE(values))
    if cnp.PyArray_SIZE(values) == 0:
        return 1
    if not (found.least >= low and found.most <= high):
        return 0
    return 1 if found.least >= 1.0 else 2


cdef const double* _column(object values, Py_ssize_t size) except? NULL:
    if not _is_column(values) or cnp.PyArray_SIZE(values) != size:
        raise TypeError(f"a contiguous float64 column of {size} numbers is needed")
    return <const double*>cnp.PyArray_DATA(values)


cdef void* _rows(object out, int type_number, Py_ssize_t* rows, Py_ssize_t* width) except? NULL:
    # (width,) counts as one row.
    if (
        not cnp.PyArray_CheckExact(out)
        or cnp.PyArray_TYPE(out) != type_number
        or not cnp.PyArray_ISCARRAY(out)
        or not 1 <= cnp.PyArray_NDIM(out) <= 2
    ):
        raise TypeError("out: a contiguous, writeable array of the result's type is needed")
    rows[0] = 1 if cnp.PyArray_NDIM(out) == 1 else cnp.PyArray_DIM(out, 0)
    width[0] = cnp.PyArray_DIM(out, cnp.PyArray_NDIM(out) - 1)
    return cnp.PyArray_DATA(out)


def fill(alpha, beta, out, uint64_t key, int threads, bint log_odds=False, uint64_t first_row=0,
         int64_t block=_BLOCK_DRAWS, bint boosted=True):
    """Fill `out`, (rows, n), with Beta draws or their log-odds; row i uses stream first_row + i.

    `boosted` may be False if no parameter is below 1.
    """
    cdef Py_ssize_t rows = 0, n = 0
    cdef double* to = <double*>_rows(out, cnp.NPY_FLOAT64, &rows, &n)
    cdef Arms arms
    cdef Fill* work
    arms.size = n
    arms.arm = NULL
    arms.a = _column(alpha, n)
    arms.b = _column(beta, n)
    arms.weight = NULL
    arms.lightest = arms.heaviest = 1.0
    arms.boosted = boosted
    if rows == 0 or n == 0:
        return
    with nogil:
        work = new Fill(_kernel[0], arms, _stream(key), first_row, rows, max(threads, 1),
                        max(block, 1), Draws.log_odds if log_odds else Draws.rates, to)
        try:
            while work.advance():
                with gil:
                    PyErr_CheckSignals()
        finally:
            del work


def topk(alpha, beta, weight, chosen, out, uint64_t key, int threads, uint64_t first_row=0,
         int64_t block=_BLOCK_DRAWS, bint boosted=True):
    """Fill `out`, (rows, k), with the best arms of each row, then -1.

    `weight` may be None. `chosen`, int32, are the indices of the arms in play; None for all of
    them. `boosted` may be False if no parameter is below 1.
    """
    cdef Py_ssize_t rows = 0, k = 0, n
    cdef int32_t* to = <int32_t*>_rows(out, cnp.NPY_INT32, &rows, &k)
    cdef Arms arms
    cdef Range weights
    cdef Ranks* work = NULL
    if not _is_column(alpha):
        raise TypeError("alpha: a contiguous float64 column is needed")
    n = cnp.PyArray_SIZE(alpha)
    arms.a = _column(alpha, n)
    arms.b = _column(beta, n)
    arms.weight = NULL
    arms.lightest = arms.heaviest = 1.0
    arms.boosted = boosted
    if weight is not None:
        arms.weight = _column(weight, n)
        weights = _kernel.range(arms.weight, n)
        arms.lightest, arms.heaviest = weights.least, weights.most
    arms.size = n
    arms.arm = NULL
    if chosen is not None:
        if (
            not cnp.PyArray_CheckExact(chosen)
            or cnp.PyArray_TYPE(chosen) != cnp.NPY_INT32
            or cnp.PyArray_NDIM(chosen) != 1
            or not cnp.PyArray_ISCARRAY_RO(chosen)
        ):
            raise TypeError("chosen: a contiguous int32 column is needed")
        arms.size = cnp.PyArray_SIZE(chosen)
        arms.arm = <const uint32_t*>cnp.PyArray_DATA(chosen)
    if rows == 0 or k == 0:
        return
    if arms.size == 0:
        out[...] = -1
        return
    with nogil:
        try:
            work = new Ranks(_kernel[0], arms, _stream(key), first_row, rows, k, max(threads, 1),
                             max(block, 1), to)
            while work.advance():
                with gil:
                    PyErr_CheckSignals()
        finally:
            del work


cdef int _plain(alpha, beta, double low, double high, int64_t most, Arms* arms) except -1:
    # Whether both columns can be used as they are, for at most that many draws; fills `arms` then.
    cdef int a, b
    if not (_is_column(alpha) and _is_column(beta)):
        return 0
    arms.size = cnp.PyArray_SIZE(alpha)
    if cnp.PyArray_SIZE(beta) != arms.size or not 0 < arms.size <= most:
        return 0
    a = fit(alpha, low, high)
    b = fit(beta, low, high)
    if a == 0 or b == 0:
        return 0
    arms.arm = NULL
    arms.a = <const double*>cnp.PyArray_DATA(alpha)
    arms.b = <const double*>cnp.PyArray_DATA(beta)
    arms.weight = NULL
    arms.lightest = arms.heaviest = 1.0
    arms.boosted = not a == b == 1
    return 1


def plain_fill(alpha, beta, double low, double high, int64_t most):
    """Return one unseeded row of draws on this thread, or None if the columns need a closer look.

    That is: unless both are float64 columns of one length up to `most`, all from `low` to `high`.
    """
    cdef Arms arms
    cdef Fill* work
    cdef cnp.npy_intp shape
    cdef uint64_t key
    cdef double* to
    if not _plain(alpha, beta, low, high, most, &arms):
        return None
    shape = arms.size
    out = cnp.PyArray_EMPTY(1, &shape, cnp.NPY_FLOAT64, 0)
    to = <double*>cnp.PyArray_DATA(out)
    key = _fresh_key()
    with nogil:
        work = new Fill(_kernel[0], arms, _stream(key), 0, 1, 1, _BLOCK_DRAWS, Draws.rates, to)
        while work.advance():
            pass
        del work
    return out


def plain_topk(alpha, beta, k, double low, double high, int64_t most):
    """Return one unseeded row of the best `k`, under the conditions of `plain_fill`, or None."""
    cdef Arms arms
    cdef Ranks* work
    cdef cnp.npy_intp places
    cdef uint64_t key
    cdef int32_t* to
    if type(k) is not int or not 0 < k <= most or not _plain(alpha, beta, low, high, most, &arms):
        return None
    places = k
    out = cnp.PyArray_EMPTY(1, &places, cnp.NPY_INT32, 0)
    to = <int32_t*>cnp.PyArray_DATA(out)
    key = _fresh_key()
    with nogil:
        work = new Ranks(_kernel[0], arms, _stream(key), 0, 1, places, 1, _BLOCK_DRAWS, to)
        while work.advance():
            pass
        del work
    return out
