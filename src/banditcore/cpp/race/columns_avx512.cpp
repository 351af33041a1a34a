#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// As in avx512.cpp: GCC bug 105593.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BANDITCORE_LANES 8
#include "race/columns_body.h"

const banditcore::RaceColumns banditcore::kRaceColumnsAvx512 = {"avx512", prepare, sums, too_fast,
                                                               advance, rates, measure};
#endif
