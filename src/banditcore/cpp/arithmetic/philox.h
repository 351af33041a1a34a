// Random streams: Philox 4x32-10, a keyed bijection of 128-bit counters.
//
// J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// A block is a function of (seed, row, arm, purpose, attempt) and of nothing else: no state, no order, so no
// number of threads, width of pack or neighbouring row can change what an arm draws.
#pragma once

#include "kernel/kernel.h"
#include "arithmetic/lanes.h"

namespace {

// What a block is for: the low three bits of the last counter word; the attempt is above them.
enum Purpose : std::uint32_t {
  kNormals = 0,    // both normals of an attempt, and 12 leading bits of its acceptance word
  kBoosts = 1,     // U of G_a = G_{a+1} U^(1/a), for both gammas
  kAcceptance = 2, // the bits that follow those 12, read only when they leave the answer open
  kTie = 3,        // order of arms whose keys are equal
                   // 4, 5: free
                   // 6: points of the race
};

template <class W>
struct Block {
  W low;   // counter words 0 and 1 of the output, word 0 in the low half
  W high;  // words 2 and 3
};

// Counter words arrive one to a lane, zero-extended to 64 bits; so does the output of each round.
template <class W>
BANDITCORE_INLINE Block<W> philox(W c0, W c1, W c2, W c3, banditcore::StreamKey key) {
  constexpr std::uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  std::uint32_t k0 = key.low, k1 = key.high;
  for (int round = 0; round < 10; ++round) {
    const W p0 = multiply_low(c0, kMultiplier0);
    const W p1 = multiply_low(c2, kMultiplier1);
    // Garbage above bit 31 is harmless until the end: multiply_low reads the low half only.
    c0 = xor_of(p1 >> 32, c1, W{} + static_cast<std::uint64_t>(k0));
    c2 = xor_of(p0 >> 32, c3, W{} + static_cast<std::uint64_t>(k1));
    c1 = p1;
    c3 = p0;
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {joined(c0, c1), joined(c2, c3)};
}

BANDITCORE_INLINE Words last_word(Purpose purpose, std::uint64_t attempt) {
  return all_words((attempt << 3 | purpose) & 0xffffffffu);
}

template <class W>
BANDITCORE_INLINE Block<W> block_of(W arm, W row, W zero, Purpose purpose, std::uint32_t attempt,
                                    banditcore::StreamKey key) {
  const std::uint64_t last = (static_cast<std::uint64_t>(attempt) << 3 | purpose) & 0xffffffffu;
  return philox<W>(arm, row, row >> 32, zero + last, key);
}

BANDITCORE_INLINE Block<std::uint64_t> scalar_block(std::uint32_t arm, std::uint64_t row, Purpose purpose,
                                                    std::uint32_t attempt, banditcore::StreamKey key) {
  return block_of<std::uint64_t>(arm, row, 0, purpose, attempt, key);
}

}  // namespace
