// The kernel for AVX-512: eight arms at a time.
#include "kernel/kernel.h"
#ifdef BANDITCORE_X86_KERNELS
#ifndef __AVX512DQ__
#error "setup.py gives this file flags of its own"
#endif
#if defined(__GNUC__) && !defined(__clang__)
// The headers of GCC 12 leave unused operands undefined on purpose (GCC bug 105593). Other kernels keep the warnings.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BANDITCORE_LANES 8
#include "kernel/body.h"

const banditcore::Kernel banditcore::kernel_avx512 = {
    "avx512", kLanes, range, fill, scan, finish, merge, philox_block,
};
#endif
