// Runs a kernel over rows and arms, on one thread or several, in blocks short enough to stop between.
#pragma once

#include <cstdint>
#include <memory>

#include "kernel/kernel.h"

namespace banditcore {

// Work is handed to several threads in units of about this many draws: rows, or arms of one row.
constexpr std::int64_t kUnitDraws = 1 << 16;

// One call of fill, or of topk. `advance` does one more block of about `block` draws a thread; true if there is more.
class Fill {
 public:
  Fill(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first_row, std::int64_t rows, int threads,
       std::int64_t block, Draws draws, double* out);
  bool advance() noexcept;

 private:
  const Kernel& kernel_;
  const Arms arms_;
  StreamKey key_;
  std::uint64_t first_row_;
  std::int64_t rows_;
  int threads_;
  Draws draws_;
  double* out_;
  std::int64_t unit_rows_, unit_arms_, row_units_, arm_units_, block_units_, next_ = 0;
};

class Ranks {
 public:
  // Throws std::bad_alloc.
  Ranks(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first_row, std::int64_t rows,
        std::int64_t k, int threads, std::int64_t block, std::int32_t* out);
  bool advance() noexcept;

 private:
  void whole_rows(int thread, std::int64_t unit) noexcept;
  void part_of_row(int thread, std::int64_t unit) noexcept;

  const Kernel& kernel_;
  const Arms arms_;
  StreamKey key_;
  std::uint64_t first_row_;
  std::int64_t rows_, k_;
  int threads_;
  std::int32_t* out_;
  std::int64_t unit_rows_, unit_arms_, row_units_, arm_units_, block_units_, next_ = 0;
  std::unique_ptr<TopK[]> tops_;             // (threads, unit_rows)
  std::unique_ptr<Candidate[]> candidates_;  // (threads, unit_rows, kept)
};

}  // namespace banditcore
