// A tile: some hundreds of cells (row, arm), prepared once and drawn once a row, a pack of cells at a time.
#pragma once

#include "gamma.h"
#include "normal.h"
#include "philox.h"

namespace {

using banditcore::Arms;
using banditcore::StreamKey;

constexpr int kTile = 512;
static_assert(kTile % 64 == 0, "a tile is whole words of flags");
// Columns do not start a multiple of 4096 bytes apart: loads would wait for unrelated stores, and crowd in one cache set.
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
  bool boosted;  // whether any shape is below 1
  // Drawn.
  alignas(64) double w[2 * kColumn];         // accepted c x
  alignas(64) double boost[kColumn];         // of the log-odds: log(U_a) / a - log(U_b) / b
  alignas(64) double value[kColumn];
};

// What one drawing leaves behind for the cells that its squeeze left open.
struct Open {
  alignas(64) std::uint64_t words[2 * kColumn];  // random words of both gammas
  alignas(64) double x[2 * kColumn];             // normals over sqrt(12)
  alignas(64) std::uint64_t cell[2 * kColumn];   // the open ones; bit 32 for the second gamma
  int size;
};

BANDITCORE_INLINE int whole_packs(int cells) { return (cells + kLanes - 1) / kLanes * kLanes; }

// Turns a column of shapes into d, c and the inverse.
BANDITCORE_INLINE bool prepare_gamma(double* d, double* c, double* inverse, int cells, bool may_boost) {
  bool boosted = false;
  for (int at = 0; at < cells; at += kLanes) {
    Floats shape = load(d + at);
    if (may_boost) {
      const auto below = shape < 1.0;
      boosted |= any(below);
      store(inverse + at, select(below, 1.0 / shape, 0.0));
      shape = select(below, shape + 1.0, shape);
    }
    const Floats less = shape - 1.0 / 3.0;
    store(d + at, less);
    store(c + at, scale_of(less));
  }
  return boosted;
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
  const bool a = prepare_gamma(tile.d, tile.c, tile.inverse, padded, arms.boosted);
  const bool b = prepare_gamma(tile.d + kColumn, tile.c + kColumn, tile.inverse + kColumn, padded, arms.boosted);
  tile.boosted = a || b;
}

BANDITCORE_INLINE void leave_open(std::uint64_t lanes, int at, std::uint64_t second, Open& open) {
  for (; lanes != 0; lanes &= lanes - 1) {
    open.cell[open.size++] = static_cast<std::uint64_t>(at + __builtin_ctzll(lanes)) | second << 32;
  }
}

// Settles the lanes left open, a pack of them at a time: the full test, and where it rejects a new x from the stream of
// the next attempt. The loop ends: an attempt succeeds with probability above 0.95 for every shape, and parameters
// are finite, as the caller has checked.
static void settle(Tile& tile, Open& open, StreamKey key, std::uint64_t row) {
  for (std::uint64_t attempt = 0; open.size > 0; ++attempt) {
    int kept = 0;
    const int size = open.size;
    for (int at = size; at < whole_packs(size); ++at) open.cell[at] = open.cell[0];
    for (int at = 0; at < size; at += kLanes) {
      const Words entry = load(open.cell + at), cell = entry & 0xffffffffu, second = entry >> 32;
      const Words index = cell + ((Words{} - second) & static_cast<std::uint64_t>(kColumn));
      const Words arms = gathered(tile.arm, cell);
      const Words rows = tile.copies > 1 ? gathered(tile.row, cell) + row : all_words(row);
      const Floats x = gathered(open.x, index), w = gathered(tile.c, index) * x;
      const Block<Words> more =
          philox<Words>(arms, rows, rows >> 32, all_words((attempt << 3 | kAcceptance) & 0xffffffffu), key);
      const Words following = more.low ^ ((more.low ^ more.high) & (Words{} - second));
      // The next attempt beside the test rather than after it: most of the time here is waiting.
      const Words purpose = ((second + std::uint64_t{kRedrawA}) | ((attempt + 1) << 3)) & 0xffffffffu;
      const Block<Words> next = philox<Words>(arms, rows, rows >> 32, purpose, key);
      Floats again, unused;
      normal_pair(next.low, next.high, again, unused);
      const std::uint64_t real = size - at >= kLanes ? kEveryLane : (std::uint64_t{1} << (size - at)) - 1;
      const std::uint64_t fine = real & flags(accepted(x * kNormalScale, w, gathered(tile.d, index),
                                                       gathered(open.words, index), following >> 12));
      alignas(64) std::uint64_t index_of[kLanes], entry_of[kLanes], word_of[kLanes];
      alignas(64) double w_of[kLanes], x_of[kLanes];
      store(index_of, index);
      store(entry_of, entry);
      store(w_of, w);
      for (std::uint64_t left = fine; left != 0; left &= left - 1) {
        const int lane = __builtin_ctzll(left);
        tile.w[index_of[lane]] = w_of[lane];
      }
      store(word_of, next.low);
      store(x_of, again);
      for (std::uint64_t left = real & ~fine; left != 0; left &= left - 1) {
        const int lane = __builtin_ctzll(left);
        open.words[index_of[lane]] = word_of[lane];
        open.x[index_of[lane]] = x_of[lane];
        open.cell[kept++] = entry_of[lane];
      }
    }
    open.size = kept;
  }
}

// Draws the first `cells` cells, copy i in row `row` + i, and fills tile.value with value(at, base_a, base_b), packs of
// what it gives for 1 + w of both gammas. Boosts are left to the caller.
//
// Stages run over the whole tile, one after the other: short chains over independent packs keep a processor busy where
// one long chain a pack would leave it waiting.
template <class Value>
BANDITCORE_INLINE void draw(Tile& tile, int cells, StreamKey key, std::uint64_t row, Value value) {
  Open open;
  open.size = 0;
  const int padded = whole_packs(cells);
  if (tile.copies > 1) {
    for (int at = 0; at < padded; at += kLanes) {
      const Words rows = load(tile.row + at) + row;
      const Block<Words> words = philox<Words>(load(tile.arm + at), rows, rows >> 32, all_words(kNormals), key);
      store(open.words + at, words.low);
      store(open.words + kColumn + at, words.high);
    }
  } else {
    const Words rows = all_words(row);
    for (int at = 0; at < padded; at += kLanes) {
      const Block<Words> words = philox<Words>(load(tile.arm + at), rows, rows >> 32, all_words(kNormals), key);
      store(open.words + at, words.low);
      store(open.words + kColumn + at, words.high);
    }
  }
  std::uint64_t sure_a[kTile / 64], sure_b[kTile / 64];
  for (int block = 0; block * 64 < padded; ++block) {
    const int begin = block * 64, count = padded - begin < 64 ? padded - begin : 64;
    std::uint64_t all_a = 0, all_b = 0;
    for (int lane = 0; lane < count; lane += kLanes) {
      const int at = begin + lane;
      const Words first = load(open.words + at), second = load(open.words + kColumn + at);
      Floats x_a, x_b;
      normal_pair(first, second, x_a, x_b);
      store(open.x + at, x_a);
      store(open.x + kColumn + at, x_b);
      const Floats w_a = load(tile.c + at) * x_a, w_b = load(tile.c + kColumn + at) * x_b;
      store(tile.w + at, w_a);
      store(tile.w + kColumn + at, w_b);
      const Floats base_a = 1.0 + w_a, base_b = 1.0 + w_b;
      all_a |= squeezed(x_a, w_a, base_a, first) << lane;
      all_b |= squeezed(x_b, w_b, base_b, second) << lane;
      store(tile.value + at, value(at, base_a, base_b));
    }
    sure_a[block] = all_a;
    sure_b[block] = all_b;
  }
  std::uint64_t opened[kTile / 64];
  for (int block = 0; block * 64 < cells; ++block) {
    const int begin = block * 64;
    const std::uint64_t real = cells - begin >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (cells - begin)) - 1;
    leave_open(~sure_a[block] & real, begin, 0, open);
    leave_open(~sure_b[block] & real, begin, 1, open);
    opened[block] = ~(sure_a[block] & sure_b[block]) & real;
  }
  settle(tile, open, key, row);
  for (int block = 0; block * 64 < cells; ++block) {
    for (std::uint64_t left = opened[block]; left != 0;) {
      const int pack = __builtin_ctzll(left) / kLanes * kLanes, at = block * 64 + pack;
      left &= ~(kEveryLane << pack);
      store(tile.value + at, value(at, 1.0 + load(tile.w + at), 1.0 + load(tile.w + kColumn + at)));
    }
  }
}

static void draw_boosts(Tile& tile, int cells, StreamKey key, std::uint64_t row) {
  for (int at = 0; at < cells; at += kLanes) {
    const Words rows = tile.copies > 1 ? load(tile.row + at) + row : all_words(row);
    const Block<Words> units = philox<Words>(load(tile.arm + at), rows, rows >> 32, all_words(kBoosts), key);
    store(tile.boost + at, logarithm(open_unit(units.low >> 12)) * load(tile.inverse + at) -
                               logarithm(open_unit(units.high >> 12)) * load(tile.inverse + kColumn + at));
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

// log(x) from the log-odds of x, to full relative precision on both sides.
template <class F>
BANDITCORE_INLINE F log_rate(F log_odds) {
  const auto low = log_odds < 0.0;
  return select(low, log_odds, 0.0) - log_one_plus(exponential(select(low, log_odds, -log_odds)));
}

}  // namespace
