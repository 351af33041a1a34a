// The best k of a stream of candidates, kept in a heap whose root is the worst one kept.
//
// The order is total: key, then log-odds, then a random word of the arm's own stream, then the index. So the answer
// does not depend on the order in which candidates arrive, and equal arms win equally often.
#pragma once

#include "arithmetic/philox.h"

namespace {

using banditcore::Candidate;
using banditcore::TopK;

// What the random words of one row are keyed by.
struct Ties {
  banditcore::StreamKey key;
  std::uint64_t row;
};

inline bool ranks_before(Ties ties, const Candidate& left, const Candidate& right) {
  if (left.key != right.key) return left.key > right.key;
  if (left.log_odds != right.log_odds) return left.log_odds > right.log_odds;
  const std::uint64_t tie_left = scalar_block(left.arm, ties.row, kTie, 0, ties.key).low;
  const std::uint64_t tie_right = scalar_block(right.arm, ties.row, kTie, 0, ties.key).low;
  if (tie_left != tie_right) return tie_left > tie_right;
  return left.arm < right.arm;
}

// Moves the candidate at `hole` down to its place among the first `count`.
inline void sift_down(TopK& top, Ties ties, std::int64_t hole, std::int64_t count) {
  const Candidate moving = top.heap[hole];
  for (;;) {
    std::int64_t child = 2 * hole + 1;
    if (child >= count) break;
    if (child + 1 < count && ranks_before(ties, top.heap[child], top.heap[child + 1])) ++child;
    if (!ranks_before(ties, moving, top.heap[child])) break;
    top.heap[hole] = top.heap[child];
    hole = child;
  }
  top.heap[hole] = moving;
}

inline void offer(TopK& top, Ties ties, const Candidate& candidate) {
  if (top.count < top.capacity) {
    top.heap[top.count++] = candidate;
    if (top.count == top.capacity) {
      for (std::int64_t at = top.capacity / 2 - 1; at >= 0; --at) sift_down(top, ties, at, top.capacity);
    }
  } else if (ranks_before(ties, candidate, top.heap[0])) {
    top.heap[0] = candidate;
    sift_down(top, ties, 0, top.capacity);
  }
}

// Few candidates are sorted by counting, for each, those with a greater key: no branch to mispredict.
constexpr int kFew = 64;

// Fills rank[i] with the number of keys above keys[i]; false if two are equal, which the order then has to decide.
// `keys` has room for whole packs.
BANDITCORE_INLINE bool rank_few(double* keys, int count, double* rank) {
  const int padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int at = count; at < padded; ++at) keys[at] = -__builtin_inf();
  double sum = 0.0;
  for (int at = 0; at < padded; at += kLanes) {
    const Floats mine = load(keys + at);
    Floats ahead = all_floats(0.0);
    for (int other = 0; other < count; ++other) {
      ahead = ahead + select(all_floats(keys[other]) > mine, all_floats(1.0), all_floats(0.0));
    }
    store(rank + at, ahead);
  }
  for (int at = 0; at < count; ++at) sum += rank[at];
  return sum == 0.5 * count * (count - 1);  // less where any are equal
}

// Offers to an empty heap.
inline void offer_few(TopK& top, Ties ties, const Candidate* candidates, int count) {
  alignas(64) double keys[kFew], rank[kFew];
  for (int at = 0; at < count; ++at) keys[at] = candidates[at].key;
  if (count < top.capacity || !rank_few(keys, count, rank)) {
    for (int at = 0; at < count; ++at) offer(top, ties, candidates[at]);
    return;
  }
  top.count = top.capacity;
  for (int at = 0; at < count; ++at) {
    // Worst first is a heap.
    const std::int64_t place = top.capacity - 1 - static_cast<std::int64_t>(rank[at]);
    if (place >= 0) top.heap[place] = candidates[at];
  }
}

inline void merge(const TopK& from, banditcore::StreamKey key, std::uint64_t row, TopK& to) {
  for (std::int64_t at = 0; at < from.count; ++at) offer(to, {key, row}, from.heap[at]);
}

// Writes the arms kept, best first, then -1 up to k, and empties the heap. Needs one that is full.
inline void finish(TopK& top, banditcore::StreamKey key, std::uint64_t row, std::int64_t k, std::int32_t* out) {
  for (std::int64_t place = top.count; place < k; ++place) out[place] = -1;
  if (top.count <= kFew) {
    alignas(64) double keys[kFew], rank[kFew];
    const int count = static_cast<int>(top.count);
    for (int at = 0; at < count; ++at) keys[at] = top.heap[at].key;
    if (rank_few(keys, count, rank)) {
      for (int at = 0; at < count; ++at) out[static_cast<int>(rank[at])] = static_cast<std::int32_t>(top.heap[at].arm);
      top.count = 0;
      return;
    }
  }
  for (std::int64_t left = top.count; left > 0; --left) {
    out[left - 1] = static_cast<std::int32_t>(top.heap[0].arm);
    top.heap[0] = top.heap[left - 1];
    sift_down(top, {key, row}, 0, left - 1);
  }
  top.count = 0;
}

}  // namespace
