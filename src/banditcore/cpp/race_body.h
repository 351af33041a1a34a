// The race itself: included by one source file per instruction set. Only the batches of random numbers are packed.
#pragma once

#include "race_axis.h"

namespace {

using banditcore::kNoArm;
using banditcore::Race;
using banditcore::RaceBans;
using banditcore::RacePending;
using banditcore::RaceScratch;
using banditcore::StreamKey;

constexpr int kBatch = 16;

struct Batch {
  double wait[kBatch];         // exponential gaps, before the race's pace
  std::uint64_t pick[kBatch];  // chooses the slot and the side of it
  std::uint32_t last[kBatch];  // high half rounds to a knot, low half keeps or drops
};

BANDITCORE_INLINE void fill_batch(Batch& batch, std::uint32_t first, std::uint64_t row, StreamKey key) {
  alignas(64) std::uint64_t index[kLanes], high[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) index[lane] = first + lane;
  Words point = load(index);
  const Words row_words = all_words(row), zero = all_words(0);
  for (int at = 0; at < kBatch; at += kLanes) {
    const auto block = block_of<Words>(point, row_words, zero, kRacePoint, 0, key);
    const auto unit = (small_integer(block.low & 0xffffffffu) + 0.5) * 0x1p-32;
    store(batch.wait + at, -logarithm(unit));
    store(batch.pick + at, (block.low >> 32) | (block.high << 32));
    store(high, block.high >> 32);
    for (int lane = 0; lane < kLanes; ++lane) batch.last[at + lane] = static_cast<std::uint32_t>(high[lane]);
    point = point + static_cast<std::uint64_t>(kLanes);
  }
}

// Running sums, in an order that all instruction sets share and that leaves additions to overlap.
BANDITCORE_INLINE void run_up(Batch& batch, double start, double pace) {
  double* const w = batch.wait;
  double base = start;
  for (int at = 0; at < kBatch; at += 4) {
    const double a = w[at] * pace, b = w[at + 1] * pace, c = w[at + 2] * pace, d = w[at + 3] * pace;
    const double ab = a + b, cd = c + d;
    w[at] = base + a;
    w[at + 1] = base + ab;
    w[at + 2] = base + (ab + c);
    base = base + (ab + cd);
    w[at + 3] = base;
  }
}

class Row {
 public:
  Row(const Race& race, StreamKey key, std::uint64_t row, RaceScratch& scratch)
      : race_(race), key_(key), row_(row), scratch_(scratch) {}

  // The first batch, when nothing but the tables plays in it; false if more is needed. Nothing is kept then.
  bool fast(const Batch& batch, std::int64_t k, std::int32_t* out) const {
    alignas(64) std::int32_t arms[kBatch];
    alignas(64) std::int32_t found[kBatch];
    const banditcore::RacePhase& phase = race_.phase[0];
    const double last = batch.wait[kBatch - 1];
    if (batch.wait[0] < 0.0 || last >= phase.end) return false;
    if (race_.heads > 0 && last >= race_.head[0].time) return false;
    for (int j = 0; j < kBatch; ++j) arms[j] = static_cast<std::int32_t>(tabled(batch, j, phase));
    int count = 0;
    for (int j = 0; j < kBatch; ++j) {
      int fresh = arms[j] >= 0;
      for (int i = 0; i < j; ++i) fresh &= arms[i] != arms[j];
      found[count] = arms[j];
      count += fresh;
    }
    if (count < k) return false;
    for (std::int64_t place = 0; place < k; ++place) out[place] = found[place];
    return true;
  }

  // The whole race, batch by batch, with everything that can play in it.
  void full(Batch& batch, std::int64_t k, const std::uint64_t* banned, const std::int32_t* bans,
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
    std::uint32_t first = 0;
    for (;;) {
      play(batch);
      if (found_ == wanted_) return;
      if (ended_) break;
      first += kBatch;
      const double from = batch.wait[kBatch - 1];
      fill_batch(batch, first, row_, key_);
      run_up(batch, from, race_.pace);
      first_ = first;
    }
    finish();
  }

 private:
  // The arm of point j of a batch by the tables, or kNoArm.
  BANDITCORE_INLINE std::uint32_t tabled(const Race& race, const Batch& batch, int j,
                                         const banditcore::RacePhase& phase, std::uint32_t* doubt) {
    const std::uint64_t bits = bits_of(batch.wait[j] + phase.offset);
    const std::int64_t cell = static_cast<std::int64_t>(bits >> phase.shift) - phase.base;
    const auto share = static_cast<std::uint32_t>(bits >> (phase.shift - 32));
    const bool right = ((batch.last[j] & 0xffff0000u) | 0x8000u) < share;
    const banditcore::RaceTable table = race.cell[cell].knot[right];
    const auto product = static_cast<unsigned __int128>(batch.pick[j]) * table.size;
    const banditcore::RaceSlot& slot = race.slot[table.first + static_cast<std::uint32_t>(product >> 64)];
    const bool own = static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32) < slot.threshold;
    const std::uint32_t sure = own ? slot.own_sure : slot.alias_sure;
    *doubt = (batch.last[j] & 0xffffu) >= sure;
    return own ? slot.own : slot.alias;
  }
  std::uint32_t tabled(const Batch& batch, int j, const banditcore::RacePhase& phase) const {
    std::uint32_t doubt;
    const std::uint32_t arm = tabled(race_, batch, j, phase, &doubt);
    if (__builtin_expect(doubt, 0)) return keep(batch, j, phase, arm, first_ + j) ? arm : kNoArm;
    return arm;
  }

  // Whether a point in doubt stays.
  __attribute__((noinline)) bool keep(const Batch& batch, int j, const banditcore::RacePhase& phase,
                                      std::uint32_t arm, std::uint32_t point) const {
    if (arm == kNoArm) return false;
    const std::uint64_t bits = bits_of(batch.wait[j] + phase.offset);
    const auto cell = static_cast<std::int64_t>(bits >> phase.shift) - phase.base;
    const std::int64_t since = cell - race_.enters[arm];
    if (since < 0 || since >= race_.stays[arm]) return false;
    const double s =
        float_of(0x3FF0000000000000u | ((bits << (64 - phase.shift)) >> 12)) - 1.0;
    const banditcore::RaceShape& shape = race_.shape[cell];
    const std::uint32_t at = race_.knots[arm] + static_cast<std::uint32_t>(since);
    const AxisLaw law(race_, arm);
    const double rate0 = race_.rate[at], rate1 = race_.rate[at + 1];
    const double under = shape.top - shape.depth;
    const double v = depth_share(shape.left_slope, shape.right_slope, s);
    const double log_rate =
        log_rate_inside(rate0, law.slope(shape.top), law.curvature(shape.top), rate1, law.slope(under),
                        law.curvature(under), shape.depth, v);
    const double line = (1.0 - s) * rate0 * (1.0 + race_.lift[at] * 0x1p-8) / shape.left_rate +
                        s * rate1 * (1.0 + race_.lift[at + 1] * 0x1p-8) / shape.right_rate;
    const double speed =
        shape.depth / shape.width * depth_share_slope(shape.left_slope, shape.right_slope, s);
    UniformStream more(point, row_, kRacePoint, 1, key_);
    const double u = ((batch.last[j] & 0xffffu) + more()) * 0x1p-16;
    return u * line < exponential(log_rate) * speed;
  }

  // Proposes a point above the entry of an arm; adds it to the pending ones if it is one.
  void propose_rest(const Batch& batch, int j) {
    const auto product = static_cast<unsigned __int128>(batch.pick[j]) * static_cast<std::uint64_t>(race_.size);
    auto arm = static_cast<std::uint32_t>(product >> 64);
    const banditcore::RaceRest& slot = race_.rest_slot[arm];
    if (static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32) >= slot.threshold) arm = slot.alias;
    if (arm == kNoArm) return;
    const AxisLaw law(race_, arm);
    const std::uint16_t enters = race_.enters[arm];
    const double entry = race_.entry[enters];
    const double rate = law.slope(entry), drop = law.drop(entry);
    UniformStream more(first_ + j, row_, kRacePoint, 1, key_);
    const double fall = -logarithm(more());
    const double y = entry + fall / rate;
    const double share = exponential(fall - (law.drop(y) - drop));
    const double u = more();
    if (u >= share) return;
    if (enters < race_.cells) {
      // The rate is density / F: closer to the envelope where F is smaller.
      const double chance = race_.rate[race_.knots[arm]];
      const double least = 1.0 / (1.0 + chance / rate);
      if (u >= share * least) {
        const double below = 1.0 / (1.0 + chance * law.mills(entry));
        const double above = below * chance * exponential(drop - law.drop(y)) * law.mills(y);
        if (u >= share * below / (1.0 - above)) return;
      }
    }
    insert(time_at(y), y, arm);
  }

  // The time at which the race passes y.
  double time_at(double y) const {
    if (race_.cells == 0 || y >= race_.shape[0].top) return 0.0;
    std::int64_t low = 0, high = race_.cells;
    while (high - low > 1) {
      const std::int64_t middle = (low + high) / 2;
      if (race_.shape[middle].top >= y) low = middle; else high = middle;
    }
    const banditcore::RaceShape& shape = race_.shape[low];
    const double v = (shape.top - y) / shape.depth;
    if (v >= 1.0) return low + 1 < race_.cells ? race_.shape[low + 1].start : __builtin_inf();
    double s = v, least = 0.0, most = 1.0;
    for (int step = 0; step < 60; ++step) {
      const double miss = depth_share(shape.left_slope, shape.right_slope, s) - v;
      if (miss > 0.0) most = s; else least = s;
      double next = s - miss / depth_share_slope(shape.left_slope, shape.right_slope, s);
      if (!(next > least && next < most)) next = 0.5 * (least + most);
      const double change = next - s;
      s = next;
      if (change < 1e-14 && change > -1e-14) break;
    }
    return shape.start + s * shape.width;
  }

  // Keeps the pending points by falling y.
  void insert(double time, double y, std::uint32_t arm) {
    if (pending_ == scratch_.pending_places) return;  // a Poisson count beyond 64 where 1/16 is expected
    RacePending* const points = scratch_.pending;
    std::int64_t at = pending_++;
    for (; at > next_pending_ && points[at - 1].y < y; --at) points[at] = points[at - 1];
    points[at] = {time, y, arm};
  }

  // Heads that leave the tables up to `time`.
  void release_heads(double time) {
    for (; next_head_ < race_.heads && race_.head[next_head_].time <= time; ++next_head_) {
      const banditcore::RaceHead& head = race_.head[next_head_];
      if (seen(head.arm) || is_banned(head.arm)) continue;
      UniformStream uniform(head.arm, row_, kRaceArm, 0, key_);
      const double y = AxisLaw(race_, head.arm).draw(head.bound, uniform);
      insert(time_at(y), y, head.arm);
    }
  }

  // Takes the points of a batch in order, with the pending ones between them.
  void play(const Batch& batch) {
    for (int j = 0; j < kBatch; ++j) {
      const double time = batch.wait[j];
      if (time < 0.0) {
        propose_rest(batch, j);
        continue;
      }
      const double now = time < race_.end ? time : race_.end;
      release_heads(now);
      while (next_pending_ < pending_ && scratch_.pending[next_pending_].time <= now) {
        meet(scratch_.pending[next_pending_++].arm);
        if (found_ == wanted_) return;
      }
      if (time >= race_.end) {
        ended_ = true;
        return;
      }
      while (time >= race_.phase[phase_].end) ++phase_;
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
      heap[at] = {0.0, y, arm};
    };
    for (; next_pending_ < pending_; ++next_pending_) {
      const RacePending& point = scratch_.pending[next_pending_];
      if (!seen(point.arm) && !is_banned(point.arm)) {
        mark(point.arm);
        offer(point.y, point.arm);
      }
    }
    for (std::uint32_t arm = 0; arm < race_.size; ++arm) {
      if ((race_.is_head[arm >> 3] >> (arm & 7) & 1) || is_banned(arm) || seen(arm)) continue;
      UniformStream uniform(arm, row_, kRaceArm, 0, key_);
      offer(AxisLaw(race_, arm).draw(race_.bottom, uniform), arm);
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
  RaceScratch& scratch_;
  const std::uint64_t* banned_ = nullptr;
  std::int32_t* out_ = nullptr;
  std::int64_t wanted_ = 0, found_ = 0;
  std::int64_t pending_ = 0, next_pending_ = 0, next_head_ = 0, phase_ = 0;
  std::uint32_t first_ = 0;  // point that the batch begins with
  bool ended_ = false;
};

BANDITCORE_INLINE void race_rows(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                 std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  const bool plain = k <= kBatch && bans.all == nullptr && bans.per_row_size == 0 && race.cells > 0;
  for (std::int64_t at = 0; at < rows; ++at) {
    Batch batch;
    fill_batch(batch, 0, first + at, key);
    run_up(batch, -race.rest * race.pace, race.pace);
    Row row(race, key, first + at, scratch);
    if (plain && row.fast(batch, k, out + at * k)) continue;
    row.full(batch, k, bans.all, bans.per_row ? bans.per_row + at * bans.per_row_size : nullptr,
             bans.per_row_size, out + at * k);
  }
}

}  // namespace
