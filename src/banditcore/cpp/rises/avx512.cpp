#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// As in race/avx512.cpp: GCC bug 105593.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BANDITCORE_LANES 8
#include "rises/body.h"

const banditcore::RiseKernel banditcore::kRisesAvx512 = {"avx512", logs, all_sums};
#endif
