#if defined(__x86_64__)
#pragma GCC target("avx2")
#define BANDITCORE_LANES 4
#include "race_body.h"

void banditcore::race_rows_avx2(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                 std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
#endif
