#if defined(__x86_64__)
#define BANDITCORE_LANES 8
#include "race_columns_body.h"

const banditcore::RaceColumns banditcore::kRaceColumnsAvx512 = {"avx512", prepare, sums, too_fast, advance, rates, measure};
#endif
