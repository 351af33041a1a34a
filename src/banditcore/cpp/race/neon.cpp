// The race for 64-bit ARM, where NEON is always there.
#include "race/race.h"
#if defined(__aarch64__)
#define BANDITCORE_LANES 2
#include "race/body.h"

void banditcore::race_rows_neon(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows, std::int64_t k,
                                const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
#endif
