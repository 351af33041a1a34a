// Sums of rises: included by one source file per instruction set. Sums run in eight lanes whatever the width of a
// pack, so that all give the same bits.
//
// From x = 10 on a rise is a difference of Stirling series (DLMF 5.11), its leading terms subtracted by hand: plain
// values of log Gamma would agree in most digits. A smaller x goes up by ten; what the recurrences of the three
// functions then leave over is a sum or product of positive terms, so its digits stay too.
#pragma once

#include "arithmetic/elementary.h"
#include "rises/rises.h"

namespace {

using banditcore::RiseSums;
using banditcore::RiseTerms;

constexpr int kStep = 8;             // lanes of a sum
constexpr int kShift = 10;           // even
constexpr double kSeriesFrom = 10.0;
constexpr double kLargest = 1e18;    // a tenth power that is finite; from here on y + 9 = y

struct EightSums {
  Floats part[kStep / kLanes] = {};
};

BANDITCORE_INLINE double total_of(const EightSums& sums) {
  double lane[kStep];
  for (int i = 0; i < kStep / kLanes; ++i) store(lane + i * kLanes, sums.part[i]);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

struct Rises {
  Floats log, psi, trigamma;
};

// What is left of log Gamma, psi, psi' at 1 / i >= 10 after the terms that `rises` writes out; each to 1e-15 of the
// function.
BANDITCORE_INLINE Floats log_tail(Floats i, Floats r) {
  return i * (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188 -
             r * (691.0 / 360360))))));
}
BANDITCORE_INLINE Floats psi_tail(Floats r) {
  return -r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r * (1.0 / 132 -
              r * (691.0 / 32760 - r * (1.0 / 12)))))));
}
BANDITCORE_INLINE Floats trigamma_tail(Floats i, Floats r) {
  return r * i * (1.0 / 6 - r * (1.0 / 30 - r * (1.0 / 42 - r * (1.0 / 30 - r * (5.0 / 66 -
                 r * (691.0 / 2730 - r * (7.0 / 6 - r * (3617.0 / 510))))))));
}

// log of (x + s) (x + s + 1) ... (x + s + 9) / (x (x + 1) ... (x + 9)).
BANDITCORE_INLINE Floats log_of_factors(Floats x, Floats s) {
  const Floats y = least(x + s, kLargest), up = least(s, kLargest);
  Floats below = x, over = up;  // the product from x, and by how much the one from y exceeds it
  for (int i = 1; i < kShift; ++i) {
    over = over * (y + static_cast<double>(i)) + below * up;
    below = below * (x + static_cast<double>(i));
  }
  const Floats factors = log_one_plus(over / below);
  const auto larger = x + s > kLargest;
  if (!any(larger)) return factors;
  const Floats beyond = logarithm(select(larger, x + s, kLargest) / kLargest);
  return select(larger, factors + kShift * beyond, factors);
}

// With kSlopes all three, else the logarithm alone.
template <bool kSlopes>
BANDITCORE_INLINE Rises rises(Floats low, Floats s) {
  const auto small = low < kSeriesFrom;
  const Floats x = select(small, low + kSeriesFrom, low), y = x + s;
  const Floats i = 1.0 / x, j = 1.0 / y, r = i * i, q = j * j;
  const Floats ratio = log_one_plus(s * i);
  Rises to = {};
  to.log = ((x - 0.5) * ratio + s * (logarithm(y) - 1.0)) + (log_tail(j, q) - log_tail(i, r));
  if constexpr (kSlopes) {
    const Floats lead = s * i * j;  // 1 / x - 1 / y
    to.psi = ratio + 0.5 * lead + (psi_tail(q) - psi_tail(r));
    to.trigamma = (trigamma_tail(j, q) - trigamma_tail(i, r)) - 0.5 * lead * (i + j) - lead;
  }
  if (!any(small)) return to;
  // Lanes that stay where they are get a harmless x, and add 0.
  const Floats from = select(small, low, 1.0);
  to.log = select(small, to.log - log_of_factors(from, s), to.log);
  if constexpr (kSlopes) {
    Floats psi = all_floats(0.0), trigamma = psi;
    for (int step = kShift; step > 0; step -= 2) {  // the smallest first; two terms, one division
      const Floats x0 = from + (step - 1.0), y0 = x0 + s, x1 = from + (step - 2.0), y1 = x1 + s;
      const Floats both0 = x0 * y0, both1 = x1 * y1, turned = 1.0 / (both0 * both1);
      const Floats w0 = turned * both1, w1 = turned * both0;  // 1 / (x y)
      psi += w0 + w1;
      trigamma += w0 * (w0 * (x0 + y0)) + w1 * (w1 * (x1 + y1));
    }
    to.psi = select(small, to.psi + s * psi, to.psi);
    to.trigamma = select(small, to.trigamma - s * trigamma, to.trigamma);
  }
  return to;
}

// Adds the sums of a part of the terms, a multiple of kStep of them.
template <bool kSlopes>
BANDITCORE_INLINE void add(const RiseTerms& terms, double scale, EightSums& log_sum, EightSums& psi_sum,
                           EightSums& trigamma_sum) {
  for (std::int64_t at = 0; at < terms.size; at += kStep) {
    for (int part = 0; part < kStep / kLanes; ++part) {
      const std::int64_t here = at + part * kLanes;
      const Floats share = load(terms.share + here), weight = load(terms.weight + here), by_share = weight * share;
      const Rises rise = rises<kSlopes>(scale * share, load(terms.count + here));
      log_sum.part[part] += weight * rise.log;
      if constexpr (kSlopes) {
        psi_sum.part[part] += by_share * rise.psi;
        trigamma_sum.part[part] += by_share * share * rise.trigamma;
      }
    }
  }
}

template <bool kSlopes>
BANDITCORE_INLINE RiseSums sums(const RiseTerms& terms, double scale) {
  EightSums log_sum, psi_sum, trigamma_sum;
  const std::int64_t whole = terms.size / kStep * kStep;
  add<kSlopes>({terms.share, terms.count, terms.weight, whole}, scale, log_sum, psi_sum, trigamma_sum);
  if (whole < terms.size) {
    double share[kStep], count[kStep], weight[kStep];
    for (int lane = 0; lane < kStep; ++lane) {
      const bool here = whole + lane < terms.size;
      share[lane] = here ? terms.share[whole + lane] : 1.0;
      count[lane] = here ? terms.count[whole + lane] : 0.0;
      weight[lane] = here ? terms.weight[whole + lane] : 0.0;
    }
    add<kSlopes>({share, count, weight, kStep}, scale, log_sum, psi_sum, trigamma_sum);
  }
  return {total_of(log_sum), total_of(psi_sum), total_of(trigamma_sum)};
}

double logs(const RiseTerms& terms, double scale) { return sums<false>(terms, scale).logs; }

RiseSums all_sums(const RiseTerms& terms, double scale) { return sums<true>(terms, scale); }

}  // namespace
