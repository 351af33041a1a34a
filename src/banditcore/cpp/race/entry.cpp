#define BANDITCORE_LANES 1
#include "race/entry.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace banditcore {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The y above which an arm has between 0.3 `enough` and `enough` points, by its envelope. By halving steps and false
// position (Illinois), since the envelope may have any shape near the end of a weighted arm.
double search(const RaceArms& arms, std::uint32_t arm, double enough) {
  const auto excess = [&](double y) {
    const double points = arms.envelope(arm, race_level(y));
    return points > 0.0 ? logarithm(points < 1e-290 ? 1e-290 : points) - logarithm(enough) : -1e3;
  };
  const AxisLaw law = arms.law(arm);
  double step = 1.0 / square_root(law.law().precision());
  double low = law.law().mode(), high;
  if (arms.weighted()) low = law.weighted_point(low);
  while (!(excess(low) > 0.0)) low -= step;
  high = low;
  double at_low = 1.0, at_high = 1.0;
  while (at_high > 0.0) {
    low = high;
    at_low = at_high;
    high += step;
    step *= 2.0;
    at_high = excess(high);
  }
  bool last_low = false;
  for (int round = 0; round < 200 && at_high < -1.2; ++round) {
    double middle = 0.5 * (low + high);
    if (at_high > -1e3 && at_low > 0.0 && at_low < -0.5 * logarithm(enough)) {
      middle = high + (low - high) * (at_high + 0.5) / (at_high - at_low);
    }
    if (!(middle > low && middle < high)) {
      middle = 0.5 * (low + high);
      if (!(middle > low && middle < high)) break;
    }
    const double here = excess(middle);
    if (here > 0.0) {
      low = middle;
      at_low = here;
      if (last_low) at_high = at_high * 0.5 < -1.3 ? at_high * 0.5 : -1.3;
      last_low = true;
    } else {
      high = middle;
      at_high = here;
      if (!last_low) at_low *= 0.5;
      last_low = false;
    }
  }
  return high;
}

constexpr int kDigit = 11;  // bits of a place of the sort; two places of the floats are kept

// The float at or above y with the upper 22 bits alone, as a word that falls while y rises.
std::uint32_t key_of(double y) {
  const float near = static_cast<float>(y);
  std::uint32_t bits;
  std::memcpy(&bits, &near, sizeof bits);
  bits = bits >> 31 ? ~bits : bits | 0x80000000u;  // rises with y
  const std::uint32_t kept = (bits >> 10) + 2;     // above y, also after rounding
  return (1u << 2 * kDigit) - 1 - kept;
}
float y_of(std::uint32_t key) {
  std::uint32_t bits = ((1u << 2 * kDigit) - 1 - key) << 10;
  bits = bits >> 31 ? bits & 0x7FFFFFFFu : ~bits;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

}  // namespace

RaceEntries find_entries(RaceArms& arms, const RaceColumns& columns, double enough) {
  const std::int64_t n = arms.size();
  std::vector<double> entry(n), excess(n, kInfinity);
  if (arms.plain()) {
    const double log_enough = std::log(enough);
    const std::int64_t whole = n / kColumnStep * kColumnStep;
    columns.prepare(arms.a(), arms.b(), whole, log_enough, arms.constant(), entry.data(), excess.data());
    if (whole < n) {
      double a[kColumnStep], b[kColumnStep], constant[kColumnStep], y[kColumnStep], miss[kColumnStep];
      for (std::int64_t i = 0; i < kColumnStep; ++i) {
        a[i] = whole + i < n ? arms.a()[whole + i] : 1.0;
        b[i] = whole + i < n ? arms.b()[whole + i] : 1.0;
      }
      columns.prepare(a, b, kColumnStep, log_enough, constant, y, miss);
      for (std::int64_t i = whole; i < n; ++i) {
        arms.constant()[i] = constant[i - whole];
        entry[i] = y[i - whole];
        excess[i] = miss[i - whole];
      }
    }
  }
  // Radix sort, two places of the key.
  std::vector<std::uint32_t> key(n), order(n), first(1u << kDigit), second(1u << kDigit);
  for (std::int64_t arm = 0; arm < n; ++arm) {
    if (!(std::fabs(excess[arm]) < 0.5)) entry[arm] = search(arms, static_cast<std::uint32_t>(arm), enough);
    key[arm] = key_of(entry[arm]);
    ++first[key[arm] & ((1u << kDigit) - 1)];
    ++second[key[arm] >> kDigit];
  }
  std::uint32_t before_first = 0, before_second = 0;
  for (std::uint32_t digit = 0; digit < 1u << kDigit; ++digit) {
    const std::uint32_t here = first[digit], there = second[digit];
    first[digit] = before_first;
    second[digit] = before_second;
    before_first += here;
    before_second += there;
  }
  RaceEntries sorted;
  sorted.arm.resize(n);
  sorted.y.resize(n);
  for (std::int64_t arm = 0; arm < n; ++arm) {
    order[first[key[arm] & ((1u << kDigit) - 1)]++] = static_cast<std::uint32_t>(arm);
  }
  for (const std::uint32_t arm : order) {
    const std::uint32_t place = second[key[arm] >> kDigit]++;
    sorted.arm[place] = arm;
    sorted.y[place] = y_of(key[arm]);
  }
  return sorted;
}

}  // namespace banditcore
