// The race on any machine. The oracle the other kernels are compared with.
#define BANDITCORE_LANES 1
#include "race/body.h"

void banditcore::race_rows_serial(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                  std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  race_rows(race, key, first, rows, k, bans, scratch, out);
}
