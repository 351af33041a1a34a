#if defined(__x86_64__)
// Without avx512dq: with it GCC turns the 32-bit products of Philox into vpmullq, three times as slow.
#pragma GCC target("avx512f,avx512cd,avx2")
#define BANDITCORE_LANES 8
#include "race_body.h"

void banditcore::race_rows_avx512(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                 std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
#endif
