// The race for AVX2.
#include "race/race.h"
#if defined(__x86_64__)
#ifndef __AVX2__
#error "setup.py gives this file flags of its own"
#endif
#define BANDITCORE_LANES 4
#include "race/body.h"

void banditcore::race_rows_avx2(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows, std::int64_t k,
                                const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
#endif
