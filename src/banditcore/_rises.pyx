# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: autotestdict=False, auto_pickle=False
"""Binds sums of rises of log-gamma, digamma and trigamma. `banditcore.empirical_bayes` asks."""

from libc.stdint cimport int64_t


cdef extern from "rises/rises.h" namespace "banditcore" nogil:
    cppclass RiseTerms:
        const double* share
        const double* count
        const double* weight
        int64_t size
    cppclass RiseSums:
        double logs, psis, trigammas
    cppclass RiseKernel:
        const char* name
        double (*logs)(const RiseTerms& terms, double scale) noexcept
        RiseSums (*all)(const RiseTerms& terms, double scale) noexcept
    const RiseKernel& rise_kernel(int place) noexcept


cdef RiseTerms _terms(const double[::1] share, const double[::1] count, const double[::1] weight):
    cdef RiseTerms terms
    terms.size = share.shape[0]
    if count.shape[0] != terms.size or weight.shape[0] != terms.size:
        raise ValueError("share, count and weight must be of one length")
    cdef const double* nothing = NULL
    terms.share = &share[0] if terms.size else nothing
    terms.count = &count[0] if terms.size else nothing
    terms.weight = &weight[0] if terms.size else nothing
    return terms


def kernel_names():
    """Return the names of the kernels that this machine can run, best first."""
    names = []
    while rise_kernel(<int>len(names)).name != NULL:
        names.append(rise_kernel(<int>len(names)).name.decode())
    return tuple(names)


cdef int _kernels = len(kernel_names())


def rise_sums(const double[::1] share, const double[::1] count, const double[::1] weight,
              double scale, int kernel=0):
    """Return sums over terms that go up by s = `count` from x = `scale` `share`, in one pass.

    Parameters
    ----------
    share, count, weight : (n,) float64
        x within 1e-100..1e100, counts within 0..1e300; weights of either sign.
    scale : float
        > 0.
    kernel : int
        Its place in `kernel_names()`: all give the same bits.

    Returns
    -------
    logs : float
        Sum of weight (log Gamma(x + s) - log Gamma(x)).
    psis : float
        Sum of weight share (psi(x + s) - psi(x)), the derivative of `logs` by `scale`.
    trigammas : float
        Sum of weight share**2 (psi'(x + s) - psi'(x)), the second one.

    Raises
    ------
    ValueError
        Lengths differ, or there is no such kernel.

    Notes
    -----
    Each rise has a relative error of some 1e-15 of the largest term that it is made of, however
    large x and small s. The interpreter lock is not held.
    """
    cdef RiseTerms terms = _terms(share, count, weight)
    cdef RiseSums sums
    if not 0 <= kernel < _kernels:
        raise ValueError("kernel must be a place in kernel_names()")
    with nogil:
        sums = rise_kernel(kernel).all(terms, scale)
    return sums.logs, sums.psis, sums.trigammas


def log_rise_sum(const double[::1] share, const double[::1] count, const double[::1] weight,
                 double scale):
    """Return the first of `rise_sums`, in two thirds of the time."""
    cdef RiseTerms terms = _terms(share, count, weight)
    cdef double total
    with nogil:
        total = rise_kernel(0).logs(terms, scale)
    return total
