// Gammas: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000).
//
// With x normal, w = c x and v = (1 + w)^3, d v is a gamma if log u < d g(w), where
//     g(w) = 9 w^2 / 2 + 1 - (1 + w)^3 + 3 log(1 + w),   g'(w) = -3 w^3 / (1 + w),   g(0) = 0.
// Integrating, g(w) >= -(3/4) w^4 / min(1, 1 + w) for every w > -1. With d w^2 = x^2 / 9 and log u <= u - 1,
//     (1 - u) min(1, 1 + w) > x^2 w^2 / 12
// accepts safely: the squeeze below, valid for every shape and tight (about 2 % of lanes above the true
// rejections even at shape 1).
//
// 1 - u = (h + f) / 4096: h is 12 bits that the lanes test, with the f of least help. Only a lane left open
// reads f, and takes the full test with the same x and the same u. A redraw at that point would be biased.
#pragma once

#include "arithmetic/elementary.h"

namespace {

// sqrt(12 / (9 d)), which makes w of a normal over sqrt(12), to 2e-15 for d from 2/3 to 2e100: four steps of Newton's
// method from a line through the exponent. Neither division nor square root: with one row they would cost as much as
// the draw.
template <class F>
BANDITCORE_INLINE F scale_of(F d) {
  const F less = d * -0.375;  // minus half of what the root is taken of
  F root = float_of(0x5FE6EB50C7B537A9u - (bits_of(d * 0.75) >> 1));
  for (int step = 0; step < 4; ++step) root = root * fused(less * root, root, 1.5);
  return root;
}

// The leading 12 bits of an acceptance word, as a fraction h / 4096.
template <class W>
BANDITCORE_INLINE auto leading_bits(W word) {
  return float_of(masked_with(word, 0xFFFu, W{} + 0x4270000000000000u)) - 0x1p40;
}

// Lanes, a bit each, for which the leading 12 bits settle the matter: accepted for certain. x are over sqrt(12).
template <class F, class W>
BANDITCORE_INLINE std::uint64_t squeezed(F x_a, F w_a, F base_a, F x_b, F w_b, F base_b, W word) {
  const F turn_a = x_a * w_a, turn_b = x_b * w_b;
  return above(leading_bits(word) * least(lesser(base_a, base_b), 1.0), fused(turn_b, turn_b, turn_a * turn_a));
}

// d g(w): the logarithm of the acceptance probability. Needs w > -1.
template <class F>
BANDITCORE_INLINE F log_acceptance(F w, F d) {
  // -3 d w^4 (1/4 - w/5 + w^2/6 - ... - w^11/15): no cancellation, however large d is.
  const F z = w * w;
  F even = fused(z, 1.0 / 14.0, 1.0 / 12.0), odd = fused(z, 1.0 / 15.0, 1.0 / 13.0);
  even = fused(z, even, 1.0 / 10.0), odd = fused(z, odd, 1.0 / 11.0);
  even = fused(z, even, 1.0 / 8.0), odd = fused(z, odd, 1.0 / 9.0);
  even = fused(z, even, 1.0 / 6.0), odd = fused(z, odd, 1.0 / 7.0);
  even = fused(z, even, 1.0 / 4.0), odd = fused(z, odd, 1.0 / 5.0);
  const F near = (d * z) * z * (even - w * odd) * -3.0;
  const F base = 1.0 + w;
  const F far = d * ((4.5 * z + (1.0 - base * base * base)) + 3.0 * logarithm(base));
  return select((w > -0.0625) & (w < 0.0625), near, far);
}

// The full test of one attempt: u is made of the bits the squeeze saw and of those that follow. An absolute error of
// log u is one of the acceptance probability: near u = 1 there is nothing to lose.
template <class F, class W>
BANDITCORE_INLINE auto accepted(F w_a, F d_a, F w_b, F d_b, W leading, W following52) {
  const F rest = leading_bits(leading) + open_unit(following52) * 0x1p-12;
  const auto possible = (w_a > -1.0) & (w_b > -1.0);
  return possible & (logarithm(1.0 - rest) < log_acceptance(select(possible, w_a, 0.0), d_a) +
                                                 log_acceptance(select(possible, w_b, 0.0), d_b));
}

}  // namespace
