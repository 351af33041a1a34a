// The race for AVX-512.
#include "race/race.h"
#if defined(__x86_64__)
#ifndef __AVX512CD__
#error "setup.py gives this file flags of its own"
#endif
#if defined(__GNUC__) && !defined(__clang__)
// The headers of GCC 12 leave unused operands undefined on purpose (GCC bug 105593). Other kernels keep the warnings.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BANDITCORE_LANES 8
#include "race/body.h"

void banditcore::race_rows_avx512(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                  std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
#endif
