// The tables of a race: what `ThompsonSampler` builds once and reads at every decision.
//
// Put on arm i a Poisson process whose mean number of points above y is M_i(y) = -log F_i(y). Its highest point is
// a draw of the arm's value. All arms' points together, read from the top, are a Poisson process too; the first
// point of each arm counts, later ones are ignored: the first k distinct arms are Thompson's top k, in order.
//
// Axis: y falls while the *time* h rises; time is the expected number of points met. It is cut into cells by
// knots. In a cell, with s the share of it that has passed, arm i's points come at rate
// (1 - s) p_i(left knot) + s p_i(right knot), where p_i(knot) is Phi times the arm's true rate there: pick a knot,
// then an arm by the knot's alias table. Phi >= 1 lifts that line above the true rate, and a point is kept with
// probability true rate / line: exact, and nearly always decided by a stored lower bound.
//
// Two things keep tables small. *Rest*: above the knot where an arm enters the tables it has an expected number of
// points far below 1; these are drawn one by one from an exponential envelope. *Heads*: an arm that has almost
// surely been met, or is too narrow for the cells, leaves the tables; from there on its value is drawn as such,
// given that it lies below the knot (if the arm had been met before, that draw is ignored like any later point).
// What lies below the last knot is drawn arm by arm.
#pragma once

#include <cstdint>

#include "kernel/kernel.h"

namespace banditcore {

constexpr std::uint32_t kNoArm = 0xffffffffu;

// One place of an alias table.
struct RaceSlot {
  std::uint32_t threshold;         // own arm if the 32-bit fraction is below it
  std::uint32_t own, alias;        // arms, or kNoArm
  std::uint16_t own_sure, alias_sure;  // keep the point if 16 random bits are below it; else look closer
};

struct RaceTable {
  std::uint32_t first, size;  // slots
};

// What is read of a cell for each point.
struct RaceCell {
  RaceTable knot[2];  // left, right
};

// What is read of a cell when a point needs a closer look.
struct RaceShape {
  double top, depth;               // y falls from top to top - depth
  double start, width;             // time at the left knot, and to the right one
  double left_slope, right_slope;  // of the share of depth by the share of width, at the knots
  double left_rate, right_rate;    // sum over arms of dM/dy at the knots: p = Phi (dM/dy) / rate
};

// A stretch of time whose cells are found from the exponent and leading mantissa bits of time + offset.
struct RacePhase {
  double end;     // time
  double offset;
  std::int64_t base;   // cell = (bits >> shift) - base
  std::int32_t shift;
};

struct RaceHead {
  double time, bound;  // from this time on; the arm's y is below bound
  std::uint32_t arm;
};

// What a draw of a head needs: an image of BoundedDraw, whose class differs from one instruction set to the next.
struct RaceHeadDraw {
  double image[16];
};
constexpr std::int64_t kReadyHeads = 64;  // of the first heads; others are worked out when met

struct RaceRest {
  std::uint32_t threshold, alias;
};

struct Race {
  std::int64_t size = 0;   // arms
  bool weighted = false;
  double rest = 0.0;       // expected number of proposals above the arms' entries
  double pace = 1.0;       // time from one proposal to the next, on average: at most 1
  double end = 0.0;        // time at the last knot
  double bottom = 0.0;     // y there
  std::int64_t cells = 0, phases = 0, heads = 0;
  const RaceCell* cell = nullptr;
  const RacePhase* phase = nullptr;
  const RaceSlot* slot = nullptr;
  const RaceShape* shape = nullptr;
  const RaceHead* head = nullptr;         // by time
  const RaceHeadDraw* head_draw = nullptr;  // of the first kReadyHeads
  const RaceRest* rest_slot = nullptr;    // one an arm
  const double* a = nullptr;
  const double* b = nullptr;
  const double* log_weight = nullptr;     // if weighted
  std::int64_t levels = 0;
  const double* entry = nullptr;          // (levels,): y above which arms are drawn from the rest; last, the bottom
  const std::uint16_t* level = nullptr;   // where in `entry`; the last if the arm stays out of the tables
  const std::uint16_t* enters = nullptr;  // first cell of each arm that is in the tables
  const std::uint16_t* stays = nullptr;   // cells it is in
  const std::uint32_t* knots = nullptr;   // where the arm's knots begin in `rate` and `lift`
  const float* rate = nullptr;            // dM/dy of an arm at its knots, entry first
  const std::uint8_t* lift = nullptr;     // (Phi - 1) 256 at its knots
  const std::uint8_t* is_head = nullptr;  // a bit an arm
};

// A point that is not in the tables: from the rest, or a head's.
struct RacePending {
  double y;
  std::uint32_t arm;
};

// Working memory of one thread.
struct alignas(64) RaceScratch {  // a line of its own: threads write to theirs
  RacePending* pending = nullptr;  // `pending_places` of them
  std::int64_t pending_places = 0;
  std::uint64_t* seen = nullptr;   // hash set of `seen_mask` + 1 places: generation in the high half, arm in the low
  std::uint32_t seen_mask = 0;
  std::uint32_t generation = 0;
  RacePending* tail = nullptr;     // k of them: a heap
};

// Arms that no row, or one row, may answer with.
struct RaceBans {
  const std::uint64_t* all = nullptr;     // a bit an arm, or null
  const std::int32_t* per_row = nullptr;  // (rows, per_row_size), negative entries ignored, or null
  std::int64_t per_row_size = 0;
};

// Rows first .. first + rows - 1 into `out`, (rows, k).
using RaceRows = void (*)(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows, std::int64_t k,
                          const RaceBans& bans, RaceScratch& scratch, std::int32_t* out);

void race_rows_serial(const Race&, StreamKey, std::uint64_t, std::int64_t, std::int64_t, const RaceBans&,
                      RaceScratch&, std::int32_t*);
#if defined(__x86_64__)
void race_rows_avx2(const Race&, StreamKey, std::uint64_t, std::int64_t, std::int64_t, const RaceBans&,
                    RaceScratch&, std::int32_t*);
void race_rows_avx512(const Race&, StreamKey, std::uint64_t, std::int64_t, std::int64_t, const RaceBans&,
                      RaceScratch&, std::int32_t*);
#endif
#if defined(__aarch64__)
void race_rows_neon(const Race&, StreamKey, std::uint64_t, std::int64_t, std::int64_t, const RaceBans&,
                    RaceScratch&, std::int32_t*);
#endif

}  // namespace banditcore
