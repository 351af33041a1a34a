// One row of a race on its own: any k, any bans, to the end of the tables and below.
#pragma once

#include "race/draws.h"

namespace {

class LongRow {
 public:
  LongRow(const Race& race, StreamKey key, std::uint64_t row, RaceScratch& scratch)
      : race_(race), key_(key), row_(row), draws_(race, key, row), scratch_(scratch) {}

  // `bans`: arms that this row may not answer with, negative ones ignored; `banned`: a bit an arm, or null.
  void run(std::int64_t k, const std::uint64_t* banned, const std::int32_t* bans,
            std::int64_t ban_count, std::int32_t* out) {
    ++scratch_.generation;
    if (scratch_.generation == 0) {  // wrapped: old marks would come alive
      for (std::uint64_t at = 0; at <= scratch_.seen_mask; ++at) scratch_.seen[at] = 0;
      scratch_.generation = 1;
    }
    for (std::int64_t at = 0; at < ban_count; ++at) {
      if (bans[at] >= 0) mark(static_cast<std::uint32_t>(bans[at]));
    }
    banned_ = banned;
    out_ = out;
    wanted_ = k;
    Batch batch;
    double from = -race_.rest * race_.pace;
    for (;; first_ += kBatch) {
      fill_batch(batch, first_, row_, key_);
      run_up(batch, from, race_.pace);
      play(batch);
      if (found_ == wanted_) return;
      if (ended_) break;
      from = batch.wait[kBatch - 1];
    }
    finish();
  }

 private:
  // The arm of point j of a batch by the tables, or kNoArm.
  std::uint32_t tabled(const Batch& batch, int j, const banditcore::RacePhase& phase) const {
    const Aim aim = take_aim(race_, batch, j, phase);
    const banditcore::RaceSlot& slot = race_.slot[aim.slot];
    const bool own = aim.side < slot.threshold;
    const std::uint32_t arm = own ? slot.own : slot.alias;
    if ((batch.last[j] & 0xffffu) < (own ? slot.own_sure : slot.alias_sure)) return arm;
    return draws_.keep(batch, first_, j, phase, arm) ? arm : kNoArm;
  }

  void propose(const Batch& batch, int j) {
    RacePending point;
    if (!draws_.rest(batch, first_, j, &point)) return;
    if (rests_ == kMostRests) return;  // a Poisson count; far fewer than one is expected
    rest_arms_[rests_++] = static_cast<std::int32_t>(point.arm);
    insert(point);
  }

  // Keeps the pending points by falling y.
  void insert(const RacePending& point) {
    if (pending_ == scratch_.pending_places) return;  // a Poisson count beyond 64 where 1/16 is expected
    RacePending* const points = scratch_.pending;
    std::int64_t at = pending_++;
    for (; at > next_pending_ && points[at - 1].y < point.y; --at) points[at] = points[at - 1];
    points[at] = point;
  }

  // Heads that leave the tables up to `time`.
  void release_heads(double time) {
    for (; next_head_ < race_.heads && race_.head[next_head_].time <= time; ++next_head_) {
      const banditcore::RaceHead& head = race_.head[next_head_];
      if (seen(head.arm) || is_banned(head.arm)) continue;
      insert(draws_.head(next_head_));
    }
  }

  // Takes the points of a batch in order, with the pending ones between them.
  void play(const Batch& batch) {
    for (int j = 0; j < kBatch; ++j) {
      const double time = batch.wait[j];
      if (time < 0.0) {
        propose(batch, j);
        continue;
      }
      ended_ = time >= race_.end;
      release_heads(ended_ ? race_.end : time);
      if (!ended_) {
        while (time >= race_.phase[phase_].end) ++phase_;
      }
      if (next_pending_ < pending_) {
        const double y = ended_ ? race_.bottom : draws_.y_at(race_.phase[phase_], time);
        while (next_pending_ < pending_ && scratch_.pending[next_pending_].y >= y) {
          meet(scratch_.pending[next_pending_++].arm);
          if (found_ == wanted_) return;
        }
      }
      if (ended_) return;
      const std::uint32_t arm = tabled(batch, j, race_.phase[phase_]);
      if (arm != kNoArm) meet(arm);
      if (found_ == wanted_) return;
    }
  }

  // What lies below the last knot: every arm not met, one by one.
  void finish() {
    release_heads(__builtin_inf());
    const std::int64_t room = wanted_ - found_;
    RacePending* const heap = scratch_.tail;  // the lowest of those kept on top
    std::int64_t kept = 0;
    const auto offer = [&](double y, std::uint32_t arm) {
      if (kept == room && !(y > heap[0].y)) return;
      std::int64_t at;
      if (kept < room) {
        at = kept++;
        while (at > 0 && heap[(at - 1) / 2].y > y) {
          heap[at] = heap[(at - 1) / 2];
          at = (at - 1) / 2;
        }
      } else {
        at = sink(heap, kept, 0, y);
      }
      heap[at] = {y, arm};
    };
    for (; next_pending_ < pending_; ++next_pending_) {
      const RacePending& point = scratch_.pending[next_pending_];
      if (!seen(point.arm) && !is_banned(point.arm)) {
        // Heads come once; only an arm from the rest can stand here twice. The set has no room for all heads.
        if (listed(static_cast<std::int32_t>(point.arm), rest_arms_, rests_)) mark(point.arm);
        offer(point.y, point.arm);
      }
    }
    for (std::uint32_t arm = 0; arm < race_.size; ++arm) {
      if ((race_.is_head[arm >> 3] >> (arm & 7) & 1) || is_banned(arm) || seen(arm)) continue;
      offer(draws_.below(arm), arm);
    }
    const std::int64_t met = found_ + kept;
    for (std::int64_t place = met; place < wanted_; ++place) out_[place] = -1;
    for (std::int64_t place = met - 1; place >= found_; --place) {
      out_[place] = static_cast<std::int32_t>(heap[0].arm);
      --kept;
      if (kept > 0) {
        const RacePending moved = heap[kept];
        heap[sink(heap, kept, 0, moved.y)] = moved;
      }
    }
  }
  static std::int64_t sink(RacePending* heap, std::int64_t size, std::int64_t at, double y) {
    for (;;) {
      std::int64_t child = 2 * at + 1;
      if (child >= size) return at;
      if (child + 1 < size && heap[child + 1].y < heap[child].y) ++child;
      if (!(heap[child].y < y)) return at;
      heap[at] = heap[child];
      at = child;
    }
  }

  void meet(std::uint32_t arm) {
    if (is_banned(arm) || seen(arm)) return;
    mark(arm);
    out_[found_++] = static_cast<std::int32_t>(arm);
  }
  bool is_banned(std::uint32_t arm) const { return banned_ && (banned_[arm >> 6] >> (arm & 63) & 1); }
  std::uint64_t place_of(std::uint32_t arm) const {
    const std::uint64_t value = static_cast<std::uint64_t>(scratch_.generation) << 32 | arm;
    std::uint32_t at = (arm * 0x9E3779B1u >> 7) & scratch_.seen_mask;
    while (scratch_.seen[at] >> 32 == scratch_.generation && scratch_.seen[at] != value) {
      at = (at + 1) & scratch_.seen_mask;
    }
    return at;
  }
  bool seen(std::uint32_t arm) const { return scratch_.seen[place_of(arm)] >> 32 == scratch_.generation; }
  void mark(std::uint32_t arm) {
    scratch_.seen[place_of(arm)] = static_cast<std::uint64_t>(scratch_.generation) << 32 | arm;
  }

  const Race& race_;
  StreamKey key_;
  std::uint64_t row_;
  RowDraws draws_;
  RaceScratch& scratch_;
  const std::uint64_t* banned_ = nullptr;
  std::int32_t* out_ = nullptr;
  std::int64_t wanted_ = 0, found_ = 0;
  std::int64_t pending_ = 0, next_pending_ = 0, next_head_ = 0, phase_ = 0;
  std::uint32_t first_ = 0;  // point that the batch begins with
  bool ended_ = false;
  static constexpr int kMostRests = 64;
  int rests_ = 0;
  std::int32_t rest_arms_[kMostRests];
};

}  // namespace
