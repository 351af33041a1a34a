# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False
"""64 bits of a user and a time bucket, the same in every process and on every machine."""

cimport cython
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint64_t

import numpy as np


cdef extern from "lookups/siphash.h" namespace "banditcore" nogil:
    cppclass SipKey:
        uint64_t first
        uint64_t second
    uint64_t siphash_after(const SipKey& key, uint64_t first, const unsigned char* text,
                           size_t size) noexcept

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


@cython.final
cdef class UserKeys:
    """Keys of users under one salt of 16 bytes: users of two salts have nothing in common."""

    cdef SipKey salt

    def __cinit__(self, bytes salt):
        if len(salt) != 16:
            raise ValueError("a salt has 16 bytes")
        self.salt.first = int.from_bytes(salt[:8], "little")
        self.salt.second = int.from_bytes(salt[8:], "little")

    cdef uint64_t one(self, str user, uint64_t bucket) except? 0:
        cdef Py_ssize_t size
        cdef const char* text
        cdef bytes odd
        try:
            text = PyUnicode_AsUTF8AndSize(user, &size)
        except UnicodeEncodeError:  # a lone surrogate
            odd = user.encode("utf-8", "surrogatepass")
            text, size = odd, len(odd)
        return siphash_after(self.salt, bucket, <const unsigned char*>text, <size_t>size)

    def key(self, str user not None, uint64_t bucket):
        """Return the 64 bits of one user."""
        return self.one(user, bucket)

    def keys(self, list users not None, uint64_t bucket):
        """Return the bits of each user that is a str, (n,) uint64; 0 for all else."""
        cdef Py_ssize_t i, n = len(users)
        found = np.zeros(n, np.uint64)
        cdef uint64_t[::1] out = found
        for i in range(n):
            user = users[i]
            if PyUnicode_Check(user):
                out[i] = self.one(<str>user, bucket)
        return found
