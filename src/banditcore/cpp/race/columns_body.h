// Loops over columns of arms: included by one source file per instruction set. Sums run in eight lanes whatever the
// width of a pack, so that all give the same bits.
#pragma once

#include "race/axis.h"
#include "race/columns.h"

namespace {

using banditcore::kColumnStep;
using banditcore::RaceLevel;
using banditcore::RaceLive;
using banditcore::RaceSpan;
using banditcore::RaceSums;

#if BANDITCORE_LANES == 1
BANDITCORE_INLINE Floats load_singles(const float* from) { return static_cast<double>(*from); }
BANDITCORE_INLINE Floats store_singles(float* to, Floats pack) {
  *to = static_cast<float>(pack);
  return static_cast<double>(*to);
}
#else
typedef float Singles __attribute__((vector_size(4 * BANDITCORE_LANES)));
BANDITCORE_INLINE Floats load_singles(const float* from) {
  Singles pack;
  std::memcpy(&pack, from, sizeof pack);
  return __builtin_convertvector(pack, Floats);
}
BANDITCORE_INLINE Floats store_singles(float* to, Floats pack) {
  const Singles singles = __builtin_convertvector(pack, Singles);
  std::memcpy(to, &singles, sizeof singles);
  return __builtin_convertvector(singles, Floats);
}
#endif

struct EightSums {
  Floats part[kColumnStep / kLanes] = {};
};

BANDITCORE_INLINE double total_of(const EightSums& sums) {
  double lane[kColumnStep];
  for (int i = 0; i < kColumnStep / kLanes; ++i) store(lane + i * kLanes, sums.part[i]);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

BANDITCORE_INLINE int write_flagged(std::uint32_t* to, std::int64_t first, std::uint64_t lanes) {
  int count = 0;
  for (; lanes != 0; lanes &= lanes - 1) to[count++] = static_cast<std::uint32_t>(first + __builtin_ctzll(lanes));
  return count;
}

BANDITCORE_INLINE Floats absolute(Floats x) { return float_of(bits_of(x) & 0x7FFFFFFFFFFFFFFFu); }

// log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2) for x >= 8, to 2e-14 (DLMF 5.11.1).
BANDITCORE_INLINE Floats stirling_rest(Floats x) {
  const Floats w = 1.0 / x, r = w * w;
  return w * (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188 -
             r * (691.0 / 360360))))));
}

// x (x + 1) ... (x + 7)
BANDITCORE_INLINE Floats eight_factors(Floats x) {
  const Floats u = x * (x + 7.0);  // (x + i) (x + 7 - i) = u + i (7 - i)
  return (u * (u + 6.0)) * ((u + 10.0) * (u + 12.0));
}

// -log B(a, b) for a, b in 1e-100 .. 1e8.
BANDITCORE_INLINE Floats log_constant(Floats a, Floats b) {
  constexpr double kLogSqrtTwoPi = 0.91893853320467274178;
  const Floats small = lesser(a, b), large = greatest(a, b), total = a + b;
  // Arguments below 8 go up by 8.
  const auto low_small = small < 8.0, low_large = large < 8.0;
  const Floats small8 = select(low_small, small + 8.0, small), large8 = select(low_large, large + 8.0, large);
  const Floats total8 = large8 + small;
  const Floats factors = select(low_small, eight_factors(small), 1.0) *
                         select(low_large, eight_factors(large) / eight_factors(total), 1.0);
  const Floats rise = (large8 - 0.5) * log_one_plus(small / large8) + small * (logarithm(total8) - 1.0) +
                      (stirling_rest(total8) - stirling_rest(large8));
  const Floats gamma = (small8 - 0.5) * logarithm(small8) - small8 + kLogSqrtTwoPi + stirling_rest(small8);
  return rise - gamma + logarithm(factors);
}

BANDITCORE_INLINE void prepare(const double* a_column, const double* b_column, std::int64_t n, double log_enough,
                               double* constant_column, double* entry, double* excess) {
  // The normal quantile belonging to `enough`, roughly.
  const double z = square_root(-2.0 * log_enough) - 0.4;
  for (std::int64_t at = 0; at < n; at += kLanes) {
    const Floats a = load(a_column + at), b = load(b_column + at), total = a + b;
    const Floats constant = log_constant(a, b);
    store(constant_column + at, constant);
    // Newton's method on the log of density / slope, which is nearly concave, from the quantile of the gamma
    // distribution (Wilson and Hilferty) where that is close, else of the normal one.
    const Floats mode = logarithm(a / b);
    const Floats root = 1.0 / square_root(a);
    const Floats cube = 1.0 + root * (z / 3.0 - root / 9.0);
    const Floats spread = square_root(total / (a * b));
    Floats y =
        select((a < b) & (cube > 0.5), mode + 3.0 * logarithm(greatest(cube, all_floats(0.5))), mode + z * spread);
    Floats miss = all_floats(0.0);
    for (int step = 0; step < 4; ++step) {
      const Floats e = exponential(-absolute(y)), small = e / (1.0 + e), large = 1.0 / (1.0 + e);
      const Floats x = select(y < 0.0, small, large), rest = select(y < 0.0, large, small);
      const Floats soft = greatest(y, all_floats(0.0)) + log_one_plus(e);
      const Floats slope = b * x - a * rest;
      const auto falls = slope > 1e-300;
      const Floats steep = select(falls, slope, 1.0);
      miss = select(falls, constant + a * y - total * soft - logarithm(steep) - log_enough, __builtin_inf());
      if (step < 3) y = select(falls, y + miss / (steep + total * x * rest / steep), y);
    }
    store(entry + at, y);
    store(excess + at, miss);
  }
}

BANDITCORE_INLINE RaceSums sums(const RaceLive& live, const RaceLevel& level) {
  EightSums rate_sum, rise_sum, climb_sum;
  for (std::int64_t at = 0; at < live.count; at += kColumnStep) {
    for (int i = 0; i < kColumnStep / kLanes; ++i) {
      const std::int64_t j = at + i * kLanes;
      const Floats rate = load(live.density + j) / (1.0 - load(live.above + j));
      const Floats rise = rate * (rate + (load(live.b + j) * level.x - load(live.a + j) * level.rest));
      rate_sum.part[i] += rate;
      rise_sum.part[i] += rise;
      climb_sum.part[i] += greatest(rise, all_floats(0.0));
    }
  }
  return {total_of(rate_sum), total_of(rise_sum), total_of(climb_sum)};
}

BANDITCORE_INLINE std::int64_t too_fast(const RaceLive& live, const RaceLevel& level, const RaceLevel& to,
                                        double depth, double most_growth, double most_bend, double most_above,
                                        std::uint32_t* places) {
  std::int64_t found = 0;
  const double growth = most_growth / depth, bend = most_bend / (depth * depth);
  // Curvature at the top, and on average.
  const double at_top = level.x * level.rest, mean = (level.x - to.x) / depth;
  const double curve = at_top > mean ? at_top : mean;
  for (std::int64_t at = 0; at < live.count; at += kLanes) {
    const Floats a = load(live.a + at), b = load(live.b + at), above = load(live.above + at);
    const Floats rate = load(live.density + at) / (1.0 - above);
    const auto fast = (rate + (b * level.x - a * level.rest) > growth) |
                      ((a + b) * curve > bend) | (above > most_above);
    const std::uint64_t lanes = flags(fast);
    if (lanes) found += write_flagged(places + found, at, lanes);
  }
  return found;
}

BANDITCORE_INLINE std::int64_t advance(const RaceLive& live, const RaceLevel& from, const RaceLevel& to, double depth,
                                       std::uint32_t* places) {
  std::int64_t found = 0;
  const double wide = 0.16 / (depth * depth), steep = 0.8 / depth, thick = 1e-7 / depth;
  for (std::int64_t at = 0; at < live.count; at += kLanes) {
    const Floats a = load(live.a + at), b = load(live.b + at), total = a + b;
    const Floats density0 = load(live.density + at), above = load(live.above + at);
    const Floats slope0 = b * from.x - a * from.rest, curve0 = total * (from.x * from.rest);
    const Floats density1 = exponential(load(live.constant + at) + a * to.y - total * to.soft);
    const Floats slope1 = b * to.x - a * to.rest, curve1 = total * (to.x * to.rest);
    const Floats mass = banditcore::race_mass(density0, slope0, curve0, density1, slope1, curve1, depth);
    store(live.next_density + at, density1);
    store(live.next_above + at, least(above + mass, banditcore::kMostAbove));
    const auto rough = ((greatest(curve0, curve1) > wide) | (greatest(absolute(slope0), absolute(slope1)) > steep)) &
                       ((above > 1e-7) | (density1 > thick));
    const std::uint64_t lanes = flags(rough);
    if (lanes) found += write_flagged(places + found, at, lanes);
  }
  return found;
}

BANDITCORE_INLINE double rates(const double* density, const double* above, std::int64_t count, float* rate) {
  EightSums sum;
  for (std::int64_t at = 0; at < count; at += kColumnStep) {
    for (int i = 0; i < kColumnStep / kLanes; ++i) {
      const std::int64_t j = at + i * kLanes;
      sum.part[i] += store_singles(rate + j, load(density + j) / (1.0 - load(above + j)));
    }
  }
  return total_of(sum);
}

BANDITCORE_INLINE void measure(const RaceSpan& span) {
  const RaceLevel &top = span.top, &under = span.under;
  double line0[3], line1[3];
  for (int k = 0; k < 3; ++k) {
    const double s = 0.25 * (k + 1);
    line0[k] = (1.0 - s) / span.left_rate / span.speed[k];
    line1[k] = s / span.right_rate / span.speed[k];
  }
  for (std::int64_t at = 0; at < span.count; at += kLanes) {
    Floats slope0, curve0, slope1, curve1;
    if (span.bends) {
      const double* const bend = span.bends + at;
      slope0 = load(bend);
      curve0 = load(bend + span.count);
      slope1 = load(bend + 2 * span.count);
      curve1 = load(bend + 3 * span.count);
    } else {
      const Floats a = load(span.a + at), b = load(span.b + at), total = a + b;
      slope0 = b * top.x - a * top.rest;
      curve0 = total * (top.x * top.rest);
      slope1 = b * under.x - a * under.rest;
      curve1 = total * (under.x * under.rest);
    }
    const Floats rate0 = load_singles(span.rate0 + at), rate1 = load_singles(span.rate1 + at);
    const LogRate<Floats> log_rate(rate0, slope0, curve0, rate1, slope1, curve1, span.depth);
    Floats miss[3];  // true rate / line - 1, which is 0 at both knots
    for (int k = 0; k < 3; ++k) {
      miss[k] = exponential(log_rate.at(span.share[k])) / (rate0 * line0[k] + rate1 * line1[k]) - 1.0;
    }
    // Extremes lie between the places looked at, and beyond the outer ones too where the sign changes: there the
    // quadratic through miss / (s (1 - s)) tells, which reaches 0.055 of its value at a knot.
    const Floats first = 16.0 * miss[0] - 12.0 * miss[1] + 16.0 / 3 * miss[2];
    const Floats last = 16.0 / 3 * miss[0] - 12.0 * miss[1] + 16.0 * miss[2];
    const Floats low =
        lesser(lesser(lesser(miss[0], miss[1]), lesser(miss[2], all_floats(0.0))), 0.06 * lesser(first, last));
    const Floats high =
        greatest(greatest(greatest(miss[0], miss[1]), greatest(miss[2], all_floats(0.0))),
                 0.06 * greatest(first, last));
    store_singles(span.least + at, greatest(1.0 + 1.25 * low - 2.5e-4, all_floats(0.0)));
    const Floats lift = (1.15 * high + 1e-6) * 256.0;
    const Floats near = (lift + 0x1.8p52) - 0x1.8p52;
    store_singles(span.lift + at, select(near < lift, near + 1.0, near));
  }
}

}  // namespace
