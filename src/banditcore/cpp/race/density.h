// The logit of a Beta(a, b) variable: its log-density, and draws of it below a bound.
//
// With t = log(x / (1 - x)) the density is exp(peak - D(t)) with D convex, 0 at the mode log(a / b), for every
// a, b > 0: it has no end to be singular at. D is a difference from the mode, which keeps its digits up to 1e12.
#pragma once

#include "arithmetic/elementary.h"
#include "arithmetic/philox.h"
#include "race/race.h"

namespace {

// Purposes of blocks, apart from those in arithmetic/philox.h, so that race and direct draws share a key without harm.
constexpr Purpose kRacePoint = static_cast<Purpose>(6);  // word 0 of the counter: which point of the row
constexpr Purpose kRaceArm = static_cast<Purpose>(7);    // word 0 of the counter: which arm

// Uniforms of one (row, word) of a purpose, one after another; two to a block.
class UniformStream {
 public:
  UniformStream(std::uint32_t word, std::uint64_t row, Purpose purpose, std::uint32_t first,
                banditcore::StreamKey key)
      : word_(word), row_(row), purpose_(purpose), next_(first), key_(key) {}
  double operator()() {
    if (half_) {
      half_ = false;
      return open_unit(block_.high >> 12);
    }
    block_ = scalar_block(word_, row_, purpose_, next_++, key_);
    half_ = true;
    return open_unit(block_.low >> 12);
  }

 private:
  std::uint32_t word_;
  std::uint64_t row_;
  Purpose purpose_;
  std::uint32_t next_;
  banditcore::StreamKey key_;
  Block<std::uint64_t> block_{};
  bool half_ = false;
};

class LogitBeta {
 public:
  LogitBeta() = default;
  LogitBeta(double a, double b)
      : small_(a > b ? b : a), large_(a > b ? a : b), total_(a + b), sign_(a > b ? -1.0 : 1.0) {
    p_ = small_ / total_;
    q_ = large_ / total_;
    precision_ = small_ * q_;
    mode_ = sign_ * (logarithm(small_) - logarithm(large_));
  }
  double mode() const { return mode_; }
  double precision() const { return precision_; }  // curvature of D at the mode

  // D at mode + step.
  double drop(double step) const {
    const double s = step * sign_;
    if (s < 0.02 && s > -0.02) {  // the difference below would cancel: the cumulants converge
      const double v = p_ * q_, d = q_ - p_;
      const double k6 = 1.0 - 30.0 * v + 120.0 * v * v, k7 = d * (1.0 - 60.0 * v + 360.0 * v * v);
      const double rise =
          s * (d / 3 + s * ((1.0 - 6.0 * v) / 12 +
                            s * (d * (1.0 - 12.0 * v) / 60 + s * (k6 / 360 + s * k7 / 2520))));
      return 0.5 * precision_ * s * s * (1.0 + rise);
    }
    if (s > 300.0) return large_ * s + total_ * logarithm(p_);
    return total_ * log_one_plus(p_ * (exponential(s) - 1.0)) - small_ * s;
  }
  // D' at mode + step.
  double slope(double step) const {
    const double s = step * sign_;
    if (s > 300.0) return sign_ * large_;
    const double e = grown(s);
    return sign_ * precision_ * (e / (1.0 + p_ * e));
  }
  // D'' at mode + step.
  double curvature(double step) const {
    const double s = step * sign_;
    if (s > 300.0) return large_ * (q_ / p_) * exponential(-s);
    const double e = grown(s), whole = 1.0 + p_ * e;
    return precision_ * ((1.0 + e) / (whole * whole));
  }

 private:
  static double grown(double s) {  // exp(s) - 1
    if (s < 0.02 && s > -0.02) {
      return s * (1.0 + s / 2 * (1.0 + s / 3 * (1.0 + s / 4 * (1.0 + s / 5 * (1.0 + s / 6)))));
    }
    return exponential(s) - 1.0;
  }

  double small_, large_, total_, sign_;  // mirrored so that p <= 1/2: the other case is its mirror image
  double p_, q_, precision_, mode_;
};

// Draws of the logit given that it is at most `bound` (which may be infinity). Exact rejection: D is convex, so its
// tangents lie below it, and the envelope is flat around the highest point with an exponential on each side.
class BoundedDraw {
 public:
  BoundedDraw() = default;
  BoundedDraw(const LogitBeta& law, double bound) : law_(law), end_(bound - law.mode()) {
    const double sd = 1.4142135623730951 / square_root(law.precision());
    const double top = end_ < 0.0 ? end_ : 0.0;  // where the density is highest
    base_ = law.drop(top);
    double reach = sd;
    if (top < 0.0) {
      const double falling = -law.slope(top);
      if (falling * sd > 1.0) reach = 1.0 / falling;
    }
    const double left = top - reach;
    left_rate_ = -law.slope(left);
    left_edge_ = left + (law.drop(left) - base_) / left_rate_;
    double right_edge = top;
    if (end_ > 0.0) {
      right_rate_ = law.slope(sd);
      right_edge = sd - law.drop(sd) / right_rate_;
      if (end_ <= right_edge) {
        right_edge = end_;
      } else {
        right_mass_ = (1.0 - exponential(-right_rate_ * (end_ - right_edge))) / right_rate_;
      }
    }
    flat_mass_ = right_edge - left_edge_;
    left_mass_ = 1.0 / left_rate_;
  }

  template <class Uniforms>
  double operator()(Uniforms& uniform) const {
    for (;;) {
      const double at = uniform() * (left_mass_ + flat_mass_ + right_mass_);
      double step, floor_drop = base_;
      if (at < flat_mass_) {
        step = left_edge_ + at;
      } else if (at < flat_mass_ + left_mass_) {
        const double fall = -logarithm((at - flat_mass_) / left_mass_ + 0x1p-60);
        step = left_edge_ - fall / left_rate_;
        floor_drop += fall;
      } else {
        const double fall = -logarithm(1.0 - (at - flat_mass_ - left_mass_) * right_rate_ + 0x1p-60);
        step = left_edge_ + flat_mass_ + fall / right_rate_;
        if (step > end_) step = end_;
        floor_drop += fall;
      }
      const double u = uniform(), log_share = floor_drop - law_.drop(step);
      // exp(x) >= 1 + x decides most draws.
      if (u < 1.0 + log_share || u < exponential(log_share)) return law_.mode() + step;
    }
  }

 private:
  LogitBeta law_;
  double end_;
  double base_ = 0.0, left_edge_ = 0.0, left_rate_ = 1.0, right_rate_ = 1.0;
  double left_mass_ = 0.0, flat_mass_ = 0.0, right_mass_ = 0.0;
};

static_assert(sizeof(BoundedDraw) == sizeof(banditcore::RaceHeadDraw), "one is an image of the other");
inline banditcore::RaceHeadDraw image_of(const BoundedDraw& draw) {
  banditcore::RaceHeadDraw image;
  std::memcpy(&image, &draw, sizeof image);
  return image;
}
inline BoundedDraw ready_draw(const banditcore::RaceHeadDraw& image) {
  BoundedDraw draw;
  std::memcpy(static_cast<void*>(&draw), &image, sizeof draw);
  return draw;
}

// log(x) of the x whose logit is t, and the logit of the x whose logarithm is given (infinity from 0 on).
BANDITCORE_INLINE double log_expit(double t) {
  return t > 0.0 ? -log_one_plus(exponential(-t)) : t - log_one_plus(exponential(t));
}
BANDITCORE_INLINE double logit_of_log(double log_x) {
  if (!(log_x < 0.0)) return __builtin_inf();
  if (log_x < -1.0) return log_x - log_one_plus(-exponential(log_x));
  // 1 - x without cancellation: a short Taylor series near 0.
  const double y = -log_x;
  const double rest = y < 0.02 ? y * (1.0 - y / 2 * (1.0 - y / 3 * (1.0 - y / 4 * (1.0 - y / 5 * (1.0 - y / 6)))))
                               : 1.0 - exponential(log_x);
  return log_x - logarithm(rest);
}

}  // namespace
