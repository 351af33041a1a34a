// The body every kernel shares: compiled once per instruction set, by a source that sets BANDITCORE_LANES and defines a
// Kernel of the functions below.
#pragma once

#include "kernel/select.h"

namespace {

using banditcore::Cells;
using banditcore::Draws;
using banditcore::Range;

Range range(const double* values, std::int64_t size) {
  // Chains of their own: each waits for itself.
  constexpr int kChains = 4;
  Floats low_of[kChains], high_of[kChains], sum_of[kChains];
  for (int chain = 0; chain < kChains; ++chain) {
    low_of[chain] = all_floats(__builtin_inf());
    high_of[chain] = all_floats(kMinusInfinity);
    sum_of[chain] = all_floats(0.0);
  }
  std::int64_t at = 0;
  for (; at + kChains * kLanes <= size; at += kChains * kLanes) {
    for (int chain = 0; chain < kChains; ++chain) {
      const Floats pack = load(values + at + chain * kLanes);
      low_of[chain] = lesser(pack, low_of[chain]);
      high_of[chain] = greatest(pack, high_of[chain]);
      sum_of[chain] = fused(pack, 0.0, sum_of[chain]);  // NaN once a value is NaN or infinite
    }
  }
  Floats lows = low_of[0], highs = high_of[0], sums = sum_of[0];
  for (int chain = 1; chain < kChains; ++chain) {
    lows = lesser(low_of[chain], lows);
    highs = greatest(high_of[chain], highs);
    sums = sums + sum_of[chain];
  }
  for (; at + kLanes <= size; at += kLanes) {
    const Floats pack = load(values + at);
    lows = lesser(pack, lows);
    highs = greatest(pack, highs);
    sums = fused(pack, 0.0, sums);
  }
  double low = __builtin_inf(), high = kMinusInfinity, nan = 0.0;
  for (int lane = 0; lane < kLanes; ++lane) {
    low = lesser(lane_of(lows, lane), low);
    high = greatest(lane_of(highs, lane), high);
    nan += lane_of(sums, lane);
  }
  for (; at < size; ++at) {
    low = lesser(values[at], low);
    high = greatest(values[at], high);
    nan += values[at] * 0.0;
  }
  return {low + nan, high + nan};
}

// Calls make(row, rows, arm), which draws, and use(row, rows, arm), for every tile: `rows` rows from `row` on, of the
// tile's arms, from `arm` on.
template <class Make, class Use>
BANDITCORE_INLINE void each_tile(const Arms& arms, const Cells& cells, Tile& tile, Make make, Use use) {
  const std::int64_t width = cells.arm_end - cells.arm_begin;
  if (width <= kTile / 2) {
    const std::int64_t rows = cells.row_end - cells.row_begin, most = kTile / width;
    const int copies = static_cast<int>(rows < most ? rows : most), arms_of = static_cast<int>(width);
    prepare(arms, cells.arm_begin, arms_of, copies, tile);
    for (std::int64_t row = cells.row_begin; row < cells.row_end; row += copies) {
      const std::int64_t left = cells.row_end - row;
      const int now = static_cast<int>(left < copies ? left : copies);
      make(row, now, cells.arm_begin);
      use(row, now, cells.arm_begin);
    }
    return;
  }
  for (std::int64_t arm = cells.arm_begin; arm < cells.arm_end; arm += kTile) {
    const int count = static_cast<int>(cells.arm_end - arm < kTile ? cells.arm_end - arm : kTile);
    prepare(arms, arm, count, 1, tile);
    for (std::int64_t row = cells.row_begin; row < cells.row_end; ++row) {
      make(row, 1, arm);
      use(row, 1, arm);
    }
  }
}

BANDITCORE_INLINE Floats nothing(int, Floats, Floats) { return all_floats(0.0); }

void fill(const Arms& arms, StreamKey key, const Cells& cells, Draws draws, double* out) {
  Tile tile;
  // Rows of whole packs are drawn where they belong.
  const auto in_place = [&] { return draws == Draws::rates && !tile.boosted && tile.arms % kLanes == 0; };
  const auto make = [&](std::int64_t first, int rows, std::int64_t arm) {
    const int count = rows * tile.arms;
    const std::uint64_t row = cells.first_row + static_cast<std::uint64_t>(first);
    if (draws == Draws::rates) {
      draw(tile, count, key, row, in_place() ? out + first * arms.size + arm : tile.value,
           [&](int at, Floats a, Floats b) { return rate_of(tile, at, a, b); });
      if (!tile.boosted) return;
    } else {
      draw(tile, count, key, row, tile.value, nothing);
    }
    if (tile.boosted) draw_boosts(tile, key, row);
    for (int at = 0; at < count; at += kLanes) {
      const Floats odds = log_odds_pack(tile, at);
      if (draws == Draws::log_odds) {
        store(tile.value + at, odds);
        continue;
      }
      // Through the log-odds where a gamma is boosted, since U^(1/a) may underflow; by exp of the smaller side, so that
      // x keeps its relative precision down to the subnormals.
      const auto boosted = (load(tile.inverse + at) > 0.0) | (load(tile.inverse + kColumn + at) > 0.0);
      const Floats tail = exponential(select(odds < 0.0, odds, -odds));
      store(tile.value + at,
            select(boosted, select(odds < 0.0, tail, 1.0) / (1.0 + tail), load(tile.value + at)));
    }
  };
  each_tile(arms, cells, tile, make, [&](std::int64_t row, int rows, std::int64_t arm) {
    if (in_place()) return;
    // Copies stand one after the other, as their rows do in `out`; they only arise where a row is whole.
    if (tile.arms == arms.size) {
      std::memcpy(out + row * arms.size, tile.value, static_cast<std::size_t>(rows) * tile.arms * sizeof *out);
      return;
    }
    for (int copy = 0; copy < rows; ++copy) {
      std::memcpy(out + (row + copy) * arms.size + arm, tile.value + copy * tile.arms, tile.arms * sizeof *out);
    }
  });
}

void scan(const Arms& arms, StreamKey key, const Cells& cells, TopK* tops) {
  Tile tile;
  const bool weighted = arms.weight != nullptr;
  const Ranking ranking = {weighted, weighted && (arms.boosted || arms.lightest < arms.heaviest * 0x1p-400)};
  const auto make = [&](std::int64_t first, int rows, std::int64_t) {
    const int count = rows * tile.arms;
    const std::uint64_t row = cells.first_row + static_cast<std::uint64_t>(first);
    if (ranking.exact) {
      draw(tile, count, key, row, tile.value, nothing);
      if (tile.boosted) draw_boosts(tile, key, row);
      for (int at = 0; at < count; at += kLanes) {
        const Floats weight = ranking.weighted ? load(tile.weight + at) : all_floats(1.0);
        store(tile.value + at, key_of(log_odds_pack(tile, at), weight, ranking));
      }
    } else if (ranking.weighted) {
      const double scale = 1.0 / arms.heaviest;
      draw(tile, count, key, row, tile.value, [&](int at, Floats a, Floats b) {
        return load(tile.weight + at) * scale * rate_of(tile, at, a, b);  // relative: no product overflows
      });
    } else {
      draw(tile, count, key, row, tile.value, [&](int at, Floats a, Floats b) { return odds_of(tile, at, a, b); });
      if (tile.boosted) draw_boosts(tile, key, row);
      for (int at = 0; at < tile.boosted; at += kLanes) {
        const Words cell = load(tile.boosted_cell + at);
        scatter(tile.value, cell, exponential(log_odds_at(tile, cell)));
      }
    }
  };
  each_tile(arms, cells, tile, make, [&](std::int64_t row, int rows, std::int64_t) {
    for (int copy = 0; copy < rows; ++copy) {
      const std::uint64_t number = cells.first_row + static_cast<std::uint64_t>(row + copy);
      select_cells(tile, copy * tile.arms, tile.arms, ranking, {key, number}, tops[row + copy - cells.row_begin]);
    }
  });
}

void philox_block(const std::uint32_t counter[4], StreamKey key, std::uint32_t out[4]) {
  const Block<Words> block = philox<Words>(all_words(counter[0]), all_words(counter[1]), all_words(counter[2]),
                                           all_words(counter[3]), key);
  const std::uint64_t low = lane_of(block.low, kLanes - 1), high = lane_of(block.high, kLanes - 1);
  out[0] = static_cast<std::uint32_t>(low);
  out[1] = static_cast<std::uint32_t>(low >> 32);
  out[2] = static_cast<std::uint32_t>(high);
  out[3] = static_cast<std::uint32_t>(high >> 32);
}

}  // namespace
