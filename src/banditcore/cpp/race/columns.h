// Loops over columns of arms, which building a race spends its time in: one implementation an instruction set, all
// with the same bits.
#pragma once

#include <cstdint>

namespace banditcore {

constexpr std::int64_t kColumnStep = 8;  // columns have room for a multiple of this many arms

// What the densities of all arms share at a point y of the axis: the rate x, 1 - x, and log(1 + exp(y)).
struct RaceLevel {
  double y, x, rest, soft;
};

// The arms in the tables at a knot, and what is known of them there. Places beyond the last arm hold arms of
// density 0.
struct RaceLive {
  std::int64_t count;                                 // a multiple of kColumnStep
  const double *a, *b, *constant;                     // log-density = constant + a y - (a + b) soft
  const double *density, *above;                      // at the knot; above: P(y > knot)
  double *next_density, *next_above;                  // at the knot below
};

// Over all arms: rates (density / P(y <= knot)), their derivatives going down, and the positive ones of these.
struct RaceSums {
  double rate, rise, climb;
};

// A cell whose arms' rates are compared with the lines between its knots.
struct RaceSpan {
  std::int64_t count;                     // a multiple of kColumnStep
  const float *rate0, *rate1;             // at the knots
  const double *a, *b;
  const double* bends;                    // null, or (4, count): slope and curve at the top, slope and curve below
  RaceLevel top, under;
  double depth;
  double share[3], speed[3];              // at a quarter, a half and three quarters of the width: depth passed, dy/dh
  double left_rate, right_rate;           // of all arms
  float *least, *lift;                    // results: a bound on true rate / line from below; (Phi - 1) 256, whole
};

struct RaceColumns {
  const char* name;
  // -log B(a, b); and a y above which an arm has about `enough` points, with the logarithm of the number it has
  // there over `enough`, which is infinite if the search failed. n is a multiple of kColumnStep.
  void (*prepare)(const double* a, const double* b, std::int64_t n, double log_enough, double* constant,
                  double* entry, double* excess);
  RaceSums (*sums)(const RaceLive& live, const RaceLevel& at);
  // Writes the places of arms whose rate grows by more than exp(most_growth) in a cell down to `to`, whose log-density
  // bends by more than `most_bend` (curvature times squared depth), or with more than `most_above` above; returns how
  // many.
  std::int64_t (*too_fast)(const RaceLive& live, const RaceLevel& from, const RaceLevel& to, double depth,
                           double most_growth, double most_bend, double most_above, std::uint32_t* places);
  // Fills the next columns; writes the places of arms for which the cell is too deep for one step of the quadrature.
  std::int64_t (*advance)(const RaceLive& live, const RaceLevel& from, const RaceLevel& to, double depth,
                          std::uint32_t* places);
  // Rates of columns as floats; returns the sum of those.
  double (*rates)(const double* density, const double* above, std::int64_t count, float* rate);
  void (*measure)(const RaceSpan& span);
};

// The best for this machine; or by place, with a name of null after the last.
const RaceColumns& race_columns() noexcept;
const RaceColumns& race_columns(int place) noexcept;

extern const RaceColumns kRaceColumnsSerial;
#if defined(__x86_64__)
extern const RaceColumns kRaceColumnsAvx2, kRaceColumnsAvx512;
#endif

// Mass between two knots: the quintic through density and two derivatives at both ends.
template <class F>
inline __attribute__((always_inline)) F race_mass(F density0, F slope0, F curve0, F density1, F slope1, F curve1,
                                                  double depth) {
  const F up1 = density0 * slope0, down1 = density1 * slope1;
  const F up2 = density0 * (slope0 * slope0 - curve0), down2 = density1 * (slope1 * slope1 - curve1);
  return depth / 2 * (density0 + density1) + depth * depth / 10 * (up1 - down1) +
         depth * depth * depth / 120 * (up2 + down2);
}

constexpr double kMostAbove = 1.0 - 1e-12;

}  // namespace banditcore
