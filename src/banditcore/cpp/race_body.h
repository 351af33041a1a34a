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
constexpr int kPlainPlaces = 32;  // beyond, a list of the arms met is slower than a hash set

struct Batch {
  alignas(64) double wait[kBatch];         // exponential gaps, before the race's pace; later the times
  alignas(64) std::uint64_t pick[kBatch];  // chooses the slot and the side of it
  alignas(64) std::uint64_t last[kBatch];  // 32 bits: the high half rounds to a knot, the low half keeps or drops
};

BANDITCORE_INLINE auto exponential_of(Words word) {
  return -logarithm((small_integer(word) + 0.5) * 0x1p-32);
}

// `count` points, a multiple of 8.
BANDITCORE_INLINE void fill_batch(Batch& batch, std::uint32_t first, std::uint64_t row, StreamKey key,
                                  int count = kBatch) {
  alignas(64) std::uint64_t index[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) index[lane] = first + lane;
  Words point = load(index);
  const Words row_words = all_words(row), zero = all_words(0);
  for (int at = 0; at < count; at += kLanes) {
    const auto block = block_of<Words>(point, row_words, zero, kRacePoint, 0, key);
    store(batch.wait + at, exponential_of(block.low & 0xffffffffu));
    store(batch.pick + at, (block.low >> 32) | (block.high << 32));
    store(batch.last + at, block.high >> 32);
    point = point + static_cast<std::uint64_t>(kLanes);
  }
}

// Running sums, in an order that all instruction sets share and that leaves additions to overlap.
BANDITCORE_INLINE void run_up(Batch& batch, double start, double pace, int count = kBatch) {
  double* const w = batch.wait;
  double base = start;
  for (int at = 0; at < count; at += 4) {
    const double a = w[at] * pace, b = w[at + 1] * pace, c = w[at + 2] * pace, d = w[at + 3] * pace;
    const double ab = a + b, cd = c + d;
    w[at] = base + a;
    w[at + 1] = base + ab;
    w[at + 2] = base + (ab + c);
    base = base + (ab + cd);
    w[at + 3] = base;
  }
}

// Where a point looks in the tables.
struct Aim {
  std::uint32_t slot, side;
};
BANDITCORE_INLINE Aim take_aim(const Race& race, const Batch& batch, int j, const banditcore::RacePhase& phase) {
  const std::uint64_t bits = bits_of(batch.wait[j] + phase.offset);
  const std::int64_t cell = static_cast<std::int64_t>(bits >> phase.shift) - phase.base;
  const auto share = static_cast<std::uint32_t>(bits >> (phase.shift - 32));
  const bool right = ((static_cast<std::uint32_t>(batch.last[j]) & 0xffff0000u) | 0x8000u) < share;
  const banditcore::RaceTable table = (&race.cell[0].knot[0])[2 * cell + right];
  const auto product = static_cast<unsigned __int128>(batch.pick[j]) * table.size;
  return {table.first + static_cast<std::uint32_t>(product >> 64),
          static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32)};
}

// The low halves of two packs multiplied, and 64-bit words fetched from a table.
#if BANDITCORE_LANES == 8
BANDITCORE_INLINE Words multiply_halves(Words x, Words y) { return (Words)_mm512_mul_epu32((__m512i)x, (__m512i)y); }
BANDITCORE_INLINE Words fetch(const void* table, Words index) {
  return (Words)_mm512_i64gather_epi64((__m512i)index, table, 8);
}
#elif BANDITCORE_LANES == 4
BANDITCORE_INLINE Words multiply_halves(Words x, Words y) { return (Words)_mm256_mul_epu32((__m256i)x, (__m256i)y); }
BANDITCORE_INLINE Words fetch(const void* table, Words index) {
  return (Words)_mm256_i64gather_epi64(static_cast<const long long*>(table), (__m256i)index, 8);
}
#elif BANDITCORE_LANES == 2
BANDITCORE_INLINE Words multiply_halves(Words x, Words y) {
#ifdef __ARM_NEON
  return (Words)vmull_u32(vmovn_u64((uint64x2_t)x), vmovn_u64((uint64x2_t)y));
#else
  return (x & 0xffffffffu) * (y & 0xffffffffu);
#endif
}
BANDITCORE_INLINE Words fetch(const void* table, Words index) {
  Words pack;
  for (int lane = 0; lane < kLanes; ++lane) {
    std::uint64_t word;
    std::memcpy(&word, static_cast<const char*>(table) + 8 * index[lane], sizeof word);
    pack[lane] = word;
  }
  return pack;
}
#else
BANDITCORE_INLINE Words multiply_halves(Words x, Words y) { return (x & 0xffffffffu) * (y & 0xffffffffu); }
BANDITCORE_INLINE Words fetch(const void* table, Words index) {
  std::uint64_t word;
  std::memcpy(&word, static_cast<const char*>(table) + 8 * index, sizeof word);
  return word;
}
#endif

static_assert(sizeof(banditcore::RaceTable) == 8 && sizeof(banditcore::RaceSlot) == 16, "read as 64-bit words");

// `take_aim` for a whole batch that lies in one phase.
BANDITCORE_INLINE void take_aim_together(const Race& race, const Batch& batch, const banditcore::RacePhase& phase,
                                         std::uint64_t* slots, std::uint64_t* sides) {
  for (int at = 0; at < kBatch; at += kLanes) {
    const Words bits = bits_of(load(batch.wait + at) + phase.offset);
    const Words cell = (bits >> phase.shift) - static_cast<std::uint64_t>(phase.base);
    const Words share = (bits >> (phase.shift - 32)) & 0xffffffffu;
    const Words turn = (load(batch.last + at) & 0xffff0000u) | 0x8000u;
    // 1 if turn < share: both are below 2^32, so the difference borrows from the top bit.
    const Words right = (turn - share) >> 63;
    const Words table = fetch(race.cell, cell + cell + right);
    const Words pick = load(batch.pick + at), size = table >> 32;
    const Words middle = multiply_halves(pick >> 32, size) + (multiply_halves(pick, size) >> 32);
    store(slots + at, (table & 0xffffffffu) + (middle >> 32));
    store(sides + at, middle & 0xffffffffu);
  }
}

// The arms those slots give, and a bit for each point that is in doubt.
BANDITCORE_INLINE std::uint32_t read_slots(const Race& race, const Batch& batch, const std::uint64_t* slots,
                                           const std::uint64_t* sides, std::int32_t* arms) {
  std::uint32_t doubts = 0;
  alignas(64) std::uint64_t arm[kBatch], open[kBatch];
  for (int at = 0; at < kBatch; at += kLanes) {
    const Words slot = load(slots + at), place = slot + slot;
    const Words first = fetch(race.slot, place), second = fetch(race.slot, place + all_words(1));
    const Words own = all_words(0) - ((load(sides + at) - (first & 0xffffffffu)) >> 63);  // all bits, or none
    const Words sure = (second >> 48) ^ (((second >> 48) ^ ((second >> 32) & 0xffffu)) & own);
    const Words met = (second ^ ((second ^ (first >> 32)) & own)) & 0xffffffffu;
    store(arm + at, met);
    store(open + at, ((load(batch.last + at) & 0xffffu) - sure) >> 63 ^ 1u);
  }
  for (int j = 0; j < kBatch; ++j) {
    arms[j] = static_cast<std::int32_t>(arm[j]);
    doubts |= static_cast<std::uint32_t>(open[j]) << j;
  }
  return doubts;
}

// A bit for each of 16 arms that is one (not negative) and equals none before it.
BANDITCORE_INLINE std::uint32_t fresh(const std::int32_t* arms) {
#if BANDITCORE_LANES == 8 && defined(__AVX512CD__)
  const __m512i all = _mm512_load_si512(arms);
  const __mmask16 first = _mm512_testn_epi32_mask(_mm512_conflict_epi32(all), _mm512_set1_epi32(-1));
  return _mm512_mask_cmpge_epi32_mask(first, all, _mm512_setzero_si512());
#else
  std::uint32_t mask = 0;
  for (int j = 0; j < kBatch; ++j) {
    std::uint32_t ok = arms[j] >= 0;
    for (int i = 0; i < j; ++i) ok &= arms[i] != arms[j];
    mask |= ok << j;
  }
  return mask;
#endif
}

// The arms under the mask, in order; `to` has room for 16.
BANDITCORE_INLINE void gather_fresh(const std::int32_t* arms, std::uint32_t mask, std::int32_t* to) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  _mm512_store_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), _mm512_load_si512(arms)));
#else
  int count = 0;
  for (int j = 0; j < kBatch; ++j) {
    to[count] = arms[j];
    count += mask >> j & 1;
  }
#endif
}

BANDITCORE_INLINE bool listed(std::int32_t arm, const std::int32_t* list, int count) {
  bool found = false;
  for (int i = 0; i < count; ++i) found |= list[i] == arm;
  return found;
}

class Row {
 public:
  Row(const Race& race, StreamKey key, std::uint64_t row, RaceScratch& scratch)
      : race_(race), key_(key), row_(row), scratch_(scratch) {}

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

  void begin_with(std::uint32_t point) { first_ = point; }

  // The arm of point j of a batch by the tables, or kNoArm.
  std::uint32_t tabled(const Batch& batch, int j, const banditcore::RacePhase& phase) const {
    const Aim aim = take_aim(race_, batch, j, phase);
    return resolve(aim, race_.slot[aim.slot], batch, j, phase);
  }

  BANDITCORE_INLINE std::uint32_t side_of(const Aim& aim, const banditcore::RaceSlot& slot, bool* doubt,
                                                 std::uint64_t last) {
    const bool own = aim.side < slot.threshold;
    *doubt = (last & 0xffffu) >= (own ? slot.own_sure : slot.alias_sure);
    return own ? slot.own : slot.alias;
  }
  std::uint32_t resolve(const Aim& aim, const banditcore::RaceSlot& slot, const Batch& batch, int j,
                                          const banditcore::RacePhase& phase) const {
    bool doubt;
    const std::uint32_t arm = side_of(aim, slot, &doubt, batch.last[j]);
    if (__builtin_expect(doubt, 0)) return keep(batch, j, phase, arm) ? arm : kNoArm;
    return arm;
  }

  // Whether a point in doubt stays.
  __attribute__((noinline)) bool keep(const Batch& batch, int j, const banditcore::RacePhase& phase,
                                      std::uint32_t arm) const {
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
    const LogRate log_rate(rate0, law.slope(shape.top), law.curvature(shape.top), rate1, law.slope(under),
                           law.curvature(under), shape.depth);
    const double line = (1.0 - s) * rate0 * (1.0 + race_.lift[at] * 0x1p-8) / shape.left_rate +
                        s * rate1 * (1.0 + race_.lift[at + 1] * 0x1p-8) / shape.right_rate;
    const double speed =
        shape.depth / shape.width * depth_share_slope(shape.left_slope, shape.right_slope, s);
    UniformStream more(first_ + j, row_, kRacePoint, 1, key_);
    const double u = ((batch.last[j] & 0xffffu) + more()) * 0x1p-16;
    return u * line < exponential(log_rate.at(v)) * speed;
  }

 private:
  // Proposes a point above the entry of an arm; adds it to the pending ones if it is one.
  void propose_rest(const Batch& batch, int j) {
    const auto product = static_cast<unsigned __int128>(batch.pick[j]) * static_cast<std::uint64_t>(race_.size);
    auto arm = static_cast<std::uint32_t>(product >> 64);
    const banditcore::RaceRest& slot = race_.rest_slot[arm];
    if (static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32) >= slot.threshold) arm = slot.alias;
    if (arm == kNoArm) return;
    const AxisLaw law(race_, arm);
    const std::uint16_t level = race_.level[arm];
    const double entry = race_.entry[level];
    const double rate = law.slope(entry), drop = law.drop(entry);
    UniformStream more(first_ + j, row_, kRacePoint, 1, key_);
    const double fall = -logarithm(more());
    const double y = entry + fall / rate;
    const double share = exponential(fall - (law.drop(y) - drop));
    const double u = more();
    if (u >= share) return;
    if (level + 1 < race_.levels) {
      // The rate is density / F: closer to the envelope where F is smaller.
      const double chance = race_.rate[race_.knots[arm]];
      const double least = 1.0 / (1.0 + chance / rate);
      if (u >= share * least) {
        const double below = 1.0 / (1.0 + chance * law.mills(entry));
        const double above = below * chance * exponential(drop - law.drop(y)) * law.mills(y);
        if (u >= share * below / (1.0 - above)) return;
      }
    }
    if (rests_ < kMostRests) {  // a Poisson count; far fewer than one is expected
      rest_arms_[rests_++] = static_cast<std::int32_t>(arm);
      insert(time_at(y), y, arm);
    }
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
        // Heads come once; only an arm from the rest can stand here twice. The set has no room for all heads.
        if (listed(static_cast<std::int32_t>(point.arm), rest_arms_, rests_)) mark(point.arm);
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
  static constexpr int kMostRests = 64;
  int rests_ = 0;
  std::int32_t rest_arms_[kMostRests];
};

constexpr int kGroup = 4;  // rows whose memory reads overlap

// What the first batch of a row says, if the tables alone decide it.
struct Sprint {
  Batch batch;
  alignas(64) std::uint64_t slot[kBatch], side[kBatch];
  bool open;  // not for the tables alone
};

BANDITCORE_INLINE void set_off(const Race& race, std::uint64_t row, StreamKey key, bool plain, Sprint& sprint) {
  fill_batch(sprint.batch, 0, row, key);
  run_up(sprint.batch, -race.rest * race.pace, race.pace);
  sprint.open = !plain || sprint.batch.wait[0] < 0.0 || sprint.batch.wait[kBatch - 1] >= race.end;
  if (sprint.open) return;
  if (sprint.batch.wait[kBatch - 1] < race.phase[0].end) {
    take_aim_together(race, sprint.batch, race.phase[0], sprint.slot, sprint.side);
  } else {
    const banditcore::RacePhase* phase = race.phase;
    for (int j = 0; j < kBatch; ++j) {
      while (sprint.batch.wait[j] >= phase->end) ++phase;
      const Aim aim = take_aim(race, sprint.batch, j, *phase);
      sprint.slot[j] = aim.slot;
      sprint.side[j] = aim.side;
    }
  }
  for (int j = 0; j < kBatch; ++j) __builtin_prefetch(race.slot + sprint.slot[j]);
}

// More points for a row whose first `count` arms are known, by the tables alone; whether they decided it.
__attribute__((noinline)) bool go_on(const Race& race, Row& row, StreamKey key, std::uint64_t number, double last,
                                     std::int64_t head, int count, std::int64_t k, std::int32_t* out) {
  constexpr int kMore = 8;
  Batch batch;
  for (std::uint32_t first = kBatch; first < 6 * kBatch; first += kMore) {
    fill_batch(batch, first, number, key, kMore);
    run_up(batch, last, race.pace, kMore);
    row.begin_with(first);
    const banditcore::RacePhase* phase = race.phase;
    for (int j = 0; j < kMore; ++j) {
      last = batch.wait[j];
      if (last >= race.end) return false;
      while (last >= phase->end) ++phase;
      for (; head < race.heads && race.head[head].time <= last; ++head) {
        if (!listed(static_cast<std::int32_t>(race.head[head].arm), out, count)) return false;
      }
      const auto arm = static_cast<std::int32_t>(row.tabled(batch, j, *phase));
      if (arm < 0 || listed(arm, out, count)) continue;
      out[count++] = arm;
      if (count == k) return true;
    }
  }
  return false;
}

// Whether the row is decided; then `out` holds it.
BANDITCORE_INLINE bool arrive(const Race& race, Row& row, StreamKey key, std::uint64_t at, const Sprint& sprint,
                              std::int64_t k, std::int32_t* out) {
  alignas(64) std::int32_t arms[kBatch], found[kBatch];
  std::uint32_t doubts = read_slots(race, sprint.batch, sprint.slot, sprint.side, arms);
  while (doubts) {
    const int j = __builtin_ctz(doubts);
    doubts &= doubts - 1;
    const banditcore::RacePhase* phase = race.phase;
    while (sprint.batch.wait[j] >= phase->end) ++phase;
    if (!row.keep(sprint.batch, j, *phase, static_cast<std::uint32_t>(arms[j]))) arms[j] = -1;
  }
  const double last = sprint.batch.wait[kBatch - 1];
  // A head that has been met can be forgotten.
  std::int64_t head = 0;
  for (; head < race.heads && race.head[head].time <= last; ++head) {
    int met = 0;
    for (int j = 0; j < kBatch; ++j) met |= arms[j] == static_cast<std::int32_t>(race.head[head].arm);
    if (!met) return false;
  }
  const std::uint32_t mask = fresh(arms);
  const int count = __builtin_popcount(mask);
  gather_fresh(arms, mask, found);
  for (int place = 0; place < kBatch && place < k; ++place) out[place] = found[place];
  return count >= k || go_on(race, row, key, at, last, head, count, k, out);
}

BANDITCORE_INLINE void race_rows(const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
                                 std::int64_t k, const RaceBans& bans, RaceScratch& scratch, std::int32_t* out) {
  const bool plain = k <= kPlainPlaces && bans.all == nullptr && bans.per_row_size == 0 && race.cells > 0;
  Sprint sprint[kGroup];
  for (std::int64_t at = 0; at < rows; at += kGroup) {
    const int group = static_cast<int>(rows - at < kGroup ? rows - at : kGroup);
    for (int i = 0; i < group; ++i) set_off(race, first + at + i, key, plain, sprint[i]);
    for (int i = 0; i < group; ++i) {
      Row row(race, key, first + at + i, scratch);
      std::int32_t* const to = out + (at + i) * k;
#ifdef RACE_COUNT
      ++race_count[0];
      race_count[1] += sprint[i].batch.wait[0] < 0;
      race_count[2] += race.heads && sprint[i].batch.wait[15] >= race.head[0].time;
#endif
      if (!sprint[i].open && arrive(race, row, key, first + at + i, sprint[i], k, to)) continue;
#ifdef RACE_COUNT
      ++race_count[3];
#endif
      row.begin_with(0);
      row.full(sprint[i].batch, k, bans.all, bans.per_row ? bans.per_row + (at + i) * bans.per_row_size : nullptr,
               bans.per_row_size, to);
    }
  }
}

}  // namespace
