// The kernel for 64-bit ARM, where NEON is always there: two arms at a time.
#include "kernel/kernel.h"
#ifdef BANDITCORE_NEON_KERNEL
#define BANDITCORE_LANES 2
#include "kernel/body.h"

const banditcore::Kernel banditcore::kernel_neon = {
    "neon", kLanes, range, fill, scan, finish, merge, philox_block,
};
#endif
