// Logarithm, exponential, sine and cosine over packs: fixed polynomials, no libm, so that every kernel and every
// machine of one architecture gets the same bits.
//
// Reductions and coefficients are those of fdlibm (e_log.c, s_log1p.c, e_exp.c, k_sin.c, k_cos.c):
// Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Permission to use, copy, modify, and
// distribute this software is freely granted, provided that this notice is preserved.
// Largest errors over 3e6 points of the ranges named: log 3 ulp, log1p 4, log_ratio 7, exp, sine and cosine 1.
#pragma once

#include "arithmetic/lanes.h"

namespace {

constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;

// 52 random bits as the midpoint of a cell: (m + 1/2) 2^-52, exact, never 0 and never 1.
template <class W>
BANDITCORE_INLINE auto open_unit(W bits52) {
  return (float_of(bits52 | 0x3FF0000000000000u) - 1.0) + 0x1p-53;
}

// An integer below 2^52 as a float.
template <class W>
BANDITCORE_INLINE auto small_integer(W value) {
  return float_of(value | 0x4330000000000000u) - 0x1p52;
}

// The series of 2 atanh(s) = log((1 + s) / (1 - s)) for |s| < 0.1716, divided by s.
template <class F>
BANDITCORE_INLINE F log_series(F s) {
  const F z = s * s, w = z * z;
  const F even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const F odd = z * (6.666666666666735130e-01 +
                     w * (2.857142874366239149e-01 +
                          w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  return 2.0 + (even + odd);
}

// Splits a positive normal number into 2^exponent (1 + f), 1 + f in [sqrt(1/2), sqrt(2)).
template <class F>
BANDITCORE_INLINE void split(F value, F& exponent, F& f) {
  // Adding this carries into the exponent exactly when the mantissa is at least sqrt(2).
  const auto shifted = bits_of(value) + (0x3FF0000000000000u - 0x3FE6A09E667F3BCDu);
  exponent = small_integer(shifted >> 52) - 1023.0;
  f = float_of((shifted & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu) - 1.0;
}

// Natural logarithm of a positive, finite, normal number.
template <class F>
BANDITCORE_INLINE F logarithm(F value) {
  F exponent, f;
  split(value, exponent, f);
  const F s = f / (2.0 + f);
  return exponent * kLn2High + (s * log_series(s) + exponent * kLn2Low);
}

// log((1 + x) / (1 + y)) for -1 < x, y < 2^500. Near 0 it keeps its relative precision.
template <class F>
BANDITCORE_INLINE F log_ratio(F x, F y) {
  const F over = x - y, under = (1.0 + x) + (1.0 + y);
  // |s| < 0.1715 where the ratio is between sqrt(1/2) and sqrt(2): no exponent to split off.
  const auto near = (over < 0.1715 * under) & (over > -0.1715 * under);
  F s = over / under;
  if (all(near)) return s * log_series(s);
  F exponent, f;
  split((1.0 + x) / (1.0 + y), exponent, f);
  s = select(near, s, f / (2.0 + f));
  exponent = select(near, 0.0, exponent);
  return exponent * kLn2High + (s * log_series(s) + exponent * kLn2Low);
}

// log(1 + x) for -1 < x < 2^1000: the bits of log_ratio(x, 0), by one division.
template <class F>
BANDITCORE_INLINE F log_one_plus(F x) {
  const F value = 1.0 + x, under = value + 1.0;
  const auto near = (x < 0.1715 * under) & (x > -0.1715 * under);
  if (all(near)) {
    const F s = x / under;
    return s * log_series(s);
  }
  F exponent, f;
  split(value, exponent, f);
  const F s = select(near, x, f) / select(near, under, 2.0 + f);
  exponent = select(near, 0.0, exponent);
  return exponent * kLn2High + (s * log_series(s) + exponent * kLn2Low);
}

// 2^whole, for a whole number that gives a normal one. A function of its own: a lambda would lose the instruction set
// that a pragma gives to its file.
template <class F>
BANDITCORE_INLINE F power_of_two(F whole) {
  return float_of((bits_of(whole + (0x1.8p52 + 1023.0)) & 0x7FFu) << 52);
}

// exp(x) for any x; gives 0 below -745.2, never above 2^1023 (x is cut at 709).
template <class F>
BANDITCORE_INLINE F exponential(F x) {
  x = select(x < -746.0, -746.0, x);
  x = select(x > 709.0, 709.0, x);
  // Adding and taking away 1.5 2^52 rounds to the nearest integer; the low bits then hold it.
  const F shifted = x * 1.44269504088896338700e+00 + 0x1.8p52;
  const F k = shifted - 0x1.8p52;
  const F high = x - k * kLn2High, low = k * kLn2Low;
  const F r = high - low;
  const F t = r * r;
  const F c = r - t * (1.66666666666666019037e-01 +
                       t * (-2.77777777770155933842e-03 +
                            t * (6.61375632143793436117e-05 +
                                 t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))));
  const F base = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
  // Two factors, since 2^k alone may be subnormal. Both exponents are whole: k = first + second.
  const F first_shifted = k * 0.5 + 0x1.8p52;
  const F first = first_shifted - 0x1.8p52;
  return base * power_of_two(first) * power_of_two(k - first);
}

// Sine and cosine of y in [-pi/4, pi/4].
template <class F>
BANDITCORE_INLINE void sine_cosine(F y, F& sine, F& cosine) {
  const F z = y * y;
  sine = y + y * z *
                 (-1.66666666666666324348e-01 +
                  z * (8.33333333332248946124e-03 +
                       z * (-1.98412698298579493134e-04 +
                            z * (2.75573137070700676789e-06 +
                                 z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  cosine = 1.0 - (0.5 * z -
                  z * z *
                      (4.16666666666666019037e-02 +
                       z * (-1.38888888888741095749e-03 +
                            z * (2.48015872894767294178e-05 +
                                 z * (-2.75573143513906633035e-07 +
                                      z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))))));
}

}  // namespace
