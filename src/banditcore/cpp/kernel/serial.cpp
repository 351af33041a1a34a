// The serial kernel: one arm at a time, on any machine. The oracle the other kernels are compared with.
#define BANDITCORE_LANES 1
#include "kernel/body.h"

const banditcore::Kernel banditcore::kernel_serial = {
    "serial", kLanes, range, fill, scan, finish, merge, philox_block,
};
