// A row of a race whose arms met fit a short list: k and the row's own bans are few. It stops and goes on batch by
// batch, so that several rows can wait for memory together.
#pragma once

#include "race/draws.h"

namespace {

class ShortRow {
 public:
  static constexpr int kMost = 64;  // k and bans; beyond, a hash set is faster
  enum State { kRunning, kDecided, kLong };  // kLong: this row needs what only LongRow can do

  void begin(const std::int32_t* bans, std::int64_t ban_count, std::int64_t k) {
    state_ = kRunning;
    bans_ = 0;
    for (std::int64_t at = 0; at < ban_count; ++at) {
      if (bans[at] >= 0) met_[bans_++] = bans[at];
    }
    found_ = bans_;
    wanted_ = bans_ + static_cast<int>(k);
    pending_ = 0;
    head_ = phase_ = 0;
    first_ = 0;
  }

  State state() const { return state_; }

  // Draws the next points and has their slots fetched.
  __attribute__((always_inline)) void aim(const Race& race, StreamKey key, std::uint64_t row) {
    const double from = first_ == 0 ? -race.rest * race.pace : batch_.wait[kBatch - 1];
    fill_batch(batch_, first_, row, key);
    run_up(batch_, from, race.pace);
    if (batch_.wait[kBatch - 1] >= race.end) {
      state_ = kLong;
      return;
    }
    while (race.phase[phase_].end <= batch_.wait[0]) ++phase_;
    if (batch_.wait[0] >= 0.0) {
      take_aim_together(race, batch_, race.phase + phase_, slot_, side_);
    } else {
      for (int j = 0; j < kBatch; ++j) {
        const Aim aim = batch_.wait[j] < 0.0 ? Aim{0, 0} : take_aim(race, batch_, j, *phase_of(race, j));
        slot_[j] = aim.slot;
        side_[j] = aim.side;
      }
    }
    for (int j = 0; j < kBatch; ++j) __builtin_prefetch(race.slot + slot_[j]);
  }

  // Meets the arms of those points; writes the k arms of a decided row.
  __attribute__((always_inline)) void meet(const Race& race, StreamKey key, std::uint64_t row,
                                           const std::uint64_t* banned, std::int32_t* out) {
    alignas(64) std::int32_t arms[kBatch];
    const RowDraws draws(race, key, row);
    std::uint32_t doubts = read_slots(race, batch_, slot_, side_, arms);
    for (int j = 0; j < kBatch && batch_.wait[j] < 0.0; ++j) {
      arms[j] = -1;
      doubts &= ~(1u << j);
      RacePending point;
      if (draws.rest(batch_, first_, j, &point)) insert(point);
    }
    for (; doubts; doubts &= doubts - 1) {
      const int j = __builtin_ctz(doubts);
      if (!draws.keep(batch_, first_, j, *phase_of(race, j), static_cast<std::uint32_t>(arms[j]))) arms[j] = -1;
    }
    const auto is_banned = [banned](std::int32_t arm) { return banned && (banned[arm >> 6] >> (arm & 63) & 1); };
    if (banned) {
      for (int j = 0; j < kBatch; ++j) {
        if (arms[j] >= 0 && is_banned(arms[j])) arms[j] = -1;
      }
    }
    std::uint32_t mask = fresh(arms) & ~among(arms, met_, found_);
    // Between the tables' points come those of heads and rests; a head is drawn when its time has come, if the row
    // is not decided before and has not met it.
    const double last = batch_.wait[kBatch - 1];
    alignas(64) double y[kBatch];
    bool raised = false;
    while (found_ < wanted_) {
      const bool is_head = head_ < race.heads && race.head[head_].time <= last &&
                           (pending_ == 0 || race.head[head_].bound >= points_[0].y);
      std::uint32_t before;
      if (is_head) {
        const banditcore::RaceHead& head = race.head[head_];
        const auto arm = static_cast<std::int32_t>(head.arm);
        if (listed(arm, arms, kBatch) || listed(arm, met_, found_) || is_banned(arm)) {
          ++head_;
          continue;
        }
        before = earlier(head.time);
      } else {
        if (pending_ == 0) break;
        if (!raised) raise(race, draws, y);
        raised = true;
        before = above(y, points_[0].y);
        if (before == kWholeBatch) break;
      }
      append(arms, mask & before);
      mask &= ~before;
      if (found_ >= wanted_) break;
      if (is_head) {
        insert(draws.head(head_++));
        continue;
      }
      const auto arm = static_cast<std::int32_t>(points_[0].arm);
      --pending_;
      for (int at = 0; at < pending_; ++at) points_[at] = points_[at + 1];
      if (listed(arm, met_, found_) || is_banned(arm)) continue;
      met_[found_++] = arm;
      mask &= ~among(arms, &arm, 1);
    }
    if (found_ < wanted_) append(arms, mask);
    first_ += kBatch;
    if (found_ < wanted_ || state_ == kLong) return;
    for (int place = bans_; place < wanted_; ++place) out[place - bans_] = met_[place];
    state_ = kDecided;
  }

 private:
  static constexpr int kMostPending = 12;

  const banditcore::RacePhase* phase_of(const Race& race, int j) const {
    const banditcore::RacePhase* phase = race.phase + phase_;
    while (batch_.wait[j] >= phase->end) ++phase;
    return phase;
  }

  static constexpr std::uint32_t kWholeBatch = (1u << kBatch) - 1;

  // A bit for each point before a time.
  std::uint32_t earlier(double time) const {
    std::uint32_t mask = 0;
    for (int j = 0; j < kBatch; ++j) mask |= static_cast<std::uint32_t>(batch_.wait[j] < time) << j;
    return mask;
  }
  // A bit for each point above y; those before time 0 are.
  std::uint32_t above(const double* heights, double y) const {
    std::uint32_t mask = 0;
    for (int j = 0; j < kBatch; ++j) mask |= static_cast<std::uint32_t>(heights[j] > y) << j;
    return mask | earlier(0.0);
  }

  // The y of each point.
  void raise(const Race& race, const RowDraws& draws, double* y) const {
    if (batch_.wait[0] >= 0.0) {
      heights(race, batch_, race.phase + phase_, y);
      return;
    }
    for (int j = 0; j < kBatch; ++j) y[j] = batch_.wait[j] < 0.0 ? 0.0 : draws.y_at(*phase_of(race, j), batch_.wait[j]);
  }

  // Keeps the pending points by falling y.
  void insert(const RacePending& point) {
    if (pending_ == kMostPending) {
      state_ = kLong;
      return;
    }
    int at = pending_++;
    for (; at > 0 && points_[at - 1].y < point.y; --at) points_[at] = points_[at - 1];
    points_[at] = point;
  }

  // Adds the arms under the mask; there is room for a whole batch beyond what is wanted.
  __attribute__((always_inline)) void append(const std::int32_t* arms, std::uint32_t mask) {
    gather_fresh(arms, mask, met_ + found_);
    found_ += __builtin_popcount(mask);
  }

  Batch batch_;
  alignas(64) std::uint64_t slot_[kBatch], side_[kBatch];
  alignas(64) std::int32_t met_[kMost + 2 * kBatch];  // the row's bans, then its answer
  int bans_, found_, wanted_;  // wanted: the length of `met_` that decides the row
  int pending_;
  RacePending points_[kMostPending];
  std::int64_t head_, phase_;  // the next head; the phase of the last batch's first point
  std::uint32_t first_;        // point that the batch begins with
  State state_;
};

}  // namespace
