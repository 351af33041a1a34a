// The body every kernel shares: compiled once per instruction set, by a source that sets BANDITCORE_LANES and
// BANDITCORE_KERNEL, the name of the Kernel it defines.
#pragma once

#include "beta.h"
#include "topk.h"

namespace {

BANDITCORE_INLINE void prepare_gamma(Floats shape, double* d, double* c, double* inverse) {
  const auto boosted = shape < 1.0;
  const Floats base = select(boosted, shape + 1.0, shape);
  const Floats less = base - 1.0 / 3.0;
  store(d, less);
  store(c, 1.0 / square_root(9.0 * less));
  store(inverse, select(boosted, 1.0 / shape, 0.0));
}

void prepare(Arms& arms, const double* a, const double* b, const double* weight) {
  double heaviest = 0.0;
  for (std::int64_t at = 0; weight && at < arms.size; ++at) {
    const double value = weight[arms.arm[at]];
    heaviest = value > heaviest ? value : heaviest;
  }
  if (weight) arms.log_scale = logarithm(heaviest);
  for (std::int64_t at = 0; at < arms.padded; at += kLanes) {
    Floats shape_a = Floats{} + 1.0, shape_b = shape_a, value = shape_a;
    for (int lane = 0; lane < kLanes && at + lane < arms.size; ++lane) {
      const std::uint32_t arm = arms.arm[at + lane];
      shape_a = with_lane(shape_a, lane, a[arm]);
      shape_b = with_lane(shape_b, lane, b[arm]);
      if (weight) value = with_lane(value, lane, weight[arm]);
    }
    prepare_gamma(shape_a, arms.d_a + at, arms.c_a + at, arms.inverse_a + at);
    prepare_gamma(shape_b, arms.d_b + at, arms.c_b + at, arms.inverse_b + at);
    store(arms.centre + at, logarithm(load(arms.d_a + at) / load(arms.d_b + at)));
    if (weight) {
      store(arms.log_weight + at, logarithm(value));
      // Relative, so that no product overflows; a tiny one is raised, which lets the arm through to the exact test.
      const Floats relative = value / heaviest;
      store(arms.weight + at, select(relative < 0x1p-400, 0x1p-400, relative));
    }
  }
}

// Calls use(at, draws) for blocks of drawn arms, in order.
template <class Use>
BANDITCORE_INLINE void each_block(const Arms& arms, StreamKey key, std::uint64_t row, Use use) {
  Draws draws;
  for (std::int64_t at = 0; at < arms.size; at += kBlock) {
    draw_block(arms, at, key, row, draws);
    use(at, draws);
  }
}

// Stores a pack, or as many of its lanes as `room` has places for.
BANDITCORE_INLINE void store_some(double* to, Floats pack, std::int64_t room) {
  if (room >= kLanes) {
    store(to, pack);
  } else {
    for (int lane = 0; lane < room; ++lane) to[lane] = lane_of(pack, lane);
  }
}

void fill_beta(const Arms& arms, StreamKey key, std::uint64_t row, double* out) {
  each_block(arms, key, row, [&](std::int64_t at, const Draws& draws) {
    for (int lane = 0; lane < draws.count; lane += kLanes) {
      store_some(out + at + lane, beta_pack(arms, at, draws, lane), arms.size - at - lane);
    }
  });
}

void fill_log_odds(const Arms& arms, StreamKey key, std::uint64_t row, double* out) {
  each_block(arms, key, row, [&](std::int64_t at, const Draws& draws) {
    for (int lane = 0; lane < draws.count; lane += kLanes) {
      store_some(out + at + lane, log_odds_pack(arms, at, draws, lane), arms.size - at - lane);
    }
  });
}

// Lanes whose key may reach that of the worst candidate kept: a bit each, no logarithm needed. With weight v a key is
// log(v G_a / (G_a + G_b)), else log(G_a / G_b); `cutoff` is that of the worst one, as a number. It says no only for
// certain: the slack is far above all rounding, and the limits keep every product finite.
constexpr double kSlack = 1.0 - 0x1p-36, kLargestCutoff = 0x1p500, kLeastCutoff = 0x1p-500;

BANDITCORE_INLINE double cutoff_of(const Arms& arms, double worst_key) {
  const double cutoff = exponential(arms.weighted ? worst_key - arms.log_scale : worst_key) * kSlack;
  return cutoff > kLargestCutoff ? kLargestCutoff : cutoff < kLeastCutoff ? 0.0 : cutoff;
}

BANDITCORE_INLINE std::uint64_t hopeful(const Arms& arms, std::int64_t at, const Draws& draws, int lane,
                                        double cutoff) {
  const Floats base_a = 1.0 + load(draws.w_a + lane), base_b = 1.0 + load(draws.w_b + lane);
  const Floats gamma_a = load(arms.d_a + at + lane) * (base_a * base_a * base_a);
  const Floats gamma_b = load(arms.d_b + at + lane) * (base_b * base_b * base_b);
  if (!arms.weighted) return flags(gamma_a >= cutoff * gamma_b);
  return flags(load(arms.weight + at + lane) * gamma_a >= cutoff * (gamma_a + gamma_b));
}

void topk(const Arms& arms, StreamKey key, std::uint64_t row, std::int64_t k, Candidate* heap, std::int32_t* out) {
  TopK top{heap, k < arms.size ? k : arms.size, 0, row, key};
  each_block(arms, key, row, [&](std::int64_t at, const Draws& draws) {
    const std::int64_t left = arms.size - at;
    std::uint64_t lanes = left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
    if (top.count == top.capacity && !draws.boosted) {
      const double cutoff = cutoff_of(arms, heap[0].key);
      std::uint64_t seen = 0;
      for (int lane = 0; lane < draws.count; lane += kLanes) seen |= hopeful(arms, at, draws, lane, cutoff) << lane;
      lanes &= seen;
    }
    for (int lane = 0; lane < draws.count; lane += kLanes) {
      std::uint64_t wanted = lanes >> lane & kEveryLane;
      if (wanted == 0) continue;
      const Floats odds = log_odds_pack(arms, at, draws, lane);
      const Floats ranked = arms.weighted ? load(arms.log_weight + at + lane) + log_rate(odds) : odds;
      for (; wanted != 0; wanted &= wanted - 1) {
        const int one = __builtin_ctzll(wanted);
        offer(top, {lane_of(ranked, one), lane_of(odds, one), arms.arm[at + lane + one]});
      }
    }
  });
  finish(top, k, out);
}

void philox_block(const std::uint32_t counter[4], StreamKey key, std::uint32_t out[4]) {
  const Block<Words> block = philox<Words>(all_words(counter[0]), all_words(counter[1]), all_words(counter[2]),
                                           all_words(counter[3]), key);
  const std::uint64_t low = lane_of(block.low, kLanes - 1), high = lane_of(block.high, kLanes - 1);
  out[0] = static_cast<std::uint32_t>(low);
  out[1] = static_cast<std::uint32_t>(low >> 32);
  out[2] = static_cast<std::uint32_t>(high);
  out[3] = static_cast<std::uint32_t>(high >> 32);
}

}  // namespace
