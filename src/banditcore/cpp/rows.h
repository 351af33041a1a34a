// Runs a kernel over rows, on one thread or several.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.h"

namespace banditcore {

// Owns the columns of the arms in play. Throws std::bad_alloc.
class Columns {
 public:
  // `arm`: (size,) indices into a, b and weight, or null for all of 0 .. size - 1. weight may be null.
  Columns(const Kernel& kernel, const double* a, const double* b, const double* weight, const std::int32_t* arm,
          std::int64_t size);
  const Arms& arms() const { return arms_; }

 private:
  Arms arms_;
  std::unique_ptr<double[]> floats_;
  std::unique_ptr<std::uint32_t[]> indices_;
};

// Working memory of the threads of one call. Throws std::bad_alloc.
class Heaps {
 public:
  Heaps(int threads, std::int64_t places);
  Candidate* of(int thread) { return heaps_.data() + thread * places_; }
  int threads() const { return threads_; }

 private:
  int threads_;
  std::int64_t places_;
  std::vector<Candidate> heaps_;
};

enum class Draws { rates, log_odds };

// Rows first .. first + rows - 1. `out` is (rows, size) or (rows, k), row by row. Neither throws: a thread that
// cannot be started leaves its rows to the others, and an answer depends on no thread.
void fill_rows(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first, std::int64_t rows,
               int threads, Draws draws, double* out) noexcept;
void topk_rows(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first, std::int64_t rows,
               std::int64_t k, Heaps& heaps, std::int32_t* out) noexcept;

}  // namespace banditcore
