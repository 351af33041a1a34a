#if defined(__x86_64__)
#define BANDITCORE_LANES 4
#include "race/columns_body.h"

const banditcore::RaceColumns banditcore::kRaceColumnsAvx2 = {"avx2", prepare, sums, too_fast, advance, rates, measure};
#endif
