# cython: language_level=3, boundscheck=False, wraparound=False
# cython: autotestdict=False, auto_pickle=False
"""The fields of an answer, set once: made in a fifth of the time that a frozen dataclass takes."""


cdef class Answer:
    """What `banditcore.serving.recommendation.Recommendation` documents."""

    cdef readonly tuple arms
    cdef readonly object source
    cdef readonly object version
    cdef readonly object age
    cdef readonly tuple degraded
    cdef readonly object _made

    def __cinit__(self, tuple arms not None, source, version, age, tuple degraded not None, made):
        self.arms = arms
        self.source = source
        self.version = version
        self.age = age
        self.degraded = degraded
        self._made = made
