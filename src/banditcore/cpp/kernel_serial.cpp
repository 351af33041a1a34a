// The serial kernel: one arm at a time, on any machine. The oracle the other kernels are compared with.
#define BANDITCORE_LANES 1
#include "kernel_body.h"

const banditcore::Kernel banditcore::kernel_serial = {
    "serial", kLanes, prepare, fill_beta, fill_log_odds, topk, philox_block,
};
