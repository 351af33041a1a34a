// The arms' densities on the axis of a race, one arm at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "race/axis.h"
#include "race/columns.h"
#include "race/peak.h"

namespace banditcore {

// Density of an arm at a point of the axis, minus its log-derivative, and minus its second.
struct RaceLocal {
  double density, slope, curve;
};

inline RaceLevel race_level(double y) {
  const double e = exponential(y < 0.0 ? y : -y), small = e / (1.0 + e), large = 1.0 / (1.0 + e);
  return {y, y < 0 ? small : large, y < 0 ? large : small, (y > 0 ? y : 0.0) + log_one_plus(e)};
}

class RaceArms {
 public:
  explicit RaceArms(const Race& race) : race_(race) {
    plain_ = !race.weighted;
    // Up to 1e8 the density is a plain formula; beyond, it would lose digits that a difference keeps.
    for (std::int64_t arm = 0; arm < race.size && plain_; ++arm) plain_ = race.a[arm] + race.b[arm] < 1e8;
    constant_.resize(race.size);
    if (plain_) return;
    for (std::int64_t arm = 0; arm < race.size; ++arm) constant_[arm] = log_peak(race.a[arm], race.b[arm]);
  }

  std::int64_t size() const { return race_.size; }
  bool weighted() const { return race_.weighted; }
  // Whether all arms' densities are the plain formula of `RaceLive`.
  bool plain() const { return plain_; }
  const double* a() const { return race_.a; }
  const double* b() const { return race_.b; }
  // -log B(a, b) if plain, to be set by the search for entries; else the log-density at the mode.
  double* constant() { return constant_.data(); }
  double constant(std::uint32_t arm) const { return constant_[arm]; }
  AxisLaw law(std::uint32_t arm) const { return AxisLaw(race_, arm); }

  RaceLocal local(std::uint32_t arm, const RaceLevel& at) const {
    if (plain_) {
      const RaceLocal here = bend(arm, at);
      return {exponential(plain_log_density(arm, at)), here.slope, here.curve};
    }
    const AxisLaw here = law(arm);
    const double drop = here.drop(at.y);
    if (!(drop < 1e300)) return {0.0, 0.0, 0.0};
    return {exponential(constant_[arm] - drop), here.slope(at.y), here.curvature(at.y)};
  }

  // The same without the density.
  RaceLocal bend(std::uint32_t arm, const RaceLevel& at) const {
    const double a = race_.a[arm], b = race_.b[arm];
    if (plain_) return {0.0, b * at.x - a * at.rest, (a + b) * (at.x * at.rest)};
    const AxisLaw here = law(arm);
    return {0.0, here.slope(at.y), here.curvature(at.y)};
  }

  // Expected number of proposals from the envelope above y, 1 where there is no good one.
  double envelope(std::uint32_t arm, const RaceLevel& at) const {
    if (plain_) {
      const double slope = race_.b[arm] * at.x - race_.a[arm] * at.rest;
      if (!(slope > 0.0)) return 1.0;
      const double points = exponential(plain_log_density(arm, at)) / slope;
      return points < 1.0 ? points : 1.0;
    }
    const AxisLaw here = law(arm);
    if (race_.weighted) {
      if (at.y >= race_.log_weight[arm]) return 0.0;  // it ends below
      if (race_.b[arm] <= 1.0) return 1.0;            // its density may not fall towards its end
    }
    const double drop = here.drop(at.y), slope = here.slope(at.y);
    if (!(slope > 0.0) || drop < kFarEnough) return 1.0;
    return exponential(constant_[arm] - drop) / slope;
  }

 private:
  static constexpr double kFarEnough = 2.0;  // an envelope from below this drop of the log-density would be loose

  double plain_log_density(std::uint32_t arm, const RaceLevel& at) const {
    const double a = race_.a[arm], b = race_.b[arm];
    return constant_[arm] + a * at.y - (a + b) * at.soft;
  }

  const Race& race_;
  bool plain_;
  std::vector<double> constant_;
};

}  // namespace banditcore
