# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False
"""Which arms caps forbid, for many users at once."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libcpp.vector cimport vector

import numpy as np


cdef extern from "lookups/siphash.h" namespace "banditcore" nogil:
    uint64_t little_endian_64(const unsigned char* bytes) noexcept

cdef extern from "lookups/exposures.h" namespace "banditcore" nogil:
    cppclass ExposureCap:
        int64_t times
        uint64_t oldest
    cppclass ExposureClock:
        uint64_t time_mask
        uint64_t latest
    int64_t forbid_rows(uint64_t* exposures, int64_t* ends, size_t n_rows, const ExposureCap* caps,
                        size_t n_caps, const ExposureClock& clock) noexcept

cdef enum:
    EXPOSURE_BYTES = 8


@cython.final
cdef class Limits:
    """Caps: so many exposures, up to such an age.

    Parameters
    ----------
    caps : iterable of (int, int)
        Times, >= 1, and the oldest age that counts, >= 0.
    time_bits : int
        1 to 63: how many low bits of an exposure are its time; the others are the arm's hash.

    Raises
    ------
    ValueError, OverflowError
        An argument breaks a rule above.
    """

    cdef vector[ExposureCap] caps
    cdef uint64_t time_mask

    def __cinit__(self, caps, int time_bits):
        cdef ExposureCap cap
        if not 1 <= time_bits <= 63:
            raise ValueError("1 to 63 bits of time")
        self.time_mask = (<uint64_t>1 << time_bits) - 1
        for times, oldest in caps:
            if times < 1:
                raise ValueError("a cap allows some exposures")
            cap.times, cap.oldest = times, oldest
            self.caps.push_back(cap)

    def forbidden(self, list records not None, Py_ssize_t header, list known not None,
                  uint64_t latest):
        """Return the hashes of arms that each user must not be shown.

        Parameters
        ----------
        records : list of bytes
            One a user: a header, then little-endian exposures; empty for none.
        header : int
            Its bytes.
        known : list of list of int
            More exposures of each of them. One that stands twice counts once.
        latest : int
            The time from which ages are counted, modulo 2^time_bits.

        Returns
        -------
        starts : (n + 1,) int64
        hashes : (starts[n],) uint64
            Of user i from `starts[i]` on, before `starts[i + 1]`: ascending, distinct.

        Raises
        ------
        ValueError
            A record ends within its header or an exposure, or not each has its list of more.
        OverflowError
            One of these has more than 64 bits.
        """
        cdef Py_ssize_t i, at, size, room = 0, n = len(records)
        cdef bytes record
        cdef list more
        if len(known) != n or header < 0:
            raise ValueError("one list a record, after a header")
        for i in range(n):
            size = PyBytes_GET_SIZE(<bytes?>records[i])
            if size and (size < header or (size - header) % EXPOSURE_BYTES):
                raise ValueError("a record holds whole exposures")
            room += (size - header) // EXPOSURE_BYTES if size else 0
            room += len(<list?>known[i])
        starts = np.zeros(n + 1, np.int64)
        hashes = np.empty(room, np.uint64)
        cdef int64_t[::1] ends = starts
        cdef uint64_t[::1] out = hashes
        cdef const unsigned char* text
        cdef Py_ssize_t into = 0
        for i in range(n):
            record, more = <bytes>records[i], <list>known[i]
            text = <const unsigned char*>PyBytes_AS_STRING(record)
            for at in range(header, PyBytes_GET_SIZE(record), EXPOSURE_BYTES):
                out[into] = little_endian_64(text + at)
                into += 1
            for one in more:
                out[into] = one
                into += 1
            ends[i + 1] = into
        cdef ExposureClock clock
        clock.time_mask, clock.latest = self.time_mask, latest
        cdef int64_t found = 0
        if room:
            with nogil:
                found = forbid_rows(&out[0], &ends[1], n, self.caps.data(), self.caps.size(), clock)
        return starts, hashes[:found]
