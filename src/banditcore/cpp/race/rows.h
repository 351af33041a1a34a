// Runs a race over rows, on one thread or several.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/pool.h"
#include "race/race.h"

namespace banditcore {

// Working memory of the threads of one call, which does not depend on the rows. Throws std::bad_alloc.
class RaceMemory {
 public:
  RaceMemory(const Race& race, int threads, std::int64_t k, std::int64_t bans_a_row);
  RaceScratch& of(int thread) const noexcept {
    return *reinterpret_cast<RaceScratch*>(bytes_.get() + stride_ * thread);
  }

 private:
  struct Free {
    void operator()(unsigned char* bytes) const noexcept;
  };
  std::size_t stride_;
  std::unique_ptr<unsigned char, Free> bytes_;  // a scratch and its arrays, thread after thread
};

// The race for a kernel's name, the best one for a name that this machine cannot run. All give the same bits.
RaceRows choose_race(const char* kernel) noexcept;
// Names that this machine can run, best first, with blanks between.
const char* race_kernels() noexcept;

// One call: rows first .. first + rows - 1 into `out`, (rows, k), whose answers depend on no thread. `advance` works
// for about `patience` nanoseconds, but never less than a row; true while there is more.
class RaceCall {
 public:
  // Hands rows to threads by `unit`; 0 for as many as make a unit of useful length. Throws std::bad_alloc.
  RaceCall(const PoolFunctions& pool, RaceRows run, const Race& race, StreamKey key, std::uint64_t first,
           std::int64_t rows, std::int64_t k, const RaceBans& bans, int threads, std::int64_t unit, std::int32_t* out);
  bool advance(std::int64_t patience) noexcept;

 private:
  void play(int thread, std::int64_t begin, std::int64_t end) noexcept;
  std::int64_t find_unit() noexcept;

  const PoolFunctions& pool_;
  const RaceRows run_;
  const Race& race_;
  const StreamKey key_;
  const std::uint64_t first_;
  const std::int64_t rows_, k_;
  const RaceBans bans_;
  const int threads_;
  std::int64_t unit_;
  std::int32_t* const out_;
  const RaceMemory memory_;
  std::int64_t next_ = 0;
};

}  // namespace banditcore
