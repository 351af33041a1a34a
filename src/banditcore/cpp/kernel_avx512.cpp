// The kernel for AVX-512: eight arms at a time.
#include "kernel.h"
#ifdef BANDITCORE_X86_KERNELS
#ifndef __AVX512DQ__
#error "setup.py gives this file flags of its own"
#endif
#define BANDITCORE_LANES 8
#include "kernel_body.h"

const banditcore::Kernel banditcore::kernel_avx512 = {
    "avx512", kLanes, range, fill, scan, finish, merge, philox_block,
};
#endif
