// Log-density of the logit of a Beta(a, b) variable at its mode: a log p + b log q - log B(a, b), p = a / (a + b).
#pragma once

#include <cmath>

namespace {

// log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), to 1e-14 from x = 32 on (DLMF 5.11).
inline double stirling_tail(double x) {
  const double r = 1.0 / (x * x);
  return (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / x;
}

// lgamma without its global sign.
inline double log_gamma(double x) {
#if defined(__GLIBC__) || defined(__APPLE__)
  int sign;
  return lgamma_r(x, &sign);
#else
  return std::lgamma(x);
#endif
}

inline double log_peak(double a, double b) {
  constexpr double kLogSqrtTwoPi = 0.91893853320467274178;
  const double small = a < b ? a : b, large = a < b ? b : a, total = a + b, p = small / total;
  if (small >= 32.0) {
    return 0.5 * std::log(small * (large / total)) - kLogSqrtTwoPi + stirling_tail(total) - stirling_tail(small) -
           stirling_tail(large);
  }
  double rise;  // log Gamma(large + small) - log Gamma(large), where large terms would cancel
  if (large >= 32.0) {
    rise = (large - 0.5) * std::log1p(small / large) + small * (std::log(total) - 1.0) + stirling_tail(total) -
           stirling_tail(large);
  } else {
    rise = log_gamma(total) - log_gamma(large);
  }
  return small * std::log(p) + large * std::log1p(-p) - log_gamma(small) + rise;
}

}  // namespace
