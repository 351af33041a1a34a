# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False
"""Finds ids by short hashes of them, without the interpreter lock."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

import numpy as np


cdef extern from "lookups/blake2b.h" namespace "banditcore" nogil:
    cppclass Blake2b:
        Blake2b(size_t digest_bytes, const unsigned char* person) noexcept
        uint64_t of "operator()"(const unsigned char* text, size_t size) noexcept

cdef extern from "lookups/hash_index.h" namespace "banditcore" nogil:
    cppclass CppHashIndex "banditcore::HashIndex":
        void build(const uint64_t* hashes, size_t n) except +
        void find_rows(const int64_t* starts, const uint64_t* hashes, const int64_t* rows,
                       size_t n_rows, vector[int32_t]& places, int64_t* ends) except +
        size_t bytes() noexcept

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef enum:
    PERSON_BYTES = 16
    MOST_DIGEST_BYTES = 8


@cython.final
cdef class IdHashes:
    """BLAKE2b digests of ids as little-endian numbers.

    Parameters
    ----------
    digest_bytes : int
        1 to 8.
    person : bytes
        Up to 16: what the digests are for.

    Raises
    ------
    ValueError
        An argument breaks a rule above.
    """

    cdef unsigned char person[PERSON_BYTES]
    cdef size_t digest_bytes

    def __cinit__(self, Py_ssize_t digest_bytes, bytes person not None):
        if not 1 <= digest_bytes <= MOST_DIGEST_BYTES or len(person) > PERSON_BYTES:
            raise ValueError("a digest of 1 to 8 bytes for a person of up to 16")
        self.digest_bytes = digest_bytes
        cdef bytes filled = person.ljust(PERSON_BYTES, b"\0")
        memcpy(self.person, PyBytes_AS_STRING(filled), PERSON_BYTES)

    def of_packed(self, const uint32_t[::1] ends not None, bytes text not None):
        """Return the digest of each id of a `PackedIds`, (n,) uint64; ValueError if ends misfit."""
        cdef Py_ssize_t i, n = ends.shape[0]
        found = np.empty(n, np.uint64)
        cdef uint64_t[::1] out = found
        cdef const unsigned char* at = text
        cdef uint32_t start = 0
        if n and ends[n - 1] != len(text):
            raise ValueError("the last id ends with the text")
        for i in range(n):
            if ends[i] < start:
                raise ValueError("ids end one after the other")
            start = ends[i]
        start = 0
        with nogil:
            for i in range(n):
                out[i] = Blake2b(self.digest_bytes, self.person).of(at + start, ends[i] - start)
                start = ends[i]
        return found

    def of_strings(self, ids not None):
        """Return the digest of each of a list or tuple, (n,) uint64; TypeError if one is no str."""
        cdef Py_ssize_t size, i = 0
        cdef const char* text
        cdef bytes odd
        found = np.empty(len(ids), np.uint64)
        cdef uint64_t[::1] out = found
        for one in ids:
            if not PyUnicode_Check(one):
                raise TypeError("an id is a str")
            try:
                text = PyUnicode_AsUTF8AndSize(one, &size)
            except UnicodeEncodeError:  # a lone surrogate
                odd = one.encode("utf-8", "surrogatepass")
                text, size = odd, len(odd)
            out[i] = Blake2b(self.digest_bytes, self.person).of(<const unsigned char*>text, size)
            i += 1
        return found


@cython.final
cdef class HashIndex:
    """The places that hashes stand at. Immutable; 14 to 16 bytes a hash.

    Parameters
    ----------
    hashes : (n,) uint64
        Evenly spread in their upper bits; two may be equal.
    """

    cdef CppHashIndex index

    def __cinit__(self, const uint64_t[::1] hashes not None):
        cdef size_t n = hashes.shape[0]
        cdef const uint64_t* first = &hashes[0] if n else NULL
        with nogil:
            self.index.build(first, n)

    def find_rows(self, const int64_t[::1] starts not None, const uint64_t[::1] hashes not None,
                  const int64_t[::1] rows not None):
        """Return where the hashes of some rows stand.

        Parameters
        ----------
        starts : (m + 1,) int64
            Row r has the hashes from `starts[r]` on, before `starts[r + 1]`; they are distinct.
        hashes : (starts[m],) uint64
        rows : (n,) int64
            Which, -1 for one without hashes.

        Returns
        -------
        starts : (n + 1,) int64
        places : (starts[n],) int32
            Distinct in a row.

        Raises
        ------
        ValueError
            `starts` steps back, or does not begin and end with `hashes`.
        IndexError
            There is no such row.
        """
        cdef Py_ssize_t i, m = starts.shape[0] - 1, n = rows.shape[0]
        if m < 0 or starts[0] != 0 or starts[m] != hashes.shape[0]:
            raise ValueError("rows begin and end with their hashes")
        for i in range(m):
            if starts[i] > starts[i + 1]:
                raise ValueError("rows begin one after the other")
        for i in range(n):
            if not -1 <= rows[i] < m:
                raise IndexError(rows[i])
        begins = np.zeros(n + 1, np.int64)
        cdef int64_t[::1] out = begins
        cdef vector[int32_t] places
        cdef const uint64_t* of = &hashes[0] if hashes.shape[0] else NULL
        if n:
            with nogil:
                self.index.find_rows(&starts[0], of, &rows[0], n, places, &out[1])
        found = np.empty(<Py_ssize_t>places.size(), np.int32)
        cdef int32_t[::1] into = found
        if places.size():
            memcpy(&into[0], places.data(), places.size() * sizeof(int32_t))
        return begins, found

    @property
    def nbytes(self):
        """Memory held, in bytes."""
        return self.index.bytes()
