#if defined(__x86_64__)
#define BANDITCORE_LANES 4
#include "rises/body.h"

const banditcore::RiseKernel banditcore::kRisesAvx2 = {"avx2", logs, all_sums};
#endif
