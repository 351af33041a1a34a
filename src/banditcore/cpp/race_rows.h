// Runs a race over rows, on one thread or several.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "race.h"

namespace banditcore {

// Working memory of the threads of one call, which does not depend on the rows. Throws std::bad_alloc.
class RaceMemory {
 public:
  RaceMemory(const Race& race, int threads, std::int64_t k, std::int64_t bans_a_row);
  RaceScratch& of(int thread) { return scratch_[thread]; }
  int threads() const { return static_cast<int>(scratch_.size()); }

 private:
  std::vector<RaceScratch> scratch_;
  std::vector<RacePending> pending_, tail_;
  std::vector<std::uint64_t> seen_;
};

// The race for a kernel's name, the best one for a name that this machine cannot run. All give the same bits.
RaceRows choose_race(const char* kernel) noexcept;
// Names that this machine can run, best first, with blanks between.
const char* race_kernels() noexcept;

// Rows first .. first + rows - 1 into `out`, (rows, k). A thread that cannot be started leaves its rows to the
// others, and an answer depends on no thread.
void race_topk(RaceRows run, const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
               std::int64_t k, const RaceBans& bans, RaceMemory& memory, std::int32_t* out) noexcept;

}  // namespace banditcore
