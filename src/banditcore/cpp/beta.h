// Beta draws as ratios of gammas, one arm a lane.
//
// Gammas: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000).
// With x normal, w = c x and v = (1 + w)^3, d v is a gamma if log u < d g(w), where
//     g(w) = 9 w^2 / 2 + 1 - (1 + w)^3 + 3 log(1 + w),   g'(w) = -3 w^3 / (1 + w),   g(0) = 0.
// Integrating, g(w) >= -(3/4) w^4 / min(1, 1 + w) for every w > -1. With d w^2 = x^2 / 9 and log u <= u - 1,
//     12 (1 - u) min(1, 1 + w) > x^2 w^2
// accepts safely: the squeeze below, valid for every shape and tight (about 2 % of lanes above the true
// rejections even at shape 1).
//
// 1 - u = (h + f) / 4096: h is 12 bits that the lanes test, with the f of least help. Only a lane left open
// reads f, and takes the full test with the same x and the same u. A redraw at that point would be biased.
#pragma once

#include "elementary.h"
#include "philox.h"

namespace {

using banditcore::Arms;
using banditcore::StreamKey;

// Two independent normals by Box and Muller. `low` gives the radius by its top 52 bits. `high` gives the angle:
// 50 bits within a quarter turn, one bit to mirror it, one to turn it by half.
template <class F, class W>
BANDITCORE_INLINE void normal_pair(W low, W high, F& first, F& second) {
  const F radius = square_root(-2.0 * logarithm(open_unit(low >> 12)));
  const F turn = (float_of(((high >> 14) << 2) | 0x3FF0000000000000u) - 1.5) + 0x1p-51;
  F sine, cosine;
  sine_cosine(turn * 1.57079632679489661923, sine, cosine);
  // Masks rather than a choice: these bits are random, and a branch on them would be mispredicted every other time.
  const W mirror = (bits_of(sine) ^ bits_of(cosine)) & (0u - ((high >> 13) & 1u));
  const W sign = ((high >> 12) & 1u) << 63;
  first = radius * float_of(bits_of(cosine) ^ mirror ^ sign);
  second = radius * float_of(bits_of(sine) ^ mirror ^ sign);
}

// Whether the leading 12 bits of the acceptance word settle the matter: accepted for certain.
template <class F, class W>
BANDITCORE_INLINE auto squeezed(F x, F w, W word) {
  const F room = least(1.0 + w, 1.0);
  return small_integer(word & 0xFFFu) * (12.0 / 4096.0) * room > (x * x) * (w * w);
}

// d g(w), from d and x: the logarithm of the acceptance probability of x. Needs w > -1.
inline double log_acceptance(double x, double w, double d) {
  if (w > -0.0625 && w < 0.0625) {
    // -(x^2 / 3) w^2 (1/4 - w/5 + w^2/6 - ...): no cancellation, however large d is.
    double sum = 0.0;
    for (int power = 15; power >= 4; --power) sum = 1.0 / power - w * sum;
    return -(x * x) * (w * w) * sum * (1.0 / 3.0);
  }
  const double base = 1.0 + w;
  return 0.5 * x * x + d * ((1.0 - base * base * base) + 3.0 * logarithm(base));
}

// The full test of one attempt: u is made of the bits the squeeze saw and of those that follow.
inline bool accepted(double x, double w, double d, std::uint64_t leading12, std::uint64_t following52) {
  if (w <= -1.0) return false;
  const double rest = (static_cast<double>(leading12) + open_unit(following52)) * 0x1p-12;
  // Below the half, 1 - u is exact; log1p keeps what is near 0.
  return log_one_plus(-rest) < log_acceptance(x, w, d);
}

// Settles a lane the squeeze left open and returns the accepted w = c x. The loop ends: an attempt succeeds with
// probability above 0.95 for every shape, and parameters are finite, as the caller has checked.
__attribute__((noinline)) static double settle(double x, std::uint64_t word, double d, double c, bool second,
                                                std::uint32_t arm, std::uint64_t row, StreamKey key) {
  for (std::uint32_t attempt = 0;; ++attempt) {
    const Block<std::uint64_t> more = scalar_block(arm, row, kAcceptance, attempt, key);
    const double w = c * x;
    if (accepted(x, w, d, word & 0xFFFu, (second ? more.high : more.low) >> 12)) return w;
    const Purpose redraw = second ? kRedrawB : kRedrawA;
    const Block<std::uint64_t> next = scalar_block(arm, row, redraw, attempt + 1, key);
    double unused;
    normal_pair(next.low, next.high, x, unused);
    word = next.low;
  }
}

// Arms are drawn some tens at a time, one stage after the other. A stage is a short chain over independent packs, so
// that a processor works on several at once; one long chain a pack would leave it waiting (twice as slow, measured).
constexpr int kBlock = 32;
static_assert(kBlock % kLanes == 0 && kBlock <= 64, "a block is whole packs, and its lanes fit a word of flags");

struct Draws {
  alignas(64) std::uint64_t low[kBlock], high[kBlock];  // the words of kNormals
  alignas(64) double x_a[kBlock], x_b[kBlock];          // normals
  alignas(64) double w_a[kBlock], w_b[kBlock];          // accepted c x
  alignas(64) double boost[kBlock];                     // of the log-odds: log(U_a) / a - log(U_b) / b
  int count;                                            // lanes drawn, whole packs
  bool boosted;                                         // whether any of them is; else boost is unset
};

// Settles the lanes of `open`, one bit each.
BANDITCORE_INLINE void settle_open(std::uint64_t open, const double* x, const std::uint64_t* words, const double* d,
                                   const double* c, bool second, const std::uint32_t* arm, std::uint64_t row,
                                   StreamKey key, double* w) {
  for (; open != 0; open &= open - 1) {
    const int lane = __builtin_ctzll(open);
    w[lane] = settle(x[lane], words[lane], d[lane], c[lane], second, arm[lane], row, key);
  }
}

// Draws both gammas of up to kBlock arms from `at` on.
BANDITCORE_INLINE void draw_block(const Arms& arms, std::int64_t at, StreamKey key, std::uint64_t row,
                                  Draws& draws) {
  const std::int64_t left = (arms.size - at + kLanes - 1) / kLanes * kLanes;
  const int count = left < kBlock ? static_cast<int>(left) : kBlock;
  draws.count = count;
  const Words rows = all_words(row), zero = all_words(0);
  for (int lane = 0; lane < count; lane += kLanes) {
    const Block<Words> block = block_of<Words>(load_arms(arms.arm + at + lane), rows, zero, kNormals, 0, key);
    store(draws.low + lane, block.low);
    store(draws.high + lane, block.high);
  }
  for (int lane = 0; lane < count; lane += kLanes) {
    Floats x_a, x_b;
    normal_pair(load(draws.low + lane), load(draws.high + lane), x_a, x_b);
    store(draws.x_a + lane, x_a);
    store(draws.x_b + lane, x_b);
  }
  std::uint64_t open_a = 0, open_b = 0;
  bool boosted = false;
  for (int lane = 0; lane < count; lane += kLanes) {
    const Floats x_a = load(draws.x_a + lane), x_b = load(draws.x_b + lane);
    const Floats w_a = load(arms.c_a + at + lane) * x_a, w_b = load(arms.c_b + at + lane) * x_b;
    store(draws.w_a + lane, w_a);
    store(draws.w_b + lane, w_b);
    open_a |= (flags(squeezed(x_a, w_a, load(draws.low + lane))) ^ kEveryLane) << lane;
    open_b |= (flags(squeezed(x_b, w_b, load(draws.high + lane))) ^ kEveryLane) << lane;
    boosted |= any((load(arms.inverse_a + at + lane) > 0.0) | (load(arms.inverse_b + at + lane) > 0.0));
  }
  settle_open(open_a, draws.x_a, draws.low, arms.d_a + at, arms.c_a + at, false, arms.arm + at, row, key, draws.w_a);
  settle_open(open_b, draws.x_b, draws.high, arms.d_b + at, arms.c_b + at, true, arms.arm + at, row, key, draws.w_b);
  draws.boosted = boosted;
  for (int lane = 0; boosted && lane < count; lane += kLanes) {
    const Block<Words> units = block_of<Words>(load_arms(arms.arm + at + lane), rows, zero, kBoosts, 0, key);
    store(draws.boost + lane, logarithm(open_unit(units.low >> 12)) * load(arms.inverse_a + at + lane) -
                                  logarithm(open_unit(units.high >> 12)) * load(arms.inverse_b + at + lane));
  }
}

// log(G_a / G_b) of a drawn pack. The small part, relative to the centre, is added last: near 1e12 it keeps its bits.
BANDITCORE_INLINE Floats log_odds_pack(const Arms& arms, std::int64_t at, const Draws& draws, int lane) {
  const Floats part = 3.0 * log_ratio(load(draws.w_a + lane), load(draws.w_b + lane));
  const Floats odds = load(arms.centre + at + lane) + part;
  return draws.boosted ? odds + load(draws.boost + lane) : odds;
}

// G_a / (G_a + G_b) of a drawn pack; through the log-odds where a gamma is boosted, since U^(1/a) may underflow.
BANDITCORE_INLINE Floats beta_pack(const Arms& arms, std::int64_t at, const Draws& draws, int lane) {
  const Floats base_a = 1.0 + load(draws.w_a + lane), base_b = 1.0 + load(draws.w_b + lane);
  const Floats gamma_a = load(arms.d_a + at + lane) * (base_a * base_a * base_a);
  const Floats gamma_b = load(arms.d_b + at + lane) * (base_b * base_b * base_b);
  Floats rate = gamma_a / (gamma_a + gamma_b);
  if (draws.boosted) {
    const auto boosted = (load(arms.inverse_a + at + lane) > 0.0) | (load(arms.inverse_b + at + lane) > 0.0);
    const Floats odds = log_odds_pack(arms, at, draws, lane);
    // exp of the smaller side: x keeps its relative precision down to the subnormals.
    const Floats tail = exponential(select(odds < 0.0, odds, -odds));
    rate = select(boosted, select(odds < 0.0, tail, 1.0) / (1.0 + tail), rate);
  }
  return rate;
}

// log(x) from the log-odds of x, to full relative precision on both sides.
BANDITCORE_INLINE Floats log_rate(Floats log_odds) {
  const auto low = log_odds < 0.0;
  return select(low, log_odds, 0.0) - log_one_plus(exponential(select(low, log_odds, -log_odds)));
}

}  // namespace
