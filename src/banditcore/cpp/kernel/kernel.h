// What a kernel is: plain functions over pointers and lengths. No Python, no containers, no allocation.
#pragma once

#include <cstdint>

namespace banditcore {

// Keys every random stream of one call.
struct StreamKey {
  std::uint32_t low, high;
};

// The arms of one call.
struct Arms {
  std::int64_t size;         // arms in play
  const std::uint32_t* arm;  // (size,) their indices into the columns; null for all of 0 .. size - 1
  const double* a;           // columns: the shapes
  const double* b;
  const double* weight;      // a column, or null
  double lightest, heaviest; // the bounds of the weights, if there are any
  bool boosted;              // whether a shape may be below 1
};

// An arm a top-k has met.
struct Candidate {
  double key;       // what is ranked: log-odds, or log(weight x rate)
  double log_odds;  // decides between keys that rounding made equal
  double screen;    // a number cheaper than the key and in the same order, up to rounding
  std::uint32_t arm;
};

// The best arms of one row, so far.
struct TopK {
  Candidate* heap;        // `capacity` places; once full, the worst one kept is at the root
  std::int64_t capacity;  // at least 1
  std::int64_t count;
};

// The smallest and the largest of a column. NaN if any value is.
struct Range {
  double least, most;
};

enum class Draws { rates, log_odds };

// Rows and arms are ranges [begin, end); a draw is a function of (key, row, arm), whatever the ranges.
struct Cells {
  std::uint64_t first_row;  // number of row 0
  std::int64_t row_begin, row_end;
  std::int64_t arm_begin, arm_end;  // places among the arms in play
};

struct Kernel {
  const char* name;
  int lanes;
  Range (*range)(const double* values, std::int64_t size);
  // out[row * arms.size + arm] for every cell: a Beta draw, in [0, 1], or its log-odds.
  void (*fill)(const Arms& arms, StreamKey key, const Cells& cells, Draws draws, double* out);
  // Offers every cell of row row_begin + i to tops[i].
  void (*scan)(const Arms& arms, StreamKey key, const Cells& cells, TopK* tops);
  // Empties `top` into the best `k` arms, best first, then -1.
  void (*finish)(TopK& top, StreamKey key, std::uint64_t row, std::int64_t k, std::int32_t* out);
  // Adds what `from` kept to `to`.
  void (*merge)(const TopK& from, StreamKey key, std::uint64_t row, TopK& to);
  // One Philox block, for known-answer tests.
  void (*philox)(const std::uint32_t counter[4], StreamKey key, std::uint32_t out[4]);
};

extern const Kernel kernel_serial;
#if defined(__x86_64__)
#define BANDITCORE_X86_KERNELS 1
extern const Kernel kernel_avx2;
extern const Kernel kernel_avx512;
extern const Kernel kernel_serial_fma;
#endif
#if defined(__aarch64__)
#define BANDITCORE_NEON_KERNEL 1
extern const Kernel kernel_neon;
#endif

}  // namespace banditcore
