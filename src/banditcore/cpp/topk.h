// The best k of a stream of candidates, kept in a heap whose root is the worst one kept.
//
// The order is total: key, then log-odds, then a random word of the arm's own stream, then the index. So the answer
// does not depend on the order in which candidates arrive, and equal arms win equally often.
#pragma once

#include "philox.h"

namespace {

using banditcore::Candidate;

struct TopK {
  Candidate* heap;
  std::int64_t capacity;
  std::int64_t count;
  std::uint64_t row;
  banditcore::StreamKey key;
};

inline bool ranks_before(const TopK& top, const Candidate& left, const Candidate& right) {
  if (left.key != right.key) return left.key > right.key;
  if (left.log_odds != right.log_odds) return left.log_odds > right.log_odds;
  const std::uint64_t tie_left = scalar_block(left.arm, top.row, kTie, 0, top.key).low;
  const std::uint64_t tie_right = scalar_block(right.arm, top.row, kTie, 0, top.key).low;
  if (tie_left != tie_right) return tie_left > tie_right;
  return left.arm < right.arm;
}

// Moves the candidate at `hole` down to its place among the first `count`.
inline void sift_down(const TopK& top, std::int64_t hole, std::int64_t count) {
  const Candidate moving = top.heap[hole];
  for (;;) {
    std::int64_t child = 2 * hole + 1;
    if (child >= count) break;
    if (child + 1 < count && ranks_before(top, top.heap[child], top.heap[child + 1])) ++child;
    if (!ranks_before(top, moving, top.heap[child])) break;
    top.heap[hole] = top.heap[child];
    hole = child;
  }
  top.heap[hole] = moving;
}

inline void offer(TopK& top, const Candidate& candidate) {
  if (top.count < top.capacity) {
    top.heap[top.count++] = candidate;
    if (top.count == top.capacity) {
      for (std::int64_t at = top.capacity / 2 - 1; at >= 0; --at) sift_down(top, at, top.capacity);
    }
  } else if (ranks_before(top, candidate, top.heap[0])) {
    top.heap[0] = candidate;
    sift_down(top, 0, top.capacity);
  }
}

// Writes the arms kept, best first, then -1 up to k. Needs a heap that is full.
inline void finish(TopK& top, std::int64_t k, std::int32_t* out) {
  for (std::int64_t left = top.count; left > 0; --left) {
    out[left - 1] = static_cast<std::int32_t>(top.heap[0].arm);
    top.heap[0] = top.heap[left - 1];
    sift_down(top, 0, left - 1);
  }
  for (std::int64_t rank = top.count; rank < k; ++rank) out[rank] = -1;
}

}  // namespace
