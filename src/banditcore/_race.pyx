# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False
"""Binds the race. `banditcore.thompson_sampler` is the validated door; tests turn knobs here.

Callers have checked every array: C-contiguous, of equal lengths, finite, positive, in range.
"""

import os

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libcpp cimport bool
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

import numpy as np

from banditcore import _sampling


cdef extern from "race/race.h" namespace "banditcore" nogil:
    cppclass StreamKey:
        uint32_t low
        uint32_t high
    cppclass RaceHead:
        double time
        uint32_t arm
    cppclass Race:
        const RaceHead* head
        int64_t size, cells, phases, heads
        double rest, pace, end, bottom
    cppclass RaceBans:
        const uint64_t* all
        const int32_t* per_row
        int64_t per_row_size

cdef extern from "race/tables.h" namespace "banditcore" nogil:
    cppclass RaceColumns:
        pass
    const RaceColumns& race_columns() noexcept
    cppclass RaceTables:
        RaceTables(const double* a, const double* b, const double* weight, int64_t n,
                   const RaceColumns& columns, bool (*stopped)() noexcept nogil) except +
        const Race& race() noexcept
        size_t bytes() noexcept

cdef extern from "runtime/pool.h" namespace "banditcore" nogil:
    cppclass PoolFunctions:
        unsigned int (*forks)() noexcept

cdef extern from "race/rows.h" namespace "banditcore" nogil:
    ctypedef void* RaceRowsPointer "banditcore::RaceRows"
    RaceRowsPointer choose_race(const char* kernel) noexcept
    const char* race_kernels() noexcept
    cppclass RaceCall:
        RaceCall(const PoolFunctions& pool, RaceRowsPointer run, const Race& race, StreamKey key,
                 uint64_t first, int64_t rows, int64_t k, const RaceBans& bans, int threads,
                 int64_t unit, int32_t* out) except +
        bint advance(int64_t patience) noexcept


# Nanoseconds between two looks at pending signals.
PATIENCE = 50_000_000
cdef int64_t _PATIENCE = PATIENCE

cdef object _empty = np.empty
cdef object _int32 = np.dtype(np.int32)

# A kernel that this module has not, or an unset variable, means the best one: all give the same
# bits. `banditcore.sampling` refuses names that no kernel has.
cdef RaceRowsPointer _run = choose_race(os.environ.get("BANDITCORE_KERNEL", "").encode())

cdef const PoolFunctions* _pool = <const PoolFunctions*>PyCapsule_GetPointer(
    _sampling.pool, b"banditcore._sampling.pool"
)


def kernel_names():
    """Return the names of the race's kernels that this machine can run, best first."""
    return tuple(race_kernels().decode().split())


@cython.final
cdef class Seeds:
    """Keys that no other call gets: a counter under a key from the system, renewed after a fork."""

    cdef uint64_t key, count
    cdef unsigned int forks

    def __cinit__(self):
        self._renew()

    cdef _renew(self):
        self.key = int.from_bytes(os.urandom(8), "little")
        self.forks = _pool.forks()
        self.count = 0

    cpdef uint64_t next(self):
        """Return the next key: a bijection of the count, so none comes twice."""
        cdef uint64_t z
        if self.forks != _pool.forks():
            self._renew()
        self.count += 1
        # SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)
        z = self.key + self.count * <uint64_t>0x9E3779B97F4A7C15
        z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
        return z ^ (z >> 31)


cdef bool _stopped() noexcept nogil:
    """Whether a signal's handler raised; what it raised stands until the caller sees it."""
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            PyErr_SetObject(type(error), error)
            return True
    return False


@cython.final
cdef class Tables:
    """The tables of one race, immutable: so must be `alpha` and `beta`, which they read."""

    cdef RaceTables* tables
    cdef const double[::1] alpha, beta

    def __cinit__(self, const double[::1] alpha, const double[::1] beta, const double[::1] weight):
        cdef const double* values = &weight[0] if weight is not None else NULL
        cdef int64_t n = alpha.shape[0]
        cdef const double* a = &alpha[0]
        cdef const double* b = &beta[0]
        self.alpha, self.beta = alpha, beta  # kept alive
        with nogil:
            self.tables = new RaceTables(a, b, values, n, race_columns(), _stopped)

    def __dealloc__(self):
        del self.tables

    @property
    def nbytes(self):
        """Memory the tables hold, in bytes, without `alpha` and `beta`."""
        return self.tables.bytes()

    @property
    def figures(self):
        """What the race looks like inside: sizes and expected numbers."""
        cdef const Race* race = &self.tables.race()
        return {
            "cells": race.cells, "phases": race.phases, "heads": race.heads, "rest": race.rest,
            "pace": race.pace, "end": race.end, "bottom": race.bottom,
        }

    @property
    def heads(self):
        """Arms that leave the tables, by the time they do: a list of (time, arm)."""
        cdef const Race* race = &self.tables.race()
        return [(race.head[i].time, race.head[i].arm) for i in range(race.heads)]

    cdef int draw(self, int64_t k, uint64_t key, const int32_t* bans, int64_t n_bans,
                  int32_t* out) except -1 nogil:
        """Draw row 0 of a key, without a look at signals."""
        cdef StreamKey stream
        cdef RaceBans here
        cdef RaceCall* call
        stream.low = <uint32_t>key
        stream.high = <uint32_t>(key >> 32)
        here.all = NULL
        here.per_row = bans
        here.per_row_size = n_bans
        call = new RaceCall(_pool[0], _run, self.tables.race(), stream, 0, 1, k, here, 1, 0, out)
        try:
            call.advance(0)
        finally:
            del call
        return 0

    def one(self, int64_t k, uint64_t key, const int32_t[::1] bans=None):
        """Return the best k arms of row 0, (k,) int32, none of `bans` among them."""
        answer = _empty(k, _int32)
        cdef int32_t[::1] out = answer
        cdef int64_t n_bans = 0 if bans is None else bans.shape[0]
        cdef const int32_t* first = &bans[0] if n_bans else NULL
        with nogil:
            self.draw(k, key, first, n_bans, &out[0])
        return answer

    def each(self, int64_t k, const uint64_t[::1] keys, const int32_t[::1] bans=None):
        """Return `one` of every key, (rows, k) int32."""
        cdef int64_t row, rows = keys.shape[0]
        answer = _empty((rows, k), _int32)
        cdef int32_t[:, ::1] out = answer
        cdef int64_t n_bans = 0 if bans is None else bans.shape[0]
        cdef const int32_t* first = &bans[0] if n_bans else NULL
        with nogil:
            for row in range(rows):
                self.draw(k, keys[row], first, n_bans, &out[row, 0])
        return answer

    def topk(self, int32_t[:, ::1] out, uint64_t key, int threads, kernel=None,
             const uint64_t[::1] banned=None, const int32_t[:, ::1] bans=None,
             uint64_t first_row=0, int64_t unit=0, int64_t patience=_PATIENCE):
        """Fill `out`, (rows, k). `banned` has a bit an arm; `bans` are per row, -1 ignored.

        `unit` rows go to a thread at a time, 0 for as many as take a useful while; `patience` are
        nanoseconds between two looks at pending signals.
        """
        cdef int64_t rows = out.shape[0], k = out.shape[1]
        cdef StreamKey stream
        cdef RaceBans here
        cdef RaceCall* call = NULL
        cdef RaceRowsPointer run = _run
        if kernel is not None:
            run = choose_race(kernel.encode())
        stream.low = <uint32_t>key
        stream.high = <uint32_t>(key >> 32)
        here.all = NULL
        here.per_row = NULL
        here.per_row_size = 0
        if rows == 0 or k == 0:
            return
        if banned is not None:
            here.all = &banned[0]
        if bans is not None and bans.shape[1] > 0:
            here.per_row = &bans[0, 0]
            here.per_row_size = bans.shape[1]
        with nogil:
            try:
                call = new RaceCall(_pool[0], run, self.tables.race(), stream, first_row, rows, k,
                                    here, threads, unit, &out[0, 0])
                while call.advance(patience):
                    with gil:
                        PyErr_CheckSignals()
            finally:
                del call
