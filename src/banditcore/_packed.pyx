# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False, cdivision=True
"""Arms and slates in the form they are published in: checked once, then read where they lie.

Strings are made when an answer first needs them. A process may hold thousands of segments, each of
thousands of arms, of which it shows few.
"""

import os

cimport cython
from cpython.ref cimport Py_INCREF
from cpython.set cimport PySet_Contains
from cpython.unicode cimport PyUnicode_Check
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

import numpy as np


cdef extern from "lookups/siphash.h" namespace "banditcore" nogil:
    cppclass SipKey:
        uint64_t first
        uint64_t second
    uint64_t siphash(const SipKey& key, const unsigned char* text, size_t size) noexcept

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)

cdef extern from "string.h" nogil:
    int memcmp(const void*, const void*, size_t)

# Whoever names arms must not be able to choose ids that share a slot, so the key is a secret; a
# child of a fork may keep it.
cdef SipKey _secret
_secret.first = int.from_bytes(os.urandom(8), "little")
_secret.second = int.from_bytes(os.urandom(8), "little")

cdef enum:
    NARROW_NONE = 0xFFFF
cdef uint32_t WIDE_NONE = <uint32_t>0xFFFFFFFF


def frozen_ids(ids):
    """Return what is in an iterable of ids as a frozenset of str.

    Raises
    ------
    TypeError
        It is no iterable, or something in it is no str.
    """
    cdef frozenset found = frozenset(ids)
    for one in found:
        if not PyUnicode_Check(one):
            raise TypeError("an id is a str")
    return found


@cython.final
cdef class PackedIds:
    """Distinct ids, one after the other in UTF-8: a sequence of str, and their places.

    Parameters
    ----------
    ends : (n,) uint32
        Where each ends in `text`; it begins where the one before ends.
    text : bytes
        All of them.
    longest : int
        The most bytes an id may have.

    Raises
    ------
    ValueError
        Ends do not fit, an id is empty, too long or no UTF-8, or stands twice.
    """

    cdef object __weakref__
    cdef readonly object ends
    cdef readonly bytes text
    cdef const uint8_t* at
    cdef const uint32_t[::1] stops
    cdef Py_ssize_t n
    cdef uint32_t* slots  # index + 1 by hash, 0 for none: at most half are in use
    cdef uint64_t mask
    cdef list strings  # those that were needed so far; None for the others

    def __cinit__(self, ends not None, bytes text not None, Py_ssize_t longest):
        self.ends, self.text = ends, text
        self.stops = ends
        self.at = text
        self.n = self.stops.shape[0]
        cdef int64_t last = self.stops[self.n - 1] if self.n else 0
        if last != len(text):
            raise ValueError(f"the last id ends at {last}, all of them have {len(text)} bytes")
        text.decode()
        self.mask = 4
        while self.mask < 2 * <uint64_t>self.n:
            self.mask *= 2
        self.slots = <uint32_t*>calloc(self.mask, sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError
        self.mask -= 1
        cdef Py_ssize_t bad = -1
        cdef int what
        with nogil:
            what = self.enter_all(longest, &bad)
        if what == 1:
            raise ValueError(f"id {bad} has no length of 1 to {longest} bytes")
        if what == 2:
            raise ValueError(f"id {bad} begins within a character")
        if what == 3:
            raise ValueError(f"{self.string(bad)!r} stands twice")

    def __dealloc__(self):
        free(self.slots)

    cdef int enter_all(self, Py_ssize_t longest, Py_ssize_t* bad) noexcept nogil:
        cdef Py_ssize_t i
        cdef int64_t start = 0, stop
        # Ends are checked before they are used: one that steps back would alias other ids.
        for i in range(self.n):
            stop = self.stops[i]
            bad[0] = i
            if not 1 <= stop - start <= longest or stop > self.stops[self.n - 1]:
                return 1
            if self.at[start] & 0xC0 == 0x80:
                return 2
            start = stop
        cdef uint64_t slot
        start = 0
        for i in range(self.n):
            stop = self.stops[i]
            slot = self.slot_of(self.at + start, stop - start)
            if self.slots[slot] != 0:
                bad[0] = i
                return 3
            self.slots[slot] = <uint32_t>(i + 1)
            start = stop
        return 0

    cdef uint64_t slot_of(self, const uint8_t* text, int64_t size) noexcept nogil:
        """Return where this id is, or else the empty slot where it would be."""
        cdef uint64_t slot = siphash(_secret, text, size) & self.mask
        cdef int64_t start, other
        while self.slots[slot] != 0:
            other = self.slots[slot] - 1
            start = self.stops[other - 1] if other > 0 else 0
            if (self.stops[other] - start == size
                    and memcmp(self.at + start, text, <size_t>size) == 0):
                break
            slot = (slot + 1) & self.mask
        return slot

    cdef str string(self, Py_ssize_t i):
        if self.strings is None:
            self.strings = [None] * self.n
        found = self.strings[i]
        cdef int64_t start
        if found is None:
            start = self.stops[i - 1] if i > 0 else 0
            found = PyUnicode_DecodeUTF8(
                <const char*>self.at + start, self.stops[i] - start, NULL)
            self.strings[i] = found
        return <str>found

    cdef int64_t place(self, arm) except -2:
        cdef Py_ssize_t size
        cdef const char* text
        try:
            text = PyUnicode_AsUTF8AndSize(arm, &size)
        except UnicodeEncodeError:  # a lone surrogate: no arm's id has one
            return -1
        return <int64_t>self.slots[self.slot_of(<const uint8_t*>text, size)] - 1

    def __len__(self):
        return self.n

    def __getitem__(self, place):
        if isinstance(place, slice):
            return tuple([self.string(i) for i in range(*place.indices(self.n))])
        cdef Py_ssize_t i = place
        if not 0 <= i < self.n:
            raise IndexError(i)
        return self.string(i)

    def __iter__(self):
        return iter(self[:])

    def find(self, str arm not None):
        """Return the place of an id, -1 if it is none of these."""
        return self.place(arm)

    def places(self, arms):
        """Return the places of the ids in `arms` that are among these, (m,) int32."""
        cdef Py_ssize_t count = 0
        cdef int64_t where
        found = np.empty(len(arms), np.int32)
        cdef int32_t[::1] out = found
        for arm in arms:
            where = self.place(arm)
            if where >= 0:
                out[count] = <int32_t>where
                count += 1
        return found[:count]

    def named(self, const int32_t[::1] places):
        """Return the ids at `places`, up to the first negative one, as a tuple."""
        cdef Py_ssize_t i, count = 0
        while count < places.shape[0] and places[count] >= 0:
            count += 1
        cdef tuple answer = PyTuple_New(count)
        for i in range(count):
            if places[i] >= self.n:
                raise IndexError(places[i])
            name = self.string(places[i])
            Py_INCREF(name)
            PyTuple_SET_ITEM(answer, i, name)
        return answer

    def named_rows(self, const int32_t[:, ::1] places):
        """Return `named` of each row, as a list."""
        return [self.named(places[row]) for row in range(places.shape[0])]

    @property
    def nbytes(self):
        """Memory held, in bytes, but for strings that answers needed."""
        return len(self.text) + self.ends.nbytes + (self.mask + 1) * sizeof(uint32_t)


@cython.final
cdef class PackedBank:
    """Slates of indices into `arms`, (m, depth): rows end in all ones where they are short.

    Parameters
    ----------
    arms : PackedIds
        What the indices count.
    slates : (m, depth) uint16 or uint32
        C-contiguous, never changed.

    Raises
    ------
    ValueError
        An index is out of range, stands twice in a row, or follows an end.
    """

    cdef readonly PackedIds arms
    cdef readonly object slates
    cdef const uint16_t[:, ::1] narrow
    cdef const uint32_t[:, ::1] wide
    cdef bint is_narrow
    cdef readonly Py_ssize_t rows, depth

    def __cinit__(self, PackedIds arms not None, slates not None):
        self.arms, self.slates = arms, slates
        self.is_narrow = slates.dtype == np.uint16
        if self.is_narrow:
            self.narrow = slates
        else:
            self.wide = slates
        self.rows, self.depth = slates.shape
        cdef uint32_t* stamps = <uint32_t*>calloc(max(arms.n, 1), sizeof(uint32_t))
        if stamps == NULL:
            raise MemoryError
        cdef int what
        cdef Py_ssize_t bad = 0
        with nogil:
            what = self.check(stamps, &bad)
        free(stamps)
        if what == 1:
            raise ValueError(f"row {bad} has an index beyond {arms.n} arms")
        if what == 2:
            raise ValueError(f"row {bad} goes on after its end")
        if what == 3:
            raise ValueError(f"row {bad} has an arm twice")

    cdef int64_t index(self, Py_ssize_t row, Py_ssize_t place) noexcept nogil:
        """Return the index there, -1 past the row's end."""
        cdef uint32_t value
        if self.is_narrow:
            value = self.narrow[row, place]
            return -1 if value == NARROW_NONE else <int64_t>value
        value = self.wide[row, place]
        return -1 if value == WIDE_NONE else <int64_t>value

    cdef int check(self, uint32_t* stamps, Py_ssize_t* bad) noexcept nogil:
        cdef Py_ssize_t row, place
        cdef int64_t arm
        cdef bint ended
        for row in range(self.rows):
            ended = False
            bad[0] = row
            for place in range(self.depth):
                arm = self.index(row, place)
                if arm < 0:
                    ended = True
                    continue
                if arm >= self.arms.n:
                    return 1
                if ended:
                    return 2
                if stamps[arm] == <uint32_t>(row + 1):
                    return 3
                stamps[arm] = <uint32_t>(row + 1)
        return 0

    cdef tuple cut(self, Py_ssize_t row, Py_ssize_t k, excluded):
        cdef Py_ssize_t place, count = 0, size = min(k, self.depth)
        cdef tuple answer = PyTuple_New(size)
        cdef int64_t arm
        for place in range(self.depth):
            if count == size:
                return answer
            arm = self.index(row, place)
            if arm < 0:
                break
            name = self.arms.string(arm)
            if excluded is not None and PySet_Contains(excluded, name):
                continue
            Py_INCREF(name)
            PyTuple_SET_ITEM(answer, count, name)
            count += 1
        return answer if count == size else answer[:count]

    def pick(self, Py_ssize_t row, Py_ssize_t k, frozenset excluded not None):
        """Return the first k arms of a row that are not in `excluded`, or as many as it has."""
        if not (0 <= row < self.rows and k >= 0):
            raise IndexError(row)
        return self.cut(row, k, excluded if excluded else None)

    def pick_many(self, const int64_t[::1] rows, Py_ssize_t k, excluded not None):
        """Return `pick` of each of `rows`, as a list.

        `excluded` is one frozenset for all, or a list of one for each row.
        """
        cdef Py_ssize_t i, n = rows.shape[0]
        cdef bint own = type(excluded) is list
        cdef list answers = [None] * n
        cdef list known = [None] * self.rows  # rows come again: under one set their answer does
        if k < 0 or (own and len(excluded) != n):
            raise ValueError("one set of exclusions a row")
        for i in range(n):
            if not 0 <= rows[i] < self.rows:
                raise IndexError(rows[i])
            if own:
                out = excluded[i]
                answers[i] = self.cut(rows[i], k, <frozenset?>out if out else None)
            else:
                found = known[rows[i]]
                if found is None:
                    found = self.cut(rows[i], k, <frozenset?>excluded if excluded else None)
                    known[rows[i]] = found
                answers[i] = found
        return answers

    def pick_each(self, const int64_t[::1] rows, Py_ssize_t k, const int64_t[::1] starts not None,
                  const int32_t[::1] without not None):
        """Return `pick` of each of `rows`, as a list; what is excluded is given by places.

        Parameters
        ----------
        rows : (n,) int64
        k : int
        starts : (n + 1,) int64
            The arms to leave out of row i are those from `without[starts[i]]` on, before
            `without[starts[i + 1]]`.
        without : (m,) int32
            Places among the arms; one that stands twice does no harm.

        Raises
        ------
        IndexError
            A row, a start or a place is out of range.
        ValueError
            k is negative, or there is not one start a row and the end.
        """
        cdef Py_ssize_t i, place, count, n = rows.shape[0], size = min(k, self.depth)
        cdef int64_t arm, j
        cdef tuple answer
        cdef list answers = [None] * n
        if k < 0 or starts.shape[0] != n + 1:
            raise ValueError("one start a row, and the end")
        for i in range(n):
            if not 0 <= rows[i] < self.rows:
                raise IndexError(rows[i])
            if not 0 <= starts[i] <= starts[i + 1] <= without.shape[0]:
                raise IndexError(starts[i + 1])
        cdef uint32_t* stamps = <uint32_t*>calloc(max(self.arms.n, 1), sizeof(uint32_t))
        if stamps == NULL:
            raise MemoryError
        try:
            for i in range(n):
                for j in range(starts[i], starts[i + 1]):
                    if not 0 <= without[j] < self.arms.n:
                        raise IndexError(without[j])
                    stamps[without[j]] = <uint32_t>(i + 1)
                answer = PyTuple_New(size)
                count = 0
                for place in range(self.depth):
                    if count == size:
                        break
                    arm = self.index(rows[i], place)
                    if arm < 0:
                        break
                    if stamps[arm] == <uint32_t>(i + 1):
                        continue
                    name = self.arms.string(arm)
                    Py_INCREF(name)
                    PyTuple_SET_ITEM(answer, count, name)
                    count += 1
                answers[i] = answer if count == size else answer[:count]
        finally:
            free(stamps)
        return answers

    def shares(self, tuple arms not None, Py_ssize_t k, excluded not None):
        """Return how often each of `arms` stands at its place in the filtered rows.

        Returns
        -------
        (len(arms),) float64
            Shares of all rows; NaN from the first place that a filtered row does not reach.
        """
        cdef Py_ssize_t i, length = len(arms), reached
        found = np.zeros(length)
        cdef double[::1] out = found
        cdef uint8_t* banned = <uint8_t*>calloc(max(self.arms.n, 1), 1)
        cdef int64_t* wanted = <int64_t*>malloc(max(length, 1) * sizeof(int64_t))
        try:
            if banned == NULL or wanted == NULL:
                raise MemoryError
            for i in range(length):
                wanted[i] = self.arms.place(arms[i])
            for arm in excluded:
                i = self.arms.place(arm)
                if i >= 0:
                    banned[i] = 1
            with nogil:
                reached = self.count(banned, wanted, min(k, length), &out[0] if length else NULL)
        finally:
            free(banned)
            free(wanted)
        found /= max(self.rows, 1)
        found[reached:] = np.nan
        return found

    cdef Py_ssize_t count(self, const uint8_t* banned, const int64_t* wanted, Py_ssize_t length,
                          double* out) noexcept nogil:
        cdef Py_ssize_t row, place, at, reached = length
        cdef int64_t arm
        for row in range(self.rows):
            at = 0
            for place in range(self.depth):
                if at == length:
                    break
                arm = self.index(row, place)
                if arm < 0:
                    break
                if banned[arm]:
                    continue
                if arm == wanted[at]:
                    out[at] += 1.0
                at += 1
            reached = min(reached, at)
        return reached

    @property
    def nbytes(self):
        """Memory held, in bytes, without the arms."""
        return self.slates.nbytes
