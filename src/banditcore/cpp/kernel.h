// What a kernel is: plain functions over pointers and lengths. No Python, no containers, no allocation.
#pragma once

#include <cstdint>

namespace banditcore {

// Keys every random stream of one call.
struct StreamKey {
  std::uint32_t low, high;
};

// Arms are padded to a multiple of this, so that a pack never reads past a column.
constexpr std::int64_t kPadding = 8;

// What a draw needs of each arm, one column each, `padded` long; columns are read in whole packs.
// A gamma of shape s >= 1 has d = s - 1/3 and c = 1 / sqrt(9 d); a shape below 1 is boosted from s + 1.
struct Arms {
  std::int64_t size = 0;    // arms in play
  std::int64_t padded = 0;  // size rounded up to a multiple of kPadding
  bool weighted = false;
  std::uint32_t* arm = nullptr;    // index the caller knows the arm by; keys its stream
  double* d_a = nullptr;           // first gamma: d, c, and 1 / a if boosted, else 0
  double* c_a = nullptr;
  double* inverse_a = nullptr;
  double* d_b = nullptr;           // second gamma
  double* c_b = nullptr;
  double* inverse_b = nullptr;
  double* centre = nullptr;        // log(d_a / d_b)
  // Only if weighted:
  double* log_weight = nullptr;    // log(weight)
  double* weight = nullptr;        // weight / the largest weight, at least 2^-400
  double log_scale = 0.0;          // log of the largest weight
};

// An arm a top-k has met.
struct Candidate {
  double key;       // what is ranked: log-odds, or log(weight x rate)
  double log_odds;  // decides between keys that rounding made equal
  std::uint32_t arm;
};

struct Kernel {
  const char* name;
  int lanes;
  // Fills the columns of `arms` but `arm`, from (a, b, weight) in the order of `arms.arm`. weight may be null.
  void (*prepare)(Arms& arms, const double* a, const double* b, const double* weight);
  // One row: a Beta draw, in [0, 1], or its log-odds, an arm. `out` has arms.size places.
  void (*fill_beta)(const Arms& arms, StreamKey key, std::uint64_t row, double* out);
  void (*fill_log_odds)(const Arms& arms, StreamKey key, std::uint64_t row, double* out);
  // One row: the best `k` arms, best first, then -1. `heap` has min(k, arms.size) places.
  void (*topk)(const Arms& arms, StreamKey key, std::uint64_t row, std::int64_t k, Candidate* heap,
               std::int32_t* out);
  // One Philox block, for known-answer tests.
  void (*philox)(const std::uint32_t counter[4], StreamKey key, std::uint32_t out[4]);
};

extern const Kernel kernel_serial;

}  // namespace banditcore
