// An arm on the axis of a race: y is the logit of its rate, or the logarithm of weight x rate.
#pragma once

#include "race/race.h"
#include "race/density.h"

namespace {

class AxisLaw {
 public:
  AxisLaw(double a, double b) : law_(a, b), b_(b), weighted_(false) {}
  AxisLaw(double a, double b, double log_weight) : law_(a, b), b_(b), log_weight_(log_weight), weighted_(true) {}
  AxisLaw(const banditcore::Race& race, std::uint32_t arm)
      : law_(race.a[arm], race.b[arm]),
        b_(race.b[arm]),
        log_weight_(race.weighted ? race.log_weight[arm] : 0.0),
        weighted_(race.weighted) {}

  const LogitBeta& law() const { return law_; }

  // Minus the log-density at y, up to a constant; infinity beyond the end of a weighted arm.
  double drop(double y) const {
    const double t = logit(y);
    if (!weighted_) return law_.drop(t - law_.mode());
    if (t > 1e300) return t;
    return law_.drop(t - law_.mode()) - log_one_plus(exponential(t));  // dt/dy = 1 / (1 - x) = 1 + exp(t)
  }
  double slope(double y) const {
    const double t = logit(y), plain = law_.slope(t - law_.mode());
    if (!weighted_) return plain;
    const double odds = exponential(t);
    return plain * (1.0 + odds) - odds;
  }
  double curvature(double y) const {
    const double t = logit(y);
    if (!weighted_) return law_.curvature(t - law_.mode());
    const double odds = exponential(t);
    return (b_ - 1.0) * odds * (1.0 + odds);  // of a log(x) + (b - 1) log(1 - x), by log(x)
  }
  double weighted_point(double t) const { return log_weight_ + log_expit(t); }  // the y of a logit, if weighted
  double logit(double y) const { return weighted_ ? logit_of_log(y - log_weight_) : y; }

  // The mass above y over the density at y, for y where the density falls: Gauss and Laguerre's rule.
  double mills(double y) const {
    static const double kNode[16] = {
        8.764941047892784e-02, 4.626963289150808e-01, 1.141057774831227e+00, 2.129283645098381e+00,
        3.437086633893207e+00, 5.078018614549768e+00, 7.070338535048235e+00, 9.438314336391939e+00,
        1.221422336886616e+01, 1.544152736878162e+01, 1.918015685675314e+01, 2.351590569399191e+01,
        2.857872974288214e+01, 3.458339870228663e+01, 4.194045264768833e+01, 5.170116033954332e+01};
    static const double kWeight[16] = {
        2.061517149578010e-01, 3.310578549508842e-01, 2.657957776442141e-01, 1.362969342963775e-01,
        4.732892869412522e-02, 1.129990008033945e-02, 1.849070943526311e-03, 2.042719153082785e-04,
        1.484458687398130e-05, 6.828319330871200e-07, 1.881024841079673e-08, 2.862350242973882e-10,
        2.127079033224103e-12, 6.297967002517868e-15, 5.050473700035513e-18, 4.161462370372855e-22};
    const double rate = slope(y), here = drop(y);
    double sum = 0.0;
    for (int node = 0; node < 16; ++node) {
      sum += kWeight[node] * exponential(kNode[node] - (drop(y + kNode[node] / rate) - here));
    }
    return sum / rate;
  }

  // Draws of the logit given y <= bound, and the y of one.
  BoundedDraw below(double bound) const {
    return BoundedDraw(law_, bound == __builtin_inf() ? bound : logit(bound));
  }
  double of_logit(double t) const { return weighted_ ? log_weight_ + log_expit(t) : t; }

 private:
  LogitBeta law_;
  double b_, log_weight_ = 0.0;
  bool weighted_;
};

// How the share of a cell's depth grows with the share of its width: a cubic from (0, 0) to (1, 1).
template <class F>
BANDITCORE_INLINE F depth_share(F left_slope, F right_slope, F s) {
  return s * (left_slope + s * ((3.0 - 2.0 * left_slope - right_slope) + s * (left_slope + right_slope - 2.0)));
}
BANDITCORE_INLINE double depth_share_slope(double left_slope, double right_slope, double s) {
  return left_slope + s * (2.0 * (3.0 - 2.0 * left_slope - right_slope) + s * 3.0 * (left_slope + right_slope - 2.0));
}

// Log of a rate inside a cell of `depth`: the quintic through its logarithm and first two derivatives at both ends.
// `slope` and `curve` are of minus the log-density there, by y.
template <class F>
class LogRate {
 public:
  LogRate(F rate0, F slope0, F curve0, F rate1, F slope1, F curve1, double depth)
      : p_(logarithm(rate0)) {
    // d log r / dy = -slope - r; going down reverses the sign of the first derivative.
    d_ = depth * (slope0 + rate0);
    const F d1 = depth * (slope1 + rate1);
    const F c0 = depth * depth * (-curve0 + rate0 * (slope0 + rate0));
    const F c1 = depth * depth * (-curve1 + rate1 * (slope1 + rate1));
    const F rise = logarithm(rate1) - p_;
    q2_ = 0.5 * c0;
    q3_ = 10.0 * rise - 6.0 * d_ - 4.0 * d1 - 1.5 * c0 + 0.5 * c1;
    q4_ = -15.0 * rise + 8.0 * d_ + 7.0 * d1 + 1.5 * c0 - c1;
    q5_ = 6.0 * rise - 3.0 * d_ - 3.0 * d1 - 0.5 * c0 + 0.5 * c1;
  }
  // A share v of the depth down.
  F at(double v) const {
    return p_ + v * (d_ + v * (q2_ + v * (q3_ + v * (q4_ + v * q5_))));
  }

 private:
  F p_, d_, q2_, q3_, q4_, q5_;
};

}  // namespace
