// A tile: some hundreds of cells (row, arm), prepared once and drawn once a row, a pack of cells at a time.
#pragma once

#include "arithmetic/bundle.h"
#include "arithmetic/gamma.h"
#include "arithmetic/normal.h"
#include "arithmetic/philox.h"

namespace {

using banditcore::Arms;
using banditcore::StreamKey;

constexpr int kTile = 1024;
constexpr int kInStep = kLanes == 8 ? 4 : 2;  // packs: as many as the registers hold
static_assert(kTile % 64 == 0, "a tile is whole words of flags");
// Columns do not start a multiple of 4096 bytes apart: loads would wait for unrelated stores, and crowd in one
// cache set.
constexpr int kColumn = kTile + 40;

// Columns of both gammas: the first's from 0, the second's from kColumn.
struct Tile {
  // Prepared.
  alignas(64) std::uint64_t arm[kColumn];    // keys the streams
  alignas(64) std::uint64_t row[kColumn];    // rows after the first one; unset where there is one row
  alignas(64) double d[2 * kColumn];         // s - 1/3 for a shape s, or s + 2/3 if s < 1
  alignas(64) double c[2 * kColumn];         // sqrt(12 / (9 d))
  alignas(64) double inverse[2 * kColumn];   // 1 / s if s < 1, else 0; unset unless boosted
  alignas(64) double weight[kColumn];        // unset unless weighted
  int arms;      // arms of the tile: `copies` times, a row each
  int copies;
  alignas(64) std::uint64_t boosted_cell[kTile + kLanes];  // those with a shape below 1; whole packs, the last repeated
  int boosted;  // how many
  // Drawn.
  alignas(64) double w[2 * kColumn];         // accepted c x
  alignas(64) double boost[kColumn];         // of the log-odds: log(U_a) / a - log(U_b) / b; unset unless boosted
  alignas(64) double value[kColumn];
};

// What the stages hand on, for a block of cells at a time: it should stay in the nearest cache.
constexpr int kBlock = 128;
static_assert(kTile % kBlock == 0 && kBlock % 64 == 0, "blocks are whole words of flags");

struct Stages {
  alignas(64) std::uint64_t low[kBlock], high[kBlock];  // random words
  alignas(64) double square[kBlock];                    // of the radius of both normals
};

BANDITCORE_INLINE int whole_packs(int cells) { return (cells + kLanes - 1) / kLanes * kLanes; }

template <int kPacks>
BANDITCORE_INLINE void prepare_scale(double* d, double* c) {
  const Bundle<Floats, kPacks> less = load_bundle<kPacks>(d) - 1.0 / 3.0;
  store(d, less);
  store(c, scale_of(less));
}

// Turns a column of shapes into d, c and the inverse.
BANDITCORE_INLINE void prepare_gamma(double* d, double* c, double* inverse, int cells, bool may_boost) {
  for (int at = 0; may_boost && at < cells; at += kLanes) {
    const Floats shape = load(d + at);
    const auto below = shape < 1.0;
    store(inverse + at, select(below, 1.0 / shape, 0.0));
    store(d + at, select(below, shape + 1.0, shape));
  }
  int at = 0;
  for (; at + kInStep * kLanes <= cells; at += kInStep * kLanes) prepare_scale<kInStep>(d + at, c + at);
  for (; at < cells; at += kLanes) prepare_scale<1>(d + at, c + at);
}

// Lists the cells with a boost: often few arms have one, and the others should not pay for it.
BANDITCORE_INLINE void list_boosted(Tile& tile, int cells) {
  int count = 0;
  for (int at = 0; at < cells; at += kLanes) {
    const std::uint64_t lanes = flags((load(tile.inverse + at) > 0.0) | (load(tile.inverse + kColumn + at) > 0.0));
    count += write_places(tile.boosted_cell + count, static_cast<std::uint64_t>(at), lanes);
    store(tile.boost + at, all_floats(0.0));
  }
  tile.boosted = count;
  for (int at = count; at < whole_packs(count); ++at) tile.boosted_cell[at] = tile.boosted_cell[count - 1];
}

// Prepares arms begin .. begin + count - 1 of those in play, `copies` times.
static void prepare(const Arms& arms, std::int64_t begin, int count, int copies, Tile& tile) {
  const int cells = count * copies, padded = whole_packs(cells);
  tile.arms = count;
  tile.copies = copies;
  if (arms.arm) {
    for (int at = 0; at < count; ++at) {
      const std::uint32_t arm = arms.arm[begin + at];
      tile.arm[at] = arm;
      tile.d[at] = arms.a[arm];
      tile.d[kColumn + at] = arms.b[arm];
      if (arms.weight) tile.weight[at] = arms.weight[arm];
    }
  } else {
    for (int at = 0; at < count; ++at) tile.arm[at] = static_cast<std::uint64_t>(begin + at);
    std::memcpy(tile.d, arms.a + begin, count * sizeof(double));
    std::memcpy(tile.d + kColumn, arms.b + begin, count * sizeof(double));
    if (arms.weight) std::memcpy(tile.weight, arms.weight + begin, count * sizeof(double));
  }
  for (int copy = 0; copies > 1 && copy < copies; ++copy) {
    for (int at = 0; at < count; ++at) {
      const int to = copy * count + at;
      tile.row[to] = static_cast<std::uint64_t>(copy);
      tile.arm[to] = tile.arm[at];
      tile.d[to] = tile.d[at];
      tile.d[kColumn + to] = tile.d[kColumn + at];
      if (arms.weight) tile.weight[to] = tile.weight[at];
    }
  }
  for (int at = cells; at < padded; ++at) {
    tile.arm[at] = tile.row[at] = 0;
    tile.d[at] = tile.d[kColumn + at] = tile.weight[at] = 1.0;
  }
  prepare_gamma(tile.d, tile.c, tile.inverse, padded, arms.boosted);
  prepare_gamma(tile.d + kColumn, tile.c + kColumn, tile.inverse + kColumn, padded, arms.boosted);
  tile.boosted = 0;
  if (arms.boosted) list_boosted(tile, padded);
}

BANDITCORE_INLINE Words rows_of(const Tile& tile, Words cell, std::uint64_t row) {
  return tile.copies > 1 ? gathered(tile.row, cell) + row : all_words(row);
}

// Lanes, a bit each, that pass the full test of this attempt.
BANDITCORE_INLINE std::uint64_t tested(const Tile& tile, Words cell, std::uint64_t attempt, StreamKey key, Words rows) {
  const Words arms = gathered(tile.arm, cell), other = cell + std::uint64_t{kColumn}, high = rows >> 32;
  using Two = Bundle<Words, 2>;  // the words that the squeeze saw, and those that follow
  const Block<Two> words =
      philox<Two>({{arms, arms}}, {{rows, rows}}, {{high, high}},
                  {{last_word(kNormals, attempt), last_word(kAcceptance, attempt)}}, key);
  return flags(accepted(gathered(tile.w, cell), gathered(tile.d, cell), gathered(tile.w, other),
                        gathered(tile.d, other), words.low.of[0], words.low.of[1] >> 12));
}

// Settles cells that the squeeze left open, a pack of them at a time: the full test, and where it rejects new gammas,
// by the words of the next attempt. The loop ends: an attempt succeeds with probability above 0.9 for every shape, and
// parameters are finite, as the caller has checked. `open` has room for whole packs.
static void settle(Tile& tile, std::uint64_t* open, int size, StreamKey key, std::uint64_t row) {
  for (std::uint64_t attempt = 0; size > 0; ++attempt) {
    int kept = 0;
    for (int at = size; at < whole_packs(size); ++at) open[at] = open[0];
    for (int at = 0; at < size; at += kLanes) {
      const Words cell = load(open + at);
      const std::uint64_t real = size - at >= kLanes ? kEveryLane : (std::uint64_t{1} << (size - at)) - 1;
      kept += write_lanes(open + kept, cell, real & ~tested(tile, cell, attempt, key, rows_of(tile, cell, row)));
    }
    size = kept;
    for (int at = 0; at < size; at += kLanes) {
      const Words cell = load(open + at), rows = rows_of(tile, cell, row);
      const Block<Words> words =
          philox<Words>(gathered(tile.arm, cell), rows, rows >> 32, last_word(kNormals, attempt + 1), key);
      Floats x_a, x_b;
      normal_pair(words.low, words.high, x_a, x_b);
      const Floats w_a = gathered(tile.c, cell) * x_a;
      const Floats w_b = gathered(tile.c, cell + std::uint64_t{kColumn}) * x_b;
      for (int lane = 0; lane < kLanes && at + lane < size; ++lane) {
        tile.w[open[at + lane]] = lane_of(w_a, lane);
        tile.w[kColumn + open[at + lane]] = lane_of(w_b, lane);
      }
    }
  }
}

BANDITCORE_INLINE void scatter(double* to, Words cell, Floats pack) {
  for (int lane = 0; lane < kLanes; ++lane) to[lane_of(cell, lane)] = lane_of(pack, lane);
}

// Draws the words of kPacks packs of cells. A tile of one row says so: much of the first rounds is then the same for
// all.
template <int kPacks, bool kOneRow>
BANDITCORE_INLINE void draw_words(const Tile& tile, int cell, StreamKey key, std::uint64_t row, Stages& stages,
                                  int at) {
  using Packs = Bundle<Words, kPacks>;
  Packs rows = Packs{} + row;
  if constexpr (!kOneRow) rows = load_bundle<kPacks>(tile.row + cell) + row;
  const Block<Packs> words = philox<Packs>(load_bundle<kPacks>(tile.arm + cell), rows, rows >> 32,
                                           Packs{} + std::uint64_t{kNormals}, key);
  store(stages.low + at, words.low);
  store(stages.high + at, words.high);
}

template <int kPacks>
BANDITCORE_INLINE void draw_squares(Stages& stages, int at) {
  store(stages.square + at, square_of<Bundle<Floats, kPacks>>(load_bundle<kPacks>(stages.low + at)));
}

// The last stage, from square and angle to the value. Returns a bit a lane: whether it is settled.
template <class Value>
BANDITCORE_INLINE std::uint64_t draw_values(Tile& tile, int cell, const Stages& stages, int at, double* values,
                                            Value value) {
  Floats x_a, x_b;
  turned(square_root(load(stages.square + at)), load(stages.high + at), x_a, x_b);
  const Floats w_a = load(tile.c + cell) * x_a, w_b = load(tile.c + kColumn + cell) * x_b;
  store(tile.w + cell, w_a);
  store(tile.w + kColumn + cell, w_b);
  const Floats base_a = 1.0 + w_a, base_b = 1.0 + w_b;
  store(values + cell, value(cell, base_a, base_b));
  return squeezed(x_a, w_a, base_a, x_b, w_b, base_b, load(stages.low + at));
}

// Stages run over a block of cells, one after the other: short chains over independent packs keep a processor busy
// where one long chain a pack would leave it waiting. For the same reason no branch asks for open cells before the end.
template <bool kOneRow, class Value>
BANDITCORE_INLINE void draw_rows(Tile& tile, int cells, StreamKey key, std::uint64_t row, double* values, Value value) {
  Stages stages;
  std::uint64_t sure[kTile / 64];
  const int padded = whole_packs(cells);
  for (int begin = 0; begin < padded; begin += kBlock) {
    const int size = padded - begin < kBlock ? padded - begin : kBlock;
    int at = 0;
    for (; at + kInStep * kLanes <= size; at += kInStep * kLanes) {
      draw_words<kInStep, kOneRow>(tile, begin + at, key, row, stages, at);
    }
    for (; at < size; at += kLanes) draw_words<1, kOneRow>(tile, begin + at, key, row, stages, at);
    for (at = 0; at + kInStep * kLanes <= size; at += kInStep * kLanes) draw_squares<kInStep>(stages, at);
    for (; at < size; at += kLanes) draw_squares<1>(stages, at);
    for (int word = 0; word < size; word += 64) {
      std::uint64_t lanes = 0;
      for (int lane = 0; lane < 64 && word + lane < size; lane += kLanes) {
        lanes |= draw_values(tile, begin + word + lane, stages, word + lane, values, value) << lane;
      }
      sure[(begin + word) / 64] = lanes;
    }
  }
  alignas(64) std::uint64_t open[kTile + kLanes];
  std::uint16_t met[kTile];
  int count = 0;
  for (int begin = 0; begin < cells; begin += 64) {
    std::uint64_t left = ~sure[begin / 64];
    if (cells - begin < 64) left &= (std::uint64_t{1} << (cells - begin)) - 1;
    for (; left != 0; left &= left - 1) {
      const int cell = begin + __builtin_ctzll(left);
      open[count] = static_cast<std::uint64_t>(cell);
      met[count++] = static_cast<std::uint16_t>(cell);
    }
  }
  settle(tile, open, count, key, row);
  for (int one = 0; one < count; ++one) {
    const int at = met[one] / kLanes * kLanes;
    store(values + at, value(at, 1.0 + load(tile.w + at), 1.0 + load(tile.w + kColumn + at)));
  }
}

// Draws the first `cells` cells, copy i in row `row` + i, and fills `values`, whole packs, with
// value(at, base_a, base_b), packs of what it gives for 1 + w of both gammas. Boosts are left to the caller.
template <class Value>
BANDITCORE_INLINE void draw(Tile& tile, int cells, StreamKey key, std::uint64_t row, double* values, Value value) {
  if (tile.copies > 1) {
    draw_rows<false>(tile, cells, key, row, values, value);
  } else {
    draw_rows<true>(tile, cells, key, row, values, value);
  }
}

static void draw_boosts(Tile& tile, StreamKey key, std::uint64_t row) {
  for (int at = 0; at < tile.boosted; at += kLanes) {
    const Words cell = load(tile.boosted_cell + at), rows = rows_of(tile, cell, row);
    const Block<Words> units = philox<Words>(gathered(tile.arm, cell), rows, rows >> 32, all_words(kBoosts), key);
    scatter(tile.boost, cell,
            logarithm(open_unit(units.low >> 12)) * gathered(tile.inverse, cell) -
                logarithm(open_unit(units.high >> 12)) * gathered(tile.inverse, cell + std::uint64_t{kColumn}));
  }
}

template <class F>
BANDITCORE_INLINE F cube(F base) {
  return base * base * base;
}

// G_a / (G_a + G_b), unboosted.
BANDITCORE_INLINE Floats rate_of(const Tile& tile, int at, Floats base_a, Floats base_b) {
  const Floats gamma_a = load(tile.d + at) * cube(base_a);
  return gamma_a / fused(load(tile.d + kColumn + at), cube(base_b), gamma_a);
}

// G_a / G_b, unboosted.
BANDITCORE_INLINE Floats odds_of(const Tile& tile, int at, Floats base_a, Floats base_b) {
  return (load(tile.d + at) * cube(base_a)) / (load(tile.d + kColumn + at) * cube(base_b));
}

// log(G_a / G_b). The small part, relative to the centre, is added last: near 1e12 it keeps its bits.
template <class F>
BANDITCORE_INLINE F log_odds_of(F d_a, F d_b, F w_a, F w_b) {
  return logarithm(d_a / d_b) + 3.0 * log_ratio(w_a, w_b);
}

BANDITCORE_INLINE Floats log_odds_pack(const Tile& tile, int at) {
  const Floats odds = log_odds_of(load(tile.d + at), load(tile.d + kColumn + at), load(tile.w + at),
                                  load(tile.w + kColumn + at));
  return tile.boosted ? odds + load(tile.boost + at) : odds;
}

// The same for some cells, wherever they are.
BANDITCORE_INLINE Floats log_odds_at(const Tile& tile, Words cell) {
  const Words other = cell + std::uint64_t{kColumn};
  const Floats odds = log_odds_of(gathered(tile.d, cell), gathered(tile.d, other), gathered(tile.w, cell),
                                  gathered(tile.w, other));
  return tile.boosted ? odds + gathered(tile.boost, cell) : odds;
}

// log(x) from the log-odds of x, to full relative precision on both sides.
template <class F>
BANDITCORE_INLINE F log_rate(F log_odds) {
  const auto low = log_odds < 0.0;
  return select(low, log_odds, 0.0) - log_one_plus(exponential(select(low, log_odds, -log_odds)));
}

}  // namespace
