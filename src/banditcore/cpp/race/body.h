// The race itself: included by one source file per instruction set.
#pragma once

#include "race/long_row.h"
#include "race/short_row.h"

namespace {

constexpr int kGroup = 4;  // rows whose memory reads overlap

BANDITCORE_INLINE void race_rows(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                 std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  const bool brief = k + bans.per_row_size <= ShortRow::kMost && race.cells > 0;
  const auto bans_of = [&](std::int64_t at) { return bans.per_row ? bans.per_row + at * bans.per_row_size : nullptr; };
  ShortRow row[kGroup];
  for (std::int64_t at = 0; at < rows; at += kGroup) {
    const int group = static_cast<int>(rows - at < kGroup ? rows - at : kGroup);
    int running = 0;
    if (brief) {
      for (int i = 0; i < group; ++i) row[i].begin(bans_of(at + i), bans.per_row_size, k);
      running = (1 << group) - 1;
    }
    while (running) {
      for (int i = 0; i < group; ++i) {
        if (running >> i & 1) row[i].aim(race, key, first + at + i);
      }
      for (int i = 0; i < group; ++i) {
        if (!(running >> i & 1)) continue;
        if (row[i].state() == ShortRow::kRunning) row[i].meet(race, key, first + at + i, bans.all, out + (at + i) * k);
        if (row[i].state() != ShortRow::kRunning) running &= ~(1 << i);
      }
    }
    for (int i = 0; i < group; ++i) {
      if (brief && row[i].state() == ShortRow::kDecided) continue;
      LongRow(race, key, first + at + i, scratch)
          .run(k, bans.all, bans_of(at + i), bans.per_row_size, out + (at + i) * k);
    }
  }
}

}  // namespace
