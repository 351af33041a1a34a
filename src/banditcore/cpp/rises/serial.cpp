#define BANDITCORE_LANES 1
#include "rises/body.h"

const banditcore::RiseKernel banditcore::kRisesSerial = {"serial", logs, all_sums};
