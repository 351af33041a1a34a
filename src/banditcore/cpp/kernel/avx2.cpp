// The kernel for AVX2: four arms at a time.
#include "kernel/kernel.h"
#ifdef BANDITCORE_X86_KERNELS
#ifndef __AVX2__
#error "setup.py gives this file flags of its own"
#endif
#define BANDITCORE_LANES 4
#include "kernel/body.h"

const banditcore::Kernel banditcore::kernel_avx2 = {
    "avx2", kLanes, range, fill, scan, finish, merge, philox_block,
};
#endif
