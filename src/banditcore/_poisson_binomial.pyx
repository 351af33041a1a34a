# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True, autotestdict=False, auto_pickle=False
"""How many arms exceed a point: all of them, and all but one. `banditcore.propensity` asks."""

from libc.stdlib cimport free, malloc

import numpy as np

cdef enum:
    LANES = 8  # points side by side: one cache line


def ranks_among_others(const double[:, ::1] lower, const double[:, ::1] upper, copies, int k):
    """Return the distribution of how many arms exceed each point, as far as rank k.

    Parameters
    ----------
    lower, upper : (n, m) float64
        P(an arm of kind i does not exceed point j), and that it does: each with all its digits.
    copies : (n,) int64
        Arms of each kind, >= 1.
    k : int
        Number of ranks, >= 1.

    Returns
    -------
    others : (k, n, m) float64
        P(exactly r of all arms but one of kind i exceed the point).
    below : (k, m) float64
        P(at most r of all arms exceed it).

    Notes
    -----
    The generating function of the count is the product of all (1 - S) + S z. One arm is taken out
    by division, whose error does not grow where S <= 1/2. The others, S > 1/2, are few wherever
    fewer than k arms may exceed a point: they are multiplied up from both ends instead.
    """
    cdef Py_ssize_t n = lower.shape[0], m = lower.shape[1], j
    cdef const long long[::1] times = np.ascontiguousarray(copies, dtype=np.int64)
    if upper.shape[0] != n or upper.shape[1] != m or times.shape[0] != n or k < 1:
        raise ValueError("lower, upper and copies must be of one length, k at least 1")
    others_, below_ = np.empty((k, n, m)), np.empty((k, m))
    cdef double[:, :, ::1] others = others_
    cdef double[:, ::1] below = below_
    if n == 0 or m == 0:
        below_[...] = 1.0
        return others_, below_
    cdef Py_ssize_t likely = (np.asarray(copies) @ (np.asarray(upper) > 0.5)).max()
    # The product of a tile; a suffix of the likely arms at one point, and all prefixes.
    cdef double* memory = <double*>malloc(sizeof(double) * k * (LANES + likely + 2))
    if memory == NULL:
        raise MemoryError
    with nogil:
        j = 0
        while j < m:
            _tile(&lower[0, 0], &upper[0, 0], &times[0], n, m, j, min(<Py_ssize_t>LANES, m - j), k,
                  memory, &others[0, 0, 0], &below[0, 0])
            j += LANES
        free(memory)
    return others_, below_


cdef void _tile(const double* lower, const double* upper, const long long* times, Py_ssize_t n,
                Py_ssize_t m, Py_ssize_t at, Py_ssize_t width, int k, double* memory,
                double* others, double* below) noexcept nogil:
    cdef double* whole = memory  # (k, LANES): the product of the arms up to 1/2, then of all
    cdef double p[LANES]
    cdef double q[LANES]
    cdef double turned[LANES]
    cdef double last[LANES]
    cdef Py_ssize_t i, lane
    cdef long long _copy
    cdef int r
    cdef double value
    cdef bint any_likely = False
    for i in range(k * LANES):
        whole[i] = 0.0
    for lane in range(LANES):
        whole[lane] = 1.0
        p[lane], q[lane] = 0.0, 1.0
    for i in range(n):
        for lane in range(width):
            p[lane], q[lane] = upper[i * m + at + lane], lower[i * m + at + lane]
            if p[lane] > 0.5:
                p[lane], q[lane], any_likely = 0.0, 1.0, True
        for _copy in range(times[i]):
            for r in range(k - 1, 0, -1):
                for lane in range(LANES):
                    whole[r * LANES + lane] = (whole[r * LANES + lane] * q[lane]
                                               + whole[(r - 1) * LANES + lane] * p[lane])
            for lane in range(LANES):
                whole[lane] *= q[lane]
    if any_likely:
        for lane in range(width):
            _likely(lower, upper, times, n, m, at + lane, k, whole + lane,
                    memory + k * LANES, others)
    for lane in range(width):
        value = 0.0
        for r in range(k):
            value += whole[r * LANES + lane]
            below[r * m + at + lane] = value
    for i in range(n):
        for lane in range(width):
            p[lane] = upper[i * m + at + lane]
            turned[lane] = 1.0 / lower[i * m + at + lane] if p[lane] <= 0.5 else 0.0
            last[lane] = 0.0
        for r in range(k):
            for lane in range(LANES):
                last[lane] = (whole[r * LANES + lane] - p[lane] * last[lane]) * turned[lane]
                # Rounding may leave -1e-17 where there is nothing.
                last[lane] = last[lane] if last[lane] > 0.0 else 0.0
            for lane in range(width):
                if p[lane] <= 0.5:
                    others[(r * n + i) * m + at + lane] = last[lane]


cdef void _likely(const double* lower, const double* upper, const long long* times, Py_ssize_t n,
                  Py_ssize_t m, Py_ssize_t at, int k, double* whole, double* suffix,
                  double* others) noexcept nogil:
    # The arms beyond 1/2 at one point: `whole`, a lane of it, becomes the product of all arms.
    cdef Py_ssize_t i, count = 0
    cdef long long copy, _copy
    cdef double p, q
    cdef double* here
    cdef double* prefix = suffix + k
    cdef int r, s
    cdef double value
    for r in range(k):
        prefix[r] = whole[r * LANES]
        suffix[r] = 0.0
    suffix[0] = 1.0
    for i in range(n):
        p, q = upper[i * m + at], lower[i * m + at]
        if p <= 0.5:
            continue
        for _copy in range(times[i]):
            here = prefix + count * k
            for r in range(k - 1, 0, -1):
                here[k + r] = here[r] * q + here[r - 1] * p
            here[k] = here[0] * q
            count += 1
    for r in range(k):
        whole[r * LANES] = prefix[count * k + r]
    for i in range(n - 1, -1, -1):
        p, q = upper[i * m + at], lower[i * m + at]
        if p <= 0.5:
            continue
        for copy in range(times[i]):
            count -= 1
            if copy == 0:
                here = prefix + count * k
                for r in range(k):
                    value = 0.0
                    for s in range(r + 1):
                        value += here[s] * suffix[r - s]
                    others[(r * n + i) * m + at] = value
            for r in range(k - 1, 0, -1):
                suffix[r] = suffix[r] * q + suffix[r - 1] * p
            suffix[0] *= q
