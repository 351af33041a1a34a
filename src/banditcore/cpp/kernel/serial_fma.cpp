// The serial kernel for processors that have a fused multiply-add: the same bits, without a library call for each.
#include "kernel/kernel.h"
#ifdef BANDITCORE_X86_KERNELS
#ifndef __FMA__
#error "setup.py gives this file flags of its own"
#endif
#define BANDITCORE_LANES 1
#include "kernel/body.h"

const banditcore::Kernel banditcore::kernel_serial_fma = {
    "serial", kLanes, range, fill, scan, finish, merge, philox_block,
};
#endif
