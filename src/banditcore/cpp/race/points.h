// Points of a race, a batch at a time: their times, and the arms that the tables give them.
#pragma once

#include <cstddef>

#include "race/axis.h"

namespace {

using banditcore::kNoArm;
using banditcore::Race;
using banditcore::RaceBans;
using banditcore::RacePending;
using banditcore::RaceScratch;
using banditcore::StreamKey;

constexpr int kBatch = 16;

struct Batch {
  alignas(64) double wait[kBatch];         // exponential gaps, before the race's pace; later the times
  alignas(64) std::uint64_t pick[kBatch];  // chooses the slot and the side of it
  alignas(64) std::uint64_t last[kBatch];  // 32 bits: the high half rounds to a knot, the low half keeps or drops
};


// -log((word + 1/2) / 2^32): 1 + f is brought near 1 by one of 16 reciprocals, and six terms of the series leave an
// error below 5e-12. Exact enough for times, whose steps are 2e-10 and more, and half the price of a full logarithm.
alignas(64) constexpr double kReciprocal[16] = {
    0.96875, 0.9140625, 0.86328125, 0.8203125,
    0.78125, 0.74609375, 0.7109375, 0.6796875,
    0.65234375, 0.62890625, 0.60546875, 0.58203125,
    0.5625, 0.54296875, 0.5234375, 0.5078125};
alignas(64) constexpr double kLogReciprocal[16] = {
    -0.0317486983145803, -0.08985632912186105, -0.14701474296180966, -0.1980699137620938,
    -0.24686007793152578, -0.2929040164329326, -0.34117075740276714, -0.38612214526503347,
    -0.42718363206280735, -0.4637730794950995, -0.5017523275603158, -0.5412311385341033,
    -0.5753641449035618, -0.6107035113488707, -0.6473376445286511, -0.6776429940239801};
BANDITCORE_INLINE Floats exponential_of(Words word) {
  const Floats value = small_integer(word) + 0.5;
  const Words bits = bits_of(value), sixteenth = bits >> 48;
  const Floats r = float_of((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u) * look_up(kReciprocal, sixteenth) - 1.0;
  const Floats r2 = r * r;
  const Floats series = (r - 0.5 * r2) + r2 * (r * (1.0 / 3 - 0.25 * r) + (r2 * r) * (0.2 - r * (1.0 / 6)));
  const Floats octaves = (1023.0 + 32.0) - small_integer(bits >> 52);
  return (octaves * 6.93147180559945286e-01 + look_up(kLogReciprocal, sixteenth)) - series;
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

#if BANDITCORE_LANES == 1
BANDITCORE_INLINE Words chosen(bool mask, std::uint64_t yes, Words no) { return mask ? yes : no; }
#else
BANDITCORE_INLINE Words chosen(Mask mask, std::uint64_t yes, Words no) { return mask ? Words{} + yes : no; }
#endif

static_assert(sizeof(banditcore::RaceTable) == 8 && sizeof(banditcore::RaceSlot) == 16, "read as 64-bit words");

// The phases of a pack of times from 0 on, before the race's end: `phase` is that of the first of its batch.
struct PackPhase {
  Floats offset;
  Words base, shift;
};
BANDITCORE_INLINE PackPhase phases_of(Floats time, double last, const banditcore::RacePhase* phase) {
  PackPhase pack{all_floats(phase->offset), all_words(static_cast<std::uint64_t>(phase->base)),
                 all_words(static_cast<std::uint64_t>(phase->shift))};
  while (last >= phase->end) {
    const auto later = time >= phase->end;
    ++phase;
    pack.offset = select(later, phase->offset, pack.offset);
    pack.base = chosen(later, static_cast<std::uint64_t>(phase->base), pack.base);
    pack.shift = chosen(later, static_cast<std::uint64_t>(phase->shift), pack.shift);
  }
  return pack;
}

// `take_aim` for a whole batch of times from 0 on, before the race's end; `phase` is that of the first.
BANDITCORE_INLINE void take_aim_together(const Race& race, const Batch& batch, const banditcore::RacePhase* phase,
                                         std::uint64_t* slots, std::uint64_t* sides) {
  for (int at = 0; at < kBatch; at += kLanes) {
    const Floats time = load(batch.wait + at);
    const auto [offset, base, shift] = phases_of(time, batch.wait[at + kLanes - 1], phase);
    const Words bits = bits_of(time + offset);
    const Words cell = (bits >> shift) - base;
    const Words share = (bits >> (shift - 32)) & 0xffffffffu;
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

// The y of each point of such a batch.
BANDITCORE_INLINE void heights(const Race& race, const Batch& batch, const banditcore::RacePhase* phase, double* y) {
  constexpr std::uint64_t kWords = sizeof(banditcore::RaceShape) / 8;
  static_assert(sizeof(banditcore::RaceShape) == 8 * kWords && offsetof(banditcore::RaceShape, depth) == 8 &&
                    offsetof(banditcore::RaceShape, left_slope) == 32 &&
                    offsetof(banditcore::RaceShape, right_slope) == 40,
                "read as 64-bit words");
  for (int at = 0; at < kBatch; at += kLanes) {
    const Floats time = load(batch.wait + at);
    const auto [offset, base, shift] = phases_of(time, batch.wait[at + kLanes - 1], phase);
    const Words bits = bits_of(time + offset);
    const Words place = ((bits >> shift) - base) * kWords;
    const Floats share = float_of(((bits << (64u - shift)) >> 12) | 0x3FF0000000000000u) - 1.0;
    const Floats top = float_of(fetch(race.shape, place)), depth = float_of(fetch(race.shape, place + all_words(1)));
    const Floats left = float_of(fetch(race.shape, place + all_words(4)));
    const Floats right = float_of(fetch(race.shape, place + all_words(5)));
    store(y + at, top - depth * depth_share(left, right, share));
  }
}

// The low halves of a pack as arms, and a bit a lane: left >= right.
BANDITCORE_INLINE void store_arms(std::int32_t* to, Words pack) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi64_epi32((__m512i)pack));
#elif BANDITCORE_LANES == 1
  *to = static_cast<std::int32_t>(pack);
#else
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<std::int32_t>(pack[lane]);
#endif
}
BANDITCORE_INLINE std::uint32_t at_least(Words left, Words right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return _mm512_cmpge_epu64_mask((__m512i)left, (__m512i)right);
#elif BANDITCORE_LANES == 1
  return left >= right;
#else
  return static_cast<std::uint32_t>(flags((Mask)(left >= right)));
#endif
}

// The arms those slots give, and a bit for each point that is in doubt.
BANDITCORE_INLINE std::uint32_t read_slots(const Race& race, const Batch& batch, const std::uint64_t* slots,
                                           const std::uint64_t* sides, std::int32_t* arms) {
  std::uint32_t doubts = 0;
  for (int at = 0; at < kBatch; at += kLanes) {
    const Words slot = load(slots + at), place = slot + slot;
    const Words first = fetch(race.slot, place), second = fetch(race.slot, place + all_words(1));
    const Words own = all_words(0) - ((load(sides + at) - (first & 0xffffffffu)) >> 63);  // all bits, or none
    const Words sure = (second >> 48) ^ (((second >> 48) ^ ((second >> 32) & 0xffffu)) & own);
    store_arms(arms + at, second ^ ((second ^ (first >> 32)) & own));
    doubts |= at_least(load(batch.last + at) & 0xffffu, sure) << at;
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

// A bit for each of 16 arms that is in the list.
BANDITCORE_INLINE std::uint32_t among(const std::int32_t* arms, const std::int32_t* list, int count) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  const __m512i all = _mm512_load_si512(arms);
  __mmask16 found = 0;
  for (int i = 0; i < count; ++i) found |= _mm512_cmpeq_epi32_mask(all, _mm512_set1_epi32(list[i]));
  return found;
#else
  std::uint32_t found = 0;
  for (int j = 0; j < kBatch; ++j) {
    std::uint32_t is = 0;
    for (int i = 0; i < count; ++i) is |= arms[j] == list[i];
    found |= is << j;
  }
  return found;
#endif
}

// The arms under the mask, in order; `to` has room for 16.
BANDITCORE_INLINE void gather_fresh(const std::int32_t* arms, std::uint32_t mask, std::int32_t* to) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), _mm512_load_si512(arms)));
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

}  // namespace
