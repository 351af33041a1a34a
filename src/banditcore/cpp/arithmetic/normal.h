// Pairs of normals by Box and Muller, without a division.
//
// Normals are scaled by 1 / sqrt(12) here: the squeeze of gamma.h then needs no factor. The polynomials are
// least-squares fits at Chebyshev nodes of the ranges named. The radius is right to 1e-13, relative, sine and cosine to
// 1e-14: a distance between distribution functions that 1e25 draws would not show.
#pragma once

#include "arithmetic/elementary.h"

namespace {

constexpr double kNormalScale = 3.4641016151377544;  // sqrt(12)

// -log(u) / 12 for u in (0, 1), never negative. u = 2^e m with m in [31/32, 31/16), in sixteen cells; with
// r = m / centre - 1, |r| < 1/31, it is -(log(2) e + log(centre) + log(1 + r)) / 12. The cell below 1 has centre 1:
// where the answer is near 0 it is r times a polynomial, without cancellation. The inverse centres have few bits.
alignas(64) constexpr double kCellInverse[16] = {
    1.0, 0.96875, 0.9140625, 0.86328125,
    0.8203125, 0.78125, 0.74609375, 0.7109375,
    0.6796875, 0.65234375, 0.62890625, 0.60546875,
    0.58203125, 0.5625, 0.54296875, 0.5234375,
};
alignas(64) constexpr double kCellLog[16] = {
    0.0, -0.002645724859548358, -0.007488027426821754,
    -0.012251228580150805, -0.016505826146841148, -0.02057167316096048,
    -0.02440866803607772, -0.028430896450230593, -0.03217684543875279,
    -0.03559863600523394, -0.03864775662459162, -0.041812693963359654,
    -0.04510259487784194, -0.047947012075296815, -0.05089195927907256,
    -0.05394480371072092,
};

template <class F>
BANDITCORE_INLINE F scaled_minus_log(F u) {
  const auto shifted = bits_of(u) + 0x0001000000000000u;  // the exponent changes at 31/32
  const F exponent = exponent_of(float_of(shifted));
  const F m = float_of((shifted & 0x000FFFFFFFFFFFFFu) + 0x3FEF000000000000u);
  const auto cell = shifted >> 48;
  const F r = fused(m, look_up(kCellInverse, cell), -1.0);
  const F start = fused(exponent, -0.057762265046662105, look_up(kCellLog, cell));
  F series = fused(r, -0.011924153247535617, 0.01390787639558206);
  series = fused(r, series, -0.016666653985752188);
  series = fused(r, series, 0.020833323451718747);
  series = fused(r, series, -0.027777777780432573);
  series = fused(r, series, 0.041666666667952115);
  series = fused(r, series, -0.08333333333333327);
  return fused(r, series, start);
}

// sin(pi t / 2) and cos(pi t / 2) for t in [-1/2, 1/2].
template <class F>
BANDITCORE_INLINE void sine_cosine_quarter(F t, F& sine, F& cosine) {
  const F z = t * t;
  F odd = fused(z, -3.5563534940970725e-06, 0.00016042924753062584);
  odd = fused(z, odd, -0.004681752588299876);
  odd = fused(z, odd, 0.07969262615552745);
  odd = fused(z, odd, -0.6459640975043047);
  odd = fused(z, odd, 1.5707963267948906);
  sine = t * odd;
  F even = fused(z, 4.6628571466255335e-07, -2.5200684786242786e-05);
  even = fused(z, even, 0.0009192600979051021);
  even = fused(z, even, -0.0208634807529337);
  even = fused(z, even, 0.2536695079008235);
  even = fused(z, even, -1.2337005501361695);
  cosine = fused(z, even, 1.0);
}

// The square of the radius that `turned` takes, from 52 bits, 12 and up.
template <class F, class W>
BANDITCORE_INLINE F square_of(W word) {
  return scaled_minus_log(float_of((word >> 12) | 0x3FF0000000000000u) -
                          (1.0 - 0x1p-53));  // midpoints: never 0, never 1
}

// Two independent normals over sqrt(12), from a radius and an angle: 50 bits, 12 and up, a quarter turn; 62 and 63 the
// signs.
template <class F, class W>
BANDITCORE_INLINE void turned(F radius, W word, F& first, F& second) {
  const F turn =
      float_of(masked_with(word >> 10, 0x000FFFFFFFFFFFFCu, W{} + 0x3FF0000000000000u)) - (1.5 - 0x1p-51);
  F sine, cosine;
  sine_cosine_quarter(turn, sine, cosine);
  // cos(pi / 4 + y) = (cos y - sin y) / sqrt(2), and sin likewise; the root is in the radius.
  first = float_of(flipped(bits_of(radius * (cosine - sine)), word, 0x8000000000000000u));
  second = float_of(flipped(bits_of(radius * (cosine + sine)), word << 1, 0x8000000000000000u));
}

// Two independent normals over sqrt(12): `low` gives the radius, `high` the angle.
template <class F, class W>
BANDITCORE_INLINE void normal_pair(W low, W high, F& first, F& second) {
  turned(square_root(square_of<F>(low)), high, first, second);
}

}  // namespace
