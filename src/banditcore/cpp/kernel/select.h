// Which cells of a drawn row may be among its best: a screen of plain numbers before any logarithm.
//
// tile.value holds the screen: G_a / G_b, by `exponential` and within its range where a shape is below 1; or weight
// G_a / (G_a + G_b), but where a shape is below 1 or weights are very far apart (either might then underflow) the key
// itself. Screen and key are in the same order up to rounding, which is far below the slack.
#pragma once

#include "kernel/tile.h"
#include "kernel/topk.h"

namespace {

constexpr double kSlack = 1.0 - 0x1p-36;
constexpr double kLeastCut = 0x1p-960;  // screens below it may be subnormal, with less precision than the slack allows
constexpr double kMinusInfinity = -__builtin_inf();

// What a cell is ranked by.
struct Ranking {
  bool weighted;
  bool exact;  // the screen is the key
};

template <class F>
BANDITCORE_INLINE F key_of(F log_odds, F weight, const Ranking& ranking) {
  return ranking.weighted ? logarithm(weight) + log_rate(log_odds) : log_odds;
}

// The k-th largest of kGroups values; k <= kGroups.
template <int kGroups>
BANDITCORE_INLINE double kth_largest(const double* values, std::int64_t k) {
  Floats found = all_floats(__builtin_inf());
  for (int at = 0; at < kGroups; at += kLanes) {
    const Floats mine = load(values + at);
    Floats ahead = all_floats(0.0);
    for (int other = 0; other < kGroups; ++other) {
      ahead = ahead + select(all_floats(values[other]) > mine, all_floats(1.0), all_floats(0.0));
    }
    found = lesser(found, select(ahead < static_cast<double>(k), mine, all_floats(__builtin_inf())));
  }
  double least_of = lane_of(found, 0);
  for (int lane = 1; lane < kLanes; ++lane) least_of = least(lane_of(found, lane), least_of);
  return least_of;
}

// A number that at least k of the screens reach, and few more: the k-th largest of the maxima of kGroups groups.
template <int kGroups>
BANDITCORE_INLINE double cut_of(const double* screen, int arms, std::int64_t k) {
  alignas(64) double most[kGroups];
  for (double& value : most) value = kMinusInfinity;
  int at = 0;
  for (; at + kGroups <= arms; at += kGroups) {
    for (int lane = 0; lane < kGroups; lane += kLanes) {
      store(most + lane, greatest(load(most + lane), load(screen + at + lane)));
    }
  }
  for (; at < arms; ++at) most[at % kGroups] = greatest(most[at % kGroups], screen[at]);
  return kth_largest<kGroups>(most, k);
}

// Offers the cells from .. from + arms - 1 of the tile, one row's.
static void select_cells(const Tile& tile, int from, int arms, const Ranking& ranking, Ties ties, TopK& top) {
  const double* const screen = tile.value + from;
  double cut = kMinusInfinity;
  if (top.count == top.capacity) {
    cut = top.heap[0].screen;
  } else if (top.count == 0 && arms > top.capacity) {
    cut = top.capacity <= 12   ? cut_of<32>(screen, arms, top.capacity)
          : top.capacity <= 32 ? cut_of<64>(screen, arms, top.capacity)
          : top.capacity <= 64 ? cut_of<128>(screen, arms, top.capacity)
                               : kMinusInfinity;
  }
  if (!ranking.exact) cut = cut < kLeastCut ? 0.0 : cut * kSlack;
  alignas(64) std::uint64_t chosen[kTile + kLanes];
  int count = 0;
  for (int at = 0; at < arms; at += kLanes) {
    std::uint64_t lanes = reaching(load(screen + at), all_floats(cut));
    if (arms - at < kLanes) lanes &= (std::uint64_t{1} << (arms - at)) - 1;
    count += write_places(chosen + count, static_cast<std::uint64_t>(from + at), lanes);
  }
  const bool few = top.count == 0 && count <= kFew;
  Candidate candidates[kFew];
  for (int at = count; at < whole_packs(count); ++at) chosen[at] = chosen[0];
  for (int at = 0; at < count; at += kLanes) {
    const Words cell = load(chosen + at);
    const Floats odds = log_odds_at(tile, cell);
    const Floats keys =
        key_of(odds, ranking.weighted ? gathered(tile.weight, cell) : all_floats(1.0), ranking);
    alignas(64) double key_of_lane[kLanes], odds_of_lane[kLanes];
    store(key_of_lane, keys);
    store(odds_of_lane, odds);
    for (int lane = 0; lane < kLanes && at + lane < count; ++lane) {
      const std::uint64_t one = chosen[at + lane];
      const Candidate candidate = {key_of_lane[lane], odds_of_lane[lane], tile.value[one],
                                   static_cast<std::uint32_t>(tile.arm[one])};
      if (few) {
        candidates[at + lane] = candidate;
      } else {
        offer(top, ties, candidate);
      }
    }
  }
  if (few) offer_few(top, ties, candidates, count);
}

}  // namespace
